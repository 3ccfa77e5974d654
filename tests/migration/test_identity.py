"""
The log is the one with which the migration began, or it stops before it writes: a name proves
nothing. And who does not answer is not known.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from replicator.errors import Refused
from replicator.migration.evidence.journal import Journal
from replicator.model.command import Acknowledge, Resume
from replicator.model.phase import Phase
from replicator.model.position import Bounds, LogIdentity
from tests.migration.lives import codes, is_blocked, ready, streams
from tests.migration.rig import World
from tests.stream.rig import now, upsert, virtual

# -- the log -------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("identified", [True, False])
@virtual
async def test_no_event_of_a_log_made_anew_is_skipped(running: bool, identified: bool) -> None:
    """It has grown past our position, where any log has a record."""
    world = World()
    world.log.identified = identified

    def anew() -> None:
        world.log.make_anew()
        for number in range(10, 20):
            world.write(upsert(number, n=number))

    async with world.running():
        await ready(world)
        if running:
            world.log.away = True
            await asyncio.sleep(5)
            anew()
            world.log.away = False
            await is_blocked(world, "log-replaced")
            assert not any(world.held(number) for number in range(10, 20))
    if not running:
        anew()
    world.restart()
    async with world.running(Phase.BLOCKED) as migration:
        with pytest.raises(Refused) as caught:
            await migration.do(Resume())
        assert caught.value.code == "log-replaced"
        assert not any(world.held(number) for number in range(10, 20))
        assert await codes(world)


@virtual
async def test_a_tail_that_an_election_cut_off_behind_our_position_is_noticed() -> None:
    """The records that came since lie at the offsets of those that we have applied."""
    world = World()
    async with world.running():
        await ready(world)
        world.log.away = True
        await asyncio.sleep(5)
        del world.log.log_of(world.first).entries[1:]
        world.write(upsert(7, n="after the election"), upsert(8, n=8))
        world.log.away = False
        await is_blocked(world, "log-replaced")
        assert world.held(8) is None


@virtual
async def test_the_gate_looks_at_the_log_though_no_outage_was_seen() -> None:
    world = World()
    async with world.running():
        await ready(world)
        assert await codes(world) == set()
        # So soon that no probe came in between.
        del world.log.log_of(world.first).entries[1:]
        world.write(upsert(7, n="after the election"))
        assert "identity" in await codes(world)


@virtual
async def test_a_position_beyond_the_end_is_no_lag_of_zero() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        feed = migration.parts.feed
        assert feed is not None
        real, began = feed.bounds, now()

        async def shorter() -> Any:
            return {world.first: Bounds(start=0, end=1, stable=1)}

        feed.bounds = shorter  # type: ignore[method-assign]
        await asyncio.sleep(2)
        status = await migration.status()
        assert status.lag.records is None
        assert "lag-unknown" in {blocker.code for blocker in status.blockers}
        assert "lag-unknown" in await codes(world)
        assert world.record.phase is Phase.STREAMING, "a failover may show it for a moment"
        await is_blocked(world, "log-replaced")
        assert now() - began >= 30
        feed.bounds = real  # type: ignore[method-assign]
        await migration.do(Resume())
        await streams(world)
        assert await codes(world) == set()


@virtual
async def test_the_gate_does_not_open_on_the_last_good_answer_of_a_broker() -> None:
    world = World()
    async with world.running():
        await ready(world)
        await asyncio.sleep(2)
        world.log.away = True
        assert "lag-unknown" in await codes(world)


@pytest.mark.parametrize("what", ["bounds", "intruders", "identity"])
@virtual
async def test_a_broker_that_hangs_is_unknown_after_ten_seconds(what: str) -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        feed = migration.parts.feed
        real = getattr(feed, what)

        async def hangs(*_: Any) -> None:
            await asyncio.Event().wait()

        setattr(feed, what, hangs)
        await asyncio.sleep(30)
        began = now()
        closed = await codes(world)
        assert closed & {"lag-unknown", "store-away"}
        assert now() - began <= 21
        setattr(feed, what, real)
        await asyncio.sleep(20)
        assert await codes(world) == set()


@virtual
async def test_a_moved_log_is_adopted_on_a_persons_word_and_what_follows_is_applied() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        world.log.make_anew()
        for number in range(4):
            world.write(upsert(number, n="moved"))
        await is_blocked(world, "log-replaced")
        await migration.do(Acknowledge("log-replaced", "moved with its records"))
        await migration.do(Resume())
        await streams(world)
        assert world.held(3) is not None
        assert "not-verified" in await codes(world)


@virtual
async def test_a_state_that_knows_no_identity_adopts_it_and_says_so() -> None:
    world = World()
    async with world.running():
        await ready(world)
    journal = Journal(world.state, world.record, world.wall)
    await journal.change("identity", "as the version before left it", log=None)
    world.restart()
    async with world.running():
        assert world.record.log == LogIdentity("changes 1")
        assert "identity" in await world.steps()


# -- a store that does not answer ----------------------------------------------------------


@pytest.mark.parametrize("how", ["is away", "hangs"])
@virtual
async def test_a_dead_store_holds_up_neither_the_gate_nor_a_resume(how: str) -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)

        async def hangs(*_: Any) -> None:
            await asyncio.Event().wait()

        if how == "hangs":
            world.door.describe = hangs  # type: ignore[attr-defined]
        else:
            world.target.away = True
        began = now()
        assert "store-away" in await codes(world)
        assert now() - began <= 11
        world.log.grow(2)
        await is_blocked(world, "partitions-changed")
        began = now()
        with pytest.raises(Exception) as caught:  # noqa: PT011  # Unavailable, or as it says
            await migration.do(Resume())
        assert getattr(caught.value, "code", "") in ("store-unavailable", "target-unavailable")
        assert now() - began <= 11
        assert world.record.phase is Phase.BLOCKED
        world.target.away = False
