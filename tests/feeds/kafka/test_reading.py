from __future__ import annotations

import asyncio
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from replicator.codecs.partition import crc32_partition, murmur2_partition
from replicator.errors import Blocked, Refused, Rejected, Unavailable
from replicator.feeds.kafka import KafkaEventLog, KafkaFeed
from replicator.model.position import Bounds, Partition, Record
from replicator.settings.feeds import KafkaSettings
from replicator.settings.units import Duration, Size
from replicator.testing.feed_conformance import (
    DEADLINE_S,
    KEY,
    Truncate,
    ends,
    numbered,
    reach,
    starts,
    take,
    values,
)

pytestmark = pytest.mark.kafka

MakeTopic = Callable[..., Awaitable[str]]
MakeSettings = Callable[..., KafkaSettings]
MakeFeed = Callable[..., KafkaFeed]
MakeProducer = Callable[..., Awaitable[AIOKafkaProducer]]


@pytest.fixture
async def transactional(make_producer: MakeProducer) -> AIOKafkaProducer:
    return await make_producer(transactional_id=f"writer-{uuid4().hex}")


def first(topic: str) -> Partition:
    return Partition(f"{topic}/0")


async def test_positions_step_over_the_markers_of_transactions(
    feed: KafkaFeed, transactional: AIOKafkaProducer, topic: str
) -> None:
    await feed.open(await starts(feed))
    async with transactional.transaction():
        await transactional.send(topic, b"kept", KEY, partition=0)
    await transactional.begin_transaction()
    await transactional.send(topic, b"undone", KEY, partition=0)
    await transactional.abort_transaction()

    # Two records and two markers, of which the last is written after the abort is answered.
    async with asyncio.timeout(DEADLINE_S):
        while (target := await ends(feed))[first(topic)] < 4:
            pass
    records = await reach(feed, target)

    assert target[first(topic)] == 4
    assert values(records) == [b"kept"]


async def test_a_range_ends_though_its_last_offsets_bring_nothing(
    feed: KafkaFeed, transactional: AIOKafkaProducer, topic: str
) -> None:
    async with transactional.transaction():
        await transactional.send(topic, b"kept", KEY, partition=0)
    await transactional.begin_transaction()
    await transactional.send(topic, b"undone", KEY, partition=0)
    await transactional.abort_transaction()

    async def read(start: int, end: int) -> list[Record]:
        async with asyncio.timeout(DEADLINE_S):
            return [each async for page in feed.read(first(topic), start, end) for each in page]

    assert values(await read(0, 4)) == [b"kept"]
    assert await read(1, 4) == []
    assert values(await read(0, 1000)) == [b"kept"], "as far as the log goes"


async def test_an_open_transaction_hides_records_and_the_stable_end_says_so(
    feed: KafkaFeed, transactional: AIOKafkaProducer, log: KafkaEventLog, topic: str
) -> None:
    await feed.open(await starts(feed))
    await transactional.begin_transaction()
    await transactional.send_and_wait(topic, b"undecided", KEY, partition=0)

    assert (await feed.bounds())[first(topic)] == Bounds(start=0, end=1, stable=0)
    assert (await feed.poll(10, 0.3)).records == []
    [finding] = await feed.check()
    assert finding.code == "transaction-open"

    await transactional.commit_transaction()
    records = await reach(feed, await ends(feed))
    assert values(records) == [b"undecided"]
    assert (await feed.bounds())[first(topic)] == Bounds(start=0, end=2, stable=2)


async def test_a_range_behind_an_open_transaction_is_not_called_empty(
    make_feed: MakeFeed, transactional: AIOKafkaProducer, topic: str
) -> None:
    feed = make_feed(request_timeout=Duration(1.5))
    await transactional.begin_transaction()
    await transactional.send_and_wait(topic, b"undecided", KEY, partition=0)

    with pytest.raises(Unavailable) as unavailable:
        await anext(feed.read(first(topic), 0, 1))
    assert unavailable.value.code == "transaction-open"
    await transactional.abort_transaction()


