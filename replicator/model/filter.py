"""
Filters: which points are meant, as one tree that is parsed once.

The language is Qdrant's: `must`, `should`, `must_not`, `min_should`, filters within filters,
and conditions on the id and on payload fields.

    {"key": "year", "match": {"value": 5}}          or any, except; text, text_any and phrase
                                                    (whole words, any case); substring, prefix
    {"key": "year", "range": {"gte": 5, "lt": 8}}   numbers, or RFC 3339 dates as texts
    {"key": "tags", "values_count": {"gte": 2}}
    {"is_empty": {"key": "tags"}}                   absent, null or []
    {"is_null": {"key": "tags"}}
    {"has_id": [5, "0f…"]}                          the source's ids
    {"has_vector": "title"}                         of searches only
    {"nested": {"key": "parts", "filter": {…}}}     one map in the list matches all of it

A key is a path: `a.b` goes into a map, `a[]` into every element of a list, `a[0]` into one, and
`"a.b"` in quotes is one name. What a path leads to may be no value, one, or several. A missing
field satisfies nothing but `is_empty` and a count of 0; a list satisfies a condition if one of
its elements does. A whole number and its integral float (5 and 5.0) are the same value.

Here it is read; `stream.filter` evaluates the tree, `stream.filter_limits` says where a store
may see it otherwise, and each connector translates it into its store's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from replicator.errors import Refused
from replicator.model.point import BareId

Path = tuple[str | int | None, ...]
"""Steps: a name in a map, a place in a list, None for every element of a list. The first is
always a name: the top-level field."""

Scalar = bool | int | float | str

BOUNDS = ("gt", "gte", "lt", "lte")
TEXT_MATCHES = ("text", "text_any", "phrase", "substring", "prefix")
"""The first three look at whole words, in any case."""

_CLAUSES = frozenset({"must", "should", "must_not", "min_should"})
_FIELD_TESTS = frozenset({"match", "range", "values_count", "is_empty", "is_null"})
_STEP = re.compile(r'\.?(?:"([^"]+)"|([^."\[\]]+))|\[(\d*)\]')

EXACT_MAX = 1 << 53
"""Stores compare numbers in a range as float64, in which neighbours above this are one."""


class Match(msgspec.Struct, frozen=True):
    """One of these values."""

    values: tuple[Scalar, ...]


class Except(msgspec.Struct, frozen=True):
    """A value, and none of these."""

    values: tuple[Scalar, ...]


class TextMatch(msgspec.Struct, frozen=True):
    """A text that has `text` in it. `kind`: one of `TEXT_MATCHES`."""

    kind: str
    text: str


class Range(msgspec.Struct, frozen=True):
    """A number within bounds, by their names."""

    bounds: dict[str, int | float]


class DateRange(msgspec.Struct, frozen=True):
    """A date within bounds, as they were written."""

    bounds: dict[str, str]


class ValuesCount(msgspec.Struct, frozen=True):
    """How many values there are."""

    bounds: dict[str, int]


class IsEmpty(msgspec.Struct, frozen=True):
    """Absent, null or an empty list; or, not `wanted`, none of these."""

    wanted: bool = True


class IsNull(msgspec.Struct, frozen=True):
    """Null, or a list with one in it; or, not `wanted`, neither."""

    wanted: bool = True


Test = Match | Except | TextMatch | Range | DateRange | ValuesCount | IsEmpty | IsNull


class Field(msgspec.Struct, frozen=True):
    """A test of what a key leads to. `key` is its spelling, `path` its steps."""

    key: str
    path: Path
    test: Test


class HasId(msgspec.Struct, frozen=True):
    """The point has one of these ids, spelled as they were given, in whichever scope."""

    ids: tuple[BareId, ...]


class HasVector(msgspec.Struct, frozen=True):
    """The point has a vector of this name."""

    name: str


class Nested(msgspec.Struct, frozen=True):
    """One map in the list that the key leads to matches the whole of a filter."""

    key: str
    path: Path
    filter: Filter


class Some(msgspec.Struct, frozen=True):
    """At least so many of the conditions."""

    conditions: tuple[Condition, ...]
    least: int


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """All of `must`, none of `must_not`, one of `should` where there are any, and `some`."""

    must: tuple[Condition, ...] = ()
    should: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()
    some: Some | None = None

    @property
    def conditions(self) -> Iterator[Condition]:
        """Those of every clause."""
        yield from (*self.must, *self.should, *self.must_not)
        if self.some is not None:
            yield from self.some.conditions

    @property
    def fields(self) -> frozenset[str]:
        """Top-level payload fields that decide: what changes none of them changes nothing."""
        found: set[str] = set()
        for condition in self.conditions:
            match condition:
                case Field(path=path) | Nested(path=path):
                    found.add(str(path[0]))
                case Filter():
                    found |= condition.fields
                case HasId() | HasVector():
                    pass
        return frozenset(found)


Condition = Filter | Field | HasId | HasVector | Nested


def parse_filter(spec: Any) -> Filter:
    """
    The tree of a migration's filter in its JSON form. Raises Refused("transform-invalid") with
    the path of what is not understood: a filter half applied would mean other points.
    """
    return _parsed(spec, frozenset({"has_id"}), "transform-invalid")


def parse_search_filter(spec: Any) -> Filter:
    """As `parse_filter`, of a search, which stores alone answer; Refused("bad-request")."""
    return _parsed(spec, frozenset({"has_id", "has_vector"}), "bad-request")


def _parsed(spec: Any, about: frozenset[str], code: str) -> Filter:
    """`about`: conditions of the point itself that there may be."""
    try:
        return _filter(spec, "filter", about=about)
    except _Misread as exc:
        raise Refused(code, str(exc)) from exc


def path_of(key: str) -> Path | None:
    """The steps of a key, or None for what is no key."""
    try:
        return _path(key, "")
    except _Misread:
        return None


def first_step(key: str) -> int:
    """Where the first step of a key ends, which names a field of the payload."""
    step = _STEP.match(key)
    assert step is not None, "it is a key"
    return step.end()


def quoted(name: str) -> str:
    """
    A field's name as the first step of a key. Raises Refused("bad-request") for one that no
    key can name.
    """
    if '"' in name:
        raise Refused("bad-request", f"no filter can name the field {name!r}")
    return f'"{name}"' if re.search(r"[.\[\]]", name) else name


class _Misread(Exception):
    def __init__(self, at: str, why: str) -> None:
        super().__init__(f"{at}: {why}")


def _filter(spec: Any, at: str, *, about: frozenset[str]) -> Filter:
    if not isinstance(spec, dict):
        raise _Misread(at, "expected a map of must, should, must_not")
    for name in sorted(spec.keys() - _CLAUSES, key=str):
        raise _Misread(f"{at}.{name}", "there is no such clause")
    return Filter(
        must=_conditions(spec.get("must"), f"{at}.must", about=about),
        should=_conditions(spec.get("should"), f"{at}.should", about=about),
        must_not=_conditions(spec.get("must_not"), f"{at}.must_not", about=about),
        some=_some(spec.get("min_should"), f"{at}.min_should", about=about),
    )


def _some(spec: Any, at: str, *, about: frozenset[str]) -> Some | None:
    if spec is None:
        return None
    spec = _only(spec, frozenset({"conditions", "min_count"}), at)
    conditions = _conditions(spec["conditions"], f"{at}.conditions", about=about)
    return Some(conditions, _count(spec["min_count"], f"{at}.min_count"))


def _conditions(spec: Any, at: str, *, about: frozenset[str]) -> tuple[Condition, ...]:
    if spec is None:
        return ()
    if isinstance(spec, dict):
        return (_condition(spec, at, about=about),)
    if not isinstance(spec, list):
        raise _Misread(at, "expected a list of conditions")
    return tuple(
        _condition(one, f"{at}[{place}]", about=about) for place, one in enumerate(spec)
    )


def _condition(spec: Any, at: str, *, about: frozenset[str]) -> Condition:
    if not isinstance(spec, dict) or not spec:
        raise _Misread(at, "expected a condition")
    if spec.keys() <= _CLAUSES:
        return _filter(spec, at, about=about)
    if "key" in spec:
        return _field(spec, at)
    if len(spec) != 1:
        raise _Misread(at, "expected one condition")
    [(kind, body)] = spec.items()
    at = f"{at}.{kind}"
    match kind:
        case "is_empty" | "is_null":
            key = _only(body, frozenset({"key"}), at)["key"]
            test = IsEmpty() if kind == "is_empty" else IsNull()
            return Field(key, _path(key, f"{at}.key"), test)
        case "has_id" if kind in about:
            return _has_id(body, at)
        case "has_vector" if kind in about and isinstance(body, str):
            return HasVector(body)
        case "nested":
            body = _only(body, frozenset({"key", "filter"}), at)
            path = _path(body["key"], f"{at}.key")
            inner = _filter(body["filter"], f"{at}.filter", about=frozenset())
            return Nested(body["key"], path, inner)
        case _:
            raise _Misread(at, "there is no such condition here")


def _has_id(spec: Any, at: str) -> HasId:
    if not isinstance(spec, list) or not all(
        isinstance(one, str | int) and not isinstance(one, bool) for one in spec
    ):
        raise _Misread(at, "expected a list of ids")
    return HasId(tuple(spec))


def _field(spec: dict[str, Any], at: str) -> Field:
    if len(spec) != 2:
        # Qdrant takes several as alternatives, people as all of them: let them say which.
        raise _Misread(at, f"expected one of {', '.join(sorted(_FIELD_TESTS))}")
    path = _path(spec["key"], f"{at}.key")
    (kind,) = spec.keys() - {"key"}
    return Field(spec["key"], path, _test(kind, spec[kind], f"{at}.{kind}"))


def _test(kind: str, body: Any, at: str) -> Test:
    match kind:
        case "match":
            return _match(body, at)
        case "range":
            return _range(body, at)
        case "values_count":
            bounds = _bounds(body, at)
            return ValuesCount({n: _count(bound, f"{at}.{n}") for n, bound in bounds.items()})
        case "is_empty" | "is_null":
            if not isinstance(body, bool):
                raise _Misread(at, "expected true or false")
            return IsEmpty(body) if kind == "is_empty" else IsNull(body)
        case _:
            raise _Misread(at, "there is no such condition")


def _match(spec: Any, at: str) -> Match | Except | TextMatch:
    if not isinstance(spec, dict) or len(spec) != 1:
        raise _Misread(at, "expected one of value, any, except, text, substring, prefix…")
    [(kind, body)] = spec.items()
    at = f"{at}.{kind}"
    match kind:
        case "value":
            return Match(_scalars([body], at))
        case "any":
            return Match(_scalars(body, at))
        case "except":
            return Except(_scalars(body, at))
        case _ if kind in TEXT_MATCHES:
            if not isinstance(body, str) or not body:
                raise _Misread(at, "expected a text")
            return TextMatch(kind, body)
        case _:
            raise _Misread(at, "there is no such match")


def _range(spec: Any, at: str) -> Range | DateRange:
    bounds = _bounds(spec, at)
    if all(is_number(bound) for bound in bounds.values()):
        return Range(bounds)
    if any(moment(bound) is None for bound in bounds.values()):
        raise _Misread(at, "expected numbers, or dates as RFC 3339 texts")
    return DateRange(bounds)


def _bounds(spec: Any, at: str) -> dict[str, Any]:
    if not isinstance(spec, dict) or not spec or spec.keys() - set(BOUNDS):
        raise _Misread(at, "expected some of gt, gte, lt, lte")
    return spec


def _scalars(spec: Any, at: str) -> tuple[Scalar, ...]:
    if not isinstance(spec, list) or not all(isinstance(one, Scalar) for one in spec):
        raise _Misread(at, "expected texts, numbers or booleans")
    return tuple(spec)


def _path(text: Any, at: str) -> Path:
    path: list[str | int | None] = []
    end = 0
    while isinstance(text, str) and end < len(text):
        step = _STEP.match(text, end)
        if step is None or (not path) == text.startswith(("[", "."), end):
            break
        quoted, name, place = step.groups()
        path.append((int(place) if place else None) if place is not None else quoted or name)
        end = step.end()
    if not path or end < len(text):
        raise _Misread(at, "expected a field's path, such as `a`, `a.b` or `a[].b`")
    return tuple(path)


def _only(spec: Any, keys: frozenset[str], at: str) -> dict[str, Any]:
    if not isinstance(spec, dict) or spec.keys() != keys:
        raise _Misread(at, f"expected a map with {' and '.join(sorted(keys))}")
    return spec


def _count(value: Any, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Misread(at, "expected a whole number, 0 or more")
    return value


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def moment(value: Any) -> datetime | None:
    """A date and time in RFC 3339 or its shorter forms; UTC where it names no zone."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
