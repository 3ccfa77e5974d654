"""
Payloads: JSON values ↔ Qdrant's protobuf `Value`.

Integers stay integers and floats stay floats. What the wire cannot carry (an integer beyond 64
bits, NaN, bytes, a lone surrogate) is refused for its record, never rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from replicator.connectors.qdrant.wire import Message
from replicator.errors import Rejected
from replicator.model.point import Payload

DEPTH_MAX = 24
"""Nesting of lists and maps. Protobuf decoders stop at 100 nested messages; a map within a map
takes three, and the request around it about ten. Twice this would fail in the server's decoder,
which cannot say which record it was."""

_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1


def write_payload(target: Message, payload: Payload, path: str = "payload") -> None:
    """Fill a `map<string, Value>` field. Raises Rejected with the path of what cannot
    travel.
    """
    try:
        for key, value in payload.items():
            _write(target[key], value, path, key, 1)
    except UnicodeEncodeError as exc:
        raise Rejected("field-invalid", f"{path} holds text that is not Unicode", path) from exc


def read_payload(fields: Message) -> Payload:
    """Read a `map<string, Value>` field."""
    return {key: read_value(value) for key, value in fields.items()}


def read_value(value: Message) -> Any:
    """Read one `Value`; one without a kind is null, as the server takes it."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "integer_value":
            return value.integer_value
        case "double_value":
            return value.double_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [read_value(item) for item in value.list_value.values]
        case "struct_value":
            return read_payload(value.struct_value.fields)
        case _:
            return None


def _write(target: Message, value: Any, path: str, key: str | int, depth: int) -> None:
    match value:
        case str():
            target.string_value = value
        case bool():
            target.bool_value = value
        case int() | float():
            _write_number(target, value, f"{path}.{key}")
        case None:
            target.null_value = 0
        case list() | tuple() | dict():
            if depth > DEPTH_MAX:
                raise _rejected(f"is nested deeper than {DEPTH_MAX}", f"{path}.{key}")
            _write_many(target, value, f"{path}.{key}", depth + 1)
        case _:
            what = f"{path}.{key} is of type {type(value).__name__}, which is no JSON value"
            raise Rejected("field-type", what, f"{path}.{key}")


def _write_many(
    target: Message, value: Sequence[Any] | dict[Any, Any], path: str, depth: int
) -> None:
    # Set in any case: an empty list or map must not read back as null.
    if not isinstance(value, dict):
        target.list_value.SetInParent()
        for index, item in enumerate(value):
            _write(target.list_value.values.add(), item, path, index, depth)
        return
    target.struct_value.SetInParent()
    for name, item in value.items():
        if not isinstance(name, str):
            raise _rejected("has a key that is no text", path)
        _write(target.struct_value.fields[name], item, path, name, depth)


def _write_number(target: Message, value: float, path: str) -> None:
    if isinstance(value, int):
        if not _INT64_MIN <= value <= _INT64_MAX:
            raise _rejected("does not fit into 64 bits", path)
        target.integer_value = value
    elif isfinite(value):
        target.double_value = value
    else:
        raise Rejected("payload-not-finite", f"{path} is NaN or Infinity", path)


def _rejected(what: str, path: str) -> Rejected:
    return Rejected("field-invalid", f"{path} {what}", path)
