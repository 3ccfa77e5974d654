"""A line of a file as a point, in the forms in use (`codecs.rows`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from replicator.codecs.keys import canonical_id
from replicator.codecs.payload import check_payload, join
from replicator.codecs.rows import OWN, PAYLOADS, why_beside
from replicator.codecs.vectors import vector_from_wire
from replicator.codecs.wire import read_plain
from replicator.connectors.jsonl.line import scope_in
from replicator.errors import Rejected
from replicator.model.point import Payload, Point, Vectors, within

_OWN = OWN | {"deleted"}


def read_row(line: bytes, *, flat: bool, scoped: bool = False) -> Point:
    """
    Read a line. `flat`: no line of the file has a payload or metadata. `scoped`: each has its
    `scope`. Raises Rejected with the path of what is wrong; NaN in a vector's bytes is left to
    validation.
    """
    return read_plain(line, partial(_point, flat=flat, scoped=scoped))


def _point(fields: dict[Any, Any], flat: bool, scoped: bool) -> Point:
    if "id" not in fields:
        raise Rejected("field-missing", "id is missing", "id")
    point_id = fields["id"]
    if type(point_id) is not int and type(point_id) is not str:
        raise Rejected("field-type", "id is neither an integer nor a string", "id")
    scope = scope_in(fields.pop("scope", None)) if scoped else None
    payload = _payload(fields, flat)
    check_payload(payload)
    return Point(canonical_id(within(scope, point_id)), _vectors(fields), payload)


def _vectors(fields: dict[Any, Any]) -> Vectors:
    if "vector" not in fields:
        return {
            name: vector_from_wire(value, join("vectors", name))
            for name, value in _map(fields, "vectors").items()
        }
    if "vectors" in fields:
        raise Rejected("field-invalid", "a row has `vectors` or `vector`, not both", "vector")
    return {"": vector_from_wire(fields["vector"], "vector")}


def _payload(fields: dict[Any, Any], flat: bool) -> Payload:
    given = [name for name in PAYLOADS if name in fields]
    if len(given) > 1:
        raise Rejected(
            "field-invalid", "a row has `payload` or `metadata`, not both", "metadata"
        )
    rest = {name: value for name, value in fields.items() if name not in _OWN}
    if given or not flat:
        for name in rest:
            raise Rejected("field-invalid", why_beside(name), name)
    payload = dict(_map(fields, given[0])) if given else rest
    if "document" in fields:
        if payload.get("document", fields["document"]) != fields["document"]:
            raise Rejected(
                "field-invalid", "`document` stands twice, with two values", "document"
            )
        payload["document"] = fields["document"]
    return payload


def _map(fields: dict[Any, Any], name: str) -> dict[str, Any]:
    value = fields.get(name, {})
    if type(value) is not dict:
        raise Rejected("field-type", f"{name} is not a map", name)
    return value
