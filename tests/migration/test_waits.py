"""
Waiting is visible and bounded: every wait says what for, since when and until when, and a drain
or a pause ends it at once, whoever is dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from replicator.errors import OutcomeUnknown, Refused
from replicator.model.command import Cutover, Pause, Repair, Resume
from replicator.model.phase import Direction, Phase
from replicator.model.status import Wait
from replicator.model.write import Delete
from replicator.settings.transform import TransformSettings
from replicator.settings.units import Duration
from replicator.stream.waits import Waits
from replicator.testing.faults import Fault, Faults
from tests.migration.lives import codes, killed, ready, scans_of
from tests.migration.rig import SETTLE_S, World
from tests.stream.rig import PAPERBACKS, now, patch, upsert, virtual


async def wait_for(world: World, code: str) -> Wait:
    """A wait of this code, as the status shows it."""
    while True:
        waits = (await world.migration.status()).waits
        found = [wait for wait in waits if wait.code == code]
        if found:
            return found[0]
        await asyncio.sleep(0.01)


# -- the waits themselves ------------------------------------------------------------------


@virtual
async def test_one_waiter_that_is_answered_does_not_make_the_others_look_well() -> None:
    waits = Waits(now)
    waits.begin("first", "late-writes", "a", seconds=5)
    await asyncio.sleep(1)
    waits.begin("second", "late-writes", "b", planned=True)
    assert waits.first is not None
    assert [(wait.since, wait.until) for wait in waits.all] == [(0.0, 5.0), (1.0, None)]
    waits.over("first")
    assert waits.first is None, "the other one is as planned"
    waits.over("second")
    waits.over("second")
    assert waits.all == []


@virtual
async def test_a_wait_that_is_cut_short_is_taken_back() -> None:
    waits = Waits(now)
    with pytest.raises(KeyError), waits.waiting("settle", "x", seconds=1):
        raise KeyError
    assert waits.all == []


# -- what is shown -------------------------------------------------------------------------


@virtual
async def test_settle_is_shown_with_its_end() -> None:
    world = World(staleness_s=20.0)
    scans = scans_of(world)
    world.seed(1)
    async with world.running(Phase.BACKFILL):
        wait = await wait_for(world, "settle")
        assert wait.until is not None
        assert wait.until - wait.since == pytest.approx(20.0)
        await world.until(lambda: bool(scans))
        assert world.clock() >= wait.until


@virtual
async def test_no_wait_of_a_copy_is_shown_beyond_its_end() -> None:
    """Making the target ready takes longer than `settle`."""
    world = World(bound_s=40.0)
    world.seed(1)
    async with killed(world, Phase.BACKFILL):
        pass
    seen: set[str] = set()
    async with world.running(Phase.BACKFILL) as migration:
        while not world._is_in(Phase.STREAMING):
            for wait in (await migration.status()).waits:
                assert wait.until is None or wait.until >= world.clock(), wait
                seen.add(wait.code)
            await asyncio.sleep(SETTLE_S / 4)
    assert seen == {"settle", "late-writes"}


@virtual
async def test_a_copy_that_goes_on_does_not_wait_for_settle() -> None:
    world = World(bound_s=5.0)
    world.seed(*range(200))
    world.door.takes_s = 5.0
    async with killed(world, Phase.BACKFILL):
        await world.until(lambda: bool(world.payloads()))
    async with world.running(Phase.BACKFILL) as migration:
        await wait_for(world, "late-writes")
        assert "settle" not in {wait.code for wait in (await migration.status()).waits}


@virtual
async def test_late_writes_are_shown_with_their_end_where_the_copy_waits_for_them() -> None:
    world = World(bound_s=40.0)
    world.seed(1)
    async with killed(world, Phase.BACKFILL):
        pass
    async with world.running(Phase.BACKFILL) as migration:
        wait = await wait_for(world, "late-writes")
        assert wait.until is not None
        assert 35.0 < wait.until - world.clock() <= 40.0
        assert not (await migration.status()).ready
        await world.until(lambda: world._is_in(Phase.STREAMING))
        assert world.clock() >= wait.until


@virtual
async def test_late_writes_are_shown_with_their_end_where_a_cutover_waits_for_them() -> None:
    world = World(bound_s=25.0)
    async with world.running() as migration:
        await ready(world)
        migration.engine.writers[Direction.REVERSE].guard.suspect()
        crossing = asyncio.create_task(migration.do(Cutover()))
        wait = await wait_for(world, "late-writes")
        assert world.record.phase is Phase.FENCING
        assert wait.until is not None
        assert 20.0 < wait.until - world.clock() <= 25.0
        await crossing


@virtual
async def test_the_look_for_stragglers_is_shown_with_its_end() -> None:
    world = World(rests_on_word=True, cutover={"delivery_timeout": Duration(15)})
    async with world.running() as migration:
        await ready(world)
        crossing = asyncio.create_task(migration.do(Cutover()))
        wait = await wait_for(world, "stragglers")
        assert wait.planned
        assert wait.until is not None
        assert 10.0 < wait.until - wait.since <= 15.0
        await crossing


@virtual
async def test_a_broker_that_goes_away_behind_the_fence_is_shown() -> None:
    world = World()

    async def away() -> None:
        world.log.away = True

    async with world.running() as migration:
        await ready(world)
        world.hooks.work["after_fence"] = away
        crossing = asyncio.create_task(migration.do(Cutover()))
        await world.until(lambda: world.record.phase is Phase.FENCING and world.log.away)
        await asyncio.sleep(2)
        cutover = migration._begun.crossing._cutover
        assert cutover in migration.engine.waits._waits
        world.log.away = False
        await crossing
        assert cutover not in migration.engine.waits._waits


@pytest.mark.parametrize("how", ["away", "refused"])
@virtual
async def test_dead_letters_that_cannot_be_kept_are_shown_and_lose_nothing(how: str) -> None:
    world = World()
    async with world.running() as migration:
        keep, allowed = migration.engine.letters.log.keep, how == "away"
        if allowed:
            world.kept.faults = Faults(Random(0), {Fault.LETTERS_AWAY: 1.0})

        async def keeps(records: Any) -> Any:
            if not allowed:
                raise Refused("permission-denied", "no right to produce")
            return await keep(records)

        migration.engine.letters.log.keep = keeps  # type: ignore[method-assign]
        world.log.produce(b"books/1", b"\xff", partition=0)
        world.write(upsert(2, n=2))
        await wait_for(world, "dead-letters-unavailable")
        assert "store-away" in await codes(world)
        assert world.payloads() == {}
        world.kept.faults.calm()
        allowed = True
        await world.until_applied()
        assert len(await world.state.letters()) == 1
        assert "store-away" not in await codes(world)


# -- who is dead holds nobody up -----------------------------------------------------------


def target_is_away(world: World) -> None:
    world.target.away = True


def source_is_away(world: World) -> None:
    world.source.away = True


def feed_is_away(world: World) -> None:
    world.log.away = True


def letters_are_away(world: World) -> None:
    world.kept.faults = Faults(Random(0), {Fault.LETTERS_AWAY: 1.0})


def outcome_is_unknown(world: World) -> None:
    world.door.errors.extend([OutcomeUnknown("outcome-unknown", "no reply")] * 9)


DEAD: list[Callable[[World], None]] = [
    target_is_away,
    source_is_away,
    feed_is_away,
    letters_are_away,
    outcome_is_unknown,
]


def give_work(world: World) -> None:
    """Something for each of them: an image of the source, a write, a bad record."""
    world.emit(patch(1, kind="paper"))
    world.log.produce(b"books/1", b"\xff", partition=0)
    world.emit(upsert(2, n=2))


@pytest.mark.parametrize("command", ["pause", "drain"])
@pytest.mark.parametrize("dies", DEAD)
@virtual
async def test_a_stream_beside_the_dead_ends_at_once(
    dies: Callable[[World], None], command: str
) -> None:
    world = World(
        transform=TransformSettings(filter=PAPERBACKS),
        bound_s=60.0,
        stream={"drain_timeout": Duration(30), "backoff_max": Duration(20)},
    )
    world.seed(1, kind="paper")
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    dies(world)
    give_work(world)
    await asyncio.sleep(15)
    began = now()
    if command == "pause":
        await world.migration.do(Pause())
        assert now() - began < 1
        began = now()
    world.migration.request_drain()
    await task
    assert now() - began < 6, "a commit is shown to others for no longer than five seconds"


@pytest.mark.parametrize("dies", [target_is_away, source_is_away, outcome_is_unknown])
@virtual
async def test_a_copy_beside_the_dead_ends_at_once(dies: Callable[[World], None]) -> None:
    world = World(
        bound_s=60.0, stream={"drain_timeout": Duration(30), "backoff_max": Duration(20)}
    )
    world.seed(*range(200), n=1)
    world.door.takes_s = 0.5
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: bool(world.door.batches))
    dies(world)
    await asyncio.sleep(15)
    began = now()
    await world.migration.do(Pause())
    world.migration.request_drain()
    await task
    assert now() - began < 2
    world.target.away = world.source.away = False
    world.door.errors.clear()
    world.restart()
    async with world.running(Phase.BACKFILL) as migration:
        await migration.do(Resume())
        await world.until(lambda: world._is_in(Phase.STREAMING))
        assert len(world.payloads()) == 200


@pytest.mark.parametrize("dies", [target_is_away, source_is_away, feed_is_away])
@virtual
async def test_an_operation_beside_the_dead_ends_with_a_drain(
    dies: Callable[[World], None],
) -> None:
    world = World(stream={"drain_timeout": Duration(30), "backoff_max": Duration(20)})
    world.seed(1, n=1)
    for name in ("verify", "repair"):
        task = asyncio.create_task(world.migration.run())
        await world.until(lambda: world._is_in(Phase.STREAMING))
        world.spoil(Delete(1))
        await world.verify()
        ask = world.verify() if name == "verify" else world.migration.do(Repair())
        dies(world)
        operation = asyncio.create_task(ask)
        await asyncio.sleep(15)
        began = now()
        world.migration.request_drain()
        await task
        assert now() - began < 7, name
        await asyncio.wait([operation])
        assert isinstance(operation.exception(), Refused) or operation.done()
        world.target.away = world.source.away = world.log.away = False
        world.restart()


@virtual
async def test_a_drain_in_a_switch_that_hangs_waits_for_nothing() -> None:
    world = World(stream={"drain_timeout": Duration(30)})
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await ready(world)
    world.switch.takes_s = 1000.0
    crossing = asyncio.create_task(world.migration.do(Cutover()))
    await world.until(lambda: bool(world.switch.calls))
    for _ in range(2):  # of the process that asked, and of one that goes on with it
        began = now()
        world.migration.request_drain()
        await task
        assert now() - began < 1
        assert world.record.phase is Phase.SWITCHING
        calls = len(world.switch.calls)
        world.restart()
        task = asyncio.create_task(world.migration.run())
        await world.until(lambda: len(world.switch.calls) > calls)  # noqa: B023
    await asyncio.wait([crossing])
    assert isinstance(crossing.exception(), Refused)
    world.migration.request_drain()
    await task


@virtual
async def test_a_drain_in_fencing_leaves_the_fence_open_though_the_stream_ends_beside_it() -> (
    None
):
    world = World()
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await ready(world)
    world.hooks.work["after_fence"] = lambda: asyncio.sleep(50)
    crossing = asyncio.create_task(world.migration.do(Cutover()))
    await world.until(lambda: world.fence.is_closed)
    world.migration.request_drain()
    await task
    await asyncio.wait([crossing])
    assert isinstance(crossing.exception(), Refused)
    assert not world.fence.is_closed
    assert (world.record.phase, world.record.fence_closed) == (Phase.STREAMING, False)


# -- unsettled -----------------------------------------------------------------------------


@virtual
async def test_only_the_store_that_may_still_be_written_is_waited_for() -> None:
    world = World(bound_s=50.0, stream={"drain_timeout": Duration(1)})
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    world.door.held = {1}
    world.write(upsert(1, n=1))
    await world.until(lambda: bool(world.door.batches))
    world.migration.request_drain()
    await task
    await asyncio.sleep(20)
    world.restart()
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world.migration._have_begun is not None)
    await asyncio.sleep(0.1)
    writers = world.migration.engine.writers
    assert 25.0 < writers[Direction.FORWARD].guard.left_s <= 30.0, "what is left of it"
    assert writers[Direction.REVERSE].guard.is_clear
    world.migration.request_drain()
    await task


@virtual
async def test_after_a_kill_both_stores_are_waited_for_to_the_end_of_the_bound() -> None:
    world = World(bound_s=50.0)
    async with killed(world):
        await asyncio.sleep(100)
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world.migration._have_begun is not None)
    await asyncio.sleep(0.1)
    for writer in world.migration.engine.writers.values():
        assert 49.0 < writer.guard.left_s <= 50.0
    world.migration.request_drain()
    await task


# -- what may still land -------------------------------------------------------------------


@pytest.mark.parametrize("dies", [False, True])
@virtual
async def test_a_copy_to_a_target_that_is_not_there_waits_only_where_a_wipe_may_land(
    dies: bool,
) -> None:
    """A write has nowhere to land there; a wipe that comes late would take the copy with it."""
    world = World(bound_s=50.0)
    world.seed(1, n=1)
    if dies:
        commit = world.state.add_chunks

        async def hangs(*_: Any) -> None:
            await asyncio.Event().wait()

        world.state.add_chunks = hangs  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(world.migration.run())
        await world.until(lambda: "books_v2" in world.target.collections)
        task.cancel()
        await asyncio.wait([task])
        world.state.add_chunks = commit  # type: ignore[method-assign]
        del world.target.collections["books_v2"]
        world.restart()
    began = now()
    async with world.running():
        took = now() - began
        assert (took >= 50.0) if dies else (took < 10.0 + SETTLE_S)
