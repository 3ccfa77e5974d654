r"""
Rows → points, and the JSON of a payload.

What a column holds becomes JSON at the server, by expressions that filters use as well. The
policy, where a value has no JSON of its own:

- `numeric` of at most 15 digits is a number, which a float64 holds exactly; of more, and
  without a limit, a text.
- `real` and `double precision` are floats, 5 as 5.0. NaN and Infinity have no JSON: such a row
  is no point.
- `timestamptz` is a text in UTC with a `Z`, as Debezium writes it; other dates and times,
  intervals, bytea (`\x…`), enums, uuids and what else there is, are PostgreSQL's own text.
- Arrays are lists. NULL is an absent field, as is the null of a jsonb column.

A number of jsonb keeps its digits, but no exponent: 1e22 would come back as an integer. So a
large float that is whole is written with all its digits, and `.0` behind them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from replicator.connectors.pgvector.catalogue import Column
from replicator.connectors.pgvector.statements import literal, quoted, statement
from replicator.connectors.pgvector.table import Table
from replicator.connectors.pgvector.vectors import read_vectors
from replicator.errors import Rejected
from replicator.model.point import BareId, Payload, Point
from replicator.ports.store import RejectedRow

_DIGITS_MAX = 15
_EXPONENT = re.compile(rb"[0-9]e[0-9]")
_WHOLE_FROM = 1e16
"""Floats as large as this are written with an exponent."""

_FLOATS = ("float4", "float8")
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")


def columns_of(table: Table, *, vectors: bool, fields: Collection[str] | None) -> str:
    """What to select of `t`: the id, the payload (these fields; None: all), the vectors."""
    told = [key_of(table)]
    told.append(
        "NULL" if fields is not None and not fields else f"({payload_of(table, fields)})::text"
    )
    if vectors:
        for each in table.vectors.values():
            send = table.of_extension(f"{each.type}_send")
            told.append(f"{send}(t.{quoted(each.column)})")
    return ", ".join(told)


def key_of(table: Table) -> str:
    """The id of `t`, as it is read."""
    as_type = "bigint" if table.key_type == "bigint" else "text"
    return f"t.{quoted(table.key.name)}::{as_type}"


def payload_of(table: Table, fields: Collection[str] | None = None) -> str:
    """The payload of `t` as jsonb, or these fields of it."""
    if table.payload is not None:
        column = f"t.{quoted(table.payload)}"
        if fields is None:
            return column
        names = ", ".join(literal(name) for name in fields if "\0" not in name)
        return statement("some_fields", column=column, names=names or "NULL")
    some = [each for name, each in table.fields.items() if fields is None or name in fields]
    if not some:
        return "'{}'::jsonb"
    listed = ", ".join(f"{_value_of(each)} AS {quoted(each.name)}" for each in some)
    return statement("columns_as_fields", values=listed)


def _value_of(column: Column) -> str:
    value = f"t.{quoted(column.name)}"
    if column.type == "numeric" and not _is_exact(column):
        return f"{value}::text"
    if column.type == "timestamptz":
        return f"replace(to_jsonb({value}) #>> '{{}}', '+00:00', 'Z')"
    return value


def _is_exact(column: Column) -> bool:
    """Whether a numeric has no more digits than a float64 holds."""
    return column.modifier > 0 and (column.modifier - 4) >> 16 & 0xFFFF <= _DIGITS_MAX


class Rows(msgspec.Struct, frozen=True):
    """Rows as points, and those that are none. `size`: bytes of their values."""

    points: list[Point]
    rejected: tuple[RejectedRow, ...]
    size: int


def read_rows(table: Table, told: Sequence[Any], *, vectors: bool) -> Rows:
    """Rows as `columns_of` selects them."""
    names = list(table.vectors)
    read = [
        read_vectors(table.vectors[name].type, [row[number] for row in told])
        for number, name in enumerate(names, 2)
        if vectors
    ]
    points: list[Point] = []
    rejected: list[RejectedRow] = []
    size = 0
    for number, row in enumerate(told):
        size += sum(len(value) for value in row.values() if isinstance(value, str | bytes)) + 8
        held = {
            name: vector
            for name, column in zip(names, read, strict=False)
            if (vector := column[number]) is not None
        }
        try:
            points.append(Point(_id(table, row[0]), held, read_payload(table, row[1])))
        except Rejected as error:
            raw = msgspec.json.encode({"id": row[0], "payload": row[1]})
            rejected.append(RejectedRow(id=row[0], place=table.name, error=error, raw=raw))
    return Rows(points, tuple(rejected), size)


def _id(table: Table, told: BareId) -> BareId:
    if not table.id_limits.hold(table.ids, told):
        raise Rejected("id-invalid", "the id is empty, or longer than an event can hold", "id")
    return told


def read_payload(table: Table, told: str | None) -> Payload:
    """The payload of a row. Raises Rejected for one that has no JSON."""
    payload = {} if told is None else msgspec.json.decode(told)
    if table.payload is not None:
        if not isinstance(payload, dict):
            raise Rejected("field-type", f"{table.payload} is no map", "payload")
        return payload
    found: Payload = {}
    for name, value in payload.items():
        column = table.fields[name]
        if value is None:
            continue
        if value in _NO_NUMBERS and column.type in (*_FLOATS, "numeric"):
            raise Rejected("payload-not-finite", f"{name} is {value}", f"payload.{name}")
        found[name] = float(value) if column.type in _FLOATS else value
    return found


def write_payload(payload: Mapping[str, Any]) -> bytes:
    """The JSON of a payload, so that jsonb gives it back as it is."""
    told = msgspec.json.encode(payload)
    return msgspec.json.encode(_spelled(payload)) if _EXPONENT.search(told) else told


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) >= _WHOLE_FROM:
        return msgspec.Raw(f"{value:.1f}".encode())
    if isinstance(value, Mapping):
        return {name: _spelled(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(each) for each in value]
    return value
