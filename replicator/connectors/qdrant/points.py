"""Points: the neutral model ↔ Qdrant's messages. Vectors pass through as float32 bytes."""

from __future__ import annotations

import struct

from replicator.connectors.qdrant.values import read_payload, write_payload
from replicator.connectors.qdrant.wire import Message
from replicator.errors import Rejected
from replicator.model.point import (
    BareId,
    MultiVector,
    Point,
    SparseVector,
    Vector,
    Vectors,
    bare,
    within,
)
from replicator.model.schema import is_uuid


def can_hold(point_id: BareId) -> bool:
    """Whether Qdrant takes the id: unsigned 64-bit, or a canonical UUID."""
    if isinstance(point_id, int):
        return 0 <= point_id < 1 << 64
    return is_uuid(point_id)


def write_id(target: Message, point_id: BareId) -> None:
    """Fill a `PointId`. Raises Rejected for an id that Qdrant cannot hold."""
    if not can_hold(point_id):
        raise Rejected(
            "id-invalid", f"Qdrant takes ids from 0 to 2^64-1 and UUIDs, not {point_id!r}", "id"
        )
    if isinstance(point_id, int):
        target.num = point_id
    else:
        target.uuid = point_id


def read_id(point_id: Message) -> BareId:
    """Read a `PointId`."""
    found: BareId = (
        point_id.uuid if point_id.WhichOneof("point_id_options") == "uuid" else point_id.num
    )
    return found


def write_point(target: Message, point: Point) -> None:
    """Fill a `PointStruct`."""
    write_id(target.id, bare(point.id))
    write_vectors(target.vectors, point.vectors)
    write_payload(target.payload, point.payload)


def read_point(point: Message, scope: str | None) -> Point:
    """Read a `RetrievedPoint` of a scope, asked for with payload and all vectors."""
    return Point(
        within(scope, read_id(point.id)),
        read_vectors(point.vectors) if point.HasField("vectors") else {},
        read_payload(point.payload),
    )


def write_vectors(target: Message, vectors: Vectors) -> None:
    """Fill a `Vectors`. A point without any vector still says so, or the server refuses it."""
    if len(vectors) == 1 and "" in vectors:
        write_vector(target.vector, vectors[""], "")
        return
    target.vectors.SetInParent()
    named = target.vectors.vectors
    for name, vector in vectors.items():
        write_vector(named[name], vector, name)


def read_vectors(vectors: Message) -> Vectors:
    """Read a `VectorsOutput`."""
    if vectors.WhichOneof("vectors_options") == "vector":
        return {"": _read_vector(vectors.vector)}
    return {name: _read_vector(vector) for name, vector in vectors.vectors.vectors.items()}


def write_vector(target: Message, vector: Vector, name: str) -> None:
    """
    Fill a `Vector` or a `VectorInput`, which agree in these fields.

    Lengths are checked here, because bytes that are no whole number of floats break the
    decoding of the whole request, and the server cannot say whose they were.
    """
    match vector:
        case SparseVector(indices=indices, values=values):
            if len(indices) != len(values) or len(indices) % 4:
                raise _malformed(name, "has indices and values of different lengths")
            target.sparse.SetInParent()
            target.sparse.indices.extend(struct.unpack(f"<{len(indices) // 4}I", indices))
            target.sparse.values = values
        case MultiVector(rows=rows, data=data):
            if rows < 1 or not data or len(data) % (4 * rows):
                raise _malformed(name, f"does not hold {rows} rows of whole floats")
            step = len(data) // rows
            for start in range(0, len(data), step):
                target.multi_dense.vectors.add().data = data[start : start + step]
        case _:
            if not vector or len(vector) % 4:
                raise _malformed(name, "is empty or no whole number of floats")
            target.dense.data = vector


def _read_vector(vector: Message) -> Vector:
    match vector.WhichOneof("vector"):
        case "dense":
            dense: bytes = vector.dense.data
            return dense
        case "sparse":
            return SparseVector(_indices(vector.sparse.indices), vector.sparse.values)
        case "multi_dense":
            rows = vector.multi_dense.vectors
            return MultiVector(len(rows), b"".join(row.data for row in rows))
    # The form that servers before 1.16 answer in.
    if vector.HasField("indices"):
        return SparseVector(_indices(vector.indices.data), vector.data)
    if vector.HasField("vectors_count"):
        return MultiVector(vector.vectors_count, vector.data)
    flat: bytes = vector.data
    return flat


def _indices(indices: Message) -> bytes:
    return struct.pack(f"<{len(indices)}I", *indices)


def _malformed(name: str, what: str) -> Rejected:
    path = f"vectors.{name}"
    return Rejected("field-invalid", f"{path} {what}", path)
