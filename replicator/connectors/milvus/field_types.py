"""
The types of scalar fields, as a payload has their values.

A value that a field would keep as another one (a float64 in a float32, a text that is cut) is
none of its values, so that whoever writes it hears of it.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any

import msgspec

_F32 = struct.Struct("<f")


class Type(IntEnum):
    """`DataType` of Milvus, of what is read and written here."""

    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    FLOAT = 10
    DOUBLE = 11
    VARCHAR = 21
    ARRAY = 22
    JSON = 23
    BINARY_VECTOR = 100
    FLOAT_VECTOR = 101
    FLOAT16_VECTOR = 102
    BFLOAT16_VECTOR = 103
    SPARSE_VECTOR = 104
    INT8_VECTOR = 105


BITS = {Type.INT8: 7, Type.INT16: 15, Type.INT32: 31, Type.INT64: 63}

SLOTS = {
    Type.BOOL: "bool_data",
    **dict.fromkeys((Type.INT8, Type.INT16, Type.INT32), "int_data"),
    Type.INT64: "long_data",
    Type.FLOAT: "float_data",
    Type.DOUBLE: "double_data",
    Type.VARCHAR: "string_data",
    Type.ARRAY: "array_data",
    Type.JSON: "json_data",
}
"""Type → where a column of it stands in a `ScalarField`."""

SCALARS = frozenset(SLOTS)
"""Types that are fields of a payload. What else there is (TIMESTAMPTZ, GEOMETRY, STRUCT…)
stays behind."""

ELEMENTS = SCALARS - {Type.ARRAY, Type.JSON}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A scalar field of a collection."""

    name: str
    type: Type
    nullable: bool = False
    filled: bool = False
    """It has a default, which the server puts in the place of no value and of null."""
    length_max: int | None = None
    """Bytes of a text."""
    element: Type | None = None
    """Of an array."""
    capacity: int | None = None


def told_of(field: Field) -> str:
    """How it is declared, for a person."""
    of = f" of {field.element.name}" if field.element is not None else ""
    bounds = [str(each) for each in (field.capacity, field.length_max) if each is not None]
    told = f"{field.type.name}{of}" + (f" ({', '.join(bounds)})" if bounds else "")
    told += ", nullable" if field.nullable else ""
    return told + (", with a default" if field.filled else "")


def misfit(field: Field, value: Any) -> str | None:
    """Why the field does not hold the value, which is not null."""
    if field.type is Type.JSON:
        return None
    if field.type is not Type.ARRAY:
        return _misfit(field.type, field.length_max, value)
    if not isinstance(value, list | tuple):
        return "is no list, which the field holds"
    if field.capacity is not None and len(value) > field.capacity:
        return f"has {len(value)} elements, and the field holds {field.capacity}"
    assert field.element is not None, "looked at when the field was"
    for place, each in enumerate(value):
        if why := _misfit(field.element, field.length_max, each):
            return f"holds at [{place}] what the field cannot: it {why}"
    return None


def _misfit(kind: Type, length_max: int | None, value: Any) -> str | None:
    match kind:
        case Type.BOOL:
            fits = isinstance(value, bool)
        case Type.VARCHAR:
            fits = isinstance(value, str)
            if fits and length_max is not None and len(value.encode()) > length_max:
                return f"has {len(value.encode())} bytes, and the field holds {length_max}"
        case Type.FLOAT | Type.DOUBLE:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            if fits and not _is_kept(kind, value):
                return f"would be another number in a field of type {kind.name}"
        case _:
            bits = BITS[kind]
            fits = type(value) is int and -(1 << bits) <= value < 1 << bits
    return None if fits else f"is no value of type {kind.name}"


def _is_kept(kind: Type, value: float) -> bool:
    try:
        kept: float
        (kept,) = _F32.unpack(_F32.pack(value)) if kind is Type.FLOAT else (float(value),)
    except OverflowError:
        return False
    return kept == value
