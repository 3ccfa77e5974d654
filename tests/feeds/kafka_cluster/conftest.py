"""Three brokers, reached over SASL_SSL, and topics on the nodes that a test wants them on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from replicator.feeds.kafka import KafkaEventLog, KafkaFeed
from replicator.settings.feeds import KafkaSettings
from replicator.settings.units import Duration, Secret
from replicator.testing.kafka_cluster import KafkaCluster
from tests.feeds import sasl_ssl

NUMBERS = count()

MakeTopic = Callable[..., Awaitable[str]]
Settings = Callable[[str], KafkaSettings]


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the brokers' keys."""
    return sasl_ssl.make_keys(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def running(tls: Path) -> Iterator[KafkaCluster]:
    with KafkaCluster(listeners=sasl_ssl.LISTENERS, options=sasl_ssl.options(tls)) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: KafkaCluster) -> Iterator[KafkaCluster]:
    """All three nodes are up when a test begins."""
    running.start()
    yield running
    running.start()


@pytest.fixture
def settings(cluster: KafkaCluster, tls: Path) -> Settings:
    def of(topic: str) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=cluster.bootstrap_servers("SECURE"),
            topic=topic,
            security_protocol="SASL_SSL",
            sasl_plain_username="replicator",
            sasl_plain_password=Secret("hush-hush"),
            ssl_cafile=str(tls / "ca.pem"),
            request_timeout=Duration(10),
        )

    return of


@pytest.fixture
async def make_topic(cluster: KafkaCluster, settings: Settings) -> MakeTopic:
    async def make(*replicas: int, **options: str) -> str:
        """A topic of one partition on these nodes, the first of which leads."""
        name = f"articles.{next(NUMBERS)}"
        configs = {option.replace("_", "."): value for option, value in options.items()}
        admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers())
        await admin.start()
        try:
            topic = NewTopic(
                name, -1, -1, replica_assignments={0: list(replicas)}, topic_configs=configs
            )
            [(_, error, message)] = (await admin.create_topics([topic])).topic_errors
            assert not error, message
        finally:
            await admin.close()
        feed = KafkaFeed(settings(name), name)
        await feed.bounds()
        await feed.close()
        return name

    return make


@pytest.fixture
async def make_feed(settings: Settings) -> AsyncIterator[Callable[[str], KafkaFeed]]:
    feeds: list[KafkaFeed] = []

    def make(topic: str) -> KafkaFeed:
        feeds.append(KafkaFeed(settings(topic), topic))
        return feeds[-1]

    yield make
    await asyncio.gather(*(feed.close() for feed in feeds))


@pytest.fixture
async def make_log(settings: Settings) -> AsyncIterator[Callable[[str], KafkaEventLog]]:
    logs: list[KafkaEventLog] = []

    def make(topic: str) -> KafkaEventLog:
        logs.append(KafkaEventLog(settings(topic), topic))
        return logs[-1]

    yield make
    await asyncio.gather(*(log.close() for log in logs))
