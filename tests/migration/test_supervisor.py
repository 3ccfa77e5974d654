"""One job at a time, ended as the record or a drain asks."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from replicator.errors import ReplicatorError
from replicator.model.command import Cutover, Pause, Resume
from replicator.model.phase import Direction, Phase
from replicator.model.point import Point, PointId
from replicator.model.write import Receipt, WriteBatch
from tests.migration.lives import killed, until_the_gate_opens
from tests.migration.rig import World
from tests.stream.rig import now, patch, upsert, virtual


@virtual
async def test_a_process_that_waits_for_its_log_to_begin_drains_at_once() -> None:
    world = World()
    world.log.away = True
    running = asyncio.create_task(world.migration.run())
    await asyncio.sleep(50)
    assert world.record.phase is Phase.PLANNED
    began = now()
    world.migration.request_drain()
    await running
    assert now() - began < 1


@virtual
async def test_a_pause_that_returned_is_one() -> None:
    world = World()
    async with world.running(Phase.STREAMING) as migration:
        world.door.takes_s = 3.0
        world.write(upsert(1, n=1))
        await world.until(lambda: len(world.door.batches) == 1)
        await migration.do(Pause())
        assert world.payloads() == {1: {"n": 1}}
        world.write(upsert(1, n=2))
        await asyncio.sleep(60)
        assert world.payloads() == {1: {"n": 1}}
        await migration.do(Resume())
        await world.until_applied()
    assert world.payloads() == {1: {"n": 2}}


@virtual
async def test_a_patch_in_a_log_declared_free_of_patches_stops_everything() -> None:
    world = World()
    feed = msgspec.structs.replace(world.settings.feed, compacted_without_patches=True)
    world.settings = msgspec.structs.replace(world.settings, feed=feed)
    world.restart()
    async with world.running():
        world.write(upsert(1, n=1))
        await world.until_applied()
        world.write(patch(1, n=2))
        await world.until(lambda: world.record.phase is Phase.BLOCKED)
        assert world.record.reason_code == "patch-on-compacted"
        assert world.payloads() == {1: {"n": 1}}


# -- what may not overlap ------------------------------------------------------------------


@virtual
async def test_the_last_comparison_begins_only_when_no_write_is_under_way() -> None:
    world = World()
    reads: list[tuple[float, bool]] = []
    async with world.running():
        await world.verify()
        fetch = world.door._store.fetch
        under_way = 0

        async def seen(collection: str, ids: list[PointId]) -> dict[PointId, Point]:
            reads.append((now(), bool(under_way)))
            found: dict[PointId, Point] = await fetch(collection, ids)
            return found

        really = world.door._store.apply

        async def slow(batch: WriteBatch) -> Receipt:
            nonlocal under_way
            under_way += 1
            try:
                await asyncio.sleep(0.5)
                receipt: Receipt = await really(batch)
                return receipt
            finally:
                under_way -= 1

        world.door._store.apply = slow
        world.door.fetch = seen  # type: ignore[attr-defined]
        reads.clear()
        world.write(*(upsert(number, n=1) for number in range(20)))
        await until_the_gate_opens(world)
        await world.migration.do(Cutover())
        assert reads
        assert not any(busy for _, busy in reads)


@virtual
async def test_the_stream_is_over_before_the_last_comparison_reads_the_log() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        world.write(upsert(1, n=1))
        await world.until_applied()
        feed = migration.parts.feed
        assert feed is not None
        read, rests = feed.read, []

        def noted(*arguments: Any) -> Any:
            rests.append(migration.engine.stream is None)
            return read(*arguments)

        feed.read = noted  # type: ignore[method-assign,assignment]
        await migration.do(Cutover())
        assert rests == [True]


@virtual
async def test_a_switch_that_a_cutover_of_this_process_makes_is_not_made_beside_it() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        world.switch.takes_s = 20.0
        crossing = asyncio.create_task(migration.do(Cutover()))
        await world.until(lambda: world.record.phase is Phase.SWITCHING)
        # Whatever looks at the record meanwhile: a probe, a client that asks to resume.
        await migration.do(Resume())
        await asyncio.sleep(5)
        await crossing
        assert len(world.switch.calls) == 1
        assert world.record.direction is Direction.REVERSE


# -- failures ------------------------------------------------------------------------------


@virtual
async def test_what_blocks_while_fenced_goes_back_to_streaming_when_it_is_mended() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        world.door.held = {1}
        world.fence.on_close = lambda: world.log.grow(2)
        world.write(upsert(1, n=1))
        await until_the_gate_opens(world)
        with pytest.raises(ReplicatorError):
            await migration.do(Cutover())
        await world.until(lambda: world.record.phase is Phase.BLOCKED)
        await world.until(lambda: not world.record.fence_closed)
        assert world.record.back_to is Phase.STREAMING
        world.door.release()


@virtual
async def test_a_topic_that_answers_wrongly_for_a_while_does_not_leave_the_switch() -> None:
    """From the point of no return there is no way but forward, or to a person."""
    world = World()
    async with world.running() as migration:
        await world.verify()
        world.switch.takes_s = 20.0
        crossing = asyncio.create_task(migration.do(Cutover()))
        await world.until(lambda: world.record.phase is Phase.SWITCHING)
        world.log.glitch = True
        await asyncio.sleep(5)
        assert world.record.phase is Phase.SWITCHING
        world.log.glitch = False
        await crossing
        assert world.record.direction is Direction.REVERSE


@virtual
async def test_a_job_that_fails_for_good_blocks_once_and_is_not_begun_again() -> None:
    world = World()
    async with killed(world):
        world.write(upsert(1))
        await world.until_applied()
    world.emit(upsert(2), upsert(3), upsert(4))
    world.log.truncate(0, 3)
    async with world.running(Phase.BLOCKED):
        entries = len(await world.entries())
        await asyncio.sleep(120)
        assert len(await world.entries()) == entries


@virtual
async def test_a_defect_in_a_job_ends_the_process() -> None:
    world = World()

    async def broken(*_: Any) -> Any:
        raise KeyError("a defect")

    world.door.describe = broken  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        await world.migration.run()