async def test_positions_step_over_what_compaction_removed(
    make_topic: MakeTopic, make_feed: MakeFeed, make_settings: MakeSettings
) -> None:
    compacted = await make_topic(
        cleanup_policy="compact", segment_ms="50", min_cleanable_dirty_ratio="0.001"
    )
    feed = make_feed(topic=compacted, compacted_without_patches=True)
    log = KafkaEventLog(make_settings(topic=compacted), "articles")

    records: list[Record] = []
    end = 0
    async with asyncio.timeout(DEADLINE_S):
        while not records or len(records) > end / 2:
            # Only segments that are closed are compacted, and a new record closes the last.
            await log.append(numbered(20))
            await feed.open(await starts(feed))
            end = (await feed.bounds())[first(compacted)].end
            records = await reach(feed, {first(compacted): end})
    await log.close()

    assert records[-1].value == b"value 19"
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))
    pages = [page async for page in feed.read(first(compacted), offsets[0], end)]
    assert pages[-1][-1].offset == offsets[-1] == end - 1


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_of_producers_is_read(
    feed: KafkaFeed, make_producer: MakeProducer, topic: str, codec: str
) -> None:
    producer = await make_producer(compression_type=codec)
    await feed.open(await starts(feed))

    for number in range(20):
        await producer.send(topic, b"%d" % number * 100, KEY, partition=1)
    await producer.flush()

    records, _ = await take(feed, 20)
    assert values(records) == [b"%d" % number * 100 for number in range(20)]


async def test_headers_and_the_producers_time_arrive(
    feed: KafkaFeed, make_producer: MakeProducer, topic: str
) -> None:
    producer = await make_producer()
    await feed.open(await starts(feed))

    await producer.send_and_wait(
        topic, b"x", KEY, timestamp_ms=1_700_000_000_123, headers=[("a", b"1"), ("a", b"\xff")]
    )

    [record], _ = await take(feed, 1)
    assert record.at_ms == 1_700_000_000_123
    assert record.headers == (("a", b"1"), ("a", b"\xff"))


async def test_a_record_larger_than_the_whole_prefetch_arrives(
    make_feed: MakeFeed, log: KafkaEventLog
) -> None:
    feed = make_feed(fetch_bytes_max=Size(64 << 10))
    await feed.open(await starts(feed))
    large = bytes(900_000)

    await log.append([(b"articles/%d" % number, large) for number in range(12)])

    records, _ = await take(feed, 12)
    assert {record.value for record in records} == {large}
    assert len({record.partition for record in records}) > 1


async def test_retention_that_overtakes_a_slow_reader_blocks(
    make_feed: MakeFeed, log: KafkaEventLog, topic: str, truncate: Truncate
) -> None:
    feed = make_feed(fetch_bytes_max=Size(48 << 10))
    await feed.open(await starts(feed))
    await log.append([(KEY, bytes(10_000))] * 200)
    [partition] = [each for each, bounds in (await feed.bounds()).items() if bounds.end]
    await truncate(partition, 200)

    with pytest.raises(Blocked) as blocked:
        await take(feed, 200)
    assert blocked.value.code == "log-truncated"
    assert partition.rpartition("/")[0] in blocked.value.message
    with pytest.raises(Blocked):
        await feed.poll(10, 1)


async def test_a_partition_that_is_added_blocks_the_stream_while_it_polls(
    make_feed: MakeFeed, admin: AIOKafkaAdminClient, log: KafkaEventLog, topic: str
) -> None:
    feed, part = make_feed(request_timeout=Duration(3)), make_feed(request_timeout=Duration(3))
    await feed.open(await starts(feed))
    await part.open({Partition(f"{topic}/1"): 0}, 3)

    await admin.create_partitions({topic: NewPartitions(4)})

    for each in (feed, part):
        with pytest.raises(Blocked) as blocked:
            await take(each, 1)
        assert blocked.value.code == "partitions-changed"
    assert len(await feed.bounds()) == 4
    with pytest.raises(Blocked):
        await feed.open({Partition(f"{topic}/{number}"): 0 for number in range(3)})


async def test_a_topic_that_is_not_there_is_refused_and_never_created(
    make_feed: MakeFeed, make_settings: MakeSettings, admin: AIOKafkaAdminClient
) -> None:
    absent = f"absent.{uuid4().hex[:8]}"
    feed = make_feed(topic=absent)
    log = KafkaEventLog(make_settings(topic=absent), "articles")

    with pytest.raises(Refused) as refused:
        await feed.bounds()
    assert refused.value.code == "topic-missing"
    with pytest.raises(Refused) as refused:
        await log.append([(KEY, b"x")])
    assert refused.value.code == "topic-missing"
    [finding] = await feed.check()
    assert finding.code == "topic-missing"
    assert absent not in await admin.list_topics()
    await log.close()


@pytest.mark.parametrize(
    ("partitioner", "place"), [("murmur2", murmur2_partition), ("crc32", crc32_partition)]
)
async def test_events_are_put_where_the_configured_partitioner_puts_them(
    feed: KafkaFeed,
    make_settings: MakeSettings,
    topic: str,
    partitioner: str,
    place: Callable[[bytes, int], int],
) -> None:
    log = KafkaEventLog(make_settings(partitioner=partitioner), "articles")
    await feed.open(await starts(feed))
    keys = [b"articles/%d" % number for number in range(40)]

    await log.append([(key, b"x") for key in keys])

    records, _ = await take(feed, 40)
    for record in records:
        assert record.key is not None
        assert record.partition == f"{topic}/{place(record.key, 3)}"
    await log.close()


