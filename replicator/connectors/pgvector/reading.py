"""
Reading points: pages of a scan in the order of keys, and points by their ids.

A page begins behind the last key of the one before it, by the index of the key, so that nothing
is counted off, and rows that come and go move no other. Each page sees what is committed when
it is read; the copy does not need all of them to see the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from replicator.connectors.pgvector.connections import COUNT_S, Connections, Session
from replicator.connectors.pgvector.filters import held_ids, sure_of, write_filter
from replicator.connectors.pgvector.ranges import (
    KeyRange,
    cut,
    read_cursor,
    read_spec,
    write_cursor,
    write_spec,
)
from replicator.connectors.pgvector.rows import columns_of, key_of, read_rows
from replicator.connectors.pgvector.statements import quoted, statement
from replicator.connectors.pgvector.table import Table
from replicator.connectors.pgvector.tables import Tables
from replicator.model.filter import Filter
from replicator.model.narrowing import at_least
from replicator.model.pages import PageSize
from replicator.model.point import BareId, Point, PointId
from replicator.model.record import Chunk
from replicator.ports.store import Page

SAMPLES_PER_PART = 64
"""Pages of the table sampled for one chunk. Half of it makes chunks of visibly uneven size;
twice only costs."""

SAMPLES_MAX = 10_000
"""Keys sampled at most: about 300 KB of reply."""

_KEY_BYTES = 64
"""A key in a reply with all that goes with it."""


class Reading:
    """Reads of one database."""

    def __init__(self, connections: Connections, tables: Tables, page_bytes: int) -> None:
        self._connections = connections
        self._tables = tables
        self._page_bytes = page_bytes
        self._sizes: dict[tuple[str, bool], PageSize] = {}

    async def split(self, name: str, parts: int) -> list[Chunk]:
        """Ranges of keys of about equal shares."""
        async with self._connections.reading() as session:
            table = await self._tables.source(session, name)
            keys = await self._sample(session, table, parts) if parts > 1 else []
        return [
            Chunk(number, name, write_spec(part))
            for number, part in enumerate(cut(keys, max(1, parts)))
        ]

    async def _sample(self, session: Session, table: Table, parts: int) -> list[BareId]:
        pages = float(await session.value(statement("pages_of"), table.oid))
        percent = min(100.0, 100.0 * SAMPLES_PER_PART * parts / max(pages, 1.0))
        sql = statement(
            "sample",
            key=key_of(table),
            column=quoted(table.key.name),
            table=table.place,
            percent=f"{percent:.6f}",
            rows=str(SAMPLES_MAX if percent < 100.0 else SAMPLES_PER_PART * SAMPLES_MAX),
        )
        return [row["key"] for row in await session.rows(sql)]

    async def scan(
        self,
        chunk: Chunk,
        after: str | None,
        page_rows: int,
        *,
        fields: Sequence[str] | None = None,
        where: Filter | None = None,
    ) -> AsyncIterator[Page]:
        """Pages in the order of keys. `fields`: no vectors, and these fields of the payload."""
        part = read_spec(chunk.spec)
        last = part.after if after is None else read_cursor(after)
        while True:
            rest = KeyRange(last, part.to)
            page, last = await self._page(chunk, rest, page_rows, fields, where)
            ends = page.cursor is None
            yield page
            # Not to be held while the next one is read.
            del page
            if ends:
                return

    async def _page(
        self,
        chunk: Chunk,
        part: KeyRange,
        page_rows: int,
        fields: Sequence[str] | None,
        where: Filter | None,
    ) -> tuple[Page, BareId | None]:
        size = self._size(chunk.collection, small=fields is not None)
        rows = size.rows(page_rows)
        async with self._connections.reading() as session:
            table = await self._tables.source(session, chunk.collection)
            values: list[Any] = []
            sql = statement(
                "page",
                columns=columns_of(table, vectors=fields is None, fields=fields),
                table=table.place,
                where=_where(table, part, where, values),
                key=quoted(table.key.name),
                rows=str(rows),
            )
            told = await session.rows(sql, *values)
        read = read_rows(table, told, vectors=fields is None)
        size.saw(len(told), read.size)
        if len(told) < rows:
            return Page(read.points, None, read.rejected), None
        last = told[-1][0]
        assert last is not None, "a key is never NULL"
        return Page(read.points, write_cursor(last), read.rejected), last

    async def fetch(
        self, name: str, ids: Sequence[PointId], *, fields: Sequence[str] | None = None
    ) -> dict[PointId, Point]:
        """The points that exist; `fields` as of `scan`. Raises Rejected for a row that is no
        point.
        """
        size = self._size(name, small=fields is not None)
        found: dict[PointId, Point] = {}
        asked = list(dict.fromkeys(ids))
        while asked:
            some = asked[: size.rows(len(asked))]
            asked = asked[len(some) :]
            async with self._connections.reading() as session:
                table = await self._tables.source(session, name)
                sql = statement(
                    "by_id",
                    columns=columns_of(table, vectors=fields is None, fields=fields),
                    table=table.place,
                    key=quoted(table.key.name),
                    type=table.key_type,
                )
                held = [each for each in held_ids(table, some) if each in some]
                told = await session.rows(sql, held)
            read = read_rows(table, told, vectors=fields is None)
            size.saw(len(told), read.size)
            for row in read.rejected:
                raise row.error
            found |= {point.id: point for point in read.points}
        return found

    async def count(self, name: str, where: Filter | None = None) -> int:
        """Exact."""
        async with self._connections.reading(COUNT_S) as session:
            table = await self._tables.source(session, name)
            return await count(session, table, where)

    def _size(self, name: str, *, small: bool) -> PageSize:
        """Ids are known to be small, so that their pages need not begin small."""
        size = self._sizes.get((name, small))
        if size is None:
            size = self._sizes[name, small] = PageSize(self._page_bytes)
            if small:
                size.saw(self._page_bytes // _KEY_BYTES, self._page_bytes)
        return size


async def count(session: Session, table: Table, where: Filter | None = None) -> int:
    """The rows of a table, as many as a filter is sure to leave."""
    values: list[Any] = []
    sql = statement("count", table=table.place, where=_where(table, KeyRange(), where, values))
    return int(await session.value(sql, *values))


def _where(table: Table, part: KeyRange, where: Filter | None, values: list[Any]) -> str:
    key = f"t.{quoted(table.key.name)}"
    told = []
    for sign, bound in ((">", part.after), ("<=", part.to)):
        if bound is not None:
            values.append(bound)
            told.append(f"{key} {sign} ${len(values)}::{table.key_type}")
    narrowed = None if where is None else at_least(where, sure_of(table))
    if narrowed is not None:
        told.append(write_filter(narrowed, table, values))
    return " AND ".join(told) or "TRUE"
