"""Open a state file: pragmas, a check that it is one, and the migrations it lacks."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import aiosqlite

from replicator.errors import Refused
from replicator.state.queries import load_migrations

APPLICATION_ID = 0x76726570
"""Marks the file as a state of this program ("vrep"), so that another SQLite file, the change
log say, is not taken for one."""


async def connect(path: Path, read_only: bool) -> aiosqlite.Connection:
    """
    A connection whose commits survive power loss.

    Raises Refused: "state-version" for a newer file, "config-invalid" for one that is no state,
    "state-missing" for none to read; sqlite3.Error for what the disk says.
    """
    uri = await asyncio.to_thread(_uri, path, read_only)
    # Readers never make us wait in this mode; a person's own SQLite shell can. Shorter ends the
    # daemon while somebody looks around; longer hides a transaction left open.
    database = await aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=30)
    try:
        await _prepare(database, path, read_only)
    except BaseException:
        await database.close()
        raise
    return database


def _uri(path: Path, read_only: bool) -> str:
    if read_only and not path.exists():
        raise Refused("state-missing", f"there is no state file {path}")
    return f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"


async def _prepare(database: aiosqlite.Connection, path: Path, read_only: bool) -> None:
    migrations = load_migrations()
    try:
        version = await _number(database, "PRAGMA user_version")
        mark = await _number(database, "PRAGMA application_id")
        tables = await _number(database, "SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as exc:
        if exc.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise Refused("config-invalid", f"state.path: {path} is no SQLite file") from exc
        raise
    if mark != APPLICATION_ID and tables:
        raise Refused("config-invalid", f"state.path: {path} is the SQLite file of another use")
    if version > len(migrations):
        raise Refused(
            "state-version",
            f"{path} has schema version {version}; this release knows up to {len(migrations)}",
        )
    if read_only:
        if version == 0:
            raise Refused("state-missing", f"no migration was started in {path}")
        if version < len(migrations):
            raise Refused(
                "state-version",
                f"{path} has the older schema version {version}; "
                "it is brought up to date when the daemon next opens it",
            )
        return
    await database.execute_fetchall("PRAGMA journal_mode = WAL")
    # FULL syncs the write-ahead log at every commit: NORMAL would lose the last commits to a
    # power cut, and with them the proof that the events before a position are applied.
    await database.execute_fetchall("PRAGMA synchronous = FULL")
    for number, script in enumerate(migrations[version:], start=version + 1):
        await database.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {number};\nCOMMIT;"
        )


async def _number(database: aiosqlite.Connection, sql: str) -> int:
    [row] = await database.execute_fetchall(sql)
    return int(row[0])
