"""
Connections, and the transactions that everything runs in.

A transaction begins with the settings that decide what values look like, as `SET LOCAL`: a
pooler between us and the server may hand each transaction another of its connections, so that
nothing may rest on a session. For the same reason there are no prepared statements.

A connection on which anything but the server's own refusal happened is closed, not used again:
what is on its way there nobody knows. The server undoes the transaction when it notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from replicator.connectors.pgvector.failures import of_commit, of_connecting, of_statement
from replicator.connectors.pgvector.kind import PgvectorSettings
from replicator.connectors.pgvector.statements import statement
from replicator.errors import ReplicatorError, Unavailable

COUNT_S = 3600.0
"""Of a count: it reads the whole table, or an index of it. Half of it fails on tables that
others migrate; twice it only hides a server that hangs."""

_GRACE_S = 5.0
"""What the server has beyond its own deadline to say that it is over. Less takes its answer for
none; more waits longer for a network that is gone."""


class Session:
    """A transaction under way: what is asked in it, each within the deadline."""

    def __init__(self, connection: Any, deadline_s: float | None) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    async def rows(self, sql: str, *values: Any) -> list[Any]:
        """The rows of an answer."""
        async with asyncio.timeout(self._deadline_s):
            found: list[Any] = await self._connection.fetch(sql, *values)
        return found

    async def row(self, sql: str, *values: Any) -> Any:
        """The first row of an answer, or None."""
        return next(iter(await self.rows(sql, *values)), None)

    async def value(self, sql: str, *values: Any) -> Any:
        """The first value of the first row, or None."""
        row = await self.row(sql, *values)
        return None if row is None else row[0]

    async def do(self, sql: str) -> None:
        """Statements without parameters."""
        async with asyncio.timeout(self._deadline_s):
            await self._connection.execute(sql)

    async def copy_in(self, schema: str, table: str, data: bytes) -> None:
        """Fill a table with what is in the binary form of COPY."""
        async with asyncio.timeout(self._deadline_s):
            # Bytes as they are would be taken for the name of a file.
            await self._connection.copy_to_table(
                table, schema_name=schema, source=memoryview(data), format="binary"
            )


class Connections:
    """The connections of one store. Connects with the first transaction."""

    def __init__(self, settings: PgvectorSettings) -> None:
        self._settings = settings
        self._address = settings.address()
        self._pool: Any = None
        self._closed = False
        self._opening = asyncio.Lock()
        self._connecting: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def reading(self, timeout_s: float | None = None) -> AsyncIterator[Session]:
        """A transaction that reads, each statement seeing what was committed before it."""
        async with self._transaction("begin_reading", timeout_s, writes=False) as session:
            yield session

    @asynccontextmanager
    async def writing(self, timeout_s: float | None = None) -> AsyncIterator[Session]:
        """A transaction that writes, and is durable when the block was left."""
        async with self._transaction("begin_writing", timeout_s, writes=True) as session:
            yield session

    @asynccontextmanager
    async def _transaction(
        self, begin: str, timeout_s: float | None, *, writes: bool
    ) -> AsyncIterator[Session]:
        """`timeout_s`: of each statement, the settings' by default; 0 for none."""
        allowed_s = float(self._settings.timeout) if timeout_s is None else timeout_s
        settings = statement(begin, timeout_ms=str(round(allowed_s * 1000)))
        deadline_s = allowed_s + _GRACE_S if allowed_s else None
        connection = await self._acquire()
        usable = committing = False
        try:
            try:
                async with asyncio.timeout(float(self._settings.timeout) + _GRACE_S):
                    await connection.execute(settings)
                yield Session(connection, deadline_s)
                committing = writes
                async with asyncio.timeout(float(self._settings.timeout) + _GRACE_S):
                    await connection.execute("COMMIT")
                usable = True
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
                usable = not committing and await self._undone(connection, exc)
                if committing:
                    raise of_commit(exc, self._address) from exc
                raise of_statement(exc, self._address, writes=writes) from exc
            except ReplicatorError:
                usable = await self._undone(connection, None)
                raise
        finally:
            # A connection that broke has left the pool by itself.
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                if not usable:
                    connection.terminate()
                await self._pool.release(connection)

    async def _undone(self, connection: Any, exc: Exception | None) -> bool:
        """Whether the transaction was rolled back, so that the connection is as new."""
        if exc is not None and not isinstance(exc, asyncpg.PostgresError):
            return False
        try:
            async with asyncio.timeout(_GRACE_S):
                await connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return False
        return True

    async def _acquire(self) -> Any:
        connecting = asyncio.create_task(self._connect(), name="pgvector connects")
        self._connecting.add(connecting)
        try:
            return await connecting
        except asyncio.CancelledError:
            if connecting.done() and not connecting.cancelled() and not connecting.exception():
                connecting.result().terminate()  # it came too late, and would never be released
            # Whoever closes the store cancels this task, and nobody else.
            if self._closed and connecting.cancelled() and not _is_cancelled():
                raise Unavailable("store-unavailable", "the store was closed") from None
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as exc:
            # Its traceback would show where the address is taken apart, password and all.
            raise of_connecting(exc, self._address) from None
        finally:
            self._connecting.discard(connecting)

    async def _connect(self) -> Any:
        pool = await self._opened()
        return await pool.acquire(timeout=float(self._settings.timeout))

    async def _opened(self) -> Any:
        async with self._opening:
            if self._closed:
                raise Unavailable("store-unavailable", "the store was closed")
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._settings.dsn.reveal(),
                    min_size=0,
                    max_size=self._settings.connections,
                    timeout=float(self._settings.timeout),
                    statement_cache_size=0,
                    reset=_as_it_is,
                    server_settings={"application_name": "replicator"},
                )
            return self._pool

    async def close(self) -> None:
        """Disconnect. What is in flight is not waited for."""
        self._closed = True
        for connecting in self._connecting:
            connecting.cancel()
        if self._pool is not None:
            self._pool.terminate()


def _is_cancelled() -> bool:
    """Whether somebody wants the task that runs to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _as_it_is(_: Any) -> None:
    """
    A connection goes back to the pool without a word: whatever was set ended with its
    transaction. What asyncpg would ask there is a request more for each of them, which may hang
    when the work is done.
    """
