"""Objects ↔ points. Vectors are copied as bytes."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from replicator.connectors.weaviate.classes import Class
from replicator.connectors.weaviate.messages import MULTI, SINGLE, Message, wire
from replicator.connectors.weaviate.values import fits, read_fields, write_fields
from replicator.errors import Rejected
from replicator.model.point import (
    MultiVector,
    Payload,
    Point,
    Vector,
    Vectors,
    bare,
    scope_of,
    within,
)
from replicator.model.schema import VectorKind
from replicator.ports.store import RejectedRow

_HEAD = struct.Struct("<H")
"""Of a multi-vector: the components of each of its rows."""

_encode = msgspec.json.Encoder().encode


def object_of(point: Point, kept: Class) -> Message:
    """
    The object of a whole point. Raises Rejected with the path of a field that the class cannot
    hold.
    """
    made = wire().BatchObject(uuid=str(bare(point.id)), collection=kept.name)
    if (scope := scope_of(point.id)) is not None:
        made.tenant = scope
    for name, vector in point.vectors.items():
        _write_vector(made, kept.vectors[name].wire, vector)
    try:
        _write_payload(made.properties, point.payload, kept)
    except (UnicodeEncodeError, ValueError) as exc:
        raise Rejected("field-invalid", f"a text is not Unicode: {exc}", "payload") from exc
    return made


def point_of(found: Message, kept: Class, scope: str | None) -> Point | RejectedRow:
    """The point of an object that was found, or why it is none."""
    point_id = within(scope, found.metadata.id)
    payload = read_fields(found.properties.non_ref_props)
    text = payload.pop(kept.rest, None) if kept.rest is not None else None
    if text is not None:
        try:
            payload = msgspec.json.decode(text, type=dict[str, Any]) | payload
        except (msgspec.MsgspecError, RecursionError) as exc:
            return RejectedRow(
                id=point_id,
                place=kept.name,
                error=Rejected(
                    "field-invalid",
                    f"the property {kept.rest!r} holds no fields as JSON: {exc}",
                    f"payload.{kept.rest}",
                ),
                raw=str(text).encode(errors="replace"),
            )
    return Point(point_id, _read_vectors(found.metadata, kept), payload)


def _write_payload(into: Message, payload: Payload, kept: Class) -> None:
    own: Payload = {}
    rest: Payload = {}
    for name, value in payload.items():
        held = kept.properties.get(name)
        if held is not None and fits(held, value):
            own[name] = value
        elif kept.rest is not None:
            rest[name] = value
        elif value is not None:
            raise _misfit(name, kept)
    write_fields(into, own, kept.properties)
    if rest:
        assert kept.rest is not None
        entry = into.non_ref_properties.fields.add(key=kept.rest)
        entry.value.string_value = _encode(rest).decode()


def _misfit(name: str, kept: Class) -> Rejected:
    held = kept.properties.get(name)
    why = (
        f"its property is of type {held.type}, which would not give this value back"
        if held is not None
        else f"the class {kept.name} has no such property"
    )
    return Rejected(
        "field-invalid" if held is not None else "field-unknown",
        f"payload.{name}: {why}, and `payload` of its options names none for other fields",
        f"payload.{name}",
    )


def _write_vector(into: Message, name: str | None, vector: Vector) -> None:
    if name is None:
        assert isinstance(vector, bytes), "looked at before"
        into.vector_bytes = vector
    elif isinstance(vector, MultiVector):
        head = _HEAD.pack(len(vector.data) // 4 // vector.rows)
        into.vectors.add(name=name, vector_bytes=head + vector.data, type=MULTI)
    else:
        assert isinstance(vector, bytes), "looked at before"
        into.vectors.add(name=name, vector_bytes=vector, type=SINGLE)


def _read_vectors(metadata: Message, kept: Class) -> Vectors:
    named = {each.name: each for each in metadata.vectors}
    found: Vectors = {}
    for name, vector in kept.vectors.items():
        if vector.wire is None:
            if metadata.vector_bytes:
                found[name] = metadata.vector_bytes
        elif (told := named.get(vector.wire)) is not None:
            if vector.kind is VectorKind.MULTI:
                found[name] = read_multi(told.vector_bytes)
            else:
                found[name] = told.vector_bytes
    return found


def read_multi(told: bytes) -> MultiVector:
    """A multi-vector, from its head and its rows."""
    (width,) = _HEAD.unpack_from(told)
    data = told[_HEAD.size :]
    return MultiVector(len(data) // (4 * width), data)
