from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from replicator.errors import Blocked, ReplicatorError, Unavailable
from replicator.feeds.kafka import KafkaEventLog, KafkaFeed
from replicator.model.position import Record
from replicator.settings.feeds import KafkaSettings
from replicator.settings.units import Duration
from replicator.testing.feed_conformance import DEADLINE_S, numbered, starts, take, values
from replicator.testing.kafka_broker import KafkaBroker, create_topic

pytestmark = [pytest.mark.kafka, pytest.mark.crash]

TOPIC = "articles.changes"
PATIENCE_S = 3.0


@pytest.fixture
async def broker() -> AsyncIterator[KafkaBroker]:
    """A broker of our own, to stop and kill."""
    broker = KafkaBroker()
    try:
        await asyncio.to_thread(broker.start)
        await create_topic(broker.bootstrap_servers, TOPIC, 3)
        yield broker
    finally:
        await asyncio.to_thread(broker.close)


def settings(broker: KafkaBroker) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic=TOPIC,
        request_timeout=Duration(PATIENCE_S),
    )


@pytest.fixture
async def feed(broker: KafkaBroker) -> AsyncIterator[KafkaFeed]:
    feed = KafkaFeed(settings(broker), "articles")
    yield feed
    await feed.close()


@pytest.fixture
async def log(broker: KafkaBroker) -> AsyncIterator[KafkaEventLog]:
    log = KafkaEventLog(settings(broker), "articles")
    yield log
    await log.close()


async def patiently(feed: KafkaFeed, count: int) -> list[Record]:
    """Poll as the stream does: through Unavailable, until `count` records have come."""
    records: list[Record] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(records) < count:
            try:
                records += (await feed.poll(100, 0.2)).records
            except Unavailable:
                await asyncio.sleep(0.05)
    return records


async def exhaust(pages: AsyncIterator[list[Record]]) -> list[Record]:
    async with asyncio.timeout(DEADLINE_S):
        return [record async for page in pages for record in page]


async def append(log: KafkaEventLog, records: list[tuple[bytes, bytes]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await log.append(records)
                return
            except ReplicatorError:
                await asyncio.sleep(0.05)


async def test_a_killed_broker_shows_in_time_and_its_return_loses_nothing(
    broker: KafkaBroker, feed: KafkaFeed, log: KafkaEventLog
) -> None:
    await feed.open(await starts(feed))
    await log.append(numbered(10))
    before, _ = await take(feed, 10)
    loop = asyncio.get_running_loop()

    broker.kill()
    began = loop.time()
    with pytest.raises(Unavailable) as unavailable:
        await take(feed, 1)
    assert unavailable.value.code == "feed-unavailable"
    assert loop.time() - began < 2 * PATIENCE_S, "a busy machine is given twice the time"
    with pytest.raises(Unavailable):
        await feed.bounds()
    with pytest.raises(Unavailable):
        await feed.publish({before[0].partition: 1})

    await asyncio.to_thread(broker.start)
    await append(log, [(b"articles/1", b"after the return")])
    after = await patiently(feed, 1)

    assert values(after) == [b"after the return"]
    assert after[0].offset == before[-1].offset + 1
    assert (await feed.bounds())[after[0].partition].end == 11
    await feed.publish({after[0].partition: 11})
    assert await feed.intruders({after[0].partition: 11}) == []


async def test_a_restart_in_the_middle_of_a_stream_neither_loses_nor_repeats(
    broker: KafkaBroker, feed: KafkaFeed, log: KafkaEventLog
) -> None:
    await feed.open(await starts(feed))
    await log.append(numbered(300))
    records = (await feed.poll(50, DEADLINE_S)).records

    def restart() -> None:
        broker.stop()
        broker.start()

    restarting = asyncio.create_task(asyncio.to_thread(restart))
    records += await patiently(feed, 300 - len(records))
    await restarting
    await append(log, [(b"articles/1", b"last")])
    records += await patiently(feed, 1)

    assert values(records) == [*(value for _, value in numbered(300)), b"last"]


async def test_a_range_under_way_when_the_broker_dies_ends_in_an_error(
    broker: KafkaBroker, feed: KafkaFeed, log: KafkaEventLog
) -> None:
    for _ in range(20):
        await log.append([(b"articles/1", bytes(100_000))] * 10)
    [(partition, end)] = [(each, b.end) for each, b in (await feed.bounds()).items() if b.end]
    pages = feed.read(partition, 0, end)
    await anext(pages)

    broker.kill()

    with pytest.raises(Unavailable) as unavailable:
        await exhaust(pages)
    assert unavailable.value.code == "feed-unavailable"


async def test_opening_without_a_broker_is_refused_in_time_and_works_later(
    broker: KafkaBroker, feed: KafkaFeed, log: KafkaEventLog
) -> None:
    await log.append(numbered(3))
    beginning = await starts(feed)
    broker.kill()

    with pytest.raises(Unavailable):
        await feed.open(beginning)

    await asyncio.to_thread(broker.start)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await feed.open(beginning)
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    assert values(await patiently(feed, 3)) == [value for _, value in numbered(3)]


async def test_a_deleted_topic_blocks_the_stream(broker: KafkaBroker, feed: KafkaFeed) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    await feed.open(await starts(feed))
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    await admin.delete_topics([TOPIC])
    await admin.close()

    with pytest.raises(Blocked) as blocked:
        await patiently(feed, 1)
    assert blocked.value.code == "topic-missing"