async def test_an_event_above_the_topics_limit_is_rejected_and_the_log_goes_on(
    feed: KafkaFeed, log: KafkaEventLog
) -> None:
    with pytest.raises(Rejected) as rejected:
        await log.append([(KEY, bytes(2 << 20))])
    assert rejected.value.code == "value-too-large"

    await log.append([(KEY, b"small")])
    await feed.open(await starts(feed))
    records, _ = await take(feed, 1)
    assert values(records) == [b"small"]


async def test_a_wide_topic_is_read_whole_within_a_small_prefetch(
    make_topic: MakeTopic, make_feed: MakeFeed, make_settings: MakeSettings
) -> None:
    wide = await make_topic(partitions=60)
    feed = make_feed(topic=wide, fetch_bytes_max=Size(1 << 20))
    log = KafkaEventLog(make_settings(topic=wide), "articles")
    # Ten times as much as the client may hold.
    await log.append([(b"articles/%d" % number, bytes(20_000)) for number in range(600)])
    await log.close()
    tracemalloc.start()
    try:
        await feed.open(await starts(feed))
        await feed.poll(1, DEADLINE_S)
        feed.pause(list(await ends(feed)))
        await asyncio.sleep(0)
        for _ in range(5):
            await feed.poll(1, 0.3)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Each partition holds its share or, where that is more, one batch of a producer.
    assert held < 5 << 20
    feed.resume(list(await ends(feed)))
    await take(feed, 599)


async def test_a_partition_that_is_paused_does_not_hold_up_the_others(
    feed: KafkaFeed, log: KafkaEventLog, topic: str
) -> None:
    keys = [b"articles/%d" % number for number in range(30)]
    await feed.open(await starts(feed))
    await log.append([(key, b"before") for key in keys])
    await take(feed, 30)

    feed.pause([first(topic)])
    await log.append([(key, b"while paused") for key in keys])
    elsewhere = [key for key in keys if murmur2_partition(key, 3) != 0]
    records, _ = await take(feed, len(elsewhere))
    assert {record.key for record in records} == set(elsewhere)

    feed.resume([first(topic)])
    rest, _ = await take(feed, 30 - len(elsewhere))
    assert {record.partition for record in rest} == {first(topic)}


def test_importing_the_feeds_does_not_import_the_driver() -> None:
    code = "import sys, replicator.feeds, replicator.feeds.changelog; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "aiokafka" not in loaded
    assert "replicator.feeds.changelog" in loaded


async def test_polled_records_are_not_lost_when_a_poll_is_cancelled(
    feed: KafkaFeed, log: KafkaEventLog
) -> None:
    await feed.open(await starts(feed))
    polling = asyncio.create_task(feed.poll(100, DEADLINE_S))
    await asyncio.sleep(0)
    polling.cancel()
    await asyncio.wait([polling])

    await log.append(numbered(10))

    records, _ = await take(feed, 10)
    assert values(records) == [value for _, value in numbered(10)]


async def test_records_taken_beside_a_damaged_batch_come_again(
    feed: KafkaFeed, log: KafkaEventLog, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka moves past what it took from one partition, then fails over another's batch."""
    from aiokafka.consumer.fetcher import PartitionRecords
    from aiokafka.errors import CorruptRecordException

    keys = [b"articles/%d" % number for number in range(30)]
    await log.append([(key, b"x") for key in keys])
    unpack = PartitionRecords._unpack_records
    damaged = TopicPartition(topic, 1)

    def corrupt(self: PartitionRecords):  # type: ignore[no-untyped-def]
        if self._tp == damaged:
            raise CorruptRecordException("invalid CRC")
        yield from unpack(self)

    failures = 0
    seen: list[Record] = []
    with monkeypatch.context() as patch:
        patch.setattr(PartitionRecords, "_unpack_records", corrupt)
        await feed.open(await starts(feed))
        async with asyncio.timeout(DEADLINE_S):
            while failures < 3:
                try:
                    seen += (await feed.poll(100, 0.2)).records
                except Unavailable:
                    failures += 1
    async with asyncio.timeout(DEADLINE_S):
        while len({record.key for record in seen}) < 30:
            seen += (await feed.poll(100, 0.2)).records

    assert {record.key for record in seen} == set(keys)
