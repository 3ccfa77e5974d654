"""
Queries for the comparison of search quality, as people write them and as they travel.

A JSON map: `vector` (an array of numbers or `f32:<base64>`, a sparse map, or rows), `using`
(the vector's name), `limit`, `filter`. A query file holds one a line.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec
import numpy as np

from replicator.errors import Refused
from replicator.model.point import MultiVector, SparseVector, Vector
from replicator.model.search import Query
from replicator.ports.control import VerifyRequest

_DENSE = "f32:"


class SparseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sparse vector."""

    indices: list[int]
    values: list[float]


class QueryBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One query. Rows of numbers are a multi-vector."""

    vector: str | list[float | list[float]] | SparseBody
    using: str = ""
    limit: int = 10
    filter: dict[str, Any] | None = None


class VerifyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/verify`."""

    level: str = "full"
    queries: list[QueryBody] | None = None


def verify_request(body: VerifyBody) -> VerifyRequest:
    """What the migration is asked. Raises Refused("bad-request")."""
    if body.level not in {"counts", "sample", "full"}:
        raise Refused(
            "bad-request", f"level: expected counts, sample or full, not {body.level!r}"
        )
    queries = None if body.queries is None else [query_from(query) for query in body.queries]
    return VerifyRequest(level=body.level, queries=queries)


def verify_body(request: VerifyRequest) -> VerifyBody:
    """The same on its way to the daemon."""
    queries = None if request.queries is None else [_body(query) for query in request.queries]
    return VerifyBody(level=request.level, queries=queries)


def query_from(body: QueryBody) -> Query:
    """A query. Raises Refused("bad-request")."""
    if body.limit < 1:
        raise Refused("bad-request", f"limit: expected at least 1, not {body.limit}")
    try:
        vector = _vector(body.vector)
    except (ValueError, OverflowError, binascii.Error) as exc:
        raise Refused("bad-request", f"vector: {exc}") from exc
    return Query(vector=vector, using=body.using, limit=body.limit, filter=body.filter)


def _vector(told: str | list[float | list[float]] | SparseBody) -> Vector:
    if isinstance(told, str):
        if not told.startswith(_DENSE):
            raise ValueError(f"expected numbers, or a string that begins with {_DENSE}")
        return _finite(
            np.frombuffer(base64.b64decode(told[len(_DENSE) :], validate=True), "<f4")
        )
    if isinstance(told, SparseBody):
        if len(told.indices) != len(told.values):
            raise ValueError("as many indices as values are needed")
        indices = np.array(told.indices, np.uint32)
        order = np.argsort(indices)
        with np.errstate(over="ignore"):
            values = np.array(told.values, "<f4")[order]
        return SparseVector(indices[order].astype("<u4").tobytes(), _finite(values))
    with np.errstate(over="ignore"):  # what overflows is infinite, and said so below
        numbers = np.array(told, "<f4")
    if numbers.size == 0 or numbers.ndim > 2:
        raise ValueError("it holds no numbers")
    data = _finite(numbers)
    return data if numbers.ndim == 1 else MultiVector(len(told), data)


def _finite(numbers: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    if not np.isfinite(numbers).all():
        raise ValueError("NaN and Infinity cannot be searched for")
    return numbers.astype("<f4").tobytes()


def _body(query: Query) -> QueryBody:
    match query.vector:
        case bytes(data):
            told: Any = _DENSE + base64.b64encode(data).decode()
        case SparseVector(indices=indices, values=values):
            told = SparseBody(
                np.frombuffer(indices, "<u4").tolist(), np.frombuffer(values, "<f4").tolist()
            )
        case MultiVector(rows=rows, data=data):
            told = np.frombuffer(data, "<f4").reshape(rows, -1).tolist()
    return QueryBody(told, query.using, query.limit, query.filter)
