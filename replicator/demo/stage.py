"""
What the demonstration plays on: two stores, a feed and the application, each a process of its
own.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

import aiohttp
import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from replicator.demo.application import ApplicationSettings, Stats
from replicator.demo.processes import Child
from replicator.errors import Fatal
from replicator.model.status import Status
from replicator.testing.kafka_broker import KafkaBroker

_TOPIC = "docs.changes"
_PARTITIONS = 3
_START_S = 120.0
"""On an idle machine a process is up in three seconds; on a busy one it may need many more."""
_FIRST_CHANGELOG_OFFSET = 1


class ApplicationClient:
    """The application's own HTTP, which the demonstration uses to look and to let it rest."""

    def __init__(self, url: str, child: Child) -> None:
        self.url = url
        self._child = child
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))

    async def stats(self) -> Stats:
        """What it has seen so far."""
        return await self._ask("GET", "/stats")

    async def rest(self) -> Stats:
        """Let its writers rest; everything they did is in the store, the feed and the log."""
        return await self._ask("POST", "/rest")

    async def work(self) -> Stats:
        """End the rest."""
        return await self._ask("POST", "/work")

    async def close(self) -> None:
        """Let go of the connection."""
        await self._session.close()

    async def _ask(self, method: str, path: str) -> Stats:
        try:
            async with self._session.request(method, self.url + path) as answer:
                answer.raise_for_status()
                return msgspec.json.decode(await answer.read(), type=Stats)
        except (aiohttp.ClientError, TimeoutError) as exc:
            how = self._child.epitaph() if self._child.ended else f"{type(exc).__name__}: {exc}"
            raise Fatal("internal", f"the application does not answer {path}: {how}") from exc


class Stage:
    """An async context manager: stands when entered, and is cleared when left."""

    application: ApplicationClient
    source: str
    target: str

    def __init__(self, directory: Path, *, points: int, seed: int, kafka: bool) -> None:
        self.directory = directory
        self.points = points
        self.operations = directory / "operations.jsonl"
        self.changelog = None if kafka else directory / "changes.db"
        self.bootstrap_servers = ""
        self.topic = _TOPIC if kafka else ""
        self._seed = seed
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Stage:
        await self._stack.__aenter__()
        try:
            self.source, self.target, self.bootstrap_servers = await asyncio.gather(
                self._store("source"), self._store("target"), self._broker()
            )
            self.application = await self._application()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def has_applied(self, status: Status, events: int) -> bool:
        """
        Whether the replicator has applied everything, given how many events the application
        emitted: its view of the log's end must be that count, and its watermarks must be there.
        """
        if any(row.end is None or row.applied != row.end for row in status.partitions):
            return False
        ends = sum(row.end or 0 for row in status.partitions)
        return ends == events + (_FIRST_CHANGELOG_OFFSET if self.changelog else 0)

    async def _store(self, name: str) -> str:
        arguments = [
            "-m",
            "replicator.local_store",
            str(self.directory / name),
            "127.0.0.1:0",
        ]
        child = Child(f"{name}-store", arguments, self.directory, talks=True)
        await self._run(child)
        return _address(await child.first_line(_START_S))

    async def _broker(self) -> str:
        if self.changelog is not None:
            return ""
        broker = KafkaBroker(self.directory / "kafka")
        self._stack.push_async_callback(asyncio.to_thread, broker.kill)
        await asyncio.to_thread(broker.start)
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(_TOPIC, _PARTITIONS, 1)])
        finally:
            await admin.close()
        return broker.bootstrap_servers

    async def _application(self) -> ApplicationClient:
        settings = ApplicationSettings(
            source=self.source,
            target=self.target,
            operations=str(self.operations),
            changelog="" if self.changelog is None else str(self.changelog),
            bootstrap_servers=self.bootstrap_servers,
            topic=self.topic,
            points=self.points,
            seed=self._seed,
        )
        path = self.directory / "application.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
        child = Child(
            "application",
            ["-m", "replicator.demo.application", str(path)],
            self.directory,
            talks=True,
        )
        await self._run(child)
        client = ApplicationClient(await child.first_line(_START_S), child)
        self._stack.push_async_callback(client.close)
        return client

    async def _run(self, child: Child) -> None:
        self._stack.push_async_callback(child.stop)
        await child.start()


def _address(line: str) -> str:
    """`host:port`, out of a line that ends in one or in a URL of one."""
    words = line.split()
    if not words or ":" not in words[-1]:
        raise Fatal("internal", f"the local store does not say where it listens: {line!r}")
    return words[-1].removeprefix("http://")
