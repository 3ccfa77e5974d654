"""
Queries for the comparison of search quality, as people write them and as they travel.

A JSON map: `vector` (any form that a change event may have), `id` (a point of the source, for
its own vector), or `text`; `expect` (ids of the source that must be found); `collection` (the
source's word; all that can answer it when absent), `using` (the vector's name), `limit`,
`filter`, `class` (by which the report groups). A query file holds one a line.
"""

from __future__ import annotations

import math
from typing import Any, get_args

import msgspec

from replicator.codecs.vectors import dense_to_list, vector_from_wire, vector_to_json
from replicator.errors import Refused, Rejected
from replicator.model.command import Level, Verify
from replicator.model.point import (
    MultiVector,
    PointId,
    SparseVector,
    Vector,
    bare,
    scope_of,
    within,
)
from replicator.model.search import Query


class QueryBody(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"group": "class"}
):
    """One query."""

    vector: Any = None
    id: int | str | None = None
    scope: str | None = None
    collection: str | None = None
    using: str = ""
    limit: int = 10
    filter: dict[str, Any] | None = None
    group: str = ""
    expect: list[int | str] = []
    text: str | None = None


class VerifyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/verify`."""

    level: str = "full"
    queries: list[QueryBody] | None = None


def verify_from(body: VerifyBody) -> Verify:
    """The command. Raises Refused("bad-request")."""
    try:
        level = msgspec.convert(body.level, Level)
    except msgspec.ValidationError as exc:
        known = ", ".join(get_args(Level))
        raise Refused(
            "bad-request", f"level: expected one of {known}, not {body.level!r}"
        ) from exc
    queries = None if body.queries is None else [query_from(query) for query in body.queries]
    return Verify(level=level, queries=queries)


def verify_body(command: Verify) -> VerifyBody:
    """The same on its way to the daemon."""
    queries = None if command.queries is None else [_body(query) for query in command.queries]
    return VerifyBody(level=command.level, queries=queries)


def query_from(body: QueryBody) -> Query:
    """A query. Raises Refused("bad-request")."""
    if body.limit < 1:
        raise Refused("bad-request", f"limit: expected at least 1, not {body.limit}")
    if [body.vector, body.id, body.text].count(None) != 2:
        raise Refused("bad-request", "a query has one of `vector`, `id` and `text`")
    if body.text is not None and not body.text.strip():
        raise Refused("bad-request", "text: it is blank")
    if body.text is not None and not body.expect:
        raise Refused(
            "bad-request", "a query by `text` says with `expect` which ids must be found"
        )
    return Query(
        vector=b"" if body.vector is None else _vector(body.vector),
        using=body.using,
        limit=body.limit,
        filter=body.filter,
        collection=body.collection,
        id=None if body.id is None else within(body.scope, body.id),
        group=body.group,
        expect=tuple(within(body.scope, point_id) for point_id in body.expect),
        text=body.text or "",
    )


def _vector(given: Any) -> Vector:
    try:
        vector = vector_from_wire(given, "vector")
    except Rejected as exc:
        raise Refused("bad-request", exc.message) from exc
    numbers = dense_to_list(_floats(vector))
    if not numbers or not all(map(math.isfinite, numbers)):
        raise Refused("bad-request", "vector: it is empty, or holds NaN or Infinity")
    return vector


def _floats(vector: Vector) -> bytes:
    match vector:
        case SparseVector(values=values):
            return values
        case MultiVector(data=data):
            return data
        case _:
            return vector


def _body(query: Query) -> QueryBody:
    return QueryBody(
        vector=vector_to_json(query.vector) if query.id is None and not query.text else None,
        id=None if query.id is None else bare(query.id),
        scope=next(map(scope_of, _ids(query)), None),
        collection=query.collection,
        using=query.using,
        limit=query.limit,
        filter=query.filter,
        group=query.group,
        expect=[bare(point_id) for point_id in query.expect],
        text=query.text or None,
    )


def _ids(query: Query) -> list[PointId]:
    """Whose scope the query names; one for all of them."""
    return [*(() if query.id is None else (query.id,)), *query.expect]
