"""The real Kafka broker, one for all workers of a test run; and topics on it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from replicator.testing.kafka_broker import create_topic, shared_broker

MakeTopic = Callable[..., Awaitable[str]]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of the broker. The tests that use it share it: make topics of your own."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    with shared_broker(Path(directory) / "kafka") as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture
def make_topic(kafka: str) -> MakeTopic:
    """Create a topic of a new name: `await make_topic(partitions=3, cleanup_policy="…")`."""

    async def make(partitions: int = 1, **options: str) -> str:
        name = f"articles.{uuid4().hex[:12]}"
        await create_topic(kafka, name, partitions, **options)
        return name

    return make
