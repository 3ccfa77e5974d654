"""
Columns of vectors, in the layouts in use: lists, lists of fixed size, large lists and binary
columns are dense; structs of indices and values, and maps from an index, sparse; lists of lists
multi-vectors.

A batch's numbers are brought into one buffer of float32, without a copy where they lie so
already, and a row is a slice of it: no number becomes a Python object. Where a slice begins is
read from the offsets of the array, for a batch may be a slice of a larger one. float64 is
rounded to float32, as every store would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replicator.codecs.vectors import vector_from_wire
from replicator.errors import Rejected
from replicator.model.point import MultiVector, SparseVector, Vector

At = Callable[[int], Vector | None]
"""The vector of a row; None where it has none. Raises Rejected."""

_Integers = npt.NDArray[np.integer[Any]]
_TYPES = pa.types


def is_vector(kind: Any) -> bool:
    """Whether a column of this type can be one of vectors."""
    kind = _bare_type(kind)
    if _is_list(kind):
        inner = _bare_type(kind.value_type)
        return _is_number(inner) or (_is_list(inner) and _is_number(inner.value_type))
    if _TYPES.is_struct(kind):
        return {field.name for field in kind} == {"indices", "values"}
    if _TYPES.is_map(kind):
        return _TYPES.is_integer(kind.key_type) and _is_number(kind.item_type)
    return _is_bytes(kind) or _is_text(kind)


def vectors_at(array: Any, path: str) -> At:
    """How to read the vectors of a column of a batch, whose type `is_vector`."""
    array = bare_array(array)
    there = _validity(array)
    read = _reader(array, path)

    def at(row: int) -> Vector | None:
        return read(row) if there is None or there[row] else None

    return at


def bare_array(array: Any) -> Any:
    """Without dictionary and extension."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    return array


def _reader(array: Any, path: str) -> Callable[[int], Vector]:
    kind = array.type
    if _is_list(kind):
        if _is_list(_bare_type(kind.value_type)):
            return _multi(array, path)
        return _dense(array, path)
    if _TYPES.is_struct(kind):
        indices, values = (array.field(array.type.get_field_index(n)) for n in _SPARSE)
        return _sparse(_lists(indices), _lists(values), path)
    if _TYPES.is_map(kind):
        bounds = array.offsets.to_numpy()
        return _sparse((array.keys, bounds), (array.items, bounds), path)
    # bytes of float32, or a text `f32:…`
    return lambda row: vector_from_wire(array[row].as_py(), path)


_SPARSE = ("indices", "values")


def _dense(array: Any, path: str) -> Callable[[int], Vector]:
    values, bounds = _lists(array)
    data = _floats(values)
    begins = (4 * bounds).tolist()

    def read(row: int) -> bytes:
        if begins[row] == begins[row + 1]:
            raise Rejected("field-invalid", f"{path} is empty", path)
        return bytes(data[begins[row] : begins[row + 1]])

    return read


def _multi(array: Any, path: str) -> Callable[[int], Vector]:
    inner, outer = _lists(array)
    values, bounds = _lists(bare_array(inner))
    data = _floats(values)

    def read(row: int) -> MultiVector:
        begin, end = int(outer[row]), int(outer[row + 1])
        widths = np.diff(bounds[begin : end + 1])
        if not widths.size or not widths[0] or (widths != widths[0]).any():
            raise Rejected(
                "field-invalid", f"{path} has no rows, or rows of different dimensions", path
            )
        first, last = 4 * int(bounds[begin]), 4 * int(bounds[end])
        return MultiVector(end - begin, bytes(data[first:last]))

    return read


def _sparse(
    indices: tuple[Any, _Integers], values: tuple[Any, _Integers], path: str
) -> Callable[[int], Vector]:
    numbers, bounds = indices
    floats = _floats(values[0])
    # Wider than any index, so that one that is too large, or negative, or null is told.
    wide = numbers.cast(pa.int64()).fill_null(-1).to_numpy()
    flat = np.ascontiguousarray(wide.astype("<u4"))
    in_range = (wide >= 0) & (wide < 1 << 32)

    def read(row: int) -> SparseVector:
        begin, end = int(bounds[row]), int(bounds[row + 1])
        first, last = int(values[1][row]), int(values[1][row + 1])
        if not in_range[begin:end].all():
            raise Rejected("field-invalid", f"{path}.indices exceeds 32 bits", path)
        wire = {
            "indices": flat[begin:end].tobytes(),
            "values": bytes(floats[4 * first : 4 * last]),
        }
        vector = vector_from_wire(wire, path)
        assert isinstance(vector, SparseVector)
        return vector

    return read


def _lists(array: Any) -> tuple[Any, _Integers]:
    """All values, and where those of each row begin and the last ones end, nulls included."""
    if _TYPES.is_fixed_size_list(array.type):
        # `values` knows nothing of a slice, and `flatten` leaves out what is null.
        size = array.type.list_size
        return array.values, (array.offset + np.arange(len(array) + 1, dtype=np.int64)) * size
    return array.values, array.offsets.to_numpy()


def _floats(values: Any) -> memoryview:
    """The bytes of little-endian float32. A null becomes NaN, which no vector may hold."""
    numbers = bare_array(values).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # infinity, which no vector may hold either
        return np.ascontiguousarray(numbers.astype("<f4", copy=False)).data.cast("B")


def _validity(array: Any) -> list[bool] | None:
    if not array.null_count:
        return None
    known: list[bool] = array.is_valid().to_pylist()
    return known


def _bare_type(kind: Any) -> Any:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if _TYPES.is_dictionary(kind) else kind


def _is_list(kind: Any) -> bool:
    return bool(
        _TYPES.is_list(kind) or _TYPES.is_large_list(kind) or _TYPES.is_fixed_size_list(kind)
    )


def _is_number(kind: Any) -> bool:
    return bool(_TYPES.is_floating(kind) or _TYPES.is_integer(kind))


def _is_bytes(kind: Any) -> bool:
    return bool(
        _TYPES.is_binary(kind)
        or _TYPES.is_large_binary(kind)
        or _TYPES.is_fixed_size_binary(kind)
    )


def _is_text(kind: Any) -> bool:
    return bool(_TYPES.is_string(kind) or _TYPES.is_large_string(kind))
