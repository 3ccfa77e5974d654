"""Filters of requests → the engine's filters. Geographic conditions are not there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import qdrant_edge as edge

from replicator.connectors.qdrant.points import read_id
from replicator.connectors.qdrant.wire import Message
from replicator.local_store.answers import invalid, unsupported

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOUNDS = ("gte", "gt", "lte", "lt")
_TEXTS: dict[str, Callable[[str], Any]] = {
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
}


def read_filter(wanted: Message) -> edge.Filter:
    """A `Filter`. Raises Answer for a condition that is not there."""
    min_should = None
    if wanted.HasField("min_should"):
        min_should = edge.MinShould(
            [_condition(each) for each in wanted.min_should.conditions],
            wanted.min_should.min_count,
        )
    return edge.Filter(
        must=[_condition(each) for each in wanted.must] or None,
        should=[_condition(each) for each in wanted.should] or None,
        must_not=[_condition(each) for each in wanted.must_not] or None,
        min_should=min_should,
    )


def _condition(condition: Message) -> Any:
    match condition.WhichOneof("condition_one_of"):
        case "field":
            return _field(condition.field)
        case "is_empty":
            return edge.IsEmptyCondition(condition.is_empty.key)
        case "is_null":
            return edge.IsNullCondition(condition.is_null.key)
        case "has_id":
            return edge.HasIdCondition({read_id(each) for each in condition.has_id.has_id})
        case "has_vector":
            return edge.HasVectorCondition(condition.has_vector.has_vector)
        case "nested":
            return edge.NestedCondition(
                condition.nested.key, read_filter(condition.nested.filter)
            )
        case "filter":
            return read_filter(condition.filter)
        case other:
            raise unsupported(f"condition {other!r}")


def _field(field: Message) -> edge.FieldCondition:
    given: dict[str, Any] = {}
    if field.HasField("match"):
        given["match"] = _match(field.match)
    if field.HasField("range"):
        given["range"] = edge.RangeFloat(**_bounds(field.range))
    if field.HasField("datetime_range"):
        bounds = _bounds(field.datetime_range)
        given["range"] = edge.RangeDateTime(**{b: _iso(stamp) for b, stamp in bounds.items()})
    if field.HasField("values_count"):
        given["values_count"] = edge.ValuesCount(**_bounds(field.values_count))
    for flag in ("is_empty", "is_null"):
        if field.HasField(flag):
            given[flag] = getattr(field, flag)
    if not given:
        raise unsupported("such condition on a field")
    return edge.FieldCondition(field.key, **given)


def _match(match: Message) -> Any:
    kind = match.WhichOneof("match_value")
    match kind:
        case "keyword" | "integer":
            return edge.MatchValue(getattr(match, kind))
        case "boolean":
            # The engine's binding takes True for 1, which matches no boolean.
            raise unsupported("match of booleans")
        case "keywords" | "integers":
            return edge.MatchAny(_values(getattr(match, kind)))
        case "except_keywords" | "except_integers":
            return edge.MatchExcept(_values(getattr(match, kind)))
        case "text" | "text_any" | "phrase":
            return _TEXTS[kind](getattr(match, kind))
        case None:
            raise invalid("Malformed Match condition")
        case _:
            raise unsupported(f"match by {kind!r}")


def _values(repeated: Message) -> list[Any]:
    """Of RepeatedStrings or RepeatedIntegers, which have one field each."""
    return [value for _, values in repeated.ListFields() for value in values]


def _bounds(bounds: Message) -> dict[str, Any]:
    return {bound: getattr(bounds, bound) for bound in _BOUNDS if bounds.HasField(bound)}


def _iso(stamp: Message) -> str:
    moment = _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    return moment.isoformat()
