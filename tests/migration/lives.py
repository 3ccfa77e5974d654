"""Lives of a process that end as `kill -9` ends them, and what a test lays in a store's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from replicator.errors import Blocked
from replicator.migration.migration import Migration
from replicator.model.command import Cutover, Pause, Resume, Revert
from replicator.model.event import ChangeEvent
from replicator.model.phase import Direction, Phase
from replicator.settings.units import Duration
from tests.migration.rig import World, _write
from tests.stream.rig import now, upsert


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
    """When the copy scans the source, from now on. What cuts it into other parts is no copy."""
    times: list[float] = []
    scan = world.images._store.scan

    def noted(*arguments: Any) -> Any:
        if arguments[0].spec.endswith(f"/{world.settings.backfill.chunks}"):
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
    while await world.migration.do(Cutover(dry_run=True)):
        await asyncio.sleep(0.1)


async def ready(world: World) -> None:
    """Verified, with something written since."""
    await world.verify()
    world.write(upsert(1, n=1), upsert(2, n=2))
    await world.until_applied()


async def streams(world: World) -> None:
    """Until it streams, with everything applied."""
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await world.until(lambda: world.migration.engine.lag().records == 0)


async def is_blocked(world: World, code: str) -> None:
    """Until it is, and for this reason."""
    await world.until(lambda: world.record.phase is Phase.BLOCKED)
    assert world.record.reason_code == code


async def codes(world: World, **request: Any) -> set[str]:
    """Why the gate is closed."""
    command = Cutover if world.record.direction is Direction.FORWARD else Revert
    asked = command(dry_run=True, **request)
    return {blocker.code for blocker in await world.migration.do(asked)}


async def by_the_gate(world: World) -> None:
    """What is another one is noticed so; `by_a_verification` and `by_a_new_stream` alike."""
    assert "identity" in await codes(world)


async def by_a_verification(world: World) -> None:
    with pytest.raises(Blocked):
        await world.verify()


async def by_a_new_stream(world: World) -> None:
    await world.migration.do(Pause())
    world.write(upsert(3, n=3))  # which waits to be written
    await world.migration.do(Resume())


async def cut_over(world: World, **request: Any) -> None:
    """To the end, and until it streams the other way."""
    await world.migration.do(Cutover(**request))
    await streams(world)


async def revert(world: World, **request: Any) -> None:
    """As `cut_over`, the other way."""
    await world.migration.do(Revert(**request))
    await streams(world)


def stamped(event: ChangeEvent, epoch: int) -> ChangeEvent:
    """The event as a writer of this epoch emits it."""
    event.epoch = epoch
    return event


def at_target(world: World, event: ChangeEvent) -> None:
    """The application, on the target, changes it and emits."""
    world.spoil(_write(event))
    world.emit(event)
