"""
Filters: the parsed tree → SQL; and which part of one may narrow a scan.

A key's path becomes a chain of steps, each a row source on the one before it, so that it leads
to the same values as it does here. What SQL is not asked (whole words, dates) is refused: a
filter half applied would mean other points. A scan is narrowed by less: by what was compared
with the evaluation here, and cannot differ in a number's last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from replicator.codecs.keys import canonical_id
from replicator.connectors.pgvector.rows import payload_of
from replicator.connectors.pgvector.statements import quoted, statement
from replicator.connectors.pgvector.table import Table
from replicator.errors import Refused, Rejected
from replicator.model.filter import (
    Condition,
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
    Some,
    Test,
    TextMatch,
    ValuesCount,
)
from replicator.model.narrowing import Sure
from replicator.model.point import BareId, bare

_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TEXTS = {
    "substring": "strpos(v #>> '{{}}', {text}) > 0",
    "prefix": "starts_with(v #>> '{{}}', {text})",
}
_INTEGERS = ("int2", "int4", "int8")


def write_filter(wanted: Filter, table: Table, values: list[Any]) -> str:
    """
    The condition in SQL on `t`; what it compares with is added to `values`, and stands there as
    parameters. Raises Refused("bad-request") for what SQL is not asked.
    """
    return _Writer(table, values).condition(wanted, None)


def held_ids(table: Table, ids: Sequence[Any]) -> list[BareId]:
    """Of ids as they were given: those that a row can have, as it spells them."""
    found: list[BareId] = []
    for each in ids:
        try:
            known = bare(canonical_id(each, uuids=table.key_type == "uuid"))
        except Rejected:
            continue
        if table.id_limits.hold(table.ids, known):
            found.append(known)
    return found


def sure_of(table: Table) -> Sure:
    """What a scan of a table may be narrowed by."""

    def sure(condition: Condition) -> Condition | None:
        match condition:
            case HasId():
                return condition
            case Field(path=(str(name),), test=test) if _is_sure(table, name, test):
                return condition
            case _:
                return None

    return sure


def _is_sure(table: Table, name: str, test: Test) -> bool:
    if "\0" in name:
        return False  # PostgreSQL has no such text, and refuses to be asked for one
    column = table.fields.get(name)
    whole = column is not None and column.type in _INTEGERS
    match test:
        case Match(values):
            # Of jsonb a number may have more digits than a float, which is what we compare.
            return all(
                (isinstance(each, str) and "\0" not in each)
                or isinstance(each, bool)
                or (whole and type(each) is int)
                for each in values
            )
        case Range(bounds):
            return whole and all(type(each) is int for each in bounds.values())
        case IsEmpty(True) | IsNull(True):
            return True
        case _:
            return False


class _Writer:
    def __init__(self, table: Table, values: list[Any]) -> None:
        self._table = table
        self._values = values
        self._depth = 0

    def condition(self, condition: Condition, root: str | None) -> str:
        """`root`: the map that fields are of, where it is not the payload of `t`."""
        match condition:
            case Filter():
                return self._clauses(condition, root)
            case HasId(ids):
                held = self._value(held_ids(self._table, ids))
                key = quoted(self._table.key.name)
                return f"t.{key} = ANY({held}::{self._table.key_type}[])"
            case HasVector(name):
                column = self._table.vectors.get(name)
                return "FALSE" if column is None else f"t.{quoted(column.column)} IS NOT NULL"
            case Nested(path=path, filter=inner):
                listed = path if path[-1] is None else (*path, None)
                name, source = self._found(listed, root)
                met = self.condition(inner, f"{name}.v")
                is_map = f"jsonb_typeof({name}.v) = 'object'"
                return f"EXISTS (SELECT FROM {source} WHERE {is_map} AND {met})"
            case Field(path=path, test=test):
                return self._field(path, test, root)

    def _clauses(self, tree: Filter, root: str | None) -> str:
        told = [self.condition(each, root) for each in tree.must]
        told += [f"NOT {self.condition(each, root)}" for each in tree.must_not]
        if tree.should:
            told.append(f"({' OR '.join(self.condition(each, root) for each in tree.should)})")
        if tree.some is not None:
            told.append(self._some(tree.some, root))
        return f"({' AND '.join(told)})" if told else "TRUE"

    def _some(self, some: Some, root: str | None) -> str:
        met = [f"({self.condition(each, root)})::int" for each in some.conditions]
        return f"({' + '.join(['0', *met])} >= {self._value(some.least)}::int)"

    def _field(self, path: Path, test: Test, root: str | None) -> str:
        match test:
            case ValuesCount(bounds):
                name, source = self._found(path, root)
                value = f"{name}.v"
                size = (
                    f"CASE jsonb_typeof({value}) WHEN 'array' THEN jsonb_array_length({value})"
                    " WHEN 'null' THEN 0 ELSE 1 END"
                )
                met = f"EXISTS (SELECT FROM {source} WHERE {self._within(size, bounds)})"
                none = f"NOT EXISTS (SELECT FROM {source})"
                return f"({met} OR ({none} AND {self._within('0', bounds)}))"
            case IsEmpty(wanted):
                name, source = self._found(path, root)
                full = f"{name}.v NOT IN ('null', '[]')"
                return f"{'NOT ' if wanted else ''}EXISTS (SELECT FROM {source} WHERE {full})"
            case IsNull(wanted):
                name, source = self._elements(path, root)
                null = f"{name}.v = 'null'"
                return f"{'' if wanted else 'NOT '}EXISTS (SELECT FROM {source} WHERE {null})"
            case _:
                name, source = self._elements(path, root)
                met = self._test(f"{name}.v", test)
                return f"EXISTS (SELECT FROM {source} WHERE {met})"

    def _test(self, value: str, test: Test) -> str:
        match test:
            case Match(wanted):
                return f"{value} = ANY({self._json(wanted)})"
            case Except(unwanted):
                return f"{value} <> 'null' AND {value} <> ALL({self._json(unwanted)})"
            case Range(bounds):
                met = self._within(f"({value})::numeric", bounds)
                return f"CASE WHEN jsonb_typeof({value}) = 'number' THEN {met} ELSE FALSE END"
            case TextMatch(kind, text) if kind in _TEXTS:
                met = (
                    _TEXTS[kind]
                    .format(text=f"{self._value(text)}::text")
                    .replace("v #", f"{value} #")
                )
                return f"jsonb_typeof({value}) = 'string' AND {met}"
            case _:
                raise Refused("bad-request", f"PostgreSQL is not asked for {test!r}")

    def _within(self, number: str, bounds: dict[str, Any]) -> str:
        return " AND ".join(
            f"{number} {_COMPARE[name]} {self._value(str(bound))}::text::numeric"
            for name, bound in bounds.items()
        )

    def _json(self, wanted: Sequence[Any]) -> str:
        told = [msgspec.json.encode(each).decode() for each in wanted]
        return f"{self._value(told)}::text[]::jsonb[]"

    def _elements(self, path: Path, root: str | None) -> tuple[str, str]:
        """What a path leads to, the elements of a list at its end each; with their alias."""
        found, source = self._found(path, root)
        name = self._alias()
        listed = (
            f"CASE jsonb_typeof({found}.v) WHEN 'array' THEN {found}.v"
            f" ELSE jsonb_build_array({found}.v) END"
        )
        return name, f"{source} CROSS JOIN LATERAL jsonb_array_elements({listed}) AS {name}(v)"

    def _found(self, path: Path, root: str | None) -> tuple[str, str]:
        """What a path leads to, as a row source, and its alias."""
        name = self._alias()
        first = root or f"({payload_of(self._table, self._top(path))})"
        source = f"(SELECT {first} AS v) AS {name}"
        for number, step in enumerate(path):
            before, name = name, self._alias()
            # A column that is NULL is an absent field.
            absent = number == 0 and root is None and self._table.payload is None
            source += (
                f" CROSS JOIN LATERAL ({self._step(f'{before}.v', step, absent)}) AS {name}"
            )
        return name, source

    def _step(self, value: str, step: str | int | None, absent: bool) -> str:
        if isinstance(step, str):
            name = f"{self._value(step)}::text"
            there = f"{value} -> {name} <> 'null'" if absent else f"{value} ? {name}"
            return statement("step_into_map", value=value, name=name, there=there)
        if step is None:
            return statement("step_into_elements", value=value)
        return statement("step_into_list", value=value, place=str(step))

    def _top(self, path: Path) -> list[str] | None:
        return [str(path[0])] if self._table.payload is None else None

    def _alias(self) -> str:
        self._depth += 1
        return f"s{self._depth}"

    def _value(self, value: Any) -> str:
        self._values.append(value)
        return f"${len(self._values)}"
