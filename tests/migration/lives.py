"""Lives of a process that end as `kill -9` ends them, and what a test lays in a store's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from replicator.migration.migration import Migration
from replicator.model.phase import Phase
from replicator.ports.control import CutoverRequest
from replicator.settings.units import Duration
from tests.migration.rig import World
from tests.stream.rig import now


@asynccontextmanager
async def killed(world: World, phase: Phase = Phase.STREAMING) -> AsyncIterator[Migration]:
    """A process from when it has reached a phase to its death at the end of the block; the next
    one is made.
    """
    task = asyncio.create_task(world.migration.run())
    try:
        await world.until(lambda: task.done() or world._is_in(phase))
        if task.done():
            task.result()
        yield world.migration
    finally:
        task.cancel()
        await asyncio.wait([task])
    world.restart()


def scans_of(world: World) -> list[float]:
    """When the copy scans the source, from now on; what looks at a few rows only is no copy."""
    times: list[float] = []
    scan = world.images._store.scan

    def noted(*arguments: Any) -> Any:
        if arguments[2] == world.settings.backfill.page_rows:
            times.append(now())
        return scan(*arguments)

    world.images.scan = noted  # type: ignore[attr-defined]
    return times


def let_settle(world: World, seconds: float) -> None:
    """Configure how long after an event its change may become visible."""
    feed = msgspec.structs.replace(world.settings.feed, settle=Duration(seconds))
    world.settings = msgspec.structs.replace(world.settings, feed=feed)
    world.restart()


def at_the_copys_end(world: World, act: Callable[[], None]) -> None:
    """Do something when every row is copied, before the next phase."""
    finish = world.door._store.finish_bulk

    async def finish_bulk(collection: str) -> None:
        await finish(collection)
        act()

    world.door.finish_bulk = finish_bulk  # type: ignore[attr-defined]


async def until_the_gate_opens(world: World) -> None:
    """What the gate waits for by itself passes; the loop's limits end what never comes."""
    while await world.migration.cutover(CutoverRequest(dry_run=True)):
        await asyncio.sleep(0.1)
