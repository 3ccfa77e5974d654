"""Open a change log, and say in our terms what SQLite says of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import aiosqlite

from replicator.errors import Blocked, Refused, Unavailable
from replicator.feeds.changelog.queries import queries, schema
from replicator.model.position import Partition

PARTITION = Partition("changelog/0")
"""The only partition of a change log."""

FORMAT = 1
"""The schema of `schema.sql`, as `changes_log.format` says it."""

BUSY_TIMEOUT_S = 10.0
"""How long to wait for another writer's transaction. Applications hold theirs for milliseconds;
half of this would give up during a large one, twice would hide a forgotten one for longer."""

_MAKE_IT = "the application makes it, with ChangelogWriter or with the script in the docs"

_FOR_NOW = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_PERM,
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite raises about the file into our errors; defects pass as they are."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        # The low byte is the primary code; the rest of the extended one is detail.
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _FOR_NOW:
            raise Unavailable("feed-unavailable", f"change log {path}: {exc}") from exc
        if code == sqlite3.SQLITE_NOTADB:
            raise Refused("config-invalid", f"feed.path: {path} is no SQLite file") from exc
        if code == sqlite3.SQLITE_CORRUPT:
            raise Blocked("log-truncated", f"change log {path} is damaged: {exc}") from exc
        if code == sqlite3.SQLITE_ERROR:
            raise Refused("topic-missing", f"{path} holds no change log: {exc}") from exc
        raise


class LogFile:
    """
    A writing connection, for any number of threads. Makes the log when it is missing.

    Raises Refused when the file is something else, Unavailable when the disk or another writer
    is in the way for longer than `busy_timeout_s`.
    """

    def __init__(self, path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = path
        self._lock = Lock()
        with translated(path):
            self._database = sqlite3.connect(
                path, isolation_level=None, timeout=busy_timeout_s, check_same_thread=False
            )
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                # Commits must survive power loss: an event that the application was told is
                # durable, or a dead letter, may not vanish.
                self._database.execute("PRAGMA synchronous = FULL")
                self._database.executescript(f"BEGIN IMMEDIATE;\n{schema()}\nCOMMIT;")
            except BaseException:
                self._database.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, committed and durable when the block ends without an error."""
        with self._lock, translated(self._path):
            # The lock is taken before the first row, so that a busy file shows here and not
            # in the middle.
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file, after the transaction under way."""
        with self._lock:
            self._database.close()


async def connect(path: Path) -> aiosqlite.Connection:
    """
    A connection of the reader; TEXT comes as its UTF-8 bytes.

    Raises Refused("topic-missing") when there is no change log, Refused("config-invalid") when
    the file is something else, Unavailable when the disk or a writer is in the way.
    """
    uri = _existing(path)
    with translated(path):
        database = await aiosqlite.connect(
            uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S
        )
        try:
            database.text_factory = bytes
            await _verify(database, path)
        except BaseException:
            await database.close()
            raise
    return database


def _existing(path: Path) -> str:
    if not path.exists():
        raise Refused("topic-missing", f"there is no change log {path}; {_MAKE_IT}")
    return f"{path.absolute().as_uri()}?mode=rw"


async def _verify(database: aiosqlite.Connection, path: Path) -> None:
    [(triggers,)] = await database.execute_fetchall(queries()["triggers"])
    formats = await database.execute_fetchall(queries()["describe"])
    if triggers != 2 or not formats:
        # Without the trigger a pruned row would leave no trace, and events be lost unseen.
        raise Refused("topic-missing", f"{path} holds a part of a change log only; {_MAKE_IT}")
    [(found,)] = formats
    if found != FORMAT:
        raise Refused(
            "unsupported", f"{path} has change log format {found}; this release reads {FORMAT}"
        )
