"""
Messages of configuration ↔ documents, by the messages' own descriptors.

No field is named here. What qdrant-client's schema says there is, is read and written; so a
setting that comes with a later client is carried from the day on which that client is
installed, and one that only the server knows shows as a field without a name (`unnamed`).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from replicator.connectors.qdrant.values import read_payload, write_payload
from replicator.connectors.qdrant.wire import Message
from replicator.errors import Refused, Rejected

_VALUE = "qdrant.Value"


def read_document(message: Message, skip: Collection[str] = ()) -> dict[str, Any]:
    """
    Every field that is set, and every one that cannot be unset: lists as lists, maps and
    messages as dicts, enum values by their names.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.name in skip:
            continue
        value = getattr(message, field.name)
        if _is_map(field):
            if value:
                found[field.name] = _read_map(field, value)
        elif field.is_repeated:
            if value:
                found[field.name] = [_read(field, each) for each in value]
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _read(field, value)
    return found


def write_document(
    target: Message, document: Mapping[str, Any], path: str, known: Collection[str] = ()
) -> None:
    """
    Fill a message. Raises Refused("config-invalid") with the path of what it cannot hold, and
    the nearest name; fields in `known` belong to another message, and are left out.
    """
    fields = target.DESCRIPTOR.fields_by_name
    target.SetInParent()
    for name, value in document.items():
        if name in fields:
            _write_field(target, fields[name], value, f"{path}.{name}" if path else name)
        elif name not in known:
            raise unknown_setting(name, [*fields, *known], path)


def fits(descriptor: Any, document: Mapping[str, Any]) -> bool:
    """Whether a message has a place for every name of a document."""
    fields = descriptor.fields_by_name
    for name, value in document.items():
        if name not in fields:
            return False
        inner = fields[name].message_type
        nested = inner is not None and not _is_map(fields[name]) and isinstance(value, dict)
        if nested and not fits(inner, value):
            return False
    return True


def unknown_setting(name: str, names: Collection[str], path: str) -> Refused:
    """The error for a setting that there is not."""
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    where = f"{path}.{name}" if path else name
    return Refused("config-invalid", f"{where} is no setting of a Qdrant collection{hint}")


def unnamed(message: Message) -> Iterator[str]:
    """Fields that the server sent and the installed client has no name for."""
    for field in UnknownFieldSet(message):
        yield f"{message.DESCRIPTOR.name}, field {field.field_number}"
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if _is_map(field):
            values = value.values() if _map_value(field).message_type is not None else ()
        else:
            values = value if field.is_repeated else (value,)
        for each in values:
            yield from unnamed(each)


def _read(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return read_document(value) if field.message_type is not None else value


def _read_map(field: Any, entries: Message) -> dict[str, Any]:
    inner = _map_value(field)
    if inner.message_type is not None and inner.message_type.full_name == _VALUE:
        return read_payload(entries)
    return {str(key): _read(inner, entries[key]) for key in sorted(entries)}


def _write_field(target: Message, field: Any, value: Any, path: str) -> None:
    if _is_map(field):
        _write_map(getattr(target, field.name), _map_value(field), value, path)
    elif field.is_repeated:
        _write_list(getattr(target, field.name), field, value, path)
    elif field.message_type is not None:
        write_document(getattr(target, field.name), _table(value, path), path)
    else:
        _set(lambda given: setattr(target, field.name, given), field, value, path)


def _write_list(target: Message, field: Any, value: Any, path: str) -> None:
    if not isinstance(value, list):
        raise Refused("config-invalid", f"{path} is a list")
    for each in value:
        if field.message_type is not None:
            write_document(target.add(), _table(each, path), path)
        else:
            _set(target.append, field, each, path)


def _write_map(target: Message, inner: Any, value: Any, path: str) -> None:
    if inner.message_type is not None and inner.message_type.full_name == _VALUE:
        try:
            write_payload(target, _table(value, path), path)
        except Rejected as exc:
            raise Refused("config-invalid", exc.message) from exc
        return
    for key, each in _table(value, path).items():
        if inner.message_type is not None:
            write_document(target[key], _table(each, f"{path}.{key}"), f"{path}.{key}")
        else:
            _set(lambda given, key=key: target.__setitem__(key, given), inner, each, path)


def _set(put: Any, field: Any, value: Any, path: str) -> None:
    if field.enum_type is not None and isinstance(value, str):
        names = field.enum_type.values_by_name
        found = {name.lower(): each for name, each in names.items()}.get(value.lower())
        if found is None:
            listed = ", ".join(names)
            raise Refused("config-invalid", f"{path} is one of {listed}, not {value!r}")
        value = found.number
    elif isinstance(value, bool) != (field.type == field.TYPE_BOOL):
        raise Refused("config-invalid", f"{path} does not take {value!r}")
    try:
        put(value)
    except (TypeError, ValueError) as exc:
        raise Refused("config-invalid", f"{path} does not take {value!r}: {exc}") from exc


def _table(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("config-invalid", f"{path} is a table, not {value!r}")
    return value


def _is_map(field: Any) -> bool:
    inner = field.message_type
    return inner is not None and inner.GetOptions().map_entry


def _map_value(field: Any) -> Any:
    return field.message_type.fields_by_name["value"]
