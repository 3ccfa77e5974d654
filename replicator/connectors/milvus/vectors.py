"""
Vectors of a column, as Milvus has them on the wire.

    FLOAT_VECTOR      float32 … of all rows
    FLOAT16_VECTOR    float16 …
    BFLOAT16_VECTOR   the upper halves of float32 …
    INT8_VECTOR       int8 …
    SPARSE_VECTOR     a row each: uint32 index, float32 value, and so on

All of it is little-endian. What has fewer bits than a float32 is read as one without a loss. A
float16 rounds what is written, which comparison knows of; no vector that a bfloat16 or an int8
would round is written at all, for nobody would know by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from replicator.connectors.milvus.field_types import Type
from replicator.connectors.milvus.wire import Message
from replicator.errors import Rejected
from replicator.model.point import SparseVector, Vector

T = TypeVar("T")

SLOTS = {
    Type.FLOAT16_VECTOR: "float16_vector",
    Type.BFLOAT16_VECTOR: "bfloat16_vector",
    Type.INT8_VECTOR: "int8_vector",
}
"""Where those stand in a `VectorField` that are bytes there."""

DENSE = frozenset({Type.FLOAT_VECTOR, *SLOTS})
_HALF_BEYOND = 65_520.0
"""What is as large as this is rounded to infinity, and not to the largest half float."""

_INT8_MAX = 127


def read_vectors(data: Message, kind: Type, valid: Sequence[bool]) -> list[Vector | None]:
    """
    The vectors of a `FieldData`, a row each. `valid`: which rows have one. Servers leave the
    others out of the data, or put zeros in their place.
    """
    field = data.vectors
    if kind is Type.SPARSE_VECTOR:
        rows: list[Vector] = [_sparse(each) for each in field.sparse_float_vector.contents]
    else:
        packed = (
            field.float_vector.data
            if kind is Type.FLOAT_VECTOR
            else getattr(field, SLOTS[kind])
        )
        floats = _as_floats(kind, packed)
        size = 4 * int(field.dim)
        rows = [floats[at : at + size] for at in range(0, len(floats), size)]
    return spread(rows, valid)


def spread(rows: Sequence[T], valid: Sequence[bool]) -> list[T | None]:
    """The rows in their places, of data that holds all of them or those that are valid."""
    if len(rows) == len(valid):
        return [row if is_there else None for row, is_there in zip(rows, valid, strict=True)]
    there = iter(rows)
    return [next(there) if is_there else None for is_there in valid]


def write_vectors(
    data: Message, kind: Type, size: int | None, vectors: Sequence[Vector]
) -> None:
    """Fill a `FieldData` with the vectors of the rows that have one."""
    field = data.vectors
    if kind is Type.SPARSE_VECTOR:
        array = field.sparse_float_vector
        array.SetInParent()
        array.contents.extend(sparse_bytes(each) for each in vectors)
        array.dim = max((_width(each) for each in vectors), default=0)
        field.dim = array.dim
        return
    assert size is not None, "a dense field has a size"
    field.dim = size
    packed = b"".join(each for each in vectors if isinstance(each, bytes))
    if kind is Type.FLOAT_VECTOR:
        field.float_vector.SetInParent()
        field.float_vector.data = packed
    else:
        setattr(field, SLOTS[kind], dense_bytes(kind, packed))


def dense_bytes(kind: Type, packed: bytes) -> bytes:
    """Float32 as a field of this type has them."""
    floats = np.frombuffer(packed, "<f4")
    match kind:
        case Type.FLOAT16_VECTOR:
            return floats.astype("<f2").tobytes()
        case Type.BFLOAT16_VECTOR:
            return (floats.view("<u4") >> 16).astype("<u2").tobytes()
        case Type.INT8_VECTOR:
            return floats.astype("i1").tobytes()
        case _:
            return packed


def sparse_bytes(vector: Vector) -> bytes:
    """A sparse vector as Milvus has it."""
    assert isinstance(vector, SparseVector), "looked at before"
    words = np.empty((len(vector.indices) // 4, 2), "<u4")
    words[:, 0] = np.frombuffer(vector.indices, "<u4")
    words[:, 1] = np.frombuffer(vector.values, "<u4")
    return words.tobytes()


def check_vector(name: str, kind: Type, vector: Vector) -> None:
    """
    Raises Rejected for a vector that a field of this type would not keep; kind, size and finite
    components were looked at before.
    """
    path = f"vectors.{name}"
    if isinstance(vector, SparseVector):
        if not vector.indices:
            raise Rejected("field-invalid", f"{path} is empty, which Milvus refuses", path)
        return
    if kind is Type.FLOAT_VECTOR:
        return
    assert isinstance(vector, bytes), "looked at before"
    floats = np.frombuffer(vector, "<f4")
    match kind:
        case Type.FLOAT16_VECTOR:
            fits = bool(np.abs(floats).max(initial=0) < _HALF_BEYOND)
        case Type.BFLOAT16_VECTOR:
            fits = not (floats.view("<u4") & 0xFFFF).any()
        case _:
            whole = floats == np.round(floats)
            fits = bool(whole.all() and np.abs(floats).max(initial=0) <= _INT8_MAX)
    if not fits:
        raise Rejected(
            "field-invalid", f"{path} holds a number that {kind.name} would change", path
        )


def _as_floats(kind: Type, packed: bytes) -> bytes:
    match kind:
        case Type.FLOAT16_VECTOR:
            return np.frombuffer(packed, "<f2").astype("<f4").tobytes()
        case Type.BFLOAT16_VECTOR:
            return (np.frombuffer(packed, "<u2").astype("<u4") << 16).tobytes()
        case Type.INT8_VECTOR:
            return np.frombuffer(packed, "i1").astype("<f4").tobytes()
        case _:
            return packed


def _sparse(row: bytes) -> SparseVector:
    words = np.frombuffer(row, "<u4").reshape(-1, 2)
    words = words[np.argsort(words[:, 0], kind="stable")]
    return SparseVector(words[:, 0].tobytes(), words[:, 1].tobytes())


def _width(vector: Vector) -> int:
    assert isinstance(vector, SparseVector), "looked at before"
    return int.from_bytes(vector.indices[-4:], "little") + 1
