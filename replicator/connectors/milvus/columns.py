"""
Points ↔ columns: Milvus sends and takes a field of all rows at once.

Of a nullable field `valid_data` says which rows have a value. What it is sent leaves the others
out of the data; what it gives has something in their place, or leaves them out as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from replicator.connectors.milvus.field_types import SLOTS, Field, Type, misfit
from replicator.connectors.milvus.layout import DYNAMIC, Layout
from replicator.connectors.milvus.vectors import (
    check_vector,
    read_vectors,
    spread,
    write_vectors,
)
from replicator.connectors.milvus.wire import Message, wire
from replicator.errors import Rejected
from replicator.model.pages import size_of
from replicator.model.point import BareId, Payload, Point, Vector
from replicator.ports.store import RejectedRow

_encode = msgspec.json.Encoder().encode


class Rows(msgspec.Struct, frozen=True):
    """Rows as points, and those that are none; `keys` of all of them, in the order given."""

    points: list[Point]
    rejected: tuple[RejectedRow, ...]
    keys: list[BareId]
    size: int


def wanted_fields(
    layout: Layout, *, vectors: bool, fields: Collection[str] | None
) -> list[str]:
    """What to ask for: the key, the payload (these fields; None: all), the vectors."""
    told = [layout.key.name]
    if vectors:
        told += [each.field for each in layout.vectors.values()]
    if fields is not None and not fields:
        return told
    if layout.payload is not None:
        return [*told, layout.payload]
    told += [name for name in layout.fields if fields is None or name in fields]
    return [*told, DYNAMIC] if layout.dynamic else told


def read_rows(
    layout: Layout, data: Sequence[Message], *, vectors: bool, fields: Collection[str] | None
) -> Rows:
    """The rows of an answer that was asked for `wanted_fields`."""
    columns = {DYNAMIC if each.is_dynamic else each.field_name: each for each in data}
    keys: list[BareId] = _scalars(columns[layout.key.name], layout.key.type)
    held = {
        name: _vectors(columns[each.field], each.type, len(keys))
        for name, each in layout.vectors.items()
        if vectors
    }
    told = {
        name: _scalars(column, _type_of(layout, name), len(keys))
        for name, column in columns.items()
        if name in (layout.payload, DYNAMIC) or name in layout.fields
    }
    points: list[Point] = []
    rejected: list[RejectedRow] = []
    size = 0
    for row, key in enumerate(keys):
        own = {name: each[row] for name, each in held.items()}
        point = Point(key, {n: each for n, each in own.items() if each is not None}, {})
        values = {name: column[row] for name, column in told.items()}
        size += size_of(point) + sum(map(_bytes_of, values.values()))
        try:
            _check_id(layout, key)
            payload = _payload(layout, values)
        except Rejected as error:
            row_of = RejectedRow(id=key, place=layout.name, error=error, raw=_raw(key, values))
            rejected.append(row_of)
            continue
        point.payload = (
            payload if fields is None else {k: v for k, v in payload.items() if k in fields}
        )
        points.append(point)
    return Rows(points, tuple(rejected), keys, size)


def check_point(layout: Layout, point: Point, json_bytes_max: int) -> None:
    """
    Raises Rejected, with the path, for what a field would not keep; vectors and id were looked
    at before, against the collection's schema.
    """
    for name, vector in point.vectors.items():
        check_vector(name, layout.vectors[name].type, vector)
    if layout.payload is not None:
        _json(point.payload, "payload", json_bytes_max)
        return
    for name, field in layout.fields.items():
        _check_value(field, point.payload.get(name), json_bytes_max)
    others = _others(layout, point.payload)
    if layout.dynamic:
        _json(others, "payload", json_bytes_max)
        for name in others:
            if name.startswith("$") or name == layout.key.name:
                path = f"payload.{name}"
                raise Rejected("field-invalid", f"{path} is no name of a dynamic field", path)
        return
    for name, value in others.items():
        if value is not None:
            raise Rejected(
                "field-unknown",
                f"payload.{name}: the collection {layout.name!r} has no such field, and no"
                f" dynamic one; it has {', '.join(layout.fields) or 'none'}",
                f"payload.{name}",
            )


def write_columns(layout: Layout, points: Sequence[Point]) -> Iterator[Message]:
    """The columns of points that were looked at before."""
    yield _column(layout.key, [point.id for point in points])
    for name, each in layout.vectors.items():
        data = wire().FieldData(field_name=each.field, type=int(each.type))
        found = [point.vectors.get(name) for point in points]
        if each.nullable:
            data.valid_data.extend(vector is not None for vector in found)
        there = [vector for vector in found if vector is not None]
        write_vectors(data, each.type, each.schema.size, there)
        yield data
    if layout.payload is not None:
        data = wire().FieldData(field_name=layout.payload, type=int(Type.JSON))
        data.scalars.json_data.data.extend(_encode(point.payload) for point in points)
        yield data
        return
    for field in layout.fields.values():
        yield _column(field, [point.payload.get(field.name) for point in points])
    if layout.dynamic:
        data = wire().FieldData(field_name=DYNAMIC, type=int(Type.JSON), is_dynamic=True)
        others = (_others(layout, point.payload) for point in points)
        data.scalars.json_data.data.extend(map(_encode, others))
        yield data


def _type_of(layout: Layout, name: str) -> Type:
    return layout.fields[name].type if name in layout.fields else Type.JSON


def _scalars(data: Message, kind: Type, rows: int | None = None) -> list[Any]:
    slot = SLOTS[kind]
    found = getattr(data.scalars, slot).data
    values: list[Any]
    if kind is Type.FLOAT:
        values = np.frombuffer(found, "<f4").tolist()
    elif kind is Type.ARRAY:
        element = Type(data.scalars.array_data.element_type)
        values = [_elements(each, element) for each in found]
    else:
        values = list(found)
    if rows is None:
        return values
    return spread(values, list(data.valid_data) or [True] * rows)


def _elements(data: Message, element: Type) -> list[Any]:
    found = getattr(data, SLOTS[element]).data
    return np.frombuffer(found, "<f4").tolist() if element is Type.FLOAT else list(found)


def _vectors(data: Message, kind: Type, rows: int) -> list[Vector | None]:
    return read_vectors(data, kind, list(data.valid_data) or [True] * rows)


def _payload(layout: Layout, values: Mapping[str, Any]) -> Payload:
    """The payload of a row. Raises Rejected for one that is none."""
    if layout.payload is not None:
        told = values.get(layout.payload)
        return {} if told is None else _map(told, layout.payload)
    found: Payload = {}
    for name, value in values.items():
        if value is None or name == DYNAMIC:
            continue
        is_json = layout.fields[name].type is Type.JSON
        held = _decoded(value, name) if is_json else value
        if held is not None:
            found[name] = held
    if values.get(DYNAMIC) is not None:
        found |= _map(values[DYNAMIC], DYNAMIC)
    return found


def _map(told: bytes, name: str) -> Payload:
    found = _decoded(told, name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Rejected("field-type", f"{name} is no map", "payload")
    return found


def _decoded(told: bytes, name: str) -> Any:
    try:
        return msgspec.json.decode(told)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise Rejected("field-invalid", f"{name} is no JSON: {exc}", "payload") from exc


def _check_id(layout: Layout, key: BareId) -> None:
    if not layout.id_limits.hold(layout.ids, key):
        raise Rejected("id-invalid", "the key is empty, or beyond what an event can hold", "id")


def _raw(key: BareId, values: Mapping[str, Any]) -> bytes:
    told = {
        name: value.decode(errors="replace") if isinstance(value, bytes) else value
        for name, value in values.items()
    }
    return _encode({"id": key, **told})


def _bytes_of(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else 8


def _others(layout: Layout, payload: Payload) -> Payload:
    return {name: value for name, value in payload.items() if name not in layout.fields}


def _check_value(field: Field, value: Any, json_bytes_max: int) -> None:
    path = f"payload.{field.name}"
    if value is None:
        if field.filled:
            why = "and the server would fill in its default: give a value, by `default` say"
        elif not field.nullable:
            why = "and the field is not nullable"
        else:
            return
        raise Rejected("field-missing", f"{path} is missing, {why}", path)
    if why_not := misfit(field, value):
        raise Rejected("field-invalid", f"{path} {why_not}", path)
    if field.type is Type.JSON:
        _json(value, path, json_bytes_max)


def _json(value: Any, path: str, most: int) -> None:
    try:
        size = len(_encode(value))
    except UnicodeEncodeError as exc:
        raise Rejected("field-invalid", f"a text is not Unicode: {exc}", path) from exc
    if size > most:
        raise Rejected(
            "value-too-large",
            f"{path} takes {size} bytes of JSON, and a field holds {most} (json_bytes_max)",
            path,
        )


def _column(field: Field, values: Sequence[Any]) -> Message:
    data = wire().FieldData(field_name=field.name, type=int(field.type))
    if field.nullable:
        data.valid_data.extend(value is not None for value in values)
    array = getattr(data.scalars, SLOTS[field.type])
    array.SetInParent()
    there = [value for value in values if value is not None]
    match field.type:
        case Type.JSON:
            array.data.extend(map(_encode, there))
        case Type.FLOAT:
            array.data = np.array(there, "<f4").tobytes()
        case Type.ARRAY:
            assert field.element is not None, "looked at when the field was"
            array.element_type = int(field.element)
            for value in there:
                _fill(getattr(array.data.add(), SLOTS[field.element]), field.element, value)
        case _:
            array.data.extend(there)
    return data


def _fill(array: Message, element: Type, values: Sequence[Any]) -> None:
    array.SetInParent()
    if element is Type.FLOAT:
        array.data = np.array(values, "<f4").tobytes()
    else:
        array.data.extend(values)
