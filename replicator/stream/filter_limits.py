"""
Where a filter may decide otherwise here than at the store, so that a check can say so.

A filter of the migration is evaluated here, on rows and on events alike, and its language is
Qdrant's. The store's own answer matters where it is asked with the same filter: in the
comparison of searches, and when people count at the source what they expect at the target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from replicator.model.filter import (
    EXACT_MAX,
    Except,
    Field,
    Filter,
    Match,
    Nested,
    Range,
    TextMatch,
    ValuesCount,
    is_number,
    parse_filter,
)

_NOT_ASKED = ("substring", "prefix")
_NO_ALTERNATIVE = "`should` without conditions lets every point through here; some stores none"


def differences(spec: dict[str, Any]) -> list[str]:
    """What may be decided otherwise by the store's own filter, in sentences; each once."""
    told = [_NO_ALTERNATIVE] if _has_empty_should(spec) else []
    return list(dict.fromkeys([*told, *_of_filter(parse_filter(spec))]))


def _has_empty_should(spec: Any) -> bool:
    """Of the JSON form alone: to the tree it is as if there were none."""
    match spec:
        case dict():
            return spec.get("should") == [] or any(map(_has_empty_should, spec.values()))
        case list():
            return any(map(_has_empty_should, spec))
        case _:
            return False


def _of_filter(tree: Filter) -> Iterator[str]:
    for condition in tree.conditions:
        match condition:
            case Filter():
                yield from _of_filter(condition)
            case Nested(filter=inner):
                yield from _of_filter(inner)
            case Field():
                yield from _of_field(condition)
            case _:
                pass


def _of_field(condition: Field) -> Iterator[str]:
    key = condition.key
    match condition.test:
        case TextMatch(kind) if kind in _NOT_ASKED:
            yield f"{kind!r} of {key!r} cannot be asked of the store; no search is compared"
        case TextMatch(kind):
            yield (
                f"{kind!r} of {key!r} compares whole words in any case; a text index of the"
                " store may cut words otherwise, and a store without one compare letters"
            )
        case Match(values) | Except(values) if any(map(_is_whole, values)):
            yield (
                f"{key!r} matches a whole number: 5 and 5.0 are one value here, and two at a"
                " store that has no index of the field"
            )
        case Range(bounds) if any(abs(bound) > EXACT_MAX for bound in bounds.values()):
            yield (
                f"the range of {key!r} goes beyond 2^53: it is exact here, and"
                " compared as float64 at the store"
            )
        case ValuesCount():
            yield (
                f"a point without {key!r} has none of it here; a store may leave it out, as"
                " Qdrant before 1.19 does"
            )
        case _:
            pass


def _is_whole(value: object) -> bool:
    return is_number(value) and float(value).is_integer()  # type: ignore[arg-type]
