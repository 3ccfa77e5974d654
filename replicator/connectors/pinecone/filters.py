"""
Filters of a search, in Pinecone's words.

A search answers by its filter alone, so that only what means the same there is translated:
texts and numbers by value, numbers by range, of a field at the top. The service has no word for
"not", and nothing for ids: ids that are to be left out are left out of the answer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.errors import Refused
from replicator.model.filter import (
    EXACT_MAX,
    Condition,
    Field,
    Filter,
    HasId,
    Match,
    Range,
    Scalar,
    parse_search_filter,
)
from replicator.model.point import BareId


class Asked(msgspec.Struct, frozen=True):
    """What the service is asked, and which ids of its answer do not count."""

    filter: dict[str, Any] | None
    without: frozenset[BareId]


def translated(spec: dict[str, Any] | None) -> Asked:
    """Raises Refused("unsupported") for what the service cannot be asked."""
    if spec is None:
        return Asked(None, frozenset())
    wanted = parse_search_filter(spec)
    without = [each for each in wanted.must_not if isinstance(each, HasId)]
    rest = tuple(each for each in wanted.must_not if not isinstance(each, HasId))
    asked = _filter(msgspec.structs.replace(wanted, must_not=rest))
    return Asked(asked or None, frozenset(each for one in without for each in one.ids))


def _filter(wanted: Filter) -> dict[str, Any]:
    if wanted.must_not or wanted.some is not None:
        raise _unsupported("`must_not`, but for ids, or `min_should`")
    clauses = [_condition(each) for each in wanted.must]
    if wanted.should:
        clauses.append({"$or": [_condition(each) for each in wanted.should]})
    return {"$and": clauses} if clauses else {}


def _condition(condition: Condition) -> dict[str, Any]:
    match condition:
        case Filter() if condition != Filter():
            return _filter(condition)
        case Field(path=(str() as key,), test=test) if key and not key.startswith("$"):
            return {key: _test(test)}
        case _:
            raise _unsupported("a condition of anything but a field at the top")


def _test(test: object) -> dict[str, Any]:
    match test:
        case Match(values=values) if values and all(map(_is_sure, values)):
            return {"$in": list(values)}
        case Range(bounds=bounds) if bounds and all(map(_is_sure, bounds.values())):
            return {f"${name}": bound for name, bound in bounds.items()}
        case _:
            raise _unsupported("anything but a text or a number, by value or by range")


def _is_sure(value: Scalar) -> bool:
    """Truth values are not: whether one is told from a number, nobody says."""
    if isinstance(value, bool):
        return False
    return isinstance(value, str) or abs(value) <= EXACT_MAX


def _unsupported(what: str) -> Refused:
    return Refused("unsupported", f"Pinecone cannot be asked for {what}")
