"""
Log, collections and daemon are those with which the migration began, or it stops before it
writes: a name proves nothing.
"""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import msgspec
import pytest

from replicator.errors import Blocked, Refused
from replicator.migration.journal import Journal
from replicator.migration.migration import Migration
from replicator.model.command import Acknowledge, Pause, Resume
from replicator.model.phase import Direction, Phase
from replicator.model.position import Bounds, LogIdentity
from replicator.model.schema import Distance, VectorSchema
from replicator.model.write import Upsert
from tests.migration.lives import (
    at_target,
    codes,
    cut_over,
    ready,
    stamped,
    streams,
)
from tests.migration.rig import World
from tests.stream.rig import BOOKS, now, point, upsert, virtual


async def is_blocked(world: World, code: str) -> None:
    await world.until(lambda: world.record.phase is Phase.BLOCKED)
    assert world.record.reason_code == code


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


# -- the collections -----------------------------------------------------------------------


def gone(world: World) -> str:
    del world.target.collections["books_v2"]
    return "target-missing"


def of_another_capture(world: World) -> str:
    held = world.target.collections["books_v2"]
    held.schema = msgspec.structs.replace(held.schema, capture_id="another")
    return "mark-lost"


async def by_the_gate(world: World) -> None:
    assert "identity" in await codes(world)


async def by_a_verification(world: World) -> None:
    with pytest.raises(Blocked):
        await world.verify()


async def by_a_new_stream(world: World) -> None:
    await world.migration.do(Pause())
    await world.migration.do(Resume())


@pytest.mark.parametrize("seen", [None, by_the_gate, by_a_verification, by_a_new_stream])
@pytest.mark.parametrize("happen", [gone, of_another_capture])
@virtual
async def test_a_target_that_is_another_one_is_noticed(happen: Any, seen: Any) -> None:
    world = World()
    world.seed(1, 2, 3, n=1)
    async with world.running():
        await ready(world)
        if seen is not None:
            code = happen(world)
            await seen(world)
            await is_blocked(world, code)
    if seen is None:
        code = happen(world)
    world.restart()
    async with world.running(Phase.BLOCKED) as migration:
        assert world.record.reason_code == code
        with pytest.raises(Refused):
            await migration.do(Resume())


def with_aliases(world: World) -> dict[str, str]:
    """Let `books` be an alias at the source; where aliases lead."""
    behind = {"books": "books_v1"}
    world.source.create(msgspec.structs.replace(BOOKS, name="books_v1"))
    world.source.collections["books"] = world.source.collections["books_v1"]

    async def read_alias(name: str) -> str | None:
        return behind.get(name)

    world.images.read_alias = read_alias  # type: ignore[attr-defined]
    world.images.point_alias = read_alias  # type: ignore[attr-defined]
    return behind


@virtual
async def test_an_alias_of_the_source_that_leads_elsewhere_stops_the_stream() -> None:
    world = World()
    behind = with_aliases(world)
    async with world.running() as migration:
        await ready(world)
        assert world.record.collections["source/books"] == "books_v1"
        assert await codes(world) == set()
        behind["books"] = "books_v9"
        assert "identity" in await codes(world)
        await is_blocked(world, "alias-moved")
        behind["books"] = "books_v1"
        await migration.do(Resume())
        await streams(world)


@virtual
async def test_an_alias_that_a_person_switched_keeps_the_reverse_stream_off_its_target() -> (
    None
):
    """`books` stood for the old store's collection, and stands for the new one's now."""
    world = World()
    behind = with_aliases(world)
    describe = world.images._store.describe
    other = msgspec.structs.replace(
        BOOKS, vectors={"w": VectorSchema(size=2, distance=Distance.DOT)}
    )

    async def described(name: str) -> Any:
        return other if behind.get(name) == "books_v2" else await describe(name)

    world.images.describe = described  # type: ignore[attr-defined]
    async with world.running():
        await ready(world)

        def switched() -> None:
            behind.update(books="books_v2")
            del world.source.collections["books"]
            world.source.create(BOOKS)

        world.switch.on_switch = switched
        await cut_over(world)
        at_target(world, stamped(upsert(1, n="after"), 1))
        await world.until_applied()
        assert world.record.phase is Phase.STREAMING
        assert await world.state.letters() == [], "it is judged by its own store's schema"
        assert world.source.points("books_v1")[1].payload == {"n": "after"}
        assert world.source.points("books") == {}
        report = await world.verify()
        assert report.equal, "it compares the collection that was copied, not the alias"
        assert report.counts == {"books": [2, 2]}


