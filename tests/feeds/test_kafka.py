from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from replicator.codecs.partition import crc32_partition, murmur2_partition
from replicator.errors import Blocked, Refused, Rejected, Unavailable
from replicator.feeds.kafka import KafkaDeadLetters, KafkaEventLog, KafkaFeed
from replicator.model.event import Key
from replicator.model.finding import Severity
from replicator.model.letter import RejectedRecord
from replicator.model.position import Bounds, Partition
from replicator.settings.feeds import KafkaSettings
from replicator.settings.units import Duration, Size
from replicator.testing.feed_conformance import (
    DEADLINE_S,
    KEY,
    FeedConformance,
    Truncate,
    ends,
    numbered,
    reach,
    starts,
    take,
    values,
)
from replicator.testing.kafka_broker import KafkaBroker, create_topic

pytestmark = pytest.mark.kafka

MakeTopic = Callable[..., Awaitable[str]]


def settings(kafka: str, topic: str, **more: object) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=kafka,
        topic=topic,
        **{"request_timeout": Duration(10), **more},  # type: ignore[arg-type]
    )


@pytest.fixture
async def topic(make_topic: MakeTopic) -> str:
    return await make_topic(partitions=3)


@pytest.fixture
async def log(kafka: str, topic: str) -> AsyncIterator[KafkaEventLog]:
    log = KafkaEventLog(settings(kafka, topic), "articles")
    yield log
    await log.close()


@pytest.fixture
async def feed(kafka: str, topic: str) -> AsyncIterator[KafkaFeed]:
    feed = KafkaFeed(settings(kafka, topic), topic)
    yield feed
    await feed.close()


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


class TestConformance(FeedConformance):
    pass
