"""
Points: the neutral model ↔ the engine's.

The engine takes vectors as lists or as memoryviews of floats, and gives lists. Bytes it would
take for a list of small integers, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import qdrant_edge as edge

from replicator.codecs.vectors import dense, multi, sparse, sparse_to_lists
from replicator.model.point import (
    BareId,
    MultiVector,
    Point,
    PointId,
    SparseVector,
    Vector,
    bare,
)
from replicator.model.schema import is_uuid


def holdable(ids: Iterable[PointId]) -> list[BareId]:
    """Those that the engine takes, each once: unsigned 64-bit integers and canonical UUIDs."""
    return [
        each
        for each in dict.fromkeys(ids)
        if (isinstance(each, int) and 0 <= each < 1 << 64)
        or (isinstance(each, str) and is_uuid(each))
    ]


def id_of(record: edge.Record | edge.ScoredPoint) -> BareId:
    """The id of what the engine gave."""
    return record.id if isinstance(record.id, int) else str(record.id)


def engine_point(point: Point) -> edge.Point:
    """A point as the engine takes it."""
    vectors = {name: engine_vector(vector) for name, vector in point.vectors.items()}
    return edge.Point(bare(point.id), vectors, point.payload)


def engine_vector(vector: Vector) -> Any:
    """A vector as the engine takes it, in a point or to search by."""
    match vector:
        case SparseVector():
            return edge.SparseVector(*sparse_to_lists(vector))
        case MultiVector(rows=rows, data=data):
            floats = memoryview(data).cast("f")
            size = len(floats) // rows
            return [floats[size * row : size * (row + 1)] for row in range(rows)]
        case _:
            return memoryview(vector).cast("f")


def point_of(record: edge.Record) -> Point:
    """A point as the engine gave it: with its payload and all vectors, or without them."""
    # Looked at once: each look makes the Python floats anew.
    vector = record.vector
    named = {} if vector is None else vector if isinstance(vector, dict) else {"": vector}
    vectors = {name: _neutral(each) for name, each in named.items()}
    return Point(id_of(record), vectors, record.payload or {})


def _neutral(vector: Any) -> Vector:
    if isinstance(vector, edge.SparseVector):
        return sparse(vector.indices, vector.values)
    if vector and isinstance(vector[0], list):
        return multi(vector)
    return dense(vector)
