"""A topic that was made anew is told from ours, on brokers of every age."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from replicator.errors import Blocked, Unavailable
from replicator.feeds.kafka import KafkaEventLog, KafkaFeed, flexible, stream
from replicator.feeds.kafka import range as ranges
from replicator.feeds.kafka.flexible import Versions
from replicator.migration.evidence.log_identity import Standing, Verdict, check_log
from replicator.model.position import Bookmark, LogIdentity, Partition, Positions, bookmark_of
from replicator.settings.units import Duration
from replicator.testing.feed_conformance import (
    DEADLINE_S,
    KEY,
    Renew,
    Truncate,
    ends,
    numbered,
    starts,
    take,
    values,
)

pytestmark = pytest.mark.kafka

MakeFeed = Callable[..., KafkaFeed]
MakeProducer = Callable[..., Awaitable[AIOKafkaProducer]]
_METADATA, _FETCH = 3, 1


@pytest.fixture
def broker_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[int, int]], None]:
    """Let every broker speak these requests up to these versions only."""
    real = flexible._at_least

    def pretend(highest: Mapping[int, int]) -> None:
        def at_least(versions: Versions, request: int, version: int) -> Versions:
            older = {
                each: (low, min(high, highest.get(each, high)))
                for each, (low, high) in versions.items()
            }
            return real(older, request, version)

        monkeypatch.setattr(flexible, "_at_least", at_least)

    return pretend


async def apply(feed: KafkaFeed, log: KafkaEventLog, count: int) -> dict[Partition, Bookmark]:
    """Append and read some records; returns the bookmarks of the last."""
    await log.append(numbered(count))
    await feed.open(await starts(feed))
    records, _ = await take(feed, count)
    return {record.partition: bookmark_of(record) for record in records}


async def verdict(
    make_feed: MakeFeed,
    known: LogIdentity | None,
    positions: Positions,
    bookmarks: dict[Partition, Bookmark],
) -> Verdict:
    """What a process that starts now finds."""
    return await check_log(make_feed(), known=known, positions=positions, bookmarks=bookmarks)


async def test_the_id_is_the_one_that_the_tools_show(
    feed: KafkaFeed,
) -> None:
    identity = await feed.identity()
    assert identity.id is not None
    assert len(base64.urlsafe_b64decode(identity.id + "==")) == 16


@pytest.mark.parametrize("ids", [True, False])
async def test_a_topic_made_anew_past_our_position_is_another(
    make_feed: MakeFeed,
    log: KafkaEventLog,
    renew: Renew,
    broker_of: Callable[[Mapping[int, int]], None],
    ids: bool,
) -> None:
    if not ids:
        broker_of({_METADATA: 9, _FETCH: 12})
    feed = make_feed()
    known = await feed.identity()
    assert bool(known.id) is ids
    bookmarks = await apply(feed, log, 5)
    positions = await ends(feed)
    await feed.close()
    assert (await verdict(make_feed, known, positions, bookmarks)).standing is Standing.SAME

    await renew()
    found = await verdict(make_feed, known, positions, bookmarks)
    assert found.standing is (Standing.OTHER if ids else Standing.BEYOND)
    await log.append([(KEY, b"another %d" % number) for number in range(9)])

    found = await verdict(make_feed, known, positions, bookmarks)
    assert found.standing is Standing.OTHER
    assert ("offset 4" in found.message) is not ids


async def test_retention_takes_the_proof_and_the_id_decides(
    make_feed: MakeFeed,
    log: KafkaEventLog,
    truncate: Truncate,
    broker_of: Callable[[Mapping[int, int]], None],
) -> None:
    feed = make_feed()
    known = await feed.identity()
    bookmarks = await apply(feed, log, 5)
    positions = await ends(feed)
    [partition] = bookmarks
    await truncate(partition, positions[partition])

    assert (await verdict(make_feed, known, positions, bookmarks)).standing is Standing.SAME
    broker_of({_METADATA: 9, _FETCH: 12})
    found = await verdict(make_feed, LogIdentity(None), positions, bookmarks)
    assert found.standing is Standing.UNPROVABLE


async def test_a_bookmark_is_found_between_markers_and_in_an_idle_partition(
    feed: KafkaFeed, make_producer: MakeProducer, topic: str
) -> None:
    writer = await make_producer(transactional_id=f"writer-{topic}")
    for value in (b"one", b"two"):
        async with writer.transaction():
            await writer.send(topic, value, KEY, partition=0)
    await feed.open(await starts(feed))
    records, _ = await take(feed, 2)
    for record in records:
        found = await feed.bookmarks_at({record.partition: record.offset})
        assert found == {record.partition: bookmark_of(record)}
        marker = {record.partition: record.offset + 1}
        assert await feed.bookmarks_at(marker) == {}, "a marker is no record"


async def test_a_bookmark_that_an_open_transaction_hides_is_not_called_gone(
    make_feed: MakeFeed, make_producer: MakeProducer, topic: str
) -> None:
    feed = make_feed(request_timeout=Duration(2))
    writer = await make_producer(transactional_id=f"writer-{topic}")
    await writer.begin_transaction()
    await writer.send_and_wait(topic, b"hidden", KEY, partition=0)
    with pytest.raises(Unavailable) as unavailable:
        await feed.bookmarks_at({Partition(f"{topic}/0"): 0})
    assert unavailable.value.code == "transaction-open"
    await writer.abort_transaction()


async def test_a_broker_that_fetches_by_name_only_is_asked_for_the_id_after_each_poll(
    feed: KafkaFeed,
    log: KafkaEventLog,
    renew: Renew,
    broker_of: Callable[[Mapping[int, int]], None],
) -> None:
    broker_of({_FETCH: 12})
    await feed.identity()
    await apply(feed, log, 3)
    await renew()
    await log.append(numbered(30))

    with pytest.raises(Blocked) as blocked:
        await take(feed, 1)
    assert blocked.value.code == "log-replaced"


@pytest.mark.parametrize("how", ["poll", "read"])
async def test_a_topic_without_an_id_that_ends_before_our_position_is_another(
    make_feed: MakeFeed,
    log: KafkaEventLog,
    renew: Renew,
    broker_of: Callable[[Mapping[int, int]], None],
    how: str,
) -> None:
    broker_of({_METADATA: 9, _FETCH: 12})
    feed = make_feed()
    assert await feed.identity() == LogIdentity(None)
    [partition] = await apply(feed, log, 5)
    assert [len(page) async for page in feed.read(partition, 0, 5)] == [5]
    await renew()
    await log.append([(KEY, b"of another")])

    async def look() -> None:
        while True:
            if how == "poll":
                await feed.poll(10, 0.5)
            else:
                assert [page async for page in feed.read(partition, 4, 5)] == []

    with pytest.raises(Blocked) as blocked:
        await asyncio.wait_for(look(), DEADLINE_S)
    assert blocked.value.code == "log-replaced"
    assert "position" in blocked.value.message


async def test_records_whose_topic_could_not_be_asked_for_come_again(
    feed: KafkaFeed,
    log: KafkaEventLog,
    broker_of: Callable[[Mapping[int, int]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker_of({_FETCH: 12})
    await feed.identity()
    await feed.open(await starts(feed))
    await log.append(numbered(9))
    real, failures = feed._check_identity, [Unavailable("feed-unavailable", "away")] * 2

    async def fails_twice() -> None:
        if failures:
            raise failures.pop()
        await real()

    monkeypatch.setattr(feed, "_check_identity", fails_twice)
    records: list[Any] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(records) < 9:
            try:
                records += (await feed.poll(100, 0.2)).records
            except Unavailable:
                continue
    assert failures == []
    assert values(records) == [value for _, value in numbered(9)]


async def test_many_ranges_are_read_by_one_client(
    feed: KafkaFeed, log: KafkaEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    real = stream.consumer

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(ranges, "consumer", counted)
    await log.append(numbered(20))
    [partition] = [each for each, at in (await feed.bounds()).items() if at.end]
    for offset in range(20):
        [[record]] = [page async for page in feed.read(partition, offset, offset + 1)]
        assert (record.offset, record.value) == (offset, b"value %d" % offset)
    assert len(made) == 1
    first, second = (
        aiter(feed.read(partition, 0, 20)),
        aiter(feed.read(partition, 3, 20)),
    )
    one, other = await anext(first), await anext(second)  # neither disturbs the other
    one += [record async for page in first for record in page]
    other += [record async for page in second for record in page]
    assert (len(one), len(other)) == (20, 17)
    assert len(made) == 2


async def test_a_client_that_is_kept_is_closed_when_nobody_reads(
    feed: KafkaFeed, log: KafkaEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_KEPT_S", 0.05)
    await log.append(numbered(2))
    [partition] = [each for each, at in (await feed.bounds()).items() if at.end]
    assert [len(page) async for page in feed.read(partition, 0, 2)] == [2]
    reader = feed._ranges
    assert reader._kept is not None
    client, _ = reader._kept
    assert reader._expiring is not None
    await asyncio.wait([reader._expiring], timeout=DEADLINE_S)
    assert client._closed
    assert [len(page) async for page in feed.read(partition, 0, 2)] == [2]
