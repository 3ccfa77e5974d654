"""What only several brokers can do to a log: lose a leader, lack a replica, cut off a tail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from replicator.errors import Blocked, Retryable, Unavailable
from replicator.feeds.kafka import KafkaEventLog, KafkaFeed
from replicator.migration.evidence.log_identity import Standing, check_log
from replicator.model.position import Partition, Record, bookmark_of
from replicator.testing.feed_conformance import KEY, numbered, starts, take, values
from replicator.testing.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.cluster, pytest.mark.kafka, pytest.mark.crash]

MakeTopic = Callable[..., Awaitable[str]]
MakeFeed = Callable[[str], KafkaFeed]
MakeLog = Callable[[str], KafkaEventLog]

DEADLINE_S = 90.0
"""An election takes some seconds, and on a busy machine many more."""


async def append(log: KafkaEventLog, records: Sequence[tuple[bytes, bytes]]) -> None:
    """Append as an application does: again until it is told that they are durable."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await log.append(records)
                return
            except Retryable:
                await asyncio.sleep(0.1)


async def until_there(feed: KafkaFeed, wanted: set[bytes]) -> list[Record]:
    """Poll as the stream does until all of these values have come."""
    records: list[Record] = []
    async with asyncio.timeout(DEADLINE_S):
        while not wanted <= set(values(records)):
            try:
                records += (await feed.poll(100, 0.2)).records
            except Unavailable:
                await asyncio.sleep(0.1)
    return records


async def until_leading(feed: KafkaFeed, topic: str, node: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                if (await feed._cluster.leaders(topic))[0] == node:
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.1)


async def test_a_leader_that_dies_costs_no_record_and_repeats_none(
    cluster: KafkaCluster, make_topic: MakeTopic, make_feed: MakeFeed, make_log: MakeLog
) -> None:
    topic = await make_topic(1, 2, 3, min_insync_replicas="2")
    feed, log = make_feed(topic), make_log(topic)
    identity = await feed.identity()
    await feed.open(await starts(feed))
    await append(log, numbered(20))
    before, _ = await take(feed, 20)

    cluster.nodes[1].kill()
    await append(log, [(KEY, b"by the new leader")])
    after = await until_there(feed, {b"by the new leader"})

    assert [record.offset for record in before] == list(range(20))
    assert after[0].offset == 20, "the new leader goes on where the old one was"
    assert set(values(after)) == {b"by the new leader"}, "sent again at most"
    last = before[-1]
    verdict = await check_log(
        feed,
        known=identity,
        positions={last.partition: 20},
        bookmarks={last.partition: bookmark_of(last)},
    )
    assert verdict.standing is Standing.SAME


async def test_events_wait_for_the_replicas_that_they_need_and_reading_goes_on(
    cluster: KafkaCluster, make_topic: MakeTopic, make_feed: MakeFeed, make_log: MakeLog
) -> None:
    topic = await make_topic(1, 2, min_insync_replicas="2")
    feed, log = make_feed(topic), make_log(topic)
    await append(log, numbered(3))
    cluster.nodes[2].kill()

    # The first may still find the dead one counted among the living.
    await asyncio.gather(log.append([(KEY, b"perhaps")]), return_exceptions=True)
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(Retryable):
            await log.append([(KEY, b"too few")])
    await feed.open(await starts(feed))
    records, _ = await take(feed, 3)
    assert values(records)[:3] == [value for _, value in numbered(3)]

    await asyncio.to_thread(cluster.start)
    await append(log, [(KEY, b"enough again")])
    assert b"enough again" in values(await until_there(feed, {b"enough again"}))


async def cut_off_tail(
    cluster: KafkaCluster, topic: str, log: KafkaEventLog, feed: KafkaFeed
) -> None:
    """
    An unclean election: node 2, which did not have the last records, leads in the place of node
    1, which had them.
    """
    await append(log, numbered(5))
    cluster.nodes[2].kill()
    await append(log, [(KEY, b"on node 1 only %d" % number) for number in range(3)])
    await until_there(feed, {b"on node 1 only 2"})
    cluster.nodes[1].kill()
    await asyncio.to_thread(cluster.nodes[2].start)
    await until_leading(feed, topic, 2)


async def test_a_position_beyond_the_end_after_an_unclean_election_is_seen(
    cluster: KafkaCluster, make_topic: MakeTopic, make_feed: MakeFeed, make_log: MakeLog
) -> None:
    topic = await make_topic(1, 2, unclean_leader_election_enable="true")
    feed, log, late = make_feed(topic), make_log(topic), make_feed(topic)
    known = await feed.identity()
    await feed.open(await starts(feed))
    await cut_off_tail(cluster, topic, log, feed)
    partition = Partition(f"{topic}/0")

    with pytest.raises(Blocked) as blocked:
        await until_there(feed, {b"never"})
    assert blocked.value.code == "log-replaced"

    mark = bookmark_of(Record(partition, 7, KEY, b"on node 1 only 2", 1))
    ours = {"positions": {partition: 8}, "bookmarks": {partition: mark}}
    verdict = await check_log(late, known=known, **ours)  # type: ignore[arg-type]
    assert verdict.standing is Standing.BEYOND
    await append(log, [(KEY, b"another %d" % number) for number in range(9)])
    verdict = await check_log(late, known=known, **ours)  # type: ignore[arg-type]
    assert verdict.standing is Standing.OTHER


async def test_a_tail_that_was_cut_off_and_has_grown_again_is_not_read_on(
    cluster: KafkaCluster,
    make_topic: MakeTopic,
    make_feed: MakeFeed,
    make_log: MakeLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = await make_topic(1, 2, unclean_leader_election_enable="true")
    feed, log = make_feed(topic), make_log(topic)
    await feed.open(await starts(feed))
    pin, fetched = feed._pin, asyncio.Event()
    assert pin is not None
    fetch = pin._fetch

    async def waits(*arguments: Any) -> Any:
        """A consumer that is a little slow: it finds the log when it has grown again."""
        if cluster.nodes[2].running and not cluster.nodes[1].running:
            await fetched.wait()
        return await fetch(*arguments)

    monkeypatch.setattr(pin, "_fetch", waits)
    await cut_off_tail(cluster, topic, log, feed)
    await append(log, [(KEY, b"another %d" % number) for number in range(9)])
    fetched.set()

    with pytest.raises(Blocked) as blocked:
        await until_there(feed, {b"another 8"})
    assert blocked.value.code == "log-replaced"
