"""A difference is a finding only when every excuse for it has been ruled out."""

from __future__ import annotations

import asyncio

from replicator.migration.equality.mirror import Gap
from replicator.migration.equality.suspects import Suspects
from replicator.model.command import Pause, Resume
from replicator.model.finding import Difference
from replicator.model.position import Polled, Positions
from replicator.model.write import Delete
from tests.migration.rig import SETTLE_S, World
from tests.stream.rig import key, now, upsert, virtual


def suspects_of(world: World, show_after_s: float = SETTLE_S) -> Suspects:
    engine = world.migration.engine

    async def log_end() -> Positions:
        return {p: b.stable for p, b in world.log.bounds().items()}

    return Suspects(
        mirror=engine.mirror(),
        stream=lambda: engine.stream,
        holds=engine.ownership.holds,
        log_end=log_end,
        show_after_s=show_after_s,
    )


def missing(number: int) -> Gap:
    return Gap(key(number), Difference.MISSING)


@virtual
async def test_a_key_that_still_differs_after_every_excuse_is_a_finding() -> None:
    world = World()
    world.seed(1, 2)
    async with world.running():
        world.spoil(Delete(1))
        suspects = suspects_of(world)
        suspects.add(missing(1))
        suspects.add(missing(2))
        found = await suspects.settle()
        assert found == [missing(1)]
        assert (len(suspects), suspects.hot) == (0, 0)


@virtual
async def test_an_event_on_its_way_is_waited_for() -> None:
    world = World()
    async with world.running():
        world.door.held = {1}
        world.write(upsert(1))
        suspects = suspects_of(world)
        suspects.add(missing(1))
        settling = asyncio.create_task(suspects.settle())
        await asyncio.sleep(30)
        assert not settling.done()
        world.door.release()
        assert await settling == []


@virtual
async def test_the_stores_get_the_time_to_show_it_before_each_look() -> None:
    world = World()
    world.seed(1)
    async with world.running():
        world.spoil(Delete(1))
        suspects = suspects_of(world, show_after_s=7.0)
        world.images.fetched.clear()
        began = now()
        suspects.add(missing(1))
        assert await suspects.settle() == [missing(1)]
        [(looked_at, _)] = world.images.fetched
        assert looked_at - began > 6.999
        assert now() - looked_at > 6.999


@virtual
async def test_a_key_with_an_event_since_the_sighting_is_looked_at_anew() -> None:
    world = World()
    world.seed(1)
    async with world.running():
        world.spoil(Delete(1))
        suspects = suspects_of(world, show_after_s=5.0)
        suspects.add(missing(1))
        settling = asyncio.create_task(suspects.settle())
        await asyncio.sleep(5.5)  # it was read, differs, and is asked about in the log
        world.write(upsert(1, n=1))
        assert await settling == []
        assert world.payloads() == {1: {"n": 1}}
        assert suspects.hot == 0


@virtual
async def test_an_event_read_before_the_settling_began_is_an_excuse_too() -> None:
    world = World()
    world.seed(1)
    async with world.running():
        suspects = suspects_of(world, show_after_s=5.0)
        suspects.add(missing(1))
        world.emit(upsert(1, n=1))
        await world.until_applied()
        world.spoil(Delete(1))
        assert await suspects.settle() == [missing(1)]
        # The first look was spoilt by the event; only the second, five and five seconds later,
        # could find it.
        assert now() > 20


@virtual
async def test_an_event_that_is_in_the_log_and_not_read_yet_is_an_excuse_too() -> None:
    world = World()
    world.seed(1)
    async with world.running() as migration:
        world.spoil(Delete(1))
        feed = migration.parts.feed
        assert feed is not None
        poll, away_s = feed.poll, 0.0

        async def slow(records_max: int, timeout_s: float) -> Polled:
            await asyncio.sleep(away_s)
            return await poll(records_max, timeout_s)

        feed.poll = slow  # type: ignore[method-assign]
        suspects = suspects_of(world, show_after_s=7.0)
        suspects.add(missing(1))
        settling = asyncio.create_task(suspects.settle())
        await asyncio.sleep(12)  # it was looked at, and still differed
        away_s = 60.0
        await asyncio.sleep(1)
        world.write(upsert(1, n=2))
        assert await settling == []
        assert world.payloads() == {1: {"n": 2}}


@virtual
async def test_a_key_that_is_written_without_pause_ends_as_hot_and_is_no_finding() -> None:
    world = World()
    world.seed(1)
    async with world.running():
        suspects = suspects_of(world, show_after_s=2.0)
        suspects.add(missing(1))

        async def keep_writing() -> None:
            while True:
                world.write(upsert(1))
                await asyncio.sleep(0.3)

        async def always_behind(_collection: str, _ids: list[int]) -> dict[int, object]:
            return {}

        world.door.fetch = always_behind  # type: ignore[attr-defined]
        writing = asyncio.create_task(keep_writing())
        found = await suspects.settle()
        writing.cancel()
        assert found == []
        assert (len(suspects), suspects.hot) == (0, 1)


@virtual
async def test_keys_are_watched_while_under_suspicion_and_no_longer() -> None:
    world = World()
    world.seed(1, 2)
    async with world.running() as migration:
        world.spoil(Delete(1))
        suspects = suspects_of(world)
        suspects.add(missing(1))
        suspects.add(missing(2))
        holds = migration.engine.ownership.holds
        assert not holds.seen(key(1))
        await suspects.settle()
        assert holds.seen(key(1))  # nobody watches it any more
        assert holds.seen(key(2))


@virtual
async def test_settling_waits_while_the_stream_is_paused() -> None:
    world = World()
    world.seed(1)
    async with world.running() as migration:
        world.spoil(Delete(1))
        suspects = suspects_of(world)
        suspects.add(missing(1))
        await migration.do(Pause())
        settling = asyncio.create_task(suspects.settle())
        await asyncio.sleep(30)
        assert not settling.done()
        await migration.do(Resume())
        # What is watched belongs to no stream: the new one meets it.
        assert await settling == [missing(1)]


@virtual
async def test_a_cancelled_settling_forgets_its_suspects() -> None:
    world = World()
    async with world.running():
        world.door.held = {1}
        world.write(upsert(1))
        suspects = suspects_of(world)
        suspects.add(missing(1))
        settling = asyncio.create_task(suspects.settle())
        await asyncio.sleep(1)
        settling.cancel()
        await asyncio.wait([settling])
        assert len(suspects) == 0
