"""
A point as one line of JSON, for JSONL stores, export and import.

`{"id": …, "scope": …, "vectors": {name: "f32:<base64>" | {"indices", "values"} | {"rows",
"data"}}, "payload": {…}}`, with a scope where the id has one. What is written reads back
exactly: every bit of a vector, integers as integers, floats as the same floats. Arrays of
numbers are read as vectors too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.codecs.keys import canonical_id
from replicator.codecs.payload import check_payload, join
from replicator.codecs.vectors import vector_from_wire, vector_to_json
from replicator.codecs.wire import read_plain
from replicator.errors import Rejected
from replicator.model.point import BareId, Point, bare, scope_of, within


class _Line(msgspec.Struct, gc=False):
    id: BareId
    scope: str | msgspec.UnsetType
    vectors: dict[str, Any]
    payload: dict[str, Any]


_encode = msgspec.json.Encoder().encode


def point_to_json(point: Point) -> bytes:
    """
    The line, without its end. Raises Rejected for what JSON cannot hold (`payload-not-finite`
    and the other complaints of `check_payload`, `vector-not-finite` in a sparse vector).
    """
    # The encoder would write null for NaN: the payload is looked at first.
    check_payload(point.payload)
    vectors = {name: vector_to_json(vector) for name, vector in point.vectors.items()}
    try:
        scope = scope_of(point.id)
        said = msgspec.UNSET if scope is None else scope
        return _encode(_Line(bare(point.id), said, vectors, point.payload))
    except UnicodeEncodeError as exc:
        raise Rejected("field-invalid", f"the point holds no Unicode text: {exc}") from exc


def point_from_json(line: bytes) -> Point:
    """
    Read a line. `vectors` and `payload` may be left out. Raises Rejected with the path of what
    is wrong; NaN in a vector's bytes is left to validation.
    """
    return read_plain(line, _point)


def _point(fields: dict[Any, Any]) -> Point:
    if "id" not in fields:
        raise Rejected("field-missing", "id is missing", "id")
    point_id = fields["id"]
    if type(point_id) is not int and type(point_id) is not str:
        raise Rejected("field-type", "id is neither an integer nor a string", "id")
    scope = fields.get("scope")
    if scope is not None and type(scope) is not str:
        raise Rejected("field-type", "scope is not a string", "scope")
    payload = _map(fields, "payload")
    check_payload(payload)
    vectors = {
        name: vector_from_wire(value, join("vectors", name))
        for name, value in _map(fields, "vectors").items()
    }
    return Point(canonical_id(within(scope, point_id)), vectors, payload)


def _map(fields: dict[Any, Any], name: str) -> dict[str, Any]:
    value = fields.get(name, {})
    if type(value) is not dict:
        raise Rejected("field-type", f"{name} is not a map", name)
    return value
