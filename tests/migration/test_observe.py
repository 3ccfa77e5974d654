"""Watching the log: what is not known is not zero, and what cannot be right is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from replicator.errors import Blocked, Fatal
from replicator.migration.process.observe import Observer
from replicator.model.position import Bounds, Partition, Positions
from replicator.model.status import LagStatus, PartitionHealth, PartitionStatus
from replicator.testing.memory_feed import MemoryFeed
from tests.stream.rig import Rig, upsert, virtual


def observer_of(
    rig: Rig,
    *,
    feed: MemoryFeed | None = None,
    stuck_after_s: float | None = None,
    persisted: Positions | None = None,
) -> Observer:
    return Observer(
        feed or rig.log.attach(),
        clock=rig.wall,
        counters=rig.counters,
        stuck_after_s=stuck_after_s,
        positions=lambda: persisted or {},
    )


@asynccontextmanager
async def watched(rig: Rig, observer: Observer) -> AsyncIterator[None]:
    """The stream at work, with a probe every second."""

    async def probe() -> None:
        while True:
            await observer.probe(rig.stream, None)
            await asyncio.sleep(1)

    async with rig.streaming():
        probing = asyncio.create_task(probe())
        await asyncio.sleep(0.01)
        try:
            yield
        finally:
            probing.cancel()
            await asyncio.wait([probing])


def lag(rig: Rig, observer: Observer) -> LagStatus:
    return observer.lag(rig.stream.positions, rig.stream)


def rows(rig: Rig, observer: Observer) -> list[PartitionStatus]:
    stream = rig.stream
    return observer.partitions(
        stream.positions, lambda p: stream.lanes[p].watermark.tracked_to, stream.committed
    )


@virtual
async def test_before_the_first_probe_the_lag_is_unknown() -> None:
    observer = observer_of(Rig())
    assert observer.lag({}, None) == LagStatus(records=None, seconds=None)


@virtual
async def test_a_partition_without_a_position_makes_the_lag_unknown() -> None:
    rig = Rig(partitions=2)
    observer = observer_of(rig)
    await observer.probe(None, None)
    found = observer.lag({rig.first: 0}, None)
    assert found == LagStatus(records=None, seconds=None, unknown_partitions=1)


@virtual
async def test_with_everything_applied_the_lag_is_zero() -> None:
    rig = Rig()
    rig.emit(upsert(1))
    observer = observer_of(rig)
    async with watched(rig, observer):
        await rig.until_written()
        await asyncio.sleep(1)
        assert lag(rig, observer) == LagStatus(records=0, seconds=0.0)


@virtual
async def test_the_lag_counts_records_and_the_age_of_the_oldest_event() -> None:
    rig = Rig()
    rig.door.held = {1}
    observer = observer_of(rig)
    async with watched(rig, observer):
        rig.emit(upsert(1))
        await asyncio.sleep(4)
        rig.emit(upsert(1), upsert(2))
        await asyncio.sleep(3.5)
        found = lag(rig, observer)
        assert found.records == 3
        assert found.seconds == pytest.approx(7.5, abs=0.1)


@virtual
async def test_what_was_never_read_to_its_end_has_an_unknown_age() -> None:
    rig = Rig()
    rig.emit(upsert(1))
    observer = observer_of(rig)
    await observer.probe(None, None)
    assert observer.lag({rig.first: 0}, None) == LagStatus(records=1, seconds=None)


@virtual
async def test_records_that_nobody_reads_are_as_old_as_the_time_since_all_was_read() -> None:
    rig = Rig()
    observer = observer_of(rig)
    async with watched(rig, observer):
        await asyncio.sleep(3)
        rig.feed.pause([rig.first])
        rig.emit(upsert(1))
        await asyncio.sleep(20)
        assert lag(rig, observer).seconds == pytest.approx(20, abs=1.5)
        rig.feed.resume([rig.first])


@virtual
async def test_an_end_of_a_while_ago_tells_the_age_where_nobody_has_the_last_event() -> None:
    rig = Rig()
    feed = rig.log.attach()
    right = feed.bounds

    async def a_moment_later() -> dict[Partition, Bounds]:
        found = await right()
        rig.emit(upsert(1))  # nobody can have read it when the answer is there
        return {p: Bounds(at.start, at.end + 1, at.stable + 1) for p, at in found.items()}

    feed.bounds = a_moment_later  # type: ignore[method-assign]
    observer = observer_of(rig, feed=feed)
    async with watched(rig, observer):
        await asyncio.sleep(3)
        rig.feed.pause([rig.first])
        await asyncio.sleep(2)
        found = lag(rig, observer)
        assert found.records
        assert found.seconds == pytest.approx(3, abs=1.5)
        rig.feed.resume([rig.first])


@virtual
async def test_a_log_that_does_not_answer_makes_the_lag_unknown_at_once() -> None:
    rig = Rig()
    observer = observer_of(rig)
    async with watched(rig, observer):
        assert lag(rig, observer).records == 0
        rig.log.away = True
        await asyncio.sleep(2)
        assert observer.trouble is not None
        assert lag(rig, observer) == LagStatus(unknown_partitions=1)
        assert rows(rig, observer)[0].end is None
        rig.log.away = False
        await asyncio.sleep(2)
        assert lag(rig, observer).records == 0
        assert observer.trouble is None


@virtual
async def test_another_number_of_partitions_than_the_captures_blocks() -> None:
    rig = Rig()
    observer = observer_of(rig)
    await observer.probe(None, 1)
    rig.log.grow(2)
    with pytest.raises(Blocked) as caught:
        await observer.probe(None, 1)
    assert caught.value.code == "partitions-changed"


@virtual
async def test_a_log_that_begins_behind_what_is_still_to_be_read_blocks() -> None:
    rig = Rig()
    observer = observer_of(rig)
    async with rig.streaming():
        await observer.probe(rig.stream, None)
    rig.emit(upsert(1), upsert(2))
    await observer.probe(rig.stream, None)
    rig.log.truncate(0, 1)
    with pytest.raises(Blocked) as caught:
        await observer.probe(rig.stream, None)
    assert caught.value.code == "log-truncated"


@virtual
async def test_a_log_that_dropped_what_was_read_already_is_no_loss() -> None:
    rig = Rig()
    rig.door.held = {1}
    rig.emit(upsert(1))
    observer = observer_of(rig)
    async with rig.streaming() as stream:
        await rig.until(lambda: bool(rig.door.batches))
        rig.log.truncate(0, 1)
        assert stream.positions == {rig.first: 0}
        await observer.probe(stream, None)


@virtual
async def test_a_consumer_that_is_alive_without_progress_ends_the_process() -> None:
    rig = Rig()
    observer = observer_of(rig, stuck_after_s=10)
    async with rig.streaming() as stream:
        await asyncio.sleep(1)
        await observer.probe(stream, None)
        rig.feed.pause([rig.first])
        rig.emit(upsert(1))
        await asyncio.sleep(9)
        await observer.probe(stream, None)
        await asyncio.sleep(2)
        with pytest.raises(Fatal) as caught:
            await observer.probe(stream, None)
        assert caught.value.code == "feed-stuck"


@virtual
async def test_a_consumer_of_a_log_that_was_away_is_not_stuck() -> None:
    rig = Rig()
    observer = observer_of(rig, stuck_after_s=10)
    async with rig.streaming() as stream:
        rig.log.away = True
        rig.feed.pause([rig.first])
        rig.emit(upsert(1))
        for _ in range(30):
            await observer.probe(stream, None)
            await asyncio.sleep(1)
        rig.log.away = False
        await observer.probe(stream, None)
        await asyncio.sleep(11)
        with pytest.raises(Fatal):
            await observer.probe(stream, None)


@virtual
async def test_a_consumer_with_full_hands_is_not_stuck() -> None:
    rig = Rig(buffer_records=1)
    rig.door.held = {1, 2}
    rig.emit(upsert(1), upsert(2))
    observer = observer_of(rig, stuck_after_s=10)
    async with rig.streaming() as stream:
        for _ in range(30):
            await observer.probe(stream, None)
            await asyncio.sleep(1)


@virtual
async def test_a_consumer_with_nothing_to_read_is_not_stuck() -> None:
    rig = Rig()
    observer = observer_of(rig, stuck_after_s=10)
    async with rig.streaming() as stream:
        for _ in range(30):
            await observer.probe(stream, None)
            await asyncio.sleep(1)


@virtual
async def test_intruders_are_looked_for_at_an_interval() -> None:
    rig = Rig()
    rig.log.members.append("somebody")
    observer = observer_of(rig)
    await observer.probe(None, None)
    assert len(observer.intruders) == 1
    rig.log.members.clear()
    await asyncio.sleep(14)
    await observer.probe(None, None)
    assert len(observer.intruders) == 1
    await asyncio.sleep(2)
    await observer.probe(None, None)
    assert observer.intruders == []


@virtual
async def test_a_commit_that_is_not_ours_is_an_intruder() -> None:
    rig = Rig()
    rig.emit(upsert(1))
    observer = observer_of(rig)
    async with rig.streaming() as stream:
        await rig.until(lambda: stream.published == {rig.first: 1})
        await observer.probe(stream, None)
        assert observer.intruders == []
        rig.log.group[rig.first] = 0
        await asyncio.sleep(16)
        await observer.probe(stream, None)
        assert len(observer.intruders) == 1


# -- partitions ----------------------------------------------------------------------------


@virtual
async def test_a_partition_is_shown_with_everything_that_is_known_of_it() -> None:
    rig = Rig()
    rig.door.held = {1}
    observer = observer_of(rig)
    async with watched(rig, observer):
        rig.emit(upsert(1))
        await asyncio.sleep(2)
        [row] = rows(rig, observer)
        assert (row.end, row.position, row.applied, row.committed) == (1, 1, 0, 0)
        assert row.status is PartitionHealth.OK


@virtual
async def test_a_partition_that_stands_still_before_its_end_stalls() -> None:
    rig = Rig()
    rig.door.held = {1}
    observer = observer_of(rig)
    async with watched(rig, observer):
        rig.emit(upsert(1))
        await asyncio.sleep(10)
        assert rows(rig, observer)[0].status is PartitionHealth.WARN
        await asyncio.sleep(30)
        assert rows(rig, observer)[0].status is PartitionHealth.STALL
        rig.door.release()
        await asyncio.sleep(2)
        assert rows(rig, observer)[0].status is PartitionHealth.OK


def statuses(observer: Observer, positions: Positions) -> list[tuple[str, str]]:
    found = observer.partitions(positions, lambda _: None, {})
    return [(row.partition, row.status.value) for row in found]


@virtual
async def test_a_partition_that_nobody_reads_has_stopped() -> None:
    rig = Rig()
    observer = observer_of(rig)
    await observer.probe(None, None)
    assert statuses(observer, {}) == [("changes/0", "STOP")]


@virtual
async def test_a_log_that_ends_before_our_position_went_back_and_is_blocked_in_the_end() -> (
    None
):
    rig = Rig()
    observer = observer_of(rig, persisted={rig.first: 5})
    await observer.probe(None, None)
    assert statuses(observer, {rig.first: 5}) == [("changes/0", "REWIND")]
    assert observer.lag({rig.first: 5}, None) == LagStatus(unknown_partitions=1)
    await asyncio.sleep(31)
    with pytest.raises(Blocked) as blocked:
        await observer.probe(None, None)
    assert blocked.value.code == "log-replaced"


@virtual
async def test_a_position_that_ran_ahead_of_the_last_answer_is_well() -> None:
    rig = Rig()
    persisted: Positions = {rig.first: 0}
    observer = observer_of(rig, persisted=persisted)
    await observer.probe(None, None)
    persisted[rig.first] = 5  # applied since the broker was asked
    assert statuses(observer, persisted) == [("changes/0", "OK")]
    assert observer.lag(persisted, None) == LagStatus(records=0, seconds=0.0)


@virtual
async def test_where_nobody_is_meant_to_read_nothing_is_amiss() -> None:
    rig = Rig()
    observer = observer_of(rig)
    await observer.probe(None, None)
    [row] = observer.partitions({}, lambda _: None, {}, reads=False)
    assert row.status is PartitionHealth.OK


@virtual
async def test_a_partition_behind_a_store_that_is_away_is_not_well() -> None:
    rig = Rig()
    rig.emit(upsert(1))
    observer = observer_of(rig)
    await observer.probe(None, None)
    [row] = observer.partitions({rig.first: 0}, lambda _: None, {}, troubled=True)
    assert row.status is PartitionHealth.WARN


@virtual
async def test_an_end_that_is_not_known_is_a_warning() -> None:
    rig = Rig()
    observer = observer_of(rig)
    [row] = observer.partitions({rig.first: 5}, lambda _: None, {rig.first: 5})
    assert (row.status, row.end, row.position) == (PartitionHealth.WARN, None, None)


@virtual
async def test_partitions_come_in_the_order_of_their_numbers() -> None:
    rig = Rig(partitions=12)
    observer = observer_of(rig)
    await observer.probe(None, None)
    assert [name for name, _ in statuses(observer, {})] == [f"changes/{n}" for n in range(12)]


# -- retention -----------------------------------------------------------------------------


class KeepsFor(MemoryFeed):
    """A feed that drops records after a hundred seconds."""

    async def retention_s(self) -> float | None:
        return 100.0


@virtual
async def test_the_headroom_is_what_retention_leaves_beyond_the_lag() -> None:
    rig = Rig()
    observer = observer_of(rig, feed=KeepsFor(rig.log))
    await observer.probe(None, None)
    assert observer.retention(LagStatus(records=1, seconds=30.0)).headroom_s == 70.0
    assert observer.retention(LagStatus(records=1, seconds=300.0)).headroom_s == 0.0


@virtual
async def test_the_headroom_is_unknown_with_an_unknown_lag_or_retention() -> None:
    rig = Rig()
    plain, keeps = observer_of(rig), observer_of(rig, feed=KeepsFor(rig.log))
    for observer in (plain, keeps):
        await observer.probe(None, None)
    assert plain.retention(LagStatus(records=0, seconds=0.0)).headroom_s is None
    assert keeps.retention(LagStatus()).headroom_s is None
    assert Partition("changes/0") in keeps.bounds


@virtual
async def test_a_broker_that_leaves_a_question_open_is_not_believed_for_long() -> None:
    rig = Rig()
    feed = rig.log.attach()
    observer = observer_of(rig, feed=feed)
    async with watched(rig, observer):
        assert lag(rig, observer).records == 0

        async def never() -> dict[Partition, Bounds]:
            return await asyncio.Future()

        feed.bounds = never  # type: ignore[method-assign]
        await asyncio.sleep(40)
        assert lag(rig, observer).records is None
