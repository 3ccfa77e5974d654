"""
Who may write which store: leases, rests and held keys, where commands overlap.

Two operations that are right alone must not be at work at once, whatever is asked in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from replicator.errors import Refused, Retryable
from replicator.model.command import (
    Abort,
    Complete,
    Cutover,
    Own,
    Pause,
    Repair,
    Resume,
    RetryLetters,
)
from replicator.model.event import Key
from replicator.model.phase import Direction, Phase
from replicator.model.write import Delete, Receipt, Upsert, WriteBatch
from replicator.settings.units import Duration
from replicator.stream.holds import Holds
from replicator.stream.ownership import TOGETHER, Lease, Ownership, Purpose, Revoked
from tests.migration.lives import at_target, cut_over, ready, revert, stamped, streams
from tests.migration.rig import SETTLE_S, World
from tests.stream.rig import key, now, point, refuses_poison, upsert, virtual

# -- leases --------------------------------------------------------------------------------


@pytest.mark.parametrize("first", Purpose)
@pytest.mark.parametrize("second", Purpose)
def test_only_what_keeps_keys_from_each_other_writes_side_by_side(
    first: Purpose, second: Purpose
) -> None:
    async def ask() -> bool:
        ownership = Ownership()
        ownership.lease(Direction.FORWARD, first, 0)
        try:
            ownership.lease(Direction.FORWARD, second, 0)
        except Refused:
            return False
        return True

    granted = asyncio.run(ask())
    assert granted == (first is not second and {first, second} <= TOGETHER)


@virtual
async def test_both_stores_are_never_written_at_once_nor_in_two_epochs() -> None:
    ownership = Ownership()
    with ownership.lease(Direction.FORWARD, Purpose.STREAM, 1):
        for store, epoch in ((Direction.REVERSE, 1), (Direction.FORWARD, 2)):
            with pytest.raises(Refused, match="stream writes just now"):
                ownership.lease(store, Purpose.REPAIR, epoch)
        ownership.lease(Direction.FORWARD, Purpose.REPAIR, 1).give_back()
    ownership.lease(Direction.REVERSE, Purpose.STREAM, 2).give_back()


@virtual
async def test_who_waits_under_a_lease_ends_at_once_when_it_is_revoked() -> None:
    ownership = Ownership()
    lease = ownership.lease(Direction.FORWARD, Purpose.REPAIR, 0)

    async def waits(wait: Callable[[Lease], Any]) -> float:
        with pytest.raises(Revoked):
            await wait(lease)
        return now()

    waiting = [
        asyncio.create_task(waits(lambda lease: lease.sleep(1000))),
        asyncio.create_task(waits(lambda lease: lease.while_held(asyncio.sleep(1000)))),
    ]
    await asyncio.sleep(5)
    ownership.revoke(Purpose.REPAIR)
    assert await asyncio.gather(*waiting) == [now(), now()]
    with pytest.raises(Revoked):
        lease.check()
    assert ownership.held(), "it is given back by who holds it, with nothing in flight"
    lease.give_back()
    assert not ownership.held()


@virtual
async def test_a_rest_is_released_by_its_holder_and_nobody_else() -> None:
    ownership = Ownership()
    first, second = ownership.rest("a cutover is under way"), ownership.rest("another")
    with pytest.raises(Refused, match="another"):
        ownership.lease(Direction.FORWARD, Purpose.MEND, 0, rest=first)
    second.release()
    second.release()
    with pytest.raises(Refused, match="a cutover is under way"):
        ownership.lease(Direction.FORWARD, Purpose.STREAM, 0)
    ownership.lease(Direction.FORWARD, Purpose.MEND, 0, rest=first).give_back()
    first.release()
    ownership.lease(Direction.FORWARD, Purpose.STREAM, 0).give_back()


# -- holds ---------------------------------------------------------------------------------


class Writing:
    """A party whose write of every key is under way."""

    def is_writing(self, keys: object) -> bool:
        return True

    def wake(self) -> None:
        pass


@virtual
async def test_a_hold_waits_no_longer_for_a_party_that_was_cut_short() -> None:
    holds, party, entered = Holds(), Writing(), asyncio.Event()
    holds.join(party)

    async def hold() -> None:
        async with holds.holding([key(1)]):
            entered.set()

    holding = asyncio.create_task(hold())
    await asyncio.sleep(1)
    assert not entered.is_set()
    holds.leave(party)
    await holding
    assert holds.keys == set()


@virtual
async def test_keys_are_free_again_when_who_waited_for_them_gave_up() -> None:
    holds, party = Holds(), Writing()
    holds.join(party)
    ownership = Ownership()
    lease = ownership.lease(Direction.FORWARD, Purpose.REPAIR, 0)
    holding = holds.holding([key(1)])
    waiting = asyncio.create_task(lease.while_held(holding.__aenter__()))
    await asyncio.sleep(1)
    lease.revoke()
    with pytest.raises(Revoked):
        await waiting
    await asyncio.sleep(0)
    assert holds.keys == set()


# -- the rest of a cutover -----------------------------------------------------------------


@virtual
async def test_no_resume_wakes_the_stream_that_a_cutover_has_put_to_rest() -> None:
    world = World()
    ran: list[bool] = []

    async def resume() -> None:
        assert world.migration.engine.stream is None
        await world.migration.do(Resume())
        world.migration._begun.supervisor.wake()  # as a probe, or whatever looks
        await asyncio.sleep(5)
        ran.append(world.migration.engine.stream is not None)

    async with world.running():
        await ready(world)
        world.hooks.work["before_switch"] = resume
        await cut_over(world)
        assert ran == [False]
        assert world.record.direction is Direction.REVERSE


@pytest.mark.parametrize("lapses", [False, True])
@virtual
async def test_the_first_events_of_the_new_owner_reach_the_old_store(lapses: bool) -> None:
    """A stream that went on forward would write them to their own store, and count them as
    done.
    """
    world = World()

    async def resume() -> None:
        await world.migration.do(Resume())
        await asyncio.sleep(1)

    async def write() -> None:
        if lapses:  # a slow hook, and a fence that nobody can extend meanwhile
            away = Retryable("fence-failed", "no answer")
            world.fence.errors.extend([away] * 14)
            await asyncio.sleep(200)
            assert not world.fence.is_closed
        at_target(world, stamped(upsert(500, n=1), 1))
        await asyncio.sleep(1)
        at_target(world, stamped(upsert(500, n=2), 1))

    async with world.running():
        await ready(world)
        world.hooks.work = {"before_switch": resume, "after_switch": write}
        await cut_over(world)
        await world.until_applied()
        assert world.source.points("books")[500].payload == {"n": 2}
        world.hooks.work.clear()
        await revert(world)
        assert world.payloads()[500] == {"n": 2}


@virtual
async def test_what_blocks_an_attempt_and_is_resumed_ends_it_without_a_switch() -> None:
    world = World()

    async def damage() -> None:
        world.log.damaged = True
        await world.until(lambda: world.record.phase is Phase.BLOCKED)
        world.log.damaged = False
        with pytest.raises(Refused, match="cutover is under way"):
            await world.migration.do(Resume())
        await asyncio.sleep(1)

    async with world.running() as migration:
        await ready(world)
        world.hooks.work["after_fence"] = damage
        with pytest.raises(Refused):
            await cut_over(world)
        await world.until(lambda: not world.fence.is_closed)
        await migration.do(Resume())
        await streams(world)
        assert world.switch.calls == []
        assert world.record.direction is Direction.FORWARD


# -- pause and resume beside operations that hold keys -------------------------------------


async def repairing(world: World) -> asyncio.Task[int]:
    """A repair that holds its key, and waits until the source must show it."""
    world.spoil(Delete(1))
    await world.verify()
    task = asyncio.create_task(world.migration.do(Repair()))
    await asyncio.sleep(SETTLE_S / 2)
    assert world.migration.engine.ownership.holds.keys == {Key("books", 1)}
    return task


@virtual
async def test_a_repair_has_ended_when_a_pause_returns() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        repair = await repairing(world)
        await migration.do(Pause())
        written = len(world.door.batches)
        await asyncio.sleep(30)
        assert len(world.door.batches) == written
        with pytest.raises(Refused, match="repair was stopped: the stream stops"):
            await repair
        assert migration.engine.ownership.holds.keys == set()
        await migration.do(Resume())
        await streams(world)
        await migration.do(Repair())
        assert world.payloads() == {1: {"n": 1}}


@virtual
async def test_no_write_of_a_repair_overtakes_what_came_after_pause_and_resume() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        repair = await repairing(world)
        real = world.door.apply

        async def slow(batch: WriteBatch) -> Receipt:
            world.door.apply = real  # type: ignore[method-assign]
            await asyncio.sleep(3)
            return await real(batch)

        world.door.apply = slow  # type: ignore[method-assign]
        await asyncio.sleep(SETTLE_S)  # its write is under way
        await migration.do(Pause())
        await migration.do(Resume())
        world.write(upsert(1, n=2))
        await streams(world)
        await world.until_applied()
        await asyncio.wait([repair])
        await asyncio.sleep(5)
        assert world.payloads() == {1: {"n": 2}}
        assert world.door.clashes == []


@virtual
async def test_no_retry_writes_an_event_that_a_newer_one_has_followed() -> None:
    world = World()
    async with world.running() as migration:
        world.target.refuses = refuses_poison
        world.write(upsert(1, poison=1))
        await world.until_applied()
        world.target.refuses = None
        feed = migration.parts.feed
        assert feed is not None
        read = feed.read

        async def slow(*arguments: Any) -> Any:
            await asyncio.sleep(3)
            async for page in read(*arguments):
                yield page

        feed.read = slow  # type: ignore[method-assign,assignment]
        retry = asyncio.create_task(migration.do(RetryLetters()))
        await asyncio.sleep(0.5)
        await migration.do(Pause())
        await migration.do(Resume())
        await streams(world)
        world.write(upsert(1, n=2))
        await world.until_applied()
        assert world.payloads() == {1: {"n": 2}}
        with pytest.raises(Refused):
            await retry
        await asyncio.sleep(10)
        assert world.payloads() == {1: {"n": 2}}


@virtual
async def test_a_repair_waits_for_no_stream_that_was_cut_short() -> None:
    world = World(stream={"drain_timeout": Duration(5)})
    world.seed(1, n=1)
    async with world.running() as migration:
        world.spoil(Delete(1))
        await world.verify()
        world.door.held = {1}
        world.write(upsert(1, n=2))
        await world.until(lambda: [1] in world.door.ids)
        repair = asyncio.create_task(migration.do(Repair()))
        await asyncio.sleep(1)
        await migration.do(Pause())
        assert repair.done()
        world.door.release()
        await migration.do(Resume())
        await streams(world)
        with pytest.raises(Refused):
            await repair
        assert world.payloads() == {1: {"n": 2}}


@virtual
async def test_a_pause_is_one_though_a_dead_store_holds_up_a_repair_and_the_stream() -> None:
    """Both are asked to end at the same time, and it returns when neither writes any more."""
    world = World(stream={"drain_timeout": Duration(10)}, bound_s=1.0)
    world.seed(1, n=1)
    async with world.running() as migration:
        repair = await repairing(world)
        world.door.held = {1, 2}
        await asyncio.sleep(SETTLE_S)
        world.write(upsert(2, n=2))
        await world.until(lambda: [2] in world.door.ids)
        began = now()
        await migration.do(Pause())
        assert now() - began <= 10.5
        assert migration.engine.stream is None
        assert not migration.engine.ownership.held()
        world.door.release()
        written = len(world.door.batches)
        await asyncio.sleep(60)
        assert len(world.door.batches) == written
        with pytest.raises(Refused):
            await repair
        await migration.do(Resume())
        await world.until_applied()
        assert world.payloads() == {2: {"n": 2}}


@virtual
async def test_what_ends_the_stream_ends_the_repair_beside_it() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        repair = await repairing(world)
        world.switch.readable = False
        world.emit(stamped(upsert(5, n=5), 7))
        await world.until(lambda: world.record.phase is Phase.HELD)
        with pytest.raises(Refused, match="the stream ended"):
            await repair
        written = len(world.door.batches)
        await asyncio.sleep(30)
        assert len(world.door.batches) == written
        await migration.do(Own("source"))
        await streams(world)


@virtual
async def test_a_verification_outlives_pause_and_resume_and_what_blocks() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        world.spoil(Delete(1))
        verifying = asyncio.create_task(world.verify())
        await asyncio.sleep(0.1)
        await migration.do(Pause())
        await asyncio.sleep(60)
        await migration.do(Resume())
        await asyncio.sleep(0.1)
        world.log.damaged = True
        await world.until(lambda: world.record.phase is Phase.BLOCKED)
        world.log.damaged = False
        await migration.do(Resume())
        assert (await verifying).missing == 1


@virtual
async def test_a_cutover_is_not_begun_while_a_repair_holds_keys() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running() as migration:
        repair = await repairing(world)
        blockers = await migration.do(Cutover(dry_run=True))
        assert "busy" in {blocker.code for blocker in blockers}
        assert await repair == 1


# -- commands that race --------------------------------------------------------------------


@virtual
async def test_a_pause_that_comes_first_lets_no_attempt_fence() -> None:
    world = World()

    async def pause() -> None:
        record = world.record
        record.paused = True  # as a pause that was written down since the gate was asked

    async with world.running() as migration:
        await ready(world)
        world.hooks.work["before_fence"] = pause
        with pytest.raises(Refused):
            await migration.do(Cutover())
        assert world.fence.calls == []
        assert world.record.phase is Phase.STREAMING
        world.record.paused = False


@virtual
async def test_a_pause_that_a_cutover_has_overtaken_does_not_say_that_it_is_one() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        journal = migration.engine.journal
        world.switch.takes_s = 5.0
        async with journal._changing:  # somebody is just writing the record
            pausing = asyncio.create_task(migration.do(Pause()))
            await asyncio.sleep(0)
            world.record.phase = Phase.FENCING
        with pytest.raises(Refused):
            await pausing
        world.record.phase = Phase.STREAMING


@pytest.mark.parametrize("command", [Abort(), Complete()], ids=lambda command: command.name)
@virtual
async def test_nothing_is_ended_that_was_fenced_since_it_was_asked(
    command: Abort | Complete,
) -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        if isinstance(command, Complete):
            await cut_over(world)
        async with migration.engine.journal._changing:
            ending = asyncio.create_task(migration.do(command))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            world.record.fence_closed = True  # an attempt came and went, in between
        with pytest.raises(Refused):
            await ending
        assert world.record.phase is Phase.STREAMING
        world.record.fence_closed = False


# -- the end of a plain copy ---------------------------------------------------------------


@virtual
async def test_a_plain_copy_is_paused_at_once_while_it_heals_and_compares() -> None:
    world = World(feed=False, stream={"drain_timeout": Duration(30)})
    world.seed(*range(3), n=1)
    finish = world.door._store.finish_bulk

    async def finish_bulk(collection: str) -> None:
        await finish(collection)
        world.source.write("books", Upsert(point(1, n=2)))
        world.target.away = True

    world.door.finish_bulk = finish_bulk  # type: ignore[attr-defined]
    async with world.running(Phase.BACKFILL) as migration:
        await world.until(lambda: world.target.away)
        await asyncio.sleep(10)
        began = now()
        await migration.do(Pause())
        assert now() - began < 1
        world.target.away = False
        world.door.finish_bulk = finish  # type: ignore[attr-defined]
        await migration.do(Resume())
        await world.until(lambda: world.record.phase is Phase.COMPLETE)
        assert world.payloads()[1] == {"n": 2}
