"""
Conditions on payload values: what a filter asks of one field.

A key is a path: `a.b` goes into a map, `a[]` into every element of a list, `a[0]` into one, and
`"a.b"` in quotes is one name. What a path leads to may be no value, one, or several. A missing
field satisfies nothing but `is_empty` and a count of 0; a list satisfies a condition if one of
its elements does.

One thing is wider than Qdrant's rule: a whole number and its integral float (5 and 5.0) are the
same value. Stores do not agree on which of the two they give back, and a point must not come
and go with that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from replicator.errors import Refused
from replicator.model.point import Payload

PayloadTest = Callable[[Payload], bool]
_ValueTest = Callable[[Any], bool]

Path = tuple[str | int | None, ...]
"""Steps: a name in a map, a place in a list, None for every element of a list."""

_STEP = re.compile(r'\.?(?:"([^"]+)"|([^."\[\]]+))|\[(\d*)\]')
_WORD = re.compile(r"[^\W_]+")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: bool(value > bound),
    "gte": lambda value, bound: bool(value >= bound),
    "lt": lambda value, bound: bool(value < bound),
    "lte": lambda value, bound: bool(value <= bound),
}
_TEXT_MATCHES: dict[str, Callable[[str, str], bool]] = {
    # (wanted, stored); the first three look at whole words, in any case
    "text": lambda wanted, stored: set(_words(wanted)) <= set(_words(stored)),
    "text_any": lambda wanted, stored: not set(_words(wanted)).isdisjoint(_words(stored)),
    "phrase": lambda wanted, stored: (
        f" {' '.join(_words(wanted))} " in f" {' '.join(_words(stored))} "
    ),
    "substring": lambda wanted, stored: wanted in stored,
    "prefix": lambda wanted, stored: stored.startswith(wanted),
}


def field_condition(path: Path, kind: str, body: Any, at: str) -> PayloadTest:
    """
    The test of one field, for `kind` match, range, values_count, is_empty or is_null.

    Raises Refused("transform-invalid") naming `at`, where the condition stands in the settings.
    """
    match kind:
        case "match":
            return _any_element(path, _match(body, at))
        case "range":
            return _any_element(path, _range(body, at))
        case "values_count":
            return _count(path, _values_count(body, at))
        case "is_empty" | "is_null":
            if not isinstance(body, bool):
                raise refused(at, "expected true or false")
            test = _is_empty if kind == "is_empty" else _is_null
            return lambda payload: test(list(values(payload, path))) is body
        case _:
            raise refused(at, "there is no such condition")


def parse_path(text: Any, at: str) -> Path:
    """The steps of a key. The first is always a name: the top-level field."""
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
        raise refused(at, "expected a field's path, such as `a`, `a.b` or `a[].b`")
    return tuple(path)


def values(value: Any, path: Path) -> Iterator[Any]:
    """What the path leads to, depth first. A list at its end is one value."""
    if not path:
        yield value
        return
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        if isinstance(value, dict) and step in value:
            yield from values(value[step], rest)
    elif isinstance(value, list):
        for element in value if step is None else value[step : step + 1]:
            yield from values(element, rest)


def refused(at: str, why: str) -> Refused:
    """The error of a filter that is not understood."""
    return Refused("transform-invalid", f"{at}: {why}")


def only(spec: Any, keys: frozenset[str], at: str) -> dict[str, Any]:
    """The spec, if it is a map with all of these keys and no others."""
    if not isinstance(spec, dict) or spec.keys() != keys:
        raise refused(at, f"expected a map with {' and '.join(sorted(keys))}")
    return spec


def count(value: Any, at: str) -> int:
    """The value, if it is a whole number of things."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refused(at, "expected a whole number, 0 or more")
    return value


def _any_element(path: Path, test: _ValueTest) -> PayloadTest:
    def matches(payload: Payload) -> bool:
        for value in values(payload, path):
            if isinstance(value, list):
                if any(test(element) for element in value):
                    return True
            elif test(value):
                return True
        return False

    return matches


def _match(spec: Any, at: str) -> _ValueTest:
    if not isinstance(spec, dict) or len(spec) != 1:
        raise refused(at, "expected one of value, any, except, text, substring, prefix…")
    [(kind, body)] = spec.items()
    at = f"{at}.{kind}"
    match kind:
        case "value" | "any":
            wanted = _scalars([body] if kind == "value" else body, at)
            return lambda value: _scalar(value) in wanted
        case "except":
            unwanted = _scalars(body, at)
            return lambda value: value is not None and _scalar(value) not in unwanted
        case _ if kind in _TEXT_MATCHES:
            if not isinstance(body, str) or not body:
                raise refused(at, "expected a text")
            test = _TEXT_MATCHES[kind]
            return lambda value: isinstance(value, str) and test(body, value)
        case _:
            raise refused(at, "there is no such match")


def _range(spec: Any, at: str) -> _ValueTest:
    bounds = _bounds(spec, at)
    if all(_is_number(bound) for bound in bounds.values()):
        return lambda value: _is_number(value) and _within(value, bounds)
    moments = {name: moment(bound) for name, bound in bounds.items()}
    if any(bound is None for bound in moments.values()):
        raise refused(at, "expected numbers, or dates as RFC 3339 texts")

    def within(value: Any) -> bool:
        when = moment(value)
        return when is not None and _within(when, moments)

    return within


def _values_count(spec: Any, at: str) -> Callable[[int], bool]:
    bounds = {n: count(b, f"{at}.{n}") for n, b in _bounds(spec, at).items()}
    return lambda number: _within(number, bounds)


def _count(path: Path, test: Callable[[int], bool]) -> PayloadTest:
    def matches(payload: Payload) -> bool:
        found = list(values(payload, path))
        return any(test(_size(value)) for value in found) if found else test(0)

    return matches


def _size(value: Any) -> int:
    if isinstance(value, list):
        return len(value)
    return 0 if value is None else 1


def _bounds(spec: Any, at: str) -> dict[str, Any]:
    if not isinstance(spec, dict) or not spec or spec.keys() - _COMPARE.keys():
        raise refused(at, "expected some of gt, gte, lt, lte")
    return spec


def _within(value: Any, bounds: dict[str, Any]) -> bool:
    return all(_COMPARE[name](value, bound) for name, bound in bounds.items())


def _is_empty(found: list[Any]) -> bool:
    return all(value is None or value == [] for value in found)


def _is_null(found: list[Any]) -> bool:
    return any(value is None or (isinstance(value, list) and None in value) for value in found)


def _scalars(spec: Any, at: str) -> frozenset[tuple[str, Any]]:
    if not isinstance(spec, list) or not all(_scalar(one)[0] for one in spec):
        raise refused(at, "expected texts, numbers or booleans")
    return frozenset(_scalar(one) for one in spec)


def _scalar(value: Any) -> tuple[str, Any]:
    """A value with its kind, so that true is not 1 and 5 is 5.0; ("", None) for all else."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int | float):
        return "number", value
    return ("text", value) if isinstance(value, str) else ("", None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def moment(value: Any) -> datetime | None:
    """A date and time in RFC 3339 or its shorter forms; UTC where it names no zone."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
