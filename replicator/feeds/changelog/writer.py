"""The application's side of a change log: append events, prune what was applied."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from replicator import clock
from replicator.errors import Refused
from replicator.feeds.changelog.opening import BUSY_TIMEOUT_S, PARTITION, LogFile
from replicator.feeds.changelog.queries import queries
from replicator.model.position import Place

PRUNE_ROWS = 500
"""Rows deleted in one transaction, some tens of milliseconds in which no one else can write.
Half would double the syncs; twice would be felt by the application's writers."""


class ChangelogWriter:
    """
    Append to a change log from synchronous code, from any number of threads and processes.

    Makes the log when it is missing. An application that keeps its own rows in the same SQLite
    file can use `insert` inside its own transaction instead, so that a change and its event
    are committed together or not at all.
    """

    def __init__(self, path: str | Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._file = LogFile(Path(path), busy_timeout_s)

    @staticmethod
    def insert(database: sqlite3.Connection, key: bytes | None, value: bytes | None) -> int:
        """Append one record in the transaction that `database` is in; its offset."""
        added = database.execute(queries()["append"], {"key": key, "value": value}).lastrowid
        assert added is not None, "an INSERT adds a row"
        return added

    def append(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> list[int]:
        """
        Append (key, value) records in order, all or none; their offsets, durable on return. A
        None value deletes its key. Raises Unavailable when another writer holds the file for
        too long.
        """
        with self._file.transaction() as database:
            return [self.insert(database, key, value) for key, value in records]

    def prune(self, keep_s: float) -> int:
        """
        Delete the rows that every reader has applied and that are older than `keep_s` seconds,
        and return how many. Nothing is deleted before a reader has published a position.
        Verification and the retry of dead letters read back: keep what they may need.
        """
        parameters = {"before_ms": int((clock.wall() - keep_s) * 1000), "limit": PRUNE_ROWS}
        pruned = 0
        while True:
            with self._file.transaction() as database:
                deleted = database.execute(queries()["prune"], parameters).rowcount
            pruned += deleted
            if deleted < PRUNE_ROWS:
                return pruned

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ChangelogWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ChangelogEventLog:
    """An `EventLog` over a change log, made when it is missing."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._writer: ChangelogWriter | None = None
        self._turn = asyncio.Lock()

    async def append(
        self,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> list[Place]:
        """See `EventLog.append`: one transaction, all or none. Its rows have no headers."""
        if headers:
            raise Refused("unsupported", "the rows of a change log have no headers")
        # The turn keeps the order of calls. A cancelled call may still be appended.
        async with self._turn:
            if self._writer is None:
                self._writer = await asyncio.to_thread(ChangelogWriter, self._path)
            offsets = await asyncio.to_thread(self._writer.append, records)
            return [Place(PARTITION, offset) for offset in offsets]

    async def close(self) -> None:
        """Close the file."""
        async with self._turn:
            writer, self._writer = self._writer, None
            if writer is not None:
                await asyncio.to_thread(writer.close)
