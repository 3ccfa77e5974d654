"""The event contract written out by hand, and the two logs that events go to, as a program in
any language would do it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from replicator.feeds.changelog.queries import schema
from tests.endtoend.model import Id, Vector

Wire = tuple[bytes | None, bytes | None]


def key(collection: str, point_id: Id) -> bytes:
    return f"{quote(collection, safe='')}/{quote(str(point_id), safe='')}".encode()


def packed(vector: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(vector)}f", *vector)


def event(op: str, collection: str, point_id: Id, **fields: Any) -> Wire:
    """Key and value; `vector` stands for the unnamed vector."""
    value: dict[str, Any] = {
        "v": 1,
        "op": op,
        "collection": collection,
        "id": point_id,
        "ts": int(time.time() * 1000),
        **fields,
    }
    vector: Vector | None = value.pop("vector", None)
    if vector is not None:
        value["vectors"] = {"": packed(vector)}
    return key(collection, point_id), msgspec.msgpack.encode(value)


class Sink(Protocol):
    ends: dict[str, int]
    """Behind the last record appended here, by partition as the status names it."""

    async def emit(self, records: Sequence[Wire]) -> None:
        """Append in order; returns when they are durable."""
        ...

    async def close(self) -> None: ...


class KafkaSink:
    """A producer that goes on through any outage, as a patient application does."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None
        self._turn = asyncio.Lock()
        self.ends: dict[str, int] = {}

    async def emit(self, records: Sequence[Wire]) -> None:
        # A record is sent again until it is acknowledged, and none of its key before that: the
        # log may hold it twice, and never after a later one.
        while True:
            producer = await self._connected()
            try:
                sent = [
                    await producer.send(self._topic, value=value, key=name)
                    for name, value in records
                ]
                done = await asyncio.gather(*sent, return_exceptions=True)
            except kafka.KafkaError:
                await self._give_up(producer)
                continue
            for each in done:
                if not isinstance(each, BaseException):
                    self._reached(each.partition, each.offset + 1)
            if not any(isinstance(each, BaseException) for each in done):
                return
            await self._give_up(producer)

    async def place(self, record: Wire, partition: int | None = None) -> tuple[int, int]:
        """Append one record; its partition and offset."""
        name, value = record
        producer = await self._connected()
        done = await producer.send_and_wait(
            self._topic, value=value, key=name, partition=partition
        )
        self._reached(done.partition, done.offset + 1)
        return done.partition, done.offset

    def _reached(self, partition: int, end: int) -> None:
        name = f"{self._topic}/{partition}"
        self.ends[name] = max(end, self.ends.get(name, 0))

    async def close(self) -> None:
        if self._producer is not None:
            await self._stop(self._producer)

    async def _connected(self) -> AIOKafkaProducer:
        async with self._turn:
            while self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._servers,
                    acks="all",
                    enable_idempotence=True,
                    request_timeout_ms=5000,
                    max_request_size=32 << 20,
                )
                try:
                    await producer.start()
                except (kafka.KafkaError, OSError):
                    await self._stop(producer)
                    await asyncio.sleep(0.2)
                else:
                    self._producer = producer
            return self._producer

    async def _give_up(self, producer: AIOKafkaProducer) -> None:
        async with self._turn:
            if self._producer is producer:
                self._producer = None
                await self._stop(producer)

    @staticmethod
    async def _stop(producer: AIOKafkaProducer) -> None:
        # With a broker away, `stop` may let a cancellation of its own escape, and leave
        # connections open.
        await asyncio.wait([asyncio.create_task(producer.stop())])
        await producer.client.close()


class ChangelogSink:
    """The SQLite change log, its table as the documentation gives it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self.ends: dict[str, int] = {}
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(schema())
        database.close()

    async def emit(self, records: Sequence[Wire]) -> None:
        async with self._turn:
            await asyncio.to_thread(self._append, records)

    def _append(self, records: Sequence[Wire]) -> None:
        database = sqlite3.connect(self._path, timeout=30)
        try:
            with database:
                database.executemany("INSERT INTO changes (key, value) VALUES (?, ?)", records)
                [[last]] = database.execute('SELECT max("offset") FROM changes')
                self.ends["changelog/0"] = last + 1
        finally:
            database.close()

    async def close(self) -> None:
        return
