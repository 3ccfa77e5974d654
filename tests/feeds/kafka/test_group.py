from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from replicator.feeds.kafka import KafkaEventLog, KafkaFeed
from replicator.model.finding import Severity
from replicator.model.position import Partition, Positions
from replicator.ports.feed import GroupWatch
from replicator.testing.feed_conformance import DEADLINE_S, ends, numbered, starts, take

pytestmark = pytest.mark.kafka

MakeFeed = Callable[..., KafkaFeed]


def group_of(topic: str) -> str:
    return f"replicator.{topic}"


def at(topic: str, *offsets: int) -> Positions:
    return {Partition(f"{topic}/{number}"): offset for number, offset in enumerate(offsets)}


@asynccontextmanager
async def member(kafka: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Another program's consumer, subscribed in our group."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, group_id=group_of(topic), client_id="somebody-else"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def commit_as_stranger(kafka: str, topic: str, number: int, offset: int) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, group_id=group_of(topic), enable_auto_commit=False
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, number)
        consumer.assign([partition])
        await consumer.commit({partition: offset})
    finally:
        await consumer.stop()


async def test_what_is_published_shows_in_kafkas_own_offsets(
    feed: KafkaFeed, log: KafkaEventLog, admin: AIOKafkaAdminClient, topic: str
) -> None:
    await log.append(numbered(5))
    positions = await ends(feed)

    await feed.publish(positions)

    seen = await admin.list_consumer_group_offsets(group_of(topic))
    assert {
        f"{each.topic}/{each.partition}": at.offset for each, at in seen.items()
    } == positions
    assert isinstance(feed, GroupWatch)
    assert await feed.intruders(positions) == []


async def test_publishing_works_before_and_while_the_feed_is_read(
    feed: KafkaFeed, log: KafkaEventLog, topic: str
) -> None:
    await feed.publish(at(topic, 0, 0, 0))
    await feed.open(await starts(feed))
    await log.append(numbered(3))
    _, positions = await take(feed, 3)

    await feed.publish(positions)

    assert await feed.intruders(positions) == []


async def test_a_group_that_never_committed_has_no_intruders(
    feed: KafkaFeed, topic: str
) -> None:
    assert await feed.intruders({}) == []
    assert await feed.intruders(at(topic, 7, 8, 9)) == []


async def test_a_foreign_commit_is_named(feed: KafkaFeed, kafka: str, topic: str) -> None:
    published = at(topic, 3, 3, 3)
    await feed.publish(published)

    await commit_as_stranger(kafka, topic, 1, 17)

    [sentence] = await feed.intruders(published)
    assert f"has committed 17 for {topic}/1, where 3 was published" in sentence


async def test_a_foreign_commit_that_ours_covered_is_still_named(
    feed: KafkaFeed, kafka: str, topic: str
) -> None:
    await feed.publish(at(topic, 3, 3, 3))
    await commit_as_stranger(kafka, topic, 1, 17)

    await feed.publish(at(topic, 4, 4, 4))

    [sentence] = await feed.intruders(at(topic, 4, 4, 4))
    assert "has committed 17" in sentence


async def test_a_commit_left_by_an_earlier_life_is_ours_when_the_state_says_so(
    feed: KafkaFeed, make_feed: MakeFeed, kafka: str, topic: str
) -> None:
    await feed.publish(at(topic, 3, 3, 3))
    reborn = make_feed()

    assert await reborn.intruders(at(topic, 3, 3, 3)) == []
    assert len(await reborn.intruders(at(topic, 5, 3, 3))) == 1


async def test_a_foreign_member_is_named_and_bars_publishing_without_stopping_it(
    feed: KafkaFeed, kafka: str, topic: str
) -> None:
    positions = at(topic, 0, 0, 0)
    async with member(kafka, topic):
        await feed.publish(positions)
        found = await feed.intruders(positions)
        [finding] = await feed.check()

    assert any("client somebody-else at 127.0.0.1 is a member" in each for each in found)
    assert any("commits are refused" in each for each in found)
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "group-foreign")
    async with asyncio.timeout(DEADLINE_S):
        while await feed._cluster.members(group_of(topic)):
            await asyncio.sleep(0.05)
    await feed.publish(positions)
    assert await feed.check() == []


async def test_a_foreign_commit_does_not_move_the_reading(
    feed: KafkaFeed, log: KafkaEventLog, kafka: str, topic: str
) -> None:
    await log.append(numbered(5))
    for number in range(3):
        await commit_as_stranger(kafka, topic, number, 4)

    await feed.open(await starts(feed))

    records, _ = await take(feed, 5)
    assert len(records) == 5


async def test_the_settings_may_name_the_group(
    make_feed: MakeFeed, admin: AIOKafkaAdminClient, topic: str
) -> None:
    feed = make_feed(group_id=f"mine-{topic}")

    await feed.publish(at(topic, 0, 0, 0))

    assert await admin.list_consumer_group_offsets(f"mine-{topic}")
