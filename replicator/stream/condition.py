"""
Tests of payload values: what a filter asks of one field, as a function.

What the tests mean, `model.filter` says. One thing is wider than Qdrant's rule: a whole number
and its integral float (5 and 5.0) are the same value. Stores do not agree on which of the two
they give back, and a point must not come and go with that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from replicator.model.filter import (
    DateRange,
    Except,
    Field,
    IsEmpty,
    IsNull,
    Match,
    Path,
    Range,
    Test,
    TextMatch,
    ValuesCount,
    is_number,
    moment,
)
from replicator.model.point import Payload

PayloadTest = Callable[[Payload], bool]
_ValueTest = Callable[[Any], bool]

_WORD = re.compile(r"[^\W_]+")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: bool(value > bound),
    "gte": lambda value, bound: bool(value >= bound),
    "lt": lambda value, bound: bool(value < bound),
    "lte": lambda value, bound: bool(value <= bound),
}
_TEXT_MATCHES: dict[str, Callable[[str, str], bool]] = {
    # (wanted, stored)
    "text": lambda wanted, stored: set(_words(wanted)) <= set(_words(stored)),
    "text_any": lambda wanted, stored: not set(_words(wanted)).isdisjoint(_words(stored)),
    "phrase": lambda wanted, stored: (
        f" {' '.join(_words(wanted))} " in f" {' '.join(_words(stored))} "
    ),
    "substring": lambda wanted, stored: wanted in stored,
    "prefix": lambda wanted, stored: stored.startswith(wanted),
}


def payload_test(condition: Field) -> PayloadTest:
    """The condition of one field as a function of the payload."""
    path, test = condition.path, condition.test
    match test:
        case ValuesCount(bounds):
            return _count(path, bounds)
        case IsEmpty(wanted):
            return lambda payload: _is_empty(list(values(payload, path))) is wanted
        case IsNull(wanted):
            return lambda payload: _is_null(list(values(payload, path))) is wanted
        case _:
            return _any_element(path, _value_test(test))


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


def _value_test(test: Test) -> _ValueTest:
    match test:
        case Match(wanted):
            ours = frozenset(map(_scalar, wanted))
            return lambda value: _scalar(value) in ours
        case Except(unwanted):
            others = frozenset(map(_scalar, unwanted))
            return lambda value: value is not None and _scalar(value) not in others
        case TextMatch(kind, text):
            matches = _TEXT_MATCHES[kind]
            return lambda value: isinstance(value, str) and matches(text, value)
        case Range(bounds):
            return lambda value: is_number(value) and _within(value, bounds)
        case DateRange(dates):
            moments = {name: moment(bound) for name, bound in dates.items()}
            return lambda value: (when := moment(value)) is not None and _within(when, moments)
        case _:
            raise AssertionError(f"{test!r} looks at the field as a whole")


def _count(path: Path, bounds: Mapping[str, int]) -> PayloadTest:
    def matches(payload: Payload) -> bool:
        found = list(values(payload, path))
        if not found:
            return _within(0, bounds)
        return any(_within(_size(value), bounds) for value in found)

    return matches


def _size(value: Any) -> int:
    if isinstance(value, list):
        return len(value)
    return 0 if value is None else 1


def _within(value: Any, bounds: Mapping[str, Any]) -> bool:
    return all(_COMPARE[name](value, bound) for name, bound in bounds.items())


def _is_empty(found: list[Any]) -> bool:
    return all(value is None or value == [] for value in found)


def _is_null(found: list[Any]) -> bool:
    return any(value is None or (isinstance(value, list) and None in value) for value in found)


def _scalar(value: Any) -> tuple[str, Any]:
    """A value with its kind, so that true is not 1 and 5 is 5.0; ("", None) for all else."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int | float):
        return "number", value
    return ("text", value) if isinstance(value, str) else ("", None)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
