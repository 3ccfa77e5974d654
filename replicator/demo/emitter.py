"""
How the application tells of its changes: the event contract written out by hand, and the two
logs it can go to. Nothing of the replicator's own encoders is used, only msgpack, SQLite and a
Kafka producer, as a program in any language would.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import aiosqlite
import msgspec
from aiokafka import AIOKafkaProducer

from replicator.demo.oplog import Operation
from replicator.demo.schema import SOURCE, SOURCE_VECTOR
from replicator.feeds.changelog.queries import schema

_BUSY_TIMEOUT_S = 30.0
"""The replicator publishes its position in the same file, in transactions of milliseconds."""


def event(operation: Operation, writer: str) -> tuple[bytes, bytes]:
    """Key and value of the change event of an operation, in the source's terms."""
    value: dict[str, Any] = {
        "v": 1,
        "op": operation.op,
        "collection": SOURCE,
        "id": operation.id,
        "ts": operation.at_ms,
        "version": operation.version,
        "epoch": operation.epoch,
        "writer": writer,
    }
    if operation.vector is not None:
        value["vectors"] = {SOURCE_VECTOR: operation.vector}
    if operation.op == "upsert":
        value["payload"] = operation.payload
    elif operation.op == "patch":
        value["set"] = operation.set
        value["unset"] = operation.unset
    key = f"{quote(SOURCE, safe='')}/{operation.id}"
    return key.encode(), msgspec.msgpack.encode(value)


class EventSink(Protocol):
    """Where events go."""

    async def emit(self, key: bytes, value: bytes) -> None:
        """Append one event; returns when it is durable."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class ChangelogSink:
    """A SQLite change log, made from the schema that the replicator ships."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: aiosqlite.Connection | None = None

    async def open(self) -> ChangelogSink:
        """Make the file if it is not there."""
        self._database = await aiosqlite.connect(
            self._path, isolation_level=None, timeout=_BUSY_TIMEOUT_S
        )
        await self._database.execute("PRAGMA journal_mode = WAL")
        await self._database.execute("PRAGMA synchronous = FULL")
        await self._database.executescript(schema())
        return self

    async def emit(self, key: bytes, value: bytes) -> None:
        """See `EventSink`. One transaction an event: SQLite forces it to the disk."""
        assert self._database is not None, "open comes before emit"
        await self._database.execute(
            "INSERT INTO changes (key, value) VALUES (?, ?)",
            (sqlite3.Binary(key), sqlite3.Binary(value)),
        )

    async def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            await self._database.close()


class KafkaSink:
    """A Kafka topic, with the producer settings that the event contract asks for."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True
        )

    async def open(self) -> KafkaSink:
        """Connect."""
        async with asyncio.timeout(30):
            await self._producer.start()
        return self

    async def emit(self, key: bytes, value: bytes) -> None:
        """See `EventSink`."""
        await self._producer.send_and_wait(self._topic, value=value, key=key)

    async def close(self) -> None:
        """Flush and disconnect."""
        await self._producer.stop()
