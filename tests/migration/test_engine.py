"""The data path under its record: what is captured, what is known, where it goes on from."""

from __future__ import annotations

import asyncio

import pytest

from replicator.model.command import Cutover, Pause, Resume, Revert
from replicator.model.phase import Direction, Phase
from replicator.model.write import Delete, Upsert
from replicator.settings.units import Duration
from tests.migration.lives import (
    at_target,
    cut_over,
    killed,
    ready,
    stamped,
    until_the_gate_opens,
)
from tests.migration.rig import World
from tests.stream.rig import now, point, upsert, virtual


@pytest.mark.parametrize("commit", [True, False])
@virtual
async def test_a_record_of_a_transaction_that_is_open_at_the_capture_is_replayed(
    commit: bool,
) -> None:
    world = World()
    world.emit(upsert(1, n=1))  # before the capture: the application wrote no row of it
    world.log.begin_transaction(0)
    world.emit(upsert(5, n=5))
    async with world.running(Phase.BACKFILL):
        world.log.end_transaction(0, commit=commit)
        await world.until(lambda: world._is_in(Phase.STREAMING))
        await world.until_applied()
        assert world.payloads() == ({5: {"n": 5}} if commit else {})


@virtual
async def test_while_the_stream_rests_the_lag_is_told_from_where_it_came() -> None:
    world = World()
    async with world.running() as migration:
        world.write(upsert(1), upsert(2), upsert(3))
        await world.until_applied()
        await migration.do(Pause())
        await asyncio.sleep(3)
        status = await migration.status()
        assert (status.lag.records, status.lag.seconds) == (0, 0.0)
        [row] = status.partitions
        assert row.committed == 3
        world.write(upsert(4))
        await asyncio.sleep(3)
        assert (await migration.status()).lag.records == 1


@virtual
async def test_a_stream_that_starts_again_applies_nothing_twice() -> None:
    world = World()
    async with world.running() as migration:
        world.write(upsert(1), upsert(2))
        await world.until_applied()
        await migration.do(Pause())
        written = len(world.door.batches)
        await migration.do(Resume())
        await asyncio.sleep(5)
        assert len(world.door.batches) == written
    world.restart()
    async with world.running():
        await asyncio.sleep(5)
        assert world.door.batches == []


# -- what may still land -------------------------------------------------------------------


@virtual
async def test_a_process_that_left_a_write_on_its_way_is_not_taken_for_a_clean_one() -> None:
    world = World(bound_s=30.0, stream={"drain_timeout": Duration(1)})
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    world.door.held = {1}
    world.write(upsert(1, n=1))
    await world.until(lambda: len(world.door.batches) == 1)
    world.migration.request_drain()
    await asyncio.wait([task])
    world.restart()
    began = now()
    async with world.running():
        await world.until_applied()
        assert world.door.batches[0][0] - began >= 29.0


@virtual
async def test_what_may_still_land_in_the_store_left_behind_is_handed_on_too() -> None:
    world = World(bound_s=30.0, stream={"drain_timeout": Duration(1)})
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await ready(world)
    await cut_over(world)
    writer = world.migration.engine.writers[Direction.REVERSE]
    began = now()
    writer.guard.suspect()  # as a write to the source without an answer leaves it
    world.migration.request_drain()
    await task
    world.restart()
    async with world.running():
        at_target(world, stamped(upsert(9, n=9), 1))
        await world.until_applied()
        assert now() - began >= 30.0
        assert world.source.points("books")[9].payload == {"n": 9}


@virtual
async def test_a_process_that_ended_well_keeps_nobody_waiting() -> None:
    world = World(bound_s=30.0)
    async with world.running():
        world.write(upsert(1, n=1))
        await world.until_applied()
    world.restart()
    began = now()
    async with world.running():
        world.write(upsert(2, n=1))
        await world.until_applied()
        assert world.door.batches[0][0] - began < 5.0


@virtual
async def test_after_a_kill_nothing_is_written_before_late_writes_have_landed() -> None:
    world = World(bound_s=30.0)
    async with killed(world):
        world.door.held = {1}
        world.write(upsert(1, n=1))
        await world.until(lambda: len(world.door.batches) == 1)
    began = now()
    async with world.running():
        await world.until_applied()
        assert world.door.batches[0][0] - began >= 30.0


@virtual
async def test_no_traffic_is_switched_while_a_write_may_still_land() -> None:
    world = World(bound_s=25.0)
    async with killed(world):
        pass
    began = now()
    switched: list[float] = []
    world.switch.on_switch = lambda: switched.append(now())
    async with world.running() as migration:
        await world.verify()
        await until_the_gate_opens(world)
        await migration.do(Cutover())
        assert switched[0] - began >= 25.0


# -- what is known of trouble --------------------------------------------------------------


@virtual
async def test_a_source_that_is_away_closes_the_gate_and_is_named() -> None:
    world = World()
    world.seed(1)
    async with world.running() as migration:
        await world.verify()
        world.source.away = True
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(5)
        blockers = {b.code for b in await migration.do(Cutover(dry_run=True))}
        assert "store-away" in blockers
        world.source.away = False
        await verifying
        assert await migration.do(Cutover(dry_run=True)) == []


# -- the last comparison of a revert -------------------------------------------------------


@virtual
async def test_a_revert_compares_what_was_written_in_the_reverse_window() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        await migration.do(Cutover())
        await world.until(lambda: world._is_in(Phase.STREAMING))
        world.target.write("books_v2", Upsert(point(3, n=3)))
        world.target.write("books_v2", Upsert(point(4, n=4)))
        world.emit(upsert(3, n=3), upsert(4, n=4))
        await world.until_applied()
        world.source.write("books", Delete(3))
        await until_reverting_is_possible(world)
        await migration.do(Revert())
        assert world.record.direction is Direction.FORWARD
        assert world.source.points("books")[3].payload == {"n": 3}
        compared = [x for x in await world.entries() if x.step == "recheck" and x.evidence]
        assert compared[-1].evidence["keys"] == 2
        assert compared[-1].evidence["repaired"] == 1


async def until_reverting_is_possible(world: World) -> None:
    while await world.migration.do(Revert(dry_run=True)):
        await asyncio.sleep(0.1)
