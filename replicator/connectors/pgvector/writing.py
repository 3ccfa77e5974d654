"""
Writing a batch, in one transaction: all of it is durable, or nothing.

Upserts and patches travel in one binary `COPY` to the staging table, and become one `INSERT …
ON CONFLICT DO UPDATE` and one `UPDATE`; what is not in the image is set to NULL, so that
nothing of an old row is left. An id stands in a batch once, which `ON CONFLICT` demands.

A payload of columns is converted by PostgreSQL itself, column by column. What it makes of a
value may be another one (a number in a text column, a rounded one, a padded text), so that each
row is told back and compared with what was sent. A point that is not what it was is rejected by
the name of the field, and the batch is written anew without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from replicator.codecs.rules import check_write
from replicator.connectors.pgvector import staging
from replicator.connectors.pgvector.connections import Connections, Session
from replicator.connectors.pgvector.rows import key_of, payload_of, read_payload
from replicator.connectors.pgvector.statements import literal, quoted, statement
from replicator.connectors.pgvector.table import Table
from replicator.connectors.pgvector.tables import Tables
from replicator.connectors.pgvector.vectors import misfit
from replicator.errors import Rejected, ReplicatorError
from replicator.model.point import BareId, PointId, bare
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch


class _Unlike(ReplicatorError):
    """Rows do not hold what was written: undo it."""

    def __init__(self, rejected: dict[PointId, Rejected]) -> None:
        super().__init__("target-rejected", "rows do not hold what was written")
        self.rejected = rejected


class Writing:
    """Writes to one database."""

    def __init__(self, connections: Connections, tables: Tables, traits: Any) -> None:
        self._connections = connections
        self._tables = tables
        self._traits = traits

    async def apply(self, batch: WriteBatch) -> Receipt:
        """As `StoreWriter.apply`."""
        rejected: dict[PointId, Rejected] = {}
        while True:
            try:
                absent = await self._write(batch, rejected)
            except _Unlike as unlike:
                rejected |= unlike.rejected  # each try leaves more out
                continue
            order = [write.id for write in batch.writes if write.id in rejected]
            return Receipt(tuple((each, rejected[each]) for each in order), tuple(absent))

    async def _write(
        self, batch: WriteBatch, rejected: dict[PointId, Rejected]
    ) -> list[PointId]:
        """Write all but what is rejected, and add to that; the ids of patches of no point."""
        async with self._connections.writing() as session:
            table = await self._tables.target(session, batch.collection)
            writes = [
                write
                for write in batch.writes
                if write.id not in rejected and self._is_held(table, write, rejected)
            ]
            await self._delete(session, table, writes)
            images = [write for write in writes if isinstance(write, Upsert)]
            patches = [write for write in writes if isinstance(write, Patch)]
            if not images and not patches:
                return []
            await session.do(staging.make(table))
            data = staging.fill(table, [*images, *patches])
            await session.copy_in(staging.SCHEMA, staging.staged(table), data)
            unlike: dict[PointId, Rejected] = {}
            if images:
                told = await session.rows(_upsert(table))
                sent = {bare(each.id): each.point.payload for each in images}
                unlike |= _unlike(table, told, sent)
            if not patches:
                found: set[BareId] = set()
            else:
                told = await session.rows(_patch(table))
                found = {row[0] for row in told}
                unlike |= _unlike(table, told, {bare(each.id): each.set for each in patches})
            if unlike:
                raise _Unlike(unlike)
            return [patch.id for patch in patches if bare(patch.id) not in found]

    def _is_held(self, table: Table, write: Write, rejected: dict[PointId, Rejected]) -> bool:
        try:
            check_write(write, table.schema_of(), self._traits)
            _check_vectors(table, write)
            _check_fields(table, write)
        except Rejected as error:
            rejected[write.id] = error
            return False
        return True

    async def _delete(self, session: Session, table: Table, writes: Sequence[Write]) -> None:
        ids = [bare(write.id) for write in writes if isinstance(write, Delete)]
        if ids:
            key = quoted(table.key.name)
            sql = statement("delete", table=table.place, key=key, type=table.key_type)
            await session.rows(sql, ids)


def _check_vectors(table: Table, write: Write) -> None:
    if isinstance(write, Delete):
        return
    for name, vector in (write.point if isinstance(write, Upsert) else write).vectors.items():
        column = table.vectors[name]
        if why := misfit(column.type, vector, column.size):
            raise Rejected("field-invalid", f"vectors.{name} {why}", f"vectors.{name}")


def _check_fields(table: Table, write: Write) -> None:
    if table.payload is not None or isinstance(write, Delete):
        return
    given = write.point.payload if isinstance(write, Upsert) else write.set
    for name, value in given.items():
        if value is not None and name not in table.fields:
            raise Rejected(
                "field-unknown",
                f"payload.{name}: the table {table.name!r} has no such column to be written;"
                f" its fields are {', '.join(table.fields) or 'none'}",
                f"payload.{name}",
            )


def _upsert(table: Table) -> str:
    columns = [quoted(table.key.name)]
    values = ["s.k"]
    for number, each in enumerate(table.vectors.values()):
        columns.append(quoted(each.column))
        values.append(f"s.v{number}")
    if table.payload is not None:
        columns.append(quoted(table.payload))
        values.append("s.p")
    for name in table.fields:
        columns.append(quoted(name))
        values.append(f"r.{quoted(name)}")
    changed = columns[1:] or columns
    return statement(
        "upsert",
        table=table.place,
        names=", ".join(columns),
        values=", ".join(values),
        staged=_staged(table),
        fields=_fields(table),
        key=columns[0],
        changes=", ".join(f"{column} = EXCLUDED.{column}" for column in changed),
        told=_told(table),
    )


def _patch(table: Table) -> str:
    changes = [
        f"{quoted(each.column)} = CASE WHEN s.s{number} THEN s.v{number}"
        f" ELSE t.{quoted(each.column)} END"
        for number, each in enumerate(table.vectors.values())
    ]
    if table.payload is not None:
        column = quoted(table.payload)
        there = f"CASE WHEN jsonb_typeof(t.{column}) = 'object' THEN t.{column} ELSE '{{}}' END"
        gone = "ARRAY(SELECT jsonb_array_elements_text(s.gone))"
        changes.append(f"{column} = (({there}) - {gone}) || s.p")
    for name in table.fields:
        column = quoted(name)
        changes.append(
            f"{column} = CASE WHEN s.p ? {literal(name)} THEN r.{column} ELSE t.{column} END"
        )
    key = quoted(table.key.name)
    return statement(
        "patch",
        table=table.place,
        changes=", ".join(changes) or f"{key} = t.{key}",
        staged=_staged(table),
        fields=_fields(table),
        key=key,
        told=_told(table),
    )


def _staged(table: Table) -> str:
    return f"{staging.SCHEMA}.{quoted(staging.staged(table))}"


def _fields(table: Table) -> str:
    """The row that the payload makes, where columns are its fields."""
    if table.payload is not None or not table.fields:
        return ""
    return f"CROSS JOIN LATERAL jsonb_populate_record(NULL::{table.place}, s.p) AS r"


def _told(table: Table) -> str:
    key = key_of(table)
    return key if table.payload is not None else f"{key}, ({payload_of(table)})::text"


def _unlike(
    table: Table, told: Sequence[Any], sent: Mapping[BareId, Mapping[str, Any]]
) -> dict[PointId, Rejected]:
    """The points whose columns hold something else than was sent."""
    if table.payload is not None:
        return {}
    found: dict[PointId, Rejected] = {}
    for row in told:
        held = read_payload(table, row[1])
        for name in _differing(table, sent[row[0]], held):
            found[row[0]] = Rejected(
                "field-invalid",
                f"payload.{name}: the column is of type {table.fields[name].type}, and would"
                " hold another value",
                f"payload.{name}",
            )
    return found


def _differing(table: Table, sent: Mapping[str, Any], held: Mapping[str, Any]) -> Iterator[str]:
    for name, value in sent.items():
        if value is not None and not _same(value, held.get(name)):
            yield name


def _same(one: Any, other: Any) -> bool:
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
        case ((list() | tuple()), list()):
            return len(one) == len(other) and all(map(_same, one, other))
        case bool(), _:
            return one is other
        case ((int() | float()), (int() | float())) if not isinstance(other, bool):
            return one == other or math.isclose(one, other, rel_tol=1e-15)
        case _:
            return bool(one == other) and type(one) is type(other)
