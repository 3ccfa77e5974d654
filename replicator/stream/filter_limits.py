"""
Where a filter may decide otherwise here than at the store, so that a check can say so.

A filter of the migration is evaluated here, on rows and on events alike, and its language is
Qdrant's. The store's own answer matters where it is asked with the same filter: in the
comparison of searches, and when people count at the source what they expect at the target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_EXACT_MAX = 1 << 53
"""Stores compare numbers in a range as float64, in which neighbours above this are one."""

_TEXTS = ("text", "text_any", "phrase")
_NOT_ASKED = ("substring", "prefix")


def differences(spec: dict[str, Any]) -> list[str]:
    """What may be decided otherwise by the store's own filter, in sentences; each once."""
    return list(dict.fromkeys(_of_clauses(spec)))


def _of_clauses(spec: dict[str, Any]) -> Iterator[str]:
    for name, body in spec.items():
        if name == "should" and body == []:
            yield "`should` without conditions lets every point through here; some stores none"
        conditions = body.get("conditions", []) if name == "min_should" else body
        for condition in conditions if isinstance(conditions, list) else [conditions]:
            if isinstance(condition, dict):
                yield from _of_condition(condition)


def _of_condition(condition: dict[str, Any]) -> Iterator[str]:
    if "nested" in condition:
        yield from _of_clauses(condition["nested"]["filter"])
    elif "key" not in condition:
        if condition.keys() & {"must", "should", "must_not", "min_should"}:
            yield from _of_clauses(condition)
    elif isinstance(match := condition.get("match"), dict):
        yield from _of_match(condition["key"], match)
    elif isinstance(bounds := condition.get("range"), dict) and _is_beyond(bounds):
        yield (
            f"the range of {condition['key']!r} goes beyond 2^53: it is exact here, and"
            " compared as float64 at the store"
        )


def _is_beyond(bounds: dict[str, Any]) -> bool:
    return any(_is_number(bound) and abs(bound) > _EXACT_MAX for bound in bounds.values())


def _of_match(key: str, match: dict[str, Any]) -> Iterator[str]:
    for kind, body in match.items():
        wanted = body if isinstance(body, list) else [body]
        if kind in _TEXTS:
            yield (
                f"{kind!r} of {key!r} compares whole words in any case; a text index of the"
                " store may cut words otherwise"
            )
        elif kind in _NOT_ASKED:
            yield f"{kind!r} of {key!r} cannot be asked of the store; no search is compared"
        elif any(_is_number(value) and float(value).is_integer() for value in wanted):
            yield (
                f"{key!r} matches a whole number: 5 and 5.0 are one value here, and two at a"
                " store that has no index of the field"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
