"""
Filters of a search, in Milvus's language.

A search answers by its filter alone, so that only what means the same there is translated:
texts, numbers and truth values by value, numbers by range, of a field at the top, or of a list
that holds one; and ids. What is not there satisfies nothing; what servers make of a `not` over
it they do not agree on, so that only ids are excluded.
"""

from __future__ import annotations

from typing import Any

from replicator.connectors.milvus.expressions import listed, literal
from replicator.connectors.milvus.field_types import Type
from replicator.connectors.milvus.layout import DYNAMIC, Layout
from replicator.errors import Refused
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
    parse_search_filter,
)
from replicator.model.point import BareId

_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def translated(spec: dict[str, Any] | None, layout: Layout) -> str:
    """Raises Refused("unsupported") for what Milvus cannot be asked; empty for no filter."""
    return "" if spec is None else _filter(parse_search_filter(spec), layout)


def held_ids(layout: Layout, ids: Any) -> list[BareId]:
    """Of ids as they were given: those that the key can have."""
    return [
        each
        for each in dict.fromkeys(ids)
        if isinstance(each, int | str) and layout.id_limits.hold(layout.ids, each)
    ]


def _filter(wanted: Filter, layout: Layout) -> str:
    if wanted.some is not None:
        raise _unsupported("`min_should`")
    told = [_condition(each, layout) for each in wanted.must]
    if wanted.should:
        told.append(" or ".join(_condition(each, layout) for each in wanted.should))
    for each in wanted.must_not:
        if not isinstance(each, HasId):
            raise _unsupported("`must_not`, but for ids")
        told.append(f"{layout.key.name} not in {listed(held_ids(layout, each.ids))}")
    return " and ".join(f"({each})" for each in told if each)


def _condition(condition: Condition, layout: Layout) -> str:
    match condition:
        case Filter() if condition != Filter():
            return _filter(condition, layout)
        case HasId(ids=ids):
            return f"{layout.key.name} in {listed(held_ids(layout, ids))}"
        case Field(path=(str() as name,), test=test):
            return _test(*_place(name, layout), test)
        case _:
            raise _unsupported("a condition of anything but an id or a field at the top")


def _place(name: str, layout: Layout) -> tuple[str, bool]:
    """A field of the payload, and whether it lies within JSON."""
    if layout.payload is not None:
        return f"{layout.payload}[{literal(name)}]", True
    if name in layout.fields:
        if layout.fields[name].type in (Type.ARRAY, Type.JSON):
            raise _unsupported(f"a condition of the field {name!r}, which is a list or JSON")
        return name, False
    if layout.dynamic:
        return f"{DYNAMIC}[{literal(name)}]", True
    raise _unsupported(f"a condition of {name!r}, which is no field there")


def _test(place: str, in_json: bool, test: Test) -> str:
    match test:
        case Match(values=values) if values and all(map(_is_sure, values)):
            told = [f"{place} == {literal(value)}" for value in values]
            if in_json:
                told += [f"json_contains({place}, {literal(value)})" for value in values]
            return " or ".join(told)
        case Range(bounds=bounds) if bounds and all(map(_is_sure, bounds.values())):
            return " and ".join(
                f"{place} {_COMPARE[name]} {literal(bound)}" for name, bound in bounds.items()
            )
        case _:
            raise _unsupported("anything but a value or a range of numbers")


def _is_sure(value: Scalar) -> bool:
    return isinstance(value, str | bool) or abs(value) <= EXACT_MAX


def _unsupported(what: str) -> Refused:
    return Refused("unsupported", f"Milvus cannot be asked for {what}")
