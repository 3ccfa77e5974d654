"""
Points and their vectors: what every store holds, in neutral terms.

A vector stays bytes from the wire of the feed to the wire of the store (little-endian float32),
because turning 1536 floats into Python objects and back costs more than everything else this
program does to a record. Only validation and comparison look inside, through numpy or
memoryviews.
"""

from __future__ import annotations

from typing import Any

import msgspec

PointId = int | str
"""An id as the application knows it. UUIDs are canonical lower-case strings."""


class SparseVector(msgspec.Struct, frozen=True):
    """`indices`: little-endian uint32, ascending; `values`: little-endian float32, as many."""

    indices: bytes
    values: bytes


class MultiVector(msgspec.Struct, frozen=True):
    """`rows` dense vectors of one dimension, row by row, as little-endian float32 in `data`."""

    rows: int
    data: bytes


Vector = bytes | SparseVector | MultiVector
"""Dense vectors are plain bytes: little-endian float32, 4 bytes a component."""

Vectors = dict[str, Vector]
"""By name; `""` is the unnamed vector."""

Payload = dict[str, Any]


class Point(msgspec.Struct):
    """One point of a collection. Treated as immutable once made; transforms return new ones."""

    id: PointId
    vectors: Vectors
    payload: Payload
