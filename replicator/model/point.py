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

BareId = int | str
"""An id as the application knows it. UUIDs are canonical lower-case strings."""


class ScopedId(msgspec.Struct, frozen=True, array_like=True):
    """
    An id in a collection where it is unique only within its scope: a tenant, a partition, a
    shard key. It is written `[scope, id]`.
    """

    scope: str
    id: BareId


PointId = BareId | ScopedId
"""What a point is known by: of one collection, either every id has a scope or none has."""


def scope_of(point_id: PointId) -> str | None:
    """The scope, where there is one."""
    return point_id.scope if isinstance(point_id, ScopedId) else None


def bare(point_id: PointId) -> BareId:
    """The id as the application knows it, which says too little where there are scopes."""
    return point_id.id if isinstance(point_id, ScopedId) else point_id


def id_order(point_id: PointId) -> tuple[str, bool, BareId]:
    """Scope by scope; integers before texts; within each their own order."""
    return scope_of(point_id) or "", isinstance(bare(point_id), str), bare(point_id)


def within(scope: str | None, point_id: BareId) -> PointId:
    """The id in a scope, or as it is."""
    return point_id if scope is None else ScopedId(scope, point_id)


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
