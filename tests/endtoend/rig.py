"""The parts of a migration: store servers, topics, the application, and the daemon itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from qdrant_client import models

from replicator.testing.kafka_broker import KafkaBroker
from tests.endtoend.application import Application, Collection
from tests.endtoend.daemon import Daemon, Document, settings
from tests.endtoend.events import ChangelogSink, KafkaSink, Sink
from tests.endtoend.model import Mapping, connect
from tests.endtoend.processes import StoreServer
from tests.plugins.broker import MakeTopic

QDRANT_URL = os.environ.get("QDRANT_URL", "")
"""A real server (its gRPC address) in place of the local store servers."""


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of source and target, shared by all tests: make collections of your own."""
    if QDRANT_URL:
        yield QDRANT_URL, QDRANT_URL
        return
    directory = tmp_path_factory.mktemp("stores")
    servers = [StoreServer(directory / name) for name in ("source", "target")]
    try:
        for server in servers:
            server.start()
        yield servers[0].url, servers[1].url
    finally:
        for server in servers:
            server.kill()


class Rig:
    """What a test needs of a migration, made on demand and taken down at its end."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self._daemons: list[Daemon] = []

    def collections(self, *mappings: Mapping) -> list[Collection]:
        """One collection of a new name for each mapping."""
        tag = uuid4().hex[:10]
        return [
            Collection(
                source=f"docs-{number}-{tag}",
                target=f"copy-{number}-{tag}",
                mapping=mapping,
                distance=models.Distance.COSINE if mapping.normalised else models.Distance.DOT,
            )
            for number, mapping in enumerate(mappings or (Mapping(),))
        ]

    async def application(
        self,
        stores: tuple[str, str],
        sink: Sink,
        collections: list[Collection],
        *,
        records: int = 300,
        seed: int = 1,
    ) -> Application:
        """With its source collections made and filled."""
        source, target = map(connect, stores)
        application = Application(source, target, sink, collections, seed=seed)
        self._stack.push_async_callback(self._leave, application, stores)
        await application.create(records)
        return application

    @staticmethod
    async def _leave(application: Application, stores: tuple[str, str]) -> None:
        await application.sink.close()
        sides = {"source": application.source, "target": application.target}
        for (side, client), url in zip(sides.items(), stores, strict=True):
            if url == QDRANT_URL:  # it outlives this test run
                for collection in application.collections:
                    await client.delete_collection(getattr(collection, side))
            await client.close()

    async def served(self, application: Application) -> Document:
        """The `[cutover]` part of a configuration that uses the application's fence and
        switch.
        """
        url = await self._stack.enter_async_context(application.served())
        return {
            "fence": {"kind": "http", "url": f"{url}/fence"},
            "switch": {"kind": "http", "url": f"{url}/switch"},
        }

    def daemon(
        self,
        stores: tuple[str, str],
        collections: list[Collection],
        feed: Document,
        **more: Any,
    ) -> Daemon:
        """Not started. Killed at the end of the test, should it still run."""
        document = settings(
            self.directory,
            source=stores[0],
            target=stores[1],
            collections=[listed(collection) for collection in collections],
            feed=feed,
            **more,
        )
        daemon = Daemon(self.directory, document)
        self._stack.callback(daemon.kill)
        return daemon


def underscored(collections: list[Collection]) -> list[Collection]:
    """With names that every kind of store can have."""
    for each in collections:
        each.source, each.target = each.source.replace("-", "_"), each.target.replace("-", "_")
    return collections


def listed(collection: Collection) -> Document:
    """A collection as the configuration lists it."""
    transform: Document = {}
    if collection.mapping.rename:
        transform["rename"] = collection.mapping.rename
    if collection.mapping.vector:
        transform["vectors"] = {"": collection.mapping.vector}
    return {
        "source": collection.source,
        "target": collection.target,
        "ids": "mapped" if collection.mapped else "auto",
        "transform": transform,
    }


def kafka_feed(servers: str, topic: str, **more: Any) -> Document:
    return {
        "kind": "kafka",
        "bootstrap_servers": servers,
        "topic": topic,
        "request_timeout": "4s",
        **more,
    }


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield Rig(tmp_path, stack)


class Topic:
    """A topic of the shared broker."""

    def __init__(self, servers: str, name: str) -> None:
        self.servers = servers
        self.name = name

    @property
    def sink(self) -> KafkaSink:
        return KafkaSink(self.servers, self.name)

    def feed(self, **more: Any) -> Document:
        """As the configuration names it."""
        return kafka_feed(self.servers, self.name, **more)


@pytest.fixture
async def topic(kafka: str, make_topic: MakeTopic) -> Topic:
    """With three partitions."""
    return Topic(kafka, await make_topic(partitions=3))


@pytest.fixture
def changelog(tmp_path: Path) -> tuple[ChangelogSink, Document]:
    path = tmp_path / "changes.db"
    return ChangelogSink(path), {"kind": "changelog", "path": str(path)}


@pytest.fixture
async def broker() -> AsyncIterator[KafkaBroker]:
    """A broker of our own, to stop and kill."""
    broker = KafkaBroker()
    try:
        await asyncio.to_thread(broker.start)
        yield broker
    finally:
        await asyncio.to_thread(broker.close)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[StoreServer, StoreServer]]:
    """Store servers of our own, to kill."""
    made = StoreServer(tmp_path / "source"), StoreServer(tmp_path / "target")
    try:
        for server in made:
            server.start()
        yield made
    finally:
        for server in made:
            server.kill()
