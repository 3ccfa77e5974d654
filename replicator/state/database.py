"""
One connection, one transaction at a time.

A transaction that is cancelled is rolled back: the statements of a connection run in the order
in which they were handed over, so the rollback stands before whatever the next one sends.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec

from replicator.errors import Fatal
from replicator.state.lock import StateLock
from replicator.state.opening import connect
from replicator.state.queries import load_queries

Row = Sequence[Any]


class Database:
    """A state file and its lock. Without a lock it is only read."""

    def __init__(self, connection: aiosqlite.Connection, lock: StateLock | None) -> None:
        """Use `open`."""
        self._connection = connection
        self._lock = lock
        self._turn = asyncio.Lock()
        self._sql = load_queries()

    @classmethod
    async def open(cls, path: Path, read_only: bool) -> Database:
        """Raises what `SqliteStateStore.open` says."""
        lock = None
        try:
            if not read_only:
                lock = _locked(path)
            return cls(await connect(path, read_only), lock)
        except BaseException as exc:
            if lock is not None:
                lock.release()
            if isinstance(exc, (sqlite3.Error, OSError)):
                raise Fatal("state-failed", f"cannot open the state {path}: {exc}") from exc
            raise

    async def close(self) -> None:
        """Let go of the file, then of the lock. Idempotent."""
        async with self._turn:
            await self._connection.close()
            if self._lock is not None:
                self._lock.release()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All that `run` and `change` do within, or nothing. Durable when it is left."""
        assert self._lock is not None, "a state opened for reading is not written"
        async with self._turn:
            with translated():
                try:
                    await self._connection.execute_fetchall("BEGIN IMMEDIATE")
                    yield
                    await self._connection.execute_fetchall("COMMIT")
                except BaseException:
                    await self._connection.rollback()
                    raise

    async def read(self, query: str, **values: Any) -> list[Row]:
        """The rows of one query outside a transaction."""
        async with self._turn:
            with translated():
                return await self.run(query, **values)

    async def run(self, query: str, **values: Any) -> list[Row]:
        """The rows of one query within a transaction."""
        return list(await self._connection.execute_fetchall(self._sql[query], values))

    async def change(self, query: str, **values: Any) -> tuple[int, int]:
        """Change rows within a transaction: how many, and the number of the last one added."""
        async with self._connection.execute(self._sql[query], values) as cursor:
            return cursor.rowcount, cursor.lastrowid or 0


@contextmanager
def translated() -> Iterator[None]:
    """What the disk or a damaged file does to us, in our words."""
    try:
        yield
    except (sqlite3.Error, msgspec.MsgspecError) as exc:
        raise Fatal("state-failed", f"the state file failed: {exc}") from exc


def _locked(path: Path) -> StateLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return StateLock(path)
