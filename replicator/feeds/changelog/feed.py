"""
Read a SQLite change log.

Offsets are the rowids of an AUTOINCREMENT table. SQLite has one writer at a time, which holds
its lock from its first row to its commit: rows become visible in the order of their offsets,
and a reader that has seen offset n will never see a smaller one appear. A transaction that is
rolled back gives its offsets back with its rows.

What was deleted leaves a trace: a trigger raises `changes_log.start` above every deleted row.
A position below that start may have lost an event, so it blocks. The end is taken from
SQLite's own sequence, so a log that was pruned to its last row does not look like a new one;
a position beyond it is one of another log.

A log made anew, as another file or as new tables in the same one, has another identity. It is
read after the rows of a page, so that rows are only ever returned when the log was still ours
once they had been read.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Any

import aiosqlite

from replicator.errors import Blocked, Refused, ReplicatorError, Unavailable
from replicator.feeds.changelog.opening import PARTITION, connect, translated
from replicator.feeds.changelog.queries import identity_schema, queries
from replicator.model.finding import CheckFinding, Severity
from replicator.model.position import (
    Bookmark,
    Bounds,
    LogIdentity,
    Partition,
    Polled,
    Record,
    bookmark_of,
)
from replicator.settings.feeds import ChangelogSettings

PAGE_BYTES_MAX = 8 << 20
"""A page ends after so many bytes, whatever its count of rows. Twice as much would gain nothing
and double what one poll adds to memory at once."""

_CHUNK_ROWS = 32
"""Rows fetched in one step into SQLite's thread: the page can exceed its bytes by so many rows.
Half would cost a thread hop more for little."""

_FOREVER = (1 << 63) - 1


class ChangelogFeed:
    """
    A `ChangeFeed` over the file at `settings.path`. `name` is the reader's name in the log:
    what it publishes keeps the application from pruning events that are still needed.
    """

    def __init__(self, settings: ChangelogSettings, name: str) -> None:
        self._path = Path(settings.path)
        self._interval_s = float(settings.poll_interval)
        self._name = name
        self._database: aiosqlite.Connection | None = None
        self._publisher: aiosqlite.Connection | None = None
        self._opening = asyncio.Lock()
        self._file: tuple[int, int] | None = None
        self._told: LogIdentity | None = None
        self._opened: LogIdentity | None = None
        self._position: int | None = None
        self._drained_at: int | None = None  # the data version at which no row was left
        self._paused = False

    async def bounds(self) -> dict[Partition, Bounds]:
        """The log's bounds, from one snapshot. Everything committed is stable."""
        start, end, _ = await self._bounds(0)
        return {PARTITION: Bounds(start=start, end=end, stable=end)}

    async def identity(self) -> LogIdentity:
        """
        See `ChangeFeed.identity`. Gives one to a log of an older release, which has none; where
        the file cannot be written it stays without.
        """
        await self._connected()  # whether there is a log at all, before what it is
        found = await self._id()
        if found is None:
            try:
                await self._adopt()
            except Unavailable as error:
                code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
                if code != sqlite3.SQLITE_READONLY:
                    raise
            found = await self._id()
        self._told = LogIdentity(found)
        return self._told

    async def bookmarks_at(self, offsets: Mapping[Partition, int]) -> dict[Partition, Bookmark]:
        """See `ChangeFeed.bookmarks_at`."""
        if PARTITION not in offsets:
            return {}
        offset = offsets[PARTITION]
        rows = await self._rows(queries()["record"], {"offset": offset})
        if not rows:
            return {}
        return {PARTITION: bookmark_of(Record(PARTITION, offset, *rows[0]))}

    async def open(
        self, positions: Mapping[Partition, int], partitions: int | None = None
    ) -> None:
        """See `ChangeFeed.open`."""
        if set(positions) != {PARTITION} or partitions not in (None, 1):
            raise Blocked(
                "partitions-changed",
                f"a change log has the one partition {PARTITION}, and the positions name "
                f"{', '.join(sorted(positions)) or 'none'} of {partitions or len(positions)}",
            )
        await self._disconnect()
        position = positions[PARTITION]
        start, end, _ = await self._bounds(position)
        self._opened = self._told or LogIdentity(await self._id())
        await self._check_identity()
        if not start <= position <= end:
            raise self._not_held(position, start, end)
        self._position, self._paused = position, False

    async def poll(self, records_max: int, timeout_s: float) -> Polled:
        """See `ChangeFeed.poll`. One poll brings about PAGE_BYTES_MAX at most."""
        assert self._position is not None, "open comes before poll"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            records = [] if self._paused else await self._advance(records_max)
            remaining_s = deadline - loop.time()
            if records or remaining_s <= 0:
                return Polled(records=records, positions={PARTITION: self._position})
            await asyncio.sleep(min(self._interval_s, remaining_s))

    def pause(self, partitions: Collection[Partition]) -> None:
        """See `ChangeFeed.pause`."""
        self._paused = self._paused or PARTITION in partitions

    def resume(self, partitions: Collection[Partition]) -> None:
        """See `ChangeFeed.resume`."""
        self._paused = self._paused and PARTITION not in partitions

    async def publish(self, positions: Mapping[Partition, int]) -> None:
        """Write the position to `changes_readers`, which bounds what pruning may delete."""
        if PARTITION not in positions:
            return
        publisher = await self._writable()
        with translated(self._path):
            await publisher.execute_fetchall(
                queries()["publish"],
                {"name": self._name, "position": positions[PARTITION]},
            )

    async def read(
        self, partition: Partition, start: int, end: int
    ) -> AsyncIterator[list[Record]]:
        """See `ChangeFeed.read`. Rows that are there when a page is read."""
        if partition != PARTITION:
            raise Blocked("partitions-changed", f"a change log has no partition {partition}")
        await self._check_identity()
        first, last, _ = await self._bounds(start)
        if start < first or start > last:
            raise self._not_held(start, first, last)
        while start < end:
            page = await self._page(start, end, records_max=1000)
            await self._check_identity()
            if not page:
                return
            start = page[-1].offset + 1
            yield page

    async def check(self) -> list[CheckFinding]:
        """Findings: the log is missing, not a change log, or not in write-ahead mode."""
        try:
            [(mode,)] = await self._rows("PRAGMA journal_mode", {})
        except ReplicatorError as error:
            return [CheckFinding(Severity.BLOCKS, error.code, "feed", error.message)]
        if mode != b"wal":
            return [
                CheckFinding(
                    Severity.WARNS,
                    "config-invalid",
                    "feed",
                    f"{self._path} is in journal mode {mode.decode()}, where readers and "
                    "writers wait for each other; run PRAGMA journal_mode = WAL on it once",
                )
            ]
        return []

    async def close(self) -> None:
        """Close the file. The feed may be opened again."""
        await self._disconnect()

    # -- the file -------------------------------------------------------------------------
    async def _advance(self, records_max: int) -> list[Record]:
        assert self._position is not None
        # The version is asked before the rows are: a commit in between shows as a new version
        # at the next look, and cannot be overlooked.
        [(version,)] = await self._rows(queries()["version"], {})
        if version == self._drained_at:
            return []
        position = self._position
        records = await self._page(position, _FOREVER, records_max)
        await self._check_identity()
        if self._paused:  # while the page was read
            return []
        if records:
            self._position = records[-1].offset + 1
            return records
        start, end, more = await self._bounds(position)
        if not start <= position <= end:
            raise self._not_held(position, start, end)
        if not more:
            self._position, self._drained_at = end, version
        return []

    async def _page(self, position: int, end: int, records_max: int) -> list[Record]:
        database = await self._connected()
        records: list[Record] = []
        size = 0
        parameters = {"position": position, "end": end, "limit": records_max}
        with translated(self._path):
            async with database.execute(queries()["page"], parameters) as cursor:
                while size < PAGE_BYTES_MAX and (rows := await cursor.fetchmany(_CHUNK_ROWS)):
                    for offset, key, value, at_ms, start in rows:
                        if position < start:
                            raise self._not_held(position, start, None)
                        record = Record(PARTITION, offset, key, value, at_ms)
                        records.append(record)
                        size += record.size
        return records

    async def _bounds(self, position: int) -> tuple[int, int, bool]:
        [(start, end, more)] = await self._rows(queries()["bounds"], {"position": position})
        return start, end, bool(more)

    async def _rows(self, sql: str, parameters: Mapping[str, object]) -> list[Any]:
        database = await self._connected()
        with translated(self._path):
            return list(await database.execute_fetchall(sql, parameters))

    async def _connected(self) -> aiosqlite.Connection:
        async with self._opening:
            if self._database is None:
                self._database = await connect(self._path)
                self._file = self._identify()
            elif (found := self._identify()) != self._file:
                # The open file would go on answering, with rows of a log that nobody writes.
                if found is None:
                    raise Blocked("log-truncated", f"the change log {self._path} was removed")
                raise Blocked("log-replaced", f"another file lies at {self._path} now")
            return self._database

    async def _writable(self) -> aiosqlite.Connection:
        async with self._opening:
            if self._publisher is None:
                # A connection of its own: it may wait for the application's transaction,
                # and reading goes on meanwhile.
                self._publisher = await connect(self._path)
            return self._publisher

    async def _adopt(self) -> None:
        database = await self._writable()
        with translated(self._path):
            try:
                await database.executescript(f"BEGIN IMMEDIATE;\n{identity_schema()}\nCOMMIT;")
            except BaseException:
                await database.rollback()
                raise

    async def _id(self) -> str | None:
        try:
            rows = await self._rows(queries()["identity"], {})
        except Refused:  # no such table: a log of an older release
            return None
        return rows[0][0].decode() if rows else None

    async def _check_identity(self) -> None:
        ours = self._opened or self._told
        if ours is None or ours.id is None:
            return
        found = await self._id()
        if found != ours.id:
            raise Blocked(
                "log-replaced",
                f"the change log {self._path} was made anew: it is {found or 'without id'}, "
                f"and ours was {ours.id}",
            )

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    async def _disconnect(self) -> None:
        async with self._opening:
            database, self._database, self._drained_at = self._database, None, None
            publisher, self._publisher = self._publisher, None
        for connection in (database, publisher):
            if connection is not None:
                await connection.close()

    def _not_held(self, position: int, start: int, end: int | None) -> Blocked:
        until = "" if end is None else f" and ends at {end}"
        return Blocked(
            "log-truncated" if position < start else "log-replaced",
            f"position {position} is not held by the change log {self._path}, "
            f"which starts at {start}{until}",
        )
