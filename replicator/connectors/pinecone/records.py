"""
Records and points.

A record has a dense vector, or a sparse one, or both, and metadata. The only vector, of either
kind, is the one without a name; a sparse one beside a dense one has the name that the
collection's options give it.

Numbers of the metadata are doubles, so that a 5 comes back as 5.0. A target that tells them
apart would not find the one by the other, and whole numbers are mostly meant as such: counts,
years, keys. So what has no fraction, and lies where each integer is a double of its own, is
read as an integer.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from pinecone.models.vectors.vector import Vector as Record

from replicator.errors import Rejected
from replicator.model.point import Payload, Point, SparseVector, Vector, Vectors

_EXACT_MAX = float(1 << 53)
_F32 = np.dtype("<f4")
_U32 = np.dtype("<u4")


def point_of(record: Record, sparse: str) -> Point:
    """
    The point of a record; `sparse`: the name of a sparse vector beside a dense one. Raises
    Rejected where there is one and no name for it.
    """
    vectors: Vectors = {}
    if record.values:
        vectors[""] = np.array(record.values, _F32).tobytes()
    if record.sparse_values is not None and record.sparse_values.indices:
        if vectors and not sparse:
            raise Rejected(
                "vector-unknown",
                "the record has a sparse vector beside its dense one; give it a name with the"
                " collection's option `sparse`",
                "vectors",
            )
        vectors[sparse if vectors else ""] = _sparse(
            record.sparse_values.indices, record.sparse_values.values
        )
    return Point(record.id, vectors, _payload(record.metadata or {}))


def raw_of(record: Record) -> bytes:
    """A record that is no point, as it is kept for a person to look at."""
    return msgspec.json.encode(
        {
            "id": record.id,
            "values": record.values,
            "sparse_values": None
            if record.sparse_values is None
            else [record.sparse_values.indices, record.sparse_values.values],
            "metadata": record.metadata,
        }
    )


def record_of(point: Point, sparse: str) -> dict[str, Any]:
    """The record of a whole point, as the client takes it. Nulls are left out."""
    record: dict[str, Any] = {"id": point.id, "values": []}
    for name, vector in point.vectors.items():
        assert name in ("", sparse), "looked at before"
        record |= parts_of(vector)
    metadata = {key: value for key, value in point.payload.items() if value is not None}
    if metadata:
        record["metadata"] = metadata
    return record


def parts_of(vector: Vector) -> dict[str, Any]:
    """A vector, in the words of a record."""
    if isinstance(vector, SparseVector):
        return {
            "sparse_values": {
                "indices": np.frombuffer(vector.indices, _U32).tolist(),
                "values": np.frombuffer(vector.values, _F32).tolist(),
            }
        }
    assert isinstance(vector, bytes), "looked at before"
    return {"values": np.frombuffer(vector, _F32).tolist()}


def _sparse(indices: list[int], values: list[float]) -> SparseVector:
    order = np.argsort(indices)
    return SparseVector(
        np.array(indices, _U32)[order].tobytes(), np.array(values, _F32)[order].tobytes()
    )


def _payload(metadata: Payload) -> Payload:
    return {
        key: int(value)
        if type(value) is float and value.is_integer() and abs(value) <= _EXACT_MAX
        else value
        for key, value in metadata.items()
    }
