"""
Vectors between their wire forms and the neutral ones.

On the wire a dense vector is bytes, an array of numbers or a string `f32:<base64>`; sparse ones
are `{"indices", "values"}`, multi-vectors `{"rows", "data"}`, with arrays or bytes inside. In
the program they are float32 bytes (`model.point`), and this file is the only way in and out.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from replicator.codecs.payload import join
from replicator.errors import Rejected
from replicator.model.point import MultiVector, SparseVector, Vector

_F32_TEXT = "f32:"
_INDEX_MAX = (1 << 32) - 1


def dense(values: Sequence[float]) -> bytes:
    """Numbers to float32 bytes. Raises Rejected when one does not fit."""
    return _packed(values, "vector")


def dense_to_list(vector: bytes) -> list[float]:
    """Float32 bytes to numbers, exactly."""
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def sparse(indices: Sequence[int], values: Sequence[float]) -> SparseVector:
    """A sparse vector in canonical order. Raises Rejected for duplicate or large indices."""
    return _sparse(indices, values, "vector")


def sparse_to_lists(vector: SparseVector) -> tuple[list[int], list[float]]:
    """Indices and values of a sparse vector."""
    count = len(vector.indices) // 4
    return list(struct.unpack(f"<{count}I", vector.indices)), dense_to_list(vector.values)


def multi(rows: Sequence[Sequence[float]]) -> MultiVector:
    """A multi-vector from its rows. Raises Rejected unless they are of one dimension."""
    return _multi(len(rows), rows, "vector")


def multi_to_lists(vector: MultiVector) -> list[list[float]]:
    """The rows of a multi-vector."""
    width = len(vector.data) // max(vector.rows, 1)
    return [
        dense_to_list(vector.data[start : start + width])
        for start in range(0, len(vector.data), width or 1)
    ]


def vector_from_wire(value: object, path: str) -> Vector:
    """
    A vector from any form that the event contract allows. Its numbers may still be NaN or
    Infinity where they came as bytes.

    Raises Rejected with the path: `field-type`, `field-missing`, `field-invalid`,
    `vector-not-finite`.
    """
    match value:
        case bytes():
            return _floats(value, path)
        case str():
            return _floats(_from_text(value, path), path)
        case list() | tuple():
            return _floats(_packed(value, path), path)
        case dict():
            return _from_map(value, path)
        case _:
            raise _wrong(path, "an array, bytes or a map", value)


def vector_to_json(vector: Vector) -> Any:
    """
    The JSON form, which reads back to the same bytes: `f32:<base64>` for dense vectors and the
    data of multi-vectors, arrays for sparse ones. Raises Rejected("vector-not-finite") for a
    sparse vector with NaN or Infinity, which JSON arrays cannot hold.
    """
    match vector:
        case bytes():
            return _to_text(vector)
        case MultiVector():
            return {"rows": vector.rows, "data": _to_text(vector.data)}
        case SparseVector():
            indices, values = sparse_to_lists(vector)
            if not all(map(math.isfinite, values)):
                raise Rejected("vector-not-finite", "a sparse vector holds NaN or Infinity")
            return {"indices": indices, "values": values}


def _from_map(value: dict[Any, Any], path: str) -> Vector:
    if "indices" in value or "values" in value:
        if "rows" in value or "data" in value:
            raise Rejected(
                "field-invalid", f"{path} is sparse and a multi-vector at once", path
            )
        return _sparse(_member(value, "indices", path), _member(value, "values", path), path)
    rows = _member(value, "rows", path)
    data = _member(value, "data", path)
    if type(rows) is not int:
        raise _wrong(join(path, "rows"), "an integer", rows)
    return _multi(rows, data, path)


def _member(value: dict[Any, Any], name: str, path: str) -> Any:
    if name not in value:
        raise Rejected("field-missing", f"{path}.{name} is missing", join(path, name))
    return value[name]


def _sparse(indices: object, values: object, path: str) -> SparseVector:
    at = join(path, "indices")
    numbers = _indices(indices, at)
    floats = _member_floats(values, join(path, "values"))
    if len(floats) != 4 * len(numbers):
        raise Rejected(
            "field-invalid",
            f"{path} has {len(numbers)} indices and {len(floats) // 4} values",
            path,
        )
    if not all(a < b for a, b in pairwise(numbers)):
        # Canonical order, as stores give them back, so that copies compare equal as bytes.
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        numbers = [numbers[i] for i in order]
        for lower, upper in pairwise(numbers):
            if lower == upper:
                raise Rejected("field-invalid", f"{at} holds {lower} twice", at)
        floats = b"".join([floats[4 * i : 4 * i + 4] for i in order])
    return SparseVector(struct.pack(f"<{len(numbers)}I", *numbers), floats)


def _indices(value: object, path: str) -> Sequence[int]:
    match value:
        case bytes():
            if len(value) % 4:
                raise Rejected("field-invalid", f"{path} is not a whole number of uint32", path)
            return struct.unpack(f"<{len(value) // 4}I", value)
        case list() | tuple():
            for position, number in enumerate(value):
                if type(number) is not int:
                    raise _wrong(join(path, position), "an integer", number)
                if not 0 <= number <= _INDEX_MAX:
                    raise Rejected("field-invalid", f"{path} exceeds 32 bits", path)
            return value
        case _:
            raise _wrong(path, "an array or bytes", value)


def _multi(rows: int, data: object, path: str) -> MultiVector:
    at = join(path, "data")
    if rows < 1:
        raise Rejected("field-invalid", f"{path}.rows is below 1", join(path, "rows"))
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], (list, tuple)):
        if len(data) != rows:
            raise Rejected("field-invalid", f"{at} has {len(data)} rows, not {rows}", at)
        packed = [_member_floats(row, join(at, number)) for number, row in enumerate(data)]
        if len({len(row) for row in packed}) != 1:
            raise Rejected("field-invalid", f"{at} has rows of different dimensions", at)
        floats = b"".join(packed)
    else:
        floats = _member_floats(data, at)
    if not floats or len(floats) % (4 * rows):
        raise Rejected(
            "field-invalid",
            f"{at} has {len(floats) // 4} numbers, which do not fill {rows} rows",
            at,
        )
    return MultiVector(rows, floats)


def _member_floats(value: object, path: str) -> bytes:
    match value:
        case bytes():
            if len(value) % 4:
                raise Rejected(
                    "field-invalid", f"{path} is not a whole number of float32", path
                )
            return value
        case str():
            return _member_floats(_from_text(value, path), path)
        case list() | tuple():
            return _packed(value, path)
        case _:
            raise _wrong(path, "an array or bytes", value)


def _floats(data: bytes, path: str) -> bytes:
    if not data or len(data) % 4:
        raise Rejected(
            "field-invalid",
            f"{path} has {len(data)} bytes: a dense vector is one or more float32",
            path,
        )
    return data


def _packed(values: Iterable[Any], path: str) -> bytes:
    numbers = list(values)
    # bool packs as a number and str does not pack at all; only numbers are a vector.
    if not {*map(type, numbers)} <= {int, float}:
        for position, number in enumerate(numbers):
            if type(number) not in (int, float):
                raise _wrong(join(path, position), "a number", number)
    try:
        return struct.pack(f"<{len(numbers)}f", *numbers)
    except (OverflowError, struct.error) as exc:
        raise Rejected(
            "vector-not-finite", f"{path} holds a number beyond float32", path
        ) from exc


def _from_text(text: str, path: str) -> bytes:
    if not text.startswith(_F32_TEXT):
        raise Rejected("field-invalid", f"{path} is a string without `f32:`", path)
    try:
        # Stricter than binascii about padding, and four times as fast.
        return msgspec.convert(text[len(_F32_TEXT) :], bytes)
    except msgspec.ValidationError as exc:
        raise Rejected("field-invalid", f"{path} is not base64", path) from exc


def _to_text(data: bytes) -> str:
    return _F32_TEXT + binascii.b2a_base64(data, newline=False).decode()


def _wrong(path: str, expected: str, value: object) -> Rejected:
    return Rejected("field-type", f"{path} is {_name(value)}, not {expected}", path)


def _name(value: object) -> str:
    return "null" if value is None else type(value).__name__
