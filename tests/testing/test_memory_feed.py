"""The log in memory: order, gaps, transactions, and everything that goes wrong with it."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from replicator.errors import Blocked, Retryable, Unavailable
from replicator.model.letter import RejectedRecord
from replicator.model.position import Partition, Record
from replicator.testing.faults import Fault, Faults
from replicator.testing.loop import run_virtual
from replicator.testing.memory_feed import MemoryFeed, MemoryLog
from replicator.testing.memory_letters import MemoryDeadLetters

ZERO = Partition("changes/0")


def log_with(
    rates: dict[Fault, float] | None = None, *, seed: int = 0, partitions: int = 1
) -> MemoryLog:
    return MemoryLog(partitions=partitions, faults=Faults(Random(seed), rates))


async def drained(log: MemoryLog, feed: MemoryFeed) -> list[Record]:
    await feed.open(dict.fromkeys(log.bounds(), 0))
    records = []
    while True:
        polled = await feed.poll(3, 0.0)
        records += polled.records
        if not polled.positions:
            return records


def test_every_record_comes_once_and_in_order_whatever_the_polls_bring() -> None:
    async def main() -> None:
        for seed in range(20):
            log = log_with({Fault.SHORT_POLL: 0.5, Fault.GAP: 0.3}, seed=seed, partitions=3)
            for number in range(50):
                log.produce(b"k%d" % (number % 7), b"%d" % number)
            feed = log.attach()
            await feed.open(dict.fromkeys(log.bounds(), 0))
            records: list[Record] = []
            while len(records) < 50:
                records += (await feed.poll(4, 1.0)).records
            for partition in log.bounds():
                offsets = [r.offset for r in records if r.partition == partition]
                assert offsets == sorted(set(offsets))
            assert sorted(int(r.value or b"") for r in records) == list(range(50))

    run_virtual(main())


async def test_positions_step_over_the_gap_at_the_end() -> None:
    log = log_with()
    log.produce(b"k", b"1")
    log.begin_transaction(0)
    log.end_transaction(0)
    feed = log.attach()
    await feed.open({ZERO: 0})
    polled = await feed.poll(10, 0.0)
    assert len(polled.records) == 1
    assert polled.positions == {ZERO: 2} == {ZERO: log.bounds()[ZERO].end}


async def test_records_of_an_open_transaction_are_hidden() -> None:
    log = log_with()
    log.produce(b"k", b"1")
    log.begin_transaction(0)
    log.produce(b"k", b"2")
    feed = log.attach()
    assert [record.value for record in await drained(log, feed)] == [b"1"]
    assert log.bounds()[ZERO].stable == 1
    assert log.bounds()[ZERO].end == 2
    log.end_transaction(0)
    assert [record.value for record in await drained(log, feed)] == [b"1", b"2"]


async def test_records_of_an_aborted_transaction_are_gaps() -> None:
    log = log_with()
    log.begin_transaction(0)
    log.produce(b"k", b"1")
    log.end_transaction(0, commit=False)
    log.produce(b"k", b"2")
    assert [record.offset for record in await drained(log, log.attach())] == [2]


def test_a_poll_waits_for_the_first_record_and_no_longer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        log = log_with()
        feed = log.attach()
        await feed.open({ZERO: 0})
        assert not (await feed.poll(10, 2.0)).records
        assert loop.time() == pytest.approx(2)
        loop.call_later(1.0, log.produce, b"k", b"1")
        assert len((await feed.poll(10, 5.0)).records) == 1
        assert loop.time() == pytest.approx(3)

    run_virtual(main())


async def test_a_paused_partition_keeps_its_place() -> None:
    log = log_with()
    log.produce(b"k", b"1")
    feed = log.attach()
    await feed.open({ZERO: 0})
    feed.pause([ZERO])
    assert not (await feed.poll(10, 0.0)).records
    feed.resume([ZERO])
    assert len((await feed.poll(10, 0.0)).records) == 1


async def test_a_position_that_retention_has_passed_blocks() -> None:
    log = log_with()
    for _ in range(5):
        log.produce(b"k", b"1")
    feed = log.attach()
    await feed.open({ZERO: 1})
    log.truncate(0, 3)
    with pytest.raises(Blocked) as poll:
        await feed.poll(10, 0.0)
    with pytest.raises(Blocked) as reopen:
        await feed.open({ZERO: 1})
    with pytest.raises(Blocked) as read:
        await anext(feed.read(ZERO, 1, 5))
    assert {poll.value.code, reopen.value.code, read.value.code} == {"log-truncated"}


async def test_more_partitions_block() -> None:
    log = log_with()
    feed = log.attach()
    await feed.open({ZERO: 0})
    log.grow(2)
    with pytest.raises(Blocked) as blocked:
        await feed.poll(10, 0.0)
    assert blocked.value.code == "partitions-changed"
    assert set(await feed.bounds()) == {ZERO, Partition("changes/1")}
    await feed.open({ZERO: 0}, 2)
    await feed.poll(10, 0.0)
    log.grow(3)
    with pytest.raises(Blocked) as blocked:  # also whoever reads a part of them
        await feed.poll(10, 0.0)
    assert blocked.value.code == "partitions-changed"


def test_a_range_is_read_beside_the_polls() -> None:
    async def main() -> None:
        for seed in range(10):
            log = log_with({Fault.SHORT_POLL: 0.5, Fault.GAP: 0.3}, seed=seed)
            for number in range(30):
                log.produce(b"k", b"%d" % number)
            every = [record.offset for record in log.records()]
            read = [
                record.offset
                async for page in log.attach().read(ZERO, every[5], every[20])
                for record in page
            ]
            assert read == every[5:20]

    run_virtual(main())


async def test_a_broker_that_is_away_says_so_everywhere() -> None:
    log = log_with()
    feed = log.attach()
    await feed.open({ZERO: 0})
    log.away = True
    for call in (feed.bounds, lambda: feed.open({}), lambda: feed.poll(1, 0.0)):
        with pytest.raises(Unavailable):
            await call()


async def test_a_foreign_commit_and_a_foreign_member_are_named() -> None:
    log = log_with()
    feed = log.attach()
    await feed.publish({ZERO: 3})
    assert await feed.intruders({ZERO: 3}) == []
    log.group[ZERO] = 1
    log.members.append("other-tool")
    assert len(await feed.intruders({ZERO: 3})) == 2


async def test_a_dead_reader_neither_reads_nor_commits() -> None:
    log = log_with()
    feed = log.attach()
    await feed.open({ZERO: 0})
    feed.detach()
    for call in (lambda: feed.poll(1, 0.0), lambda: feed.publish({ZERO: 9})):
        with pytest.raises(asyncio.CancelledError):
            await call()
    assert log.group == {}


async def test_a_producer_s_retry_writes_the_record_twice() -> None:
    log = log_with({Fault.DUPLICATE: 1})
    log.produce(b"k", b"1")
    assert [record.value for record in log.records()] == [b"1", b"1"]


async def test_dead_letters_come_back_as_they_were_kept() -> None:
    letters = MemoryDeadLetters()
    view = letters.attach()
    record = RejectedRecord(
        key=b"k", value=b"\xff", code="value-malformed", path="", message="no", at=1.0
    )
    [ref] = await view.keep([record])
    assert await view.load(ref) == record
    letters.faults = Faults(Random(0), {Fault.LETTERS_AWAY: 1})
    with pytest.raises(Retryable):
        await view.keep([record])


def test_what_it_commits_while_others_are_looked_for_is_its_own() -> None:
    async def main() -> None:
        log = log_with()
        feed = MemoryFeed(log)
        await feed.publish({ZERO: 1})
        await feed.publish({ZERO: 2})

        assert await feed.intruders({ZERO: 1}) == []  # as the stream knew it before
        log.group[ZERO] = 0
        assert len(await feed.intruders({ZERO: 1})) == 1

    run_virtual(main())