@virtual
async def test_names_are_resolved_at_the_capture_that_is_kept() -> None:
    """A first run that died before its capture was kept resolved them for nobody."""
    world = World()
    behind = with_aliases(world)
    commit = world.state.commit

    async def dies(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    world.state.commit = dies  # type: ignore[method-assign]
    task = asyncio.create_task(world.migration.run())
    await world.until(
        lambda: world.migration._have_begun is not None and bool(world.record.collections)
    )
    task.cancel()
    await asyncio.wait([task])
    world.state.commit = commit  # type: ignore[method-assign]
    behind["books"] = "books_v3"
    world.source.create(msgspec.structs.replace(BOOKS, name="books_v3"))
    world.restart()
    async with world.running():
        assert world.record.collections["source/books"] == "books_v3"


# -- the daemon ----------------------------------------------------------------------------


def copied(world: World) -> dict[str, Any]:
    return copy.deepcopy(world.state.__dict__)


@virtual
async def test_a_state_of_before_the_cutover_does_not_write_the_live_store() -> None:
    world = World()
    async with world.running():
        await ready(world)
    before = copied(world)
    world.restart()
    async with world.running():
        await streams(world)
        await cut_over(world)
        at_target(world, stamped(upsert(1, n="new"), 1))
        await world.until_applied()
    world.state.__dict__.update(before)
    world.spoil(Upsert(point(1, n="newer")))  # its event is still on its way
    world.restart()
    async with world.running(Phase.BLOCKED):
        assert world.record.reason_code == "mark-newer"
        await asyncio.sleep(30)
        assert world.held(1).payload == {"n": "newer"}  # type: ignore[union-attr]


@virtual
async def test_a_second_daemon_on_a_copy_of_the_state_is_seen_by_the_first() -> None:
    world = World()
    async with world.running() as first:
        await ready(world)
        assert await codes(world) == set()
        other = copy.deepcopy(world.state)
        parts = msgspec.structs.replace(
            first.parts, state=other, feed=world.log.attach(), target=world.target.attach()
        )
        second = Migration(
            parts,
            fence=world.fence,
            switch=world.switch,
            hooks=world.hooks,
            person=world.person,
        )
        task = asyncio.create_task(second.run())
        await world.until(
            lambda: second._have_begun is not None and second.engine.stream is not None
        )
        assert "identity" in await codes(world)
        await is_blocked(world, "mark-newer")
        second.request_drain()
        await task
        with pytest.raises(Refused) as refused:
            await first.do(Resume())
        assert refused.value.code == "mark-newer"
        await first.do(Acknowledge("mark-newer", "the other one is stopped"))
        await first.do(Resume())
        await streams(world)
        assert await codes(world) == {"not-verified"}


@virtual
async def test_our_own_restarts_and_switches_are_no_second_daemon() -> None:
    world = World()
    for _ in range(3):
        async with world.running():
            await streams(world)
        world.restart()
    async with world.running() as migration:
        await ready(world)
        await cut_over(world)
        await migration.do(Pause())
        await migration.do(Resume())
        await streams(world)
        assert world.record.direction is Direction.REVERSE
        found = await world.target.attach().describe("books_v2")
        assert found is not None
        assert found.mark is not None
        assert found.mark.incarnation == world.record.incarnation
        assert found.mark.epoch == 1


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
