"""One job at a time, ended as the record or a drain asks."""

from __future__ import annotations

import asyncio

import msgspec

from replicator.model.phase import Phase
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
        await migration.pause()
        assert world.payloads() == {1: {"n": 1}}
        world.write(upsert(1, n=2))
        await asyncio.sleep(60)
        assert world.payloads() == {1: {"n": 1}}
        await migration.resume()
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
