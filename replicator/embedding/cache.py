"""Vectors that were made already, in a SQLite file beside the state."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import aiosqlite

from replicator.errors import Unavailable

_KEYS = 500
"""Of one question; SQLite takes some thousands."""


class SqliteVectorCache:
    """Opened when it is first asked. One transaction at a time; what a crash takes of the last
    ones is made again.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._connection: aiosqlite.Connection | None = None
        self._turn = asyncio.Lock()

    async def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """As in VectorCache."""
        wanted, found = list(keys), {}
        async with self._turn:
            with self._translated():
                connection = await self._opened()
                for begin in range(0, len(wanted), _KEYS):
                    some = wanted[begin : begin + _KEYS]
                    rows = await connection.execute_fetchall(
                        "SELECT key, vector FROM vectors WHERE key IN "  # noqa: S608
                        f"({','.join('?' * len(some))})",
                        some,
                    )
                    found.update({bytes(key): bytes(vector) for key, vector in rows})
        return found

    async def put(self, vectors: Mapping[bytes, bytes]) -> None:
        """As in VectorCache."""
        async with self._turn:
            with self._translated():
                connection = await self._opened()
                try:
                    await connection.executemany(
                        "INSERT OR IGNORE INTO vectors VALUES (?, ?)", list(vectors.items())
                    )
                    await connection.commit()
                except BaseException:
                    await connection.rollback()
                    raise

    async def aclose(self) -> None:
        """Let go of the file. Idempotent."""
        async with self._turn:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None

    async def _opened(self) -> aiosqlite.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = await aiosqlite.connect(self._path)
            try:
                await connection.execute("PRAGMA journal_mode = WAL")
                # A vector that a power cut takes is made again.
                await connection.execute("PRAGMA synchronous = NORMAL")
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS vectors"
                    " (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
                )
                await connection.commit()
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise Unavailable("embedding-cache", f"{self._path}: {exc}") from exc
