"""A topic of three partitions on the real broker, and everything that reads and writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from replicator.feeds.kafka import KafkaEventLog, KafkaFeed
from replicator.model.position import Partition
from replicator.settings.feeds import KafkaSettings
from replicator.settings.units import Duration
from replicator.testing.feed_conformance import Renew, Truncate
from replicator.testing.kafka_broker import create_topic, delete_topic

MakeSettings = Callable[..., KafkaSettings]
MakeFeed = Callable[..., KafkaFeed]


@pytest.fixture
def make_settings(kafka: str, topic: str) -> MakeSettings:
    """Settings of the topic: `make_settings(partitioner="crc32")`."""

    def make(**more: object) -> KafkaSettings:
        given = {
            "bootstrap_servers": kafka,
            "topic": topic,
            "request_timeout": Duration(10),
            **more,
        }
        return KafkaSettings(**given)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def topic(make_topic: Callable[..., Awaitable[str]]) -> str:
    return await make_topic(partitions=3)


@pytest.fixture
async def log(make_settings: MakeSettings) -> AsyncIterator[KafkaEventLog]:
    log = KafkaEventLog(make_settings(), "articles")
    yield log
    await log.close()


@pytest.fixture
async def make_feed(make_settings: MakeSettings, topic: str) -> AsyncIterator[MakeFeed]:
    """Feeds of the topic, each named after it so that no two tests share a group."""
    feeds: list[KafkaFeed] = []

    def make(**more: object) -> KafkaFeed:
        feeds.append(KafkaFeed(make_settings(**more), topic))
        return feeds[-1]

    yield make
    for feed in feeds:
        await feed.close()


@pytest.fixture
def feed(make_feed: MakeFeed) -> KafkaFeed:
    return make_feed()


@pytest.fixture
async def admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    yield admin
    await admin.close()


@pytest.fixture
def truncate(admin: AIOKafkaAdminClient) -> Truncate:
    async def truncate(partition: Partition, before: int) -> None:
        name, _, number = partition.rpartition("/")
        await admin.delete_records(
            {TopicPartition(name, int(number)): RecordsToDelete(before_offset=before)}
        )

    return truncate


@pytest.fixture
def renew(kafka: str, topic: str, log: KafkaEventLog) -> Renew:
    async def renew() -> None:
        await log.close()
        await delete_topic(kafka, topic)
        await create_topic(kafka, topic, 3)

    return renew


@pytest.fixture
async def make_producer(
    kafka: str,
) -> AsyncIterator[Callable[..., Awaitable[AIOKafkaProducer]]]:
    """Producers of an application, with options of its own."""
    producers: list[AIOKafkaProducer] = []

    async def make(**options: object) -> AIOKafkaProducer:
        producers.append(AIOKafkaProducer(bootstrap_servers=kafka, **options))
        await producers[-1].start()
        return producers[-1]

    yield make
    for producer in producers:
        await producer.stop()
