"""
Fields of a payload as properties, and back.

A property takes more than it gives back: it cuts integers to the precision of a float64, writes
dates anew, leaves out nulls, and a float where a coordinate is kept has half its digits. So a
field is a property only where its value comes back as it went (`fits`). What does not stands in
the JSON beside the properties, where the class has a place for that.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from replicator.connectors.weaviate.classes import Property
from replicator.connectors.weaviate.messages import Message, wire
from replicator.model.schema import is_uuid

_EXACT_MAX = 1 << 53
"""Every number is a float64 on its way, in which the integers up to this are one each."""

_DATE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?(?:Z|[+-](?!00:00)\d\d:\d\d)"
)
"""A date as Go writes it (RFC3339Nano): no zeros at the end of a fraction, and Z for UTC."""

_BLOB = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"
)
_COORDINATES = frozenset({"latitude", "longitude"})


def fits(kept: Property, value: Any) -> bool:
    """Whether a property gives a value back as it is; 5 for 5.0 where it holds numbers."""
    if kept.is_list:
        return isinstance(value, list | tuple) and all(
            _fits(kept, kept.element, each) for each in value
        )
    return _fits(kept, kept.type, value)


def _fits(kept: Property, kind: str, value: Any) -> bool:
    match kind:
        case "text" | "string":
            return isinstance(value, str)
        case "int":
            return type(value) is int and abs(value) <= _EXACT_MAX
        case "number":
            return type(value) is float or (type(value) is int and abs(value) <= _EXACT_MAX)
        case "boolean":
            return isinstance(value, bool)
        case "date":
            return isinstance(value, str) and _is_date(value)
        case "uuid":
            return isinstance(value, str) and is_uuid(value)
        case "blob":
            return isinstance(value, str) and _BLOB.fullmatch(value) is not None
        case "geoCoordinates":
            return (
                isinstance(value, dict)
                and value.keys() == _COORDINATES
                and all(type(each) is float and _is_half(each) for each in value.values())
            )
        case "object":
            return isinstance(value, dict) and all(
                name in kept.nested and fits(kept.nested[name], each)
                for name, each in value.items()
            )
        case _:
            return False


def write_fields(
    into: Message, fields: Mapping[str, Any], properties: Mapping[str, Property]
) -> None:
    """Fill `Properties`, or what is nested within, with fields that fit."""
    into.non_ref_properties.SetInParent()
    for name, value in fields.items():
        kept = properties[name]
        if kept.is_list:
            _write_list(into, name, value, kept)
        elif kept.type == "object":
            nested = into.object_properties.add(prop_name=name)
            write_fields(nested.value, value, kept.nested)
        else:
            entry = into.non_ref_properties.fields.add(key=name)
            _write_value(entry.value, value)


def _write_value(into: Message, value: Any) -> None:
    match value:
        case bool():
            into.bool_value = value
        case int() | float():
            into.number_value = value
        case dict():
            for name, each in value.items():
                _write_value(into.struct_value.fields.add(key=name).value, each)
        case _:
            into.string_value = value


def _write_list(into: Message, name: str, values: Any, kept: Property) -> None:
    if not values:
        into.empty_list_props.append(name)
        return
    match kept.element:
        case "int":
            into.int_array_properties.add(prop_name=name, values=values)
        case "number":
            packed = struct.pack(f"<{len(values)}d", *values)
            into.number_array_properties.add(prop_name=name, values_bytes=packed)
        case "boolean":
            into.boolean_array_properties.add(prop_name=name, values=values)
        case "object":
            listed = into.object_array_properties.add(prop_name=name)
            for each in values:
                write_fields(listed.values.add(), each, kept.nested)
        case _:
            into.text_array_properties.add(prop_name=name, values=values)


def read_fields(fields: Message) -> dict[str, Any]:
    """The fields of `Fields`; a null is one that is not there."""
    return {
        entry.key: _read_value(entry.value)
        for entry in fields.fields
        if not entry.value.HasField("null_value") and entry.value.ListFields()
    }


def _read_value(value: Message) -> Any:
    [(field, held)] = value.ListFields()
    match field.name:
        case "object_value":
            return read_fields(held)
        case "list_value":
            return _read_list(held)
        case "geo_value":
            return {"latitude": held.latitude, "longitude": held.longitude}
        case _:
            return held


def _read_list(value: Message) -> list[Any]:
    told = value.ListFields()
    if not told:
        return []
    [(field, held)] = told
    match field.name:
        case "number_values":
            return np.frombuffer(held.values, "<f8").tolist()  # type: ignore[no-any-return]
        case "int_values":
            return np.frombuffer(held.values, "<i8").tolist()  # type: ignore[no-any-return]
        case "object_values":
            return [read_fields(each) for each in held.values]
        case _:
            return list(held.values)


def asked(properties: Mapping[str, Property]) -> Message:
    """What of each property is to be read, as `PropertiesRequest` says it."""
    request = wire().PropertiesRequest()
    for kept in properties.values():
        if kept.element == "object":
            _ask(request.object_properties.add(), kept)
        else:
            request.non_ref_properties.append(kept.name)
    return request


def _ask(request: Message, kept: Property) -> None:
    request.prop_name = kept.name
    for within in kept.nested.values():
        if within.element == "object":
            _ask(request.object_properties.add(), within)
        else:
            request.primitive_properties.append(within.name)


def _is_half(number: float) -> bool:
    """Whether a float32 holds it as it is."""
    try:
        return bool(struct.unpack("<f", struct.pack("<f", number))[0] == number)
    except OverflowError:
        return False


def _is_date(text: str) -> bool:
    if _DATE.fullmatch(text) is None:
        return False
    try:
        # Its own look takes no more than six digits of a fraction.
        datetime.fromisoformat(re.sub(r"\.\d+", "", text))
    except ValueError:
        return False
    return True
