"""The filter language of metadata (docs.pinecone.io/guides/search/filter-by-metadata)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replicator.testing.pinecone.records import Metadata, bad

Test = Callable[[Metadata], bool]

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


def parsed(given: object) -> Test:
    """Raises Refusal for what is no filter. An empty one matches everything."""
    if not isinstance(given, dict):
        raise bad("Filter must be an object")
    tests = [_clause(key, value) for key, value in given.items()]
    return lambda metadata: all(test(metadata) for test in tests)


def _clause(key: str, value: object) -> Test:
    if key in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise bad(f"{key} operator must be followed by a list of filters")
        tests = [parsed(each) for each in value]
        joined = all if key == "$and" else any
        return lambda metadata: joined(test(metadata) for test in tests)
    if key.startswith("$"):
        raise bad(f"Unknown operator {key}")
    conditions = value if isinstance(value, dict) else {"$eq": value}
    tests = [_condition(key, operator, operand) for operator, operand in conditions.items()]
    return lambda metadata: all(test(metadata) for test in tests)


def _condition(key: str, operator: str, operand: Any) -> Test:
    match operator:
        case "$exists" if isinstance(operand, bool):
            return lambda metadata: (key in metadata) is operand
        case "$eq" | "$ne" if isinstance(operand, str | int | float):
            wanted = operator == "$eq"
            return lambda metadata: _holds(metadata, key, [operand]) is wanted
        case "$in" | "$nin" if isinstance(operand, list):
            wanted = operator == "$in"
            return lambda metadata: _holds(metadata, key, operand) is wanted
        case "$gt" | "$gte" | "$lt" | "$lte" if _is_number(operand):
            compare = _ORDERED[operator]
            return lambda metadata: (
                _is_number(metadata.get(key)) and compare(metadata[key], operand)
            )
    raise bad(f"Illegal condition for field {key}, got {operator}: {operand!r}")


def _holds(metadata: Metadata, key: str, wanted: list[Any]) -> bool:
    """A list of texts holds what one of its texts is."""
    if key not in metadata:
        return False
    value = metadata[key]
    held = value if isinstance(value, list) else [value]
    return any(_same(one, each) for one in held for each in wanted)


def _same(one: Any, other: Any) -> bool:
    """A truth value is no number."""
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
