"""
Filters: which points of the source belong to the migration.

The language is Qdrant's: `must`, `should`, `must_not`, `min_should`, filters within filters,
and conditions on payload fields. It is evaluated here, on the source's payload, because a
filter decides about change events too, and an event is at no store yet.

    {"key": "year", "match": {"value": 5}}          or any, except; text, text_any and phrase
                                                    (whole words, any case); substring, prefix
    {"key": "year", "range": {"gte": 5, "lt": 8}}   numbers, or RFC 3339 dates as texts
    {"key": "tags", "values_count": {"gte": 2}}
    {"is_empty": {"key": "tags"}}                   absent, null or []
    {"is_null": {"key": "tags"}}
    {"has_id": [5, "0f…"]}                          the source's ids
    {"nested": {"key": "parts", "filter": {…}}}     one map in the list matches all of it

What values a key leads to, and when they satisfy a condition, is in `stream.condition`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replicator.codecs.keys import canonical_id
from replicator.model.point import BareId, Payload
from replicator.stream.condition import (
    Path,
    count,
    field_condition,
    only,
    parse_path,
    refused,
    values,
)

_Condition = Callable[[BareId | None, Payload], bool]

_CLAUSES = frozenset({"must", "should", "must_not", "min_should"})
_FIELD_CONDITIONS = frozenset({"match", "range", "values_count", "is_empty", "is_null"})


class Filter:
    """A compiled filter. Pure and immutable: one instance serves every lane."""

    def __init__(self, spec: dict[str, Any], *, uuids: bool = False) -> None:
        """
        `uuids`: the collection's texts are UUIDs, so that `has_id` takes any spelling. Raises
        Refused("transform-invalid") with the path of what is not understood.
        """
        self._uuids = uuids
        self._fields: set[str] = set()
        self._matches = self._clauses(spec, "filter", nested=False)

    @property
    def fields(self) -> frozenset[str]:
        """Top-level payload fields that decide: a patch that touches none changes nothing."""
        return frozenset(self._fields)

    def matches(self, point_id: BareId, payload: Payload) -> bool:
        """Whether the point belongs to the migration. Of an id with a scope, the id alone."""
        return self._matches(point_id, payload)

    def _clauses(self, spec: Any, at: str, *, nested: bool) -> _Condition:
        if not isinstance(spec, dict):
            raise refused(at, "expected a map of must, should, must_not")
        for name in sorted(spec.keys() - _CLAUSES):
            raise refused(f"{at}.{name}", "there is no such clause")
        must = self._conditions(spec.get("must"), f"{at}.must", nested=nested)
        should = self._conditions(spec.get("should"), f"{at}.should", nested=nested)
        must_not = self._conditions(spec.get("must_not"), f"{at}.must_not", nested=nested)
        some, some_min = self._min_should(spec.get("min_should"), at, nested=nested)

        def matches(point_id: BareId | None, payload: Payload) -> bool:
            return (
                all(condition(point_id, payload) for condition in must)
                and not any(condition(point_id, payload) for condition in must_not)
                and (not should or any(condition(point_id, payload) for condition in should))
                and sum(condition(point_id, payload) for condition in some) >= some_min
            )

        return matches

    def _min_should(self, spec: Any, at: str, *, nested: bool) -> tuple[list[_Condition], int]:
        if spec is None:
            return [], 0
        at = f"{at}.min_should"
        spec = only(spec, frozenset({"conditions", "min_count"}), at)
        some = self._conditions(spec["conditions"], f"{at}.conditions", nested=nested)
        return some, count(spec["min_count"], f"{at}.min_count")

    def _conditions(self, spec: Any, at: str, *, nested: bool) -> list[_Condition]:
        if spec is None:
            return []
        if isinstance(spec, dict):
            return [self._condition(spec, at, nested=nested)]
        if not isinstance(spec, list):
            raise refused(at, "expected a list of conditions")
        return [
            self._condition(one, f"{at}[{place}]", nested=nested)
            for place, one in enumerate(spec)
        ]

    def _condition(self, spec: Any, at: str, *, nested: bool) -> _Condition:
        if not isinstance(spec, dict) or not spec:
            raise refused(at, "expected a condition")
        if spec.keys() <= _CLAUSES:
            return self._clauses(spec, at, nested=nested)
        if "key" in spec:
            return self._field(spec, at, nested=nested)
        if len(spec) != 1:
            raise refused(at, "expected one condition")
        [(kind, body)] = spec.items()
        at = f"{at}.{kind}"
        match kind:
            case "is_empty" | "is_null":
                key = only(body, frozenset({"key"}), at)["key"]
                return self._field({"key": key, kind: True}, at, nested=nested)
            case "has_id" if not nested:
                return _has_id(body, at, uuids=self._uuids)
            case "nested":
                return self._nested(body, at, nested=nested)
            case _:
                raise refused(at, "there is no such condition here")

    def _field(self, spec: dict[str, Any], at: str, *, nested: bool) -> _Condition:
        if len(spec) != 2:
            # Qdrant takes several as alternatives, people as all of them: let them say which.
            raise refused(at, f"expected one of {', '.join(sorted(_FIELD_CONDITIONS))}")
        path = self._path(spec["key"], f"{at}.key", nested=nested)
        (kind,) = spec.keys() - {"key"}
        test = field_condition(path, kind, spec[kind], f"{at}.{kind}")
        return lambda _id, payload: test(payload)

    def _nested(self, spec: Any, at: str, *, nested: bool) -> _Condition:
        spec = only(spec, frozenset({"key", "filter"}), at)
        path = self._path(spec["key"], f"{at}.key", nested=nested)
        if path[-1] is not None:
            path = (*path, None)
        inner = self._clauses(spec["filter"], f"{at}.filter", nested=True)
        return lambda _id, payload: any(
            isinstance(value, dict) and inner(None, value) for value in values(payload, path)
        )

    def _path(self, text: Any, at: str, *, nested: bool) -> Path:
        path = parse_path(text, at)
        if not nested:
            self._fields.add(str(path[0]))
        return path


def _has_id(spec: Any, at: str, *, uuids: bool) -> _Condition:
    if not isinstance(spec, list) or not all(
        isinstance(one, str | int) and not isinstance(one, bool) for one in spec
    ):
        raise refused(at, "expected a list of ids")
    wanted = frozenset(canonical_id(one, uuids=uuids) for one in spec)
    return lambda point_id, _payload: point_id is not None and canonical_id(point_id) in wanted
