"""
Filters of a search, in Weaviate's words.

A search answers by its filter alone, so that only what means the same there is translated:
properties at the top, by value or by range, and ids. A text that is cut into words is not
compared as a whole, and what stands in the JSON beside the properties is seen by nobody: both
are refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicator.codecs.keys import canonical_id
from replicator.connectors.weaviate import messages
from replicator.connectors.weaviate.classes import Class, Property
from replicator.connectors.weaviate.messages import Message, wire
from replicator.errors import Refused, Rejected
from replicator.model.filter import (
    EXACT_MAX,
    Condition,
    Field,
    Filter,
    HasId,
    Match,
    Range,
    Scalar,
    Test,
)
from replicator.model.point import BareId, bare
from replicator.model.schema import is_uuid

_COMPARE = {
    "gt": messages.GREATER,
    "gte": messages.GREATER_EQUAL,
    "lt": messages.LESS,
    "lte": messages.LESS_EQUAL,
}


def write_filter(wanted: Filter, kept: Class) -> Message:
    """Raises Refused("unsupported") for what the server cannot be asked."""
    return _condition(wanted, kept)


def _condition(condition: Condition, kept: Class) -> Message:
    match condition:
        case Filter():
            return _clauses(condition, kept)
        case HasId(ids=ids):
            return _by_id(ids)
        case Field(path=(str(name),), test=test) if name in kept.properties:
            return _test(test, kept.properties[name])
        case Field(key=key):
            raise _unsupported(f"{key!r}, which is no property of {kept.name}")
        case _:
            raise _unsupported("vectors, or within objects")


def _clauses(wanted: Filter, kept: Class) -> Message:
    if wanted.some is not None:
        raise _unsupported("`min_should`")
    clauses = [_condition(each, kept) for each in wanted.must]
    if wanted.should:
        clauses.append(_joined(messages.OR, [_condition(each, kept) for each in wanted.should]))
    clauses += [
        _joined(messages.NOT, [_condition(each, kept)], always=True) for each in wanted.must_not
    ]
    if not clauses:
        raise _unsupported("an empty filter")
    return _joined(messages.AND, clauses)


def _joined(operator: int, clauses: Sequence[Message], *, always: bool = False) -> Message:
    if len(clauses) == 1 and not always:
        return clauses[0]
    return wire().Filters(operator=operator, filters=clauses)


def _spelled(given: BareId) -> str | None:
    """An id as objects have it; None for one that none can have."""
    try:
        known = str(bare(canonical_id(given, uuids=True)))
    except Rejected:
        return None
    return known if is_uuid(known) else None


def _by_id(ids: Sequence[BareId]) -> Message:
    made = _of("_id", messages.CONTAINS_ANY)
    known = [each for each in map(_spelled, ids) if each is not None]
    made.value_text_array.values[:] = known or [messages.NOBODY]
    return made


def _test(test: Test, kept: Property) -> Message:
    if not kept.indexed:
        raise _unsupported(f"{kept.name!r}, which has no index")
    match test:
        case Match(values=values) if values:
            return _joined(messages.OR, [_value(kept, messages.EQUAL, e) for e in values])
        case Range(bounds=bounds) if bounds and kept.element in ("int", "number"):
            return _joined(
                messages.AND,
                [_value(kept, _COMPARE[name], bound) for name, bound in bounds.items()],
            )
        case _:
            raise _unsupported("anything but a value or a range of numbers")


def _value(kept: Property, operator: int, value: Scalar) -> Message:
    made = _of(kept.name, operator)
    match kept.element, value:
        case "boolean", bool():
            made.value_boolean = value
        case "int", int() if not isinstance(value, bool) and abs(value) <= EXACT_MAX:
            made.value_int = value
        case "number", int() | float() if not isinstance(value, bool):
            made.value_number = value
        case "uuid", str():
            made.value_text = value
        case "text" | "string", str() if kept.tokenization == "field":
            made.value_text = value
        case _:
            raise _unsupported(f"{value!r} of {kept.name!r}, a property of type {kept.type}")
    return made


def _of(name: str, operator: int) -> Message:
    made = wire().Filters(operator=operator)
    made.target.property = name
    return made


def _unsupported(what: str) -> Refused:
    return Refused("unsupported", f"Weaviate is not asked by a filter for {what}")
