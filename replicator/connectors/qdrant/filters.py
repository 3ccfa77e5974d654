"""
Filters of searches: Qdrant's JSON form → its protobuf form.

`{"must": [{"key": "year", "match": {"value": 1999}}], "must_not": […], "should": […]}`, with
the conditions `match`, `range`, `values_count`, `is_empty`, `is_null`, `has_id`, `has_vector`
and `nested`. What is not understood is refused: a filter half applied would compare other
points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import timestamp_pb2

from replicator.connectors.qdrant.points import write_id
from replicator.connectors.qdrant.wire import Message
from replicator.errors import Refused, Rejected

_BOUNDS = ("lt", "gt", "gte", "lte")


def write_filter(target: Message, wanted: Mapping[str, Any]) -> None:
    """Fill a `Filter`. Raises Refused ("bad-request") for what is not understood."""
    try:
        _write_filter(target, wanted)
    except (KeyError, TypeError, ValueError, Rejected) as exc:
        raise _refused(f"{wanted!r}: {exc}") from exc


def _write_filter(target: Message, wanted: Mapping[str, Any]) -> None:
    target.SetInParent()
    for clause, conditions in wanted.items():
        if clause == "min_should":
            target.min_should.min_count = conditions["min_count"]
            _write_all(target.min_should.conditions, conditions["conditions"])
        elif clause in ("must", "should", "must_not"):
            _write_all(getattr(target, clause), conditions)
        else:
            raise _refused(f"the clause {clause!r}")


def _write_all(target: Message, conditions: object) -> None:
    for condition in conditions if isinstance(conditions, list) else [conditions]:
        if not isinstance(condition, dict):
            raise _refused(f"the condition {condition!r}")
        _write_condition(target.add(), condition)


def _write_condition(target: Message, condition: dict[str, Any]) -> None:
    match condition:
        case {"key": str(key), **rest} if rest:
            target.field.key = key
            for name, value in rest.items():
                _write_field(target.field, name, value)
        case {"is_empty": {"key": str(key)}}:
            target.is_empty.key = key
        case {"is_null": {"key": str(key)}}:
            target.is_null.key = key
        case {"has_id": list(ids)}:
            target.has_id.SetInParent()
            for point_id in ids:
                write_id(target.has_id.has_id.add(), point_id)
        case {"has_vector": str(name)}:
            target.has_vector.has_vector = name
        case {"nested": {"key": str(key), "filter": dict(inner)}}:
            target.nested.key = key
            _write_filter(target.nested.filter, inner)
        case dict() if condition.keys() <= {"must", "should", "must_not", "min_should"}:
            _write_filter(target.filter, condition)
        case _:
            raise _refused(f"the condition {condition!r}")


def _write_field(field: Message, name: str, value: Any) -> None:
    match name, value:
        case "match", dict():
            _write_match(field.match, value)
        case "range", dict() if any(isinstance(bound, str) for bound in value.values()):
            for bound in _bounds(value):
                stamp = timestamp_pb2.Timestamp()
                stamp.FromJsonString(value[bound])
                getattr(field.datetime_range, bound).seconds = stamp.seconds
                getattr(field.datetime_range, bound).nanos = stamp.nanos
        case (("range" | "values_count"), dict()):
            for bound in _bounds(value):
                setattr(getattr(field, name), bound, value[bound])
        case (("is_empty" | "is_null"), bool()):
            setattr(field, name, value)
        case _:
            raise _refused(f"{name!r} with {value!r}")


def _write_match(target: Message, wanted: dict[str, Any]) -> None:
    match wanted:
        case {"value": bool(value)}:
            target.boolean = value
        case {"value": int(value)}:
            target.integer = value
        case {"value": str(value)}:
            target.keyword = value
        case {"any": list(values)} | {"except": list(values)}:
            prefix = "" if "any" in wanted else "except_"
            if all(isinstance(value, str) for value in values):
                getattr(target, f"{prefix}keywords").strings.extend(values)
            elif all(type(value) is int for value in values):
                getattr(target, f"{prefix}integers").integers.extend(values)
            else:
                raise _refused(f"mixed values in {wanted!r}")
        case {"text": str(text)}:
            target.text = text
        case {"text_any": str(text)}:
            target.text_any = text
        case {"phrase": str(text)}:
            target.phrase = text
        case _:
            raise _refused(f"the match {wanted!r}")


def _bounds(value: dict[str, Any]) -> list[str]:
    if not value or not value.keys() <= set(_BOUNDS):
        raise _refused(f"the bounds {value!r}")
    return [bound for bound in _BOUNDS if value.get(bound) is not None]


def _refused(what: str) -> Refused:
    return Refused("bad-request", f"this filter cannot be used with Qdrant: {what}")
