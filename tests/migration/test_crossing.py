"""Cutover and revert as a person meets them: the gate is asked anew, and nothing goes through a
closed one; what must have happened before the point of no return.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from replicator.codecs.events import encode
from replicator.codecs.partition import expected_partition
from replicator.errors import OwnershipUnknown, Refused, Unavailable
from replicator.model.command import Abort, Cutover, Revert
from replicator.model.fence import FenceAnswer
from replicator.model.phase import Direction, Phase
from replicator.model.position import Positions
from replicator.settings.units import Duration
from tests.migration.lives import let_settle, until_the_gate_opens
from tests.migration.rig import World
from tests.stream.rig import now, upsert, virtual

AWAY = Unavailable("fence-failed", "no answer")


async def codes(world: World, **request: Any) -> set[str]:
    """Why the gate is closed."""
    asked = Cutover(dry_run=True, **request)
    return {blocker.code for blocker in await world.migration.do(asked)}


async def cut_over(world: World, **request: Any) -> None:
    await world.migration.do(Cutover(**request))


# -- the gate ------------------------------------------------------------------------------


@virtual
async def test_nothing_goes_through_a_closed_gate() -> None:
    world = World()
    async with world.running():
        with pytest.raises(Refused) as caught:
            await cut_over(world)
        assert caught.value.code == "gate-closed"
        assert world.fence.calls == []
        assert "FENCING" not in await world.steps()


@virtual
async def test_the_gate_asks_the_log_anew() -> None:
    world = World(cutover={"lag_records_max": 10})
    async with world.running():
        await world.verify()
        assert await codes(world) == set()
        world.door.held = set(range(100))
        world.emit(*(upsert(number) for number in range(50)))
        assert "lag" in await codes(world)


@virtual
async def test_who_is_on_the_target_is_not_cut_over_again() -> None:
    world = World()
    async with world.running():
        await world.verify()
        await cut_over(world)
        await world.until(lambda: world._is_in(Phase.STREAMING))
        with pytest.raises(Refused):
            await cut_over(world)
        assert len(world.switch.calls) == 1
        assert world.record.direction is Direction.REVERSE


@virtual
async def test_no_attempt_begins_before_the_fence_of_the_last_one_is_open() -> None:
    world = World()
    async with world.running():
        await world.verify()
        world.fence.open_errors.extend([AWAY] * 20)
        world.hooks.errors["after_fence"] = Refused("hook-failed", "no")
        with pytest.raises(Refused):
            await cut_over(world)
        world.hooks.errors.clear()
        assert world.record.fence_closed
        assert "busy" in await codes(world)
        with pytest.raises(Refused):
            await world.migration.do(Abort())
        await world.until(lambda: not world.record.fence_closed)
        assert await codes(world) == set()


@virtual
async def test_an_attempt_shorter_than_the_span_of_its_looks_is_refused() -> None:
    world = World(
        rests_on_word=True, staleness_s=20.0, cutover={"delivery_timeout": Duration(1)}
    )
    let_settle(world, 20.0)
    async with world.running():
        await world.verify()
        assert await codes(world, timeout_s=10.0) == {"timeout-short"}
        assert await codes(world, timeout_s=30.0) == set()


@virtual
async def test_a_yes_in_advance_answers_for_one_attempt() -> None:
    world = World()
    answers: list[bool] = []

    async def asked() -> None:
        answers.append(world.person.assume_yes)

    world.hooks.work["before_fence"] = asked
    async with world.running():
        await world.verify()
        await cut_over(world, yes=True)
        assert answers == [True]
        assert not world.person.assume_yes


@virtual
async def test_open_letters_close_the_gate_until_a_person_waives_them() -> None:
    world = World()
    async with world.running():
        await world.verify()
        world.log.produce(b"books/1", b"\xff", partition=0)
        await world.until_applied()
        assert await codes(world) == {"dead-letters"}
        assert await codes(world, waive_dead_letters=True) == set()


@virtual
async def test_a_key_in_the_wrong_partition_closes_the_gate() -> None:
    world = World(partitions=2)
    feed = msgspec.structs.replace(world.settings.feed, partitioner="murmur2")
    world.settings = msgspec.structs.replace(world.settings, feed=feed)
    world.restart()
    async with world.running():
        await world.verify()
        name, _ = encode(upsert(1))
        right = expected_partition("murmur2", name, 2)
        assert right is not None
        world.emit(upsert(1), partition=right)
        await world.until_applied()
        assert await codes(world) == set()
        world.emit(upsert(1), partition=1 - right)
        await world.until_applied()
        assert "misplaced-keys" in await codes(world)


# -- before the point of no return ---------------------------------------------------------


@virtual
async def test_nothing_is_switched_before_the_persisted_positions_reach_the_fence() -> None:
    """The last comparison would mend what is not applied, and hide it."""
    world = World()
    persisted: list[Positions] = []

    async def under_way() -> None:
        world.door.takes_s = 2.0
        world.write(upsert(1, n=1))
        await world.until(lambda: len(world.door.batches) == 1)
        world.write(upsert(1, n=2))  # it waits for the write of its key

    async def note() -> None:
        persisted.append(await world.state.positions())

    async with world.running():
        await world.verify()
        world.hooks.work = {"before_fence": under_way, "before_switch": note}
        await cut_over(world)
    assert persisted == [{world.first: 2}]


@virtual
async def test_what_comes_after_the_last_comparison_is_not_applied() -> None:
    world = World()
    seen: list[Any] = []

    async def straggle() -> None:
        world.emit(upsert(9))
        await asyncio.sleep(5)
        seen.append(world.held(9))

    async with world.running():
        await world.verify()
        world.hooks.work["before_switch"] = straggle
        with pytest.raises(Refused) as caught:
            await cut_over(world)
        assert caught.value.code == "fence-ignored"
        assert seen == [None]
        await world.until(lambda: world.held(9) is not None)


@virtual
async def test_records_of_a_transaction_open_at_the_fence_are_waited_for() -> None:
    world = World()

    async def begin() -> None:
        world.log.begin_transaction(0)
        world.write(upsert(4, n=4))
        asyncio.get_running_loop().call_later(3.0, world.log.end_transaction, 0)

    async with world.running():
        await world.verify()
        world.hooks.work["after_fence"] = begin
        await cut_over(world)
        assert world.payloads() == {4: {"n": 4}}
        [switching] = [x for x in await world.entries() if x.phase is Phase.SWITCHING][:1]
        assert switching.evidence["vector"] == {world.first: 2}


@virtual
async def test_behind_a_word_a_change_is_waited_for_as_long_as_the_source_may_hide_it() -> None:
    world = World(
        rests_on_word=True, staleness_s=8.0, cutover={"delivery_timeout": Duration(1)}
    )
    let_settle(world, 8.0)
    async with world.running():
        await world.verify()
        loop = asyncio.get_running_loop()
        world.fence.on_close = lambda: loop.call_later(6.0, world.emit, upsert(9))
        with pytest.raises(Refused) as caught:
            await cut_over(world)
        assert caught.value.code == "fence-ignored"


@virtual
async def test_an_enforced_fence_is_looked_behind_twice() -> None:
    """A writer that was admitted before it may still have an event on its way."""
    world = World()
    async with world.running():
        await world.verify()
        loop = asyncio.get_running_loop()
        world.fence.on_close = lambda: loop.call_later(0.4, world.emit, upsert(9))
        with pytest.raises(Refused) as caught:
            await cut_over(world)
        assert caught.value.code == "fence-ignored"


@virtual
async def test_a_process_that_dies_while_fenced_leaves_a_record_that_says_so() -> None:
    world = World()
    noted: list[bool] = []

    def closing() -> None:
        noted.append(world.record.fence_closed)

    async with world.running():
        await world.verify()
        world.fence.on_close = closing
        await cut_over(world)
    assert noted[0], "a restart must know that it may be closed, before it is"


@virtual
async def test_an_attempt_that_was_overtaken_before_it_fenced_closes_no_fence() -> None:
    world = World()

    async def overtake() -> None:
        world.log.grow(2)
        await world.until(lambda: world.record.phase is Phase.BLOCKED)

    async with world.running():
        await world.verify()
        world.hooks.work["before_fence"] = overtake
        with pytest.raises(Refused) as caught:
            await cut_over(world)
        assert caught.value.code == "phase-refused"
        assert world.fence.calls == []
        assert world.record.phase is Phase.BLOCKED


# -- after it ------------------------------------------------------------------------------


async def dead_in_switching(world: World) -> None:
    """The switch takes its time, and the process does not live to see its end."""
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await world.verify()
    world.write(upsert(1, n=1))
    await world.until_applied()
    world.switch.takes_s = 1000.0
    cutting = asyncio.create_task(cut_over(world))
    await world.until(lambda: bool(world.switch.calls))
    world.migration.request_drain()
    await asyncio.wait([cutting, task])
    assert isinstance(cutting.exception(), Refused)
    assert world.record.phase is Phase.SWITCHING
    world.switch.takes_s = 0.0
    world.restart()


@virtual
async def test_after_a_restart_the_fence_is_closed_again_before_traffic_moves() -> None:
    world = World()
    closed: list[bool] = []
    await dead_in_switching(world)
    await asyncio.sleep(600)  # its holder has opened it long ago
    assert not world.fence.is_closed
    world.switch.on_switch = lambda: closed.append(world.fence.is_closed)
    async with world.running():
        assert world.record.direction is Direction.REVERSE
        assert closed == [True]


@virtual
async def test_the_fence_outlives_an_attempt_that_reaches_its_switch_at_the_last_moment() -> (
    None
):
    world = World(cutover={"timeout": Duration(30)})
    closed: list[bool] = []

    async def late() -> None:
        await asyncio.sleep(28)

    async with world.running():
        await world.verify()
        world.hooks.work["before_switch"] = late
        world.switch.takes_s = 10.0
        world.switch.on_switch = lambda: closed.append(world.fence.is_closed)
        await cut_over(world)
        assert closed == [True]


@virtual
async def test_a_cutover_is_done_when_the_application_may_write() -> None:
    world = World()
    async with world.running():
        await world.verify()
        world.fence.open_errors.extend([AWAY] * 3)
        await cut_over(world)
        assert not world.fence.is_closed
        assert not world.record.fence_closed


@virtual
async def test_a_revert_writes_no_image_that_its_version_has_overtaken() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        await cut_over(world)
        await world.until(lambda: world._is_in(Phase.STREAMING))
        world.emit(upsert(1, version=5, n=5), upsert(1, version=3, n=3))
        await world.until_applied()
        assert world.source.points("books")[1].payload == {"n": 5}
        await migration.do(Revert())
        assert world.source.points("books")[1].payload == {"n": 5}
        [*_, compared] = [x for x in await world.entries() if "repaired" in x.evidence]
        assert compared.evidence["repaired"] == 0


@virtual
async def test_an_application_that_was_switched_is_not_given_up() -> None:
    world = World()
    async with world.running():
        await world.verify()
        await cut_over(world)
        with pytest.raises(Refused):
            await world.migration.do(Abort())
        assert (world.record.phase, world.record.direction) == (
            Phase.STREAMING,
            Direction.REVERSE,
        )


@virtual
async def test_a_hold_that_ran_out_while_the_fence_was_slow_to_answer_is_a_lapse() -> None:
    """The holder counts from when it closed, not from when we heard of it."""
    world = World(cutover={"timeout": Duration(20)})

    async def close(deadline_s: float, attempt: str) -> FenceAnswer:
        world.fence.calls.append("close")
        world.fence.closed_for, world.fence.closed_until = attempt, now() + deadline_s
        if world.record.phase is Phase.SWITCHING:
            await asyncio.sleep(70.0)  # longer than it holds
        return FenceAnswer()

    world.fence.close = close  # type: ignore[method-assign]
    async with world.running() as migration:
        await world.verify()
        world.switch.takes_s = 100.0
        world.switch.on_switch = lambda: world.emit(upsert(5))
        crossing = asyncio.create_task(migration.do(Cutover()))
        await asyncio.wait([crossing])
        assert world.record.phase is Phase.HELD
        assert crossing.exception() is not None


@virtual
async def test_a_late_image_is_not_written_by_a_process_that_forgot_its_version() -> None:
    world = World(staleness_s=1.0)
    let_settle(world, 1.0)
    async with world.running():
        world.write(upsert(1, version=5, n=5))
        await world.until_applied()
        await asyncio.sleep(5)
        await world.verify()
        world.emit(upsert(1, version=3, n=3))
        await world.until_applied()
    world.restart()
    async with world.running():
        await until_the_gate_opens(world)
        await cut_over(world)
        assert world.payloads()[1] == {"n": 5}


@virtual
async def test_a_write_whose_reply_is_lost_within_the_attempt_is_waited_out() -> None:
    world = World(bound_s=20.0)
    switched: list[float] = []
    suspected: list[float] = []

    async def lose_a_reply() -> None:
        suspected.append(now())
        world.migration.engine.writers[Direction.FORWARD].guard.suspect()

    world.switch.on_switch = lambda: switched.append(now())
    async with world.running():
        await world.verify()
        await until_the_gate_opens(world)
        world.hooks.work["before_fence"] = lose_a_reply
        await cut_over(world)
        assert switched[0] - suspected[0] >= 20.0 - 1e-6


@virtual
async def test_a_switch_without_epochs_that_shows_the_old_direction_has_not_moved() -> None:
    world = World()
    world.switch.repeatable, world.switch.epoch = False, None
    async with world.running():
        await world.verify()
        world.switch.errors.append(Refused("switch-failed", "it will not move"))
        with pytest.raises(OwnershipUnknown):
            await cut_over(world)
        assert world.record.phase is Phase.HELD
        assert world.switch.at is Direction.FORWARD


@virtual
async def test_who_was_admitted_in_a_lapse_has_flushed_before_the_log_is_read() -> None:
    world = World()
    async with world.running():
        await world.verify()
        world.switch.takes_s = 307.0  # between two tries to extend the fence

        def fails_from_now_on() -> None:
            world.fence.errors.extend([AWAY] * 99)

        def closes_again() -> None:
            world.fence.errors.clear()
            # What a writer had under way is in the log once the fence is closed.
            world.fence.on_close = lambda: world.emit(upsert(5))

        world.fence.on_close = fails_from_now_on
        world.switch.on_switch = closes_again
        with pytest.raises(OwnershipUnknown):
            await cut_over(world)
        assert world.record.phase is Phase.HELD


@virtual
async def test_a_hold_counts_from_when_it_was_asked_for() -> None:
    """The holder may take the request in long before we have its answer."""
    world = World()
    closings = 0

    async def close(deadline_s: float, attempt: str) -> FenceAnswer:
        nonlocal closings
        closings += 1
        world.fence.closed_for, world.fence.closed_until = attempt, now() + deadline_s
        if closings == 2:
            await asyncio.sleep(deadline_s - 5.0)
        return FenceAnswer()

    world.fence.close = close  # type: ignore[method-assign]
    async with world.running():
        await world.verify()
        world.switch.takes_s = 150.0
        world.switch.on_switch = lambda: world.emit(upsert(5))
        with pytest.raises(OwnershipUnknown):
            await cut_over(world)
        assert "lapsed" in world.record.reason
