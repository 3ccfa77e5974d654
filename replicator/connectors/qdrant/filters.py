"""
Filters: the parsed tree → Qdrant's message; and which part of one may narrow a scan.

What Qdrant cannot be asked is refused: a filter half applied would mean other points. A scan is
another matter, for the client decides there: it is asked for at least what matches, and only by
conditions on which both are known to agree. The differential tests hold that, on fields with
and without an index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import timestamp_pb2

from replicator.codecs.keys import canonical_id
from replicator.connectors.qdrant.points import can_hold, write_id
from replicator.connectors.qdrant.wire import Message
from replicator.errors import Refused, Rejected
from replicator.model.filter import (
    EXACT_MAX,
    Condition,
    DateRange,
    Except,
    Field,
    Filter,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    Nested,
    Path,
    Range,
    Test,
    TextMatch,
    ValuesCount,
    is_number,
    path_of,
)
from replicator.model.narrowing import Sure
from replicator.model.point import bare

_TEXTS = ("text", "text_any", "phrase")
"""Matches that Qdrant has of these."""


def write_filter(target: Message, wanted: Filter) -> None:
    """Fill a `Filter`. Raises Refused ("bad-request") for what Qdrant cannot be asked."""
    try:
        _write_filter(target, wanted)
    except (TypeError, ValueError, Rejected) as exc:
        raise _refused(str(exc)) from exc


def sure_of(indexes: Mapping[str, str]) -> Sure:
    """
    What a scan of a collection with these payload indexes may be narrowed by.

    An index of a field answers for it, and holds the values of its own type alone: an integer
    index knows no 5.0, which is the same as 5 here. Truth values are left out, for the engine's
    own binding takes them for integers; and lists of maps, whose indexes have other names.
    """
    kinds: dict[Path, set[str]] = {}
    for key, kind in indexes.items():
        kinds.setdefault(_names(path_of(key) or ()), set()).add(kind)

    def sure(condition: Condition) -> Condition | None:
        match condition:
            case HasId(ids):
                # Texts here are UUIDs, and an id that cannot be held is no point's.
                known = (bare(canonical_id(each, uuids=True)) for each in ids)
                return HasId(tuple(filter(can_hold, known)))
            case Field(path=path):
                return _sure_of_field(condition, kinds.get(_names(path), set()))
            case _:
                return None

    return sure


def _sure_of_field(condition: Field, indexed: set[str]) -> Condition | None:
    match condition.test:
        case IsEmpty(True) | IsNull(True) if not indexed:
            return condition
        case Range() as test if indexed <= {"float"} and _is_exact(test):
            return condition
        case Match(values) if indexed <= {"keyword"} and _are(str, values):
            return condition
        case Match(values) if indexed <= {"float"} and all(map(is_number, values)):
            ranges = [Range({"gte": each, "lte": each}) for each in values]  # type: ignore[dict-item]
            if ranges and all(map(_is_exact, ranges)):
                fields = (Field(condition.key, condition.path, each) for each in ranges)
                return Filter(should=tuple(fields))
    return None


def _names(path: Path) -> Path:
    return tuple(step for step in path if isinstance(step, str))


def _are(kind: type, values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, kind) for value in values)


def _is_exact(test: Range) -> bool:
    return all(abs(bound) <= EXACT_MAX for bound in test.bounds.values())


def _write_filter(target: Message, wanted: Filter) -> None:
    target.SetInParent()
    for clause in ("must", "should", "must_not"):
        for condition in getattr(wanted, clause):
            _write_condition(getattr(target, clause).add(), condition)
    if wanted.some is not None:
        target.min_should.min_count = wanted.some.least
        for condition in wanted.some.conditions:
            _write_condition(target.min_should.conditions.add(), condition)


def _write_condition(target: Message, condition: Condition) -> None:
    match condition:
        case Filter():
            _write_filter(target.filter, condition)
        case Field(key, test=IsEmpty(True)):
            target.is_empty.key = key
        case Field(key, test=test):
            # `is_null` too: as a condition of its own it does not see a null within a list,
            # where the field has no index, in servers before 1.19.1 (qdrant/qdrant #10096).
            target.field.key = key
            _write_test(target.field, test)
        case HasId(ids):
            target.has_id.SetInParent()
            for point_id in ids:
                write_id(target.has_id.has_id.add(), point_id)
        case HasVector(name):
            target.has_vector.has_vector = name
        case Nested(key, filter=inner):
            target.nested.key = key
            _write_filter(target.nested.filter, inner)


def _write_test(field: Message, test: Test) -> None:
    match test:
        case Match() | Except() | TextMatch():
            _write_match(field.match, test)
        case Range(bounds):
            for name, number in bounds.items():
                setattr(field.range, name, number)
        case DateRange(dates):
            for name, date in dates.items():
                stamp = timestamp_pb2.Timestamp()
                stamp.FromJsonString(date)
                bound = getattr(field.datetime_range, name)
                bound.seconds, bound.nanos = stamp.seconds, stamp.nanos
        case ValuesCount(counts):
            for name, count in counts.items():
                setattr(field.values_count, name, count)
        case IsEmpty(wanted):
            field.is_empty = wanted
        case IsNull(wanted):
            field.is_null = wanted


def _write_match(target: Message, test: Match | Except | TextMatch) -> None:
    match test:
        case Match((bool(value),)):
            target.boolean = value
        case Match((int(value),)):
            target.integer = value
        case Match((str(value),)):
            target.keyword = value
        case Match(values):
            _write_values(target, "", values)
        case Except(values):
            _write_values(target, "except_", values)
        case TextMatch(kind, text) if kind in _TEXTS:
            setattr(target, kind, text)
        case TextMatch(kind):
            raise _refused(f"the match {kind!r}")


def _write_values(target: Message, prefix: str, values: tuple[Any, ...]) -> None:
    if _are(str, values):
        keywords = getattr(target, f"{prefix}keywords")
        keywords.SetInParent()
        keywords.strings.extend(values)
    elif all(type(value) is int for value in values):
        getattr(target, f"{prefix}integers").integers.extend(values)
    else:
        raise _refused(f"these values together: {values!r}")


def _refused(what: str) -> Refused:
    return Refused("bad-request", f"this filter cannot be used with Qdrant: {what}")
