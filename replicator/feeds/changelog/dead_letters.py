"""The dead letters of a change log: a table beside it, in the same file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from replicator.errors import Refused, ReplicatorError, Unavailable
from replicator.feeds.changelog.opening import LogFile
from replicator.feeds.changelog.queries import queries
from replicator.model.event import Key
from replicator.model.letter import RejectedRecord
from replicator.model.point import PointId
from replicator.model.position import Partition

_TABLE = "changes_dead_letters"


class ChangelogDeadLetters:
    """A `DeadLetterLog` in the file at `path`. A ref is `changes_dead_letters/<number>`."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._file: LogFile | None = None
        self._turn = asyncio.Lock()

    async def keep(self, records: Sequence[RejectedRecord]) -> list[str]:
        """See `DeadLetterLog.keep`: one transaction, all or none."""
        async with self._turn:
            try:
                return await asyncio.to_thread(self._keep, [_row(record) for record in records])
            except ReplicatorError as error:
                raise Unavailable("dead-letters-unavailable", error.message) from error

    async def load(self, ref: str) -> RejectedRecord:
        """See `DeadLetterLog.load`."""
        table, _, number = ref.partition("/")
        if table != _TABLE or not number.isdecimal():
            raise Refused(
                "not-found", f"{ref} is no dead letter of the change log {self._path}"
            )
        async with self._turn:
            row = await asyncio.to_thread(self._load, int(number))
        if row is None:
            raise Refused("not-found", f"the change log {self._path} no longer holds {ref}")
        return _record(row)

    async def close(self) -> None:
        """Close the file."""
        async with self._turn:
            file, self._file = self._file, None
            if file is not None:
                await asyncio.to_thread(file.close)

    def _keep(self, rows: list[dict[str, object]]) -> list[str]:
        sql = queries()["keep"]
        with self._opened().transaction() as database:
            return [f"{_TABLE}/{database.execute(sql, row).fetchone()[0]}" for row in rows]

    def _load(self, number: int) -> tuple[Any, ...] | None:
        with self._opened().transaction() as database:
            row = database.execute(queries()["load"], {"number": number}).fetchone()
        return None if row is None else tuple(row)

    def _opened(self) -> LogFile:
        if self._file is None:
            self._file = LogFile(self._path)
        return self._file


def _row(record: RejectedRecord) -> dict[str, object]:
    key = record.event_key
    return {
        "key": record.key,
        "value": record.value,
        "headers": msgspec.msgpack.encode(record.headers),
        "code": record.code,
        "path": record.path,
        "message": record.message,
        "at": record.at,
        "partition": record.partition,
        "offset": record.offset,
        "collection": key and key.collection,
        # JSON tells 7 from "7", holds the unsigned integers that SQLite does not, and an id in
        # a scope as an array of both.
        "id": key and msgspec.json.encode(key.id).decode(),
    }


def _record(row: tuple[Any, ...]) -> RejectedRecord:
    key, value, headers, code, path, message, at, partition, offset, collection, id_ = row
    return RejectedRecord(
        key=key,
        value=value,
        headers=msgspec.msgpack.decode(headers, type=tuple[tuple[str, bytes], ...]),
        code=code,
        path=path,
        message=message,
        at=at,
        partition=partition and Partition(partition),
        offset=offset,
        event_key=collection if collection is None else _key(collection, id_),
    )


def _key(collection: str, id_: str) -> Key:
    return Key(collection, msgspec.json.decode(id_, type=PointId))
