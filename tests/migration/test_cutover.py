"""Cutover and revert: a failure before the switch goes back; after it there is only forward, or
a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from replicator.errors import (
    OutcomeUnknown,
    OwnershipUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
)
from replicator.migration.evidence.journal import Journal
from replicator.model.command import Cutover, Own, Revert
from replicator.model.epoch import EpochEnd
from replicator.model.fence import FenceAnswer
from replicator.model.phase import Direction, Phase
from replicator.model.write import Delete, Write
from replicator.settings.units import Duration
from replicator.testing.faults import Fault
from tests.migration.rig import World
from tests.stream.rig import now, upsert, virtual

REFUSED = Refused("switch-failed", "it will not move")
LOST = OutcomeUnknown("switch-failed", "it did not answer")


async def ready(world: World) -> None:
    """Verified, with something written since."""
    await world.verify()
    world.write(upsert(1, n=1), upsert(2, n=2))
    await world.until_applied()


async def cut_over(world: World, **request: Any) -> None:
    await world.migration.do(Cutover(**request))


@virtual
async def test_a_cutover_takes_its_steps_in_order_and_each_is_journalled_first() -> None:
    world = World()
    phases: list[Phase] = []
    async with world.running():
        await ready(world)
        world.fence.on_close = lambda: phases.append(world.record.phase)
        world.switch.on_switch = lambda: phases.append(world.record.phase)
        before = len(await world.steps())
        await cut_over(world)
        assert (await world.steps())[before:] == [
            "before_fence",
            "FENCING",
            "fence",
            "closed",
            "drain",
            "recheck",
            "recheck",
            "stragglers",
            "before_switch",
            "SWITCHING",
            "switch",
            "STREAMING",
            "open",
        ]
        assert phases == [Phase.FENCING, Phase.SWITCHING]
        assert world.hooks.ran == [
            "before_fence forward",
            "after_fence forward",
            "before_switch forward",
            "after_switch reverse",
            "after_open reverse",
        ]
        assert world.switch.calls == [(Direction.REVERSE, 1)]
        record = world.record
        assert (record.direction, record.epoch) == (Direction.REVERSE, 1)
        assert record.epochs.ends == (EpochEnd(0, {world.first: 2}),)
        assert record.fence_vector == {}
        assert not world.fence.is_closed
        fence = (await world.migration.status()).fence
        assert fence is not None
        assert (fence.operation, fence.step, fence.outcome) == ("cutover", "done", "done")


@virtual
async def test_after_a_cutover_new_events_reach_the_old_store_and_a_revert_loses_nothing() -> (
    None
):
    world = World()
    async with world.running():
        await ready(world)
        await cut_over(world)
        await world.until(lambda: world.migration.engine.stream is not None)
        world.emit(upsert(3, n=3))
        await world.until_applied()
        assert 3 in world.source.points("books")
        await world.until(lambda: world.migration.engine.lag().records == 0)
        await world.migration.do(Revert())
        assert world.record.direction is Direction.FORWARD
        assert world.switch.calls == [(Direction.REVERSE, 1), (Direction.FORWARD, 2)]


@virtual
async def test_an_event_of_the_epoch_before_the_switch_is_a_letter_and_is_not_applied() -> None:
    world = World()
    async with world.running():
        await ready(world)
        await cut_over(world)
        await world.until(lambda: world.migration.engine.stream is not None)
        late = upsert(1, n=99)
        late.epoch = 0
        world.emit(late)
        await world.until_applied()
        [letter] = await world.state.letters()
        assert letter.code == "epoch-stale"
        assert world.source.points("books")[1].payload == {"n": 1}


# -- failures before the point of no return ------------------------------------------------


def refuses_all(_collection: str, _write: Write) -> tuple[Fault, Rejected]:
    return Fault.POINT_REJECTED, Rejected("target-rejected", "no")


def hook(step: str) -> Callable[[World], None]:
    def fail(world: World) -> None:
        world.hooks.errors[step] = Refused("hook-failed", "no")

    return fail


def fence_refuses(world: World) -> None:
    world.fence.errors.append(Refused("fence-failed", "a writer will not stop"))


def fence_is_away(world: World) -> None:
    world.fence.errors.append(Retryable("fence-failed", "no answer"))


def never_drained(world: World) -> None:
    world.door.held = {3}
    world.write(upsert(3))


def a_transaction_stays_open(world: World) -> None:
    async def begin() -> None:
        world.log.begin_transaction(0)
        world.write(upsert(4))

    world.hooks.work["after_fence"] = begin


def a_writer_goes_on_while_it_drains(world: World) -> None:
    world.door.held = {3}
    world.write(upsert(3))

    def go_on() -> None:
        world.write(upsert(4))
        world.door.release()

    world.fence.on_close = lambda: asyncio.get_running_loop().call_later(2.0, go_on)


def a_writer_goes_on_at_the_last_moment(world: World) -> None:
    async def write() -> None:
        world.write(upsert(4))

    world.hooks.work["before_switch"] = write


def the_stores_differ(world: World) -> None:
    async def spoil() -> None:
        world.spoil(Delete(1))
        world.target.refuses = refuses_all

    world.hooks.work["after_fence"] = spoil


def the_log_is_cut(world: World) -> None:
    async def cut() -> None:
        world.log.truncate(0, 1)

    world.hooks.work["after_fence"] = cut


def the_fence_is_slow(world: World) -> None:
    world.fence.takes_s = 1000.0


def a_hook_is_slow(world: World) -> None:
    async def take_long() -> None:
        await asyncio.sleep(1000)

    world.hooks.work["before_switch"] = take_long


def a_defect(world: World) -> None:
    async def fail() -> None:
        raise KeyError("a defect")

    world.hooks.work["after_fence"] = fail


FAILURES: list[tuple[Callable[[World], None], str]] = [
    (hook("before_fence"), "hook-failed"),
    (fence_refuses, "fence-failed"),
    (fence_is_away, "fence-failed"),
    (the_fence_is_slow, "cutover-timeout"),
    (hook("after_fence"), "hook-failed"),
    (a_transaction_stays_open, "cutover-timeout"),
    (never_drained, "cutover-timeout"),
    (a_writer_goes_on_while_it_drains, "fence-ignored"),
    (the_stores_differ, "recheck-mismatch"),
    (the_log_is_cut, "log-truncated"),
    (hook("before_switch"), "hook-failed"),
    (a_hook_is_slow, "cutover-timeout"),
    (a_writer_goes_on_at_the_last_moment, "fence-ignored"),
]


@pytest.mark.parametrize(("go_wrong", "code"), FAILURES)
@virtual
async def test_a_failure_before_the_switch_goes_back_to_streaming_and_opens_the_fence(
    go_wrong: Callable[[World], None], code: str
) -> None:
    world = World()
    async with world.running():
        await ready(world)
        go_wrong(world)
        before = len(await world.steps())
        with pytest.raises(ReplicatorError) as caught:
            await cut_over(world)
        assert caught.value.code == code
        await world.until(lambda: not world.record.fence_closed)
        steps = (await world.steps())[before:]
        assert "SWITCHING" not in steps
        if "FENCING" in steps:
            # In this order: a fence that opens before STREAMING is persisted would let writes
            # in that a restart knows nothing of.
            assert steps.index("FENCING") < steps.index("STREAMING") < steps.index("open")
            assert "open" in world.fence.calls
            assert world.record.reason_code == code
        else:
            assert world.fence.calls == []
            assert "failed" in steps
        record = world.record
        assert (record.phase, record.direction) == (Phase.STREAMING, Direction.FORWARD)
        assert not world.fence.is_closed
        assert world.switch.calls == []
        fence = (await world.migration.status()).fence
        assert fence is not None
        assert fence.step == "failed"
        assert fence.outcome is not None
        assert fence.outcome.startswith(code)
        # It streams as before.
        world.target.refuses = None
        world.door.release()
        world.log.end_transaction(0)
        world.write(upsert(50))
        await world.until_applied()
        assert world.held(50) is not None


@virtual
async def test_a_defect_goes_back_too_and_is_raised() -> None:
    world = World()
    async with world.running():
        await ready(world)
        a_defect(world)
        with pytest.raises(KeyError):
            await cut_over(world)
        await world.until(lambda: not world.record.fence_closed)
        assert (world.record.phase, world.record.reason_code) == (Phase.STREAMING, "internal")
        assert not world.fence.is_closed


@virtual
async def test_an_attempt_that_failed_can_be_made_again() -> None:
    world = World()
    async with world.running():
        await ready(world)
        fence_refuses(world)
        with pytest.raises(Refused):
            await cut_over(world)
        await world.until(lambda: not world.record.fence_closed)
        await cut_over(world)
        assert world.record.direction is Direction.REVERSE


@virtual
async def test_the_fence_opens_only_once_the_record_says_streaming() -> None:
    world = World()
    phases: list[Phase] = []
    really_open = world.fence.open

    async def open_fence(attempt: str) -> FenceAnswer:
        record = await world.state.load()
        assert record is not None
        phases.append(record.phase)
        return await really_open(attempt)

    world.fence.open = open_fence  # type: ignore[method-assign]
    async with world.running():
        await ready(world)
        hook("before_switch")(world)
        with pytest.raises(Refused):
            await cut_over(world)
        await world.until(lambda: not world.record.fence_closed)
        world.hooks.errors.clear()
        await cut_over(world)
        assert phases == [Phase.STREAMING, Phase.STREAMING]


@virtual
async def test_a_drain_within_an_attempt_goes_back_and_leaves_the_fence_open() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        never_drained(world)
        cutting = asyncio.create_task(cut_over(world))
        await world.until(lambda: world.record.phase is Phase.FENCING)
        await asyncio.sleep(1)
        migration.request_drain()
        with pytest.raises(Refused):
            await cutting
    assert world.record.phase is Phase.STREAMING
    assert not world.fence.is_closed


@virtual
async def test_a_restart_in_fencing_goes_back_and_opens_the_fence() -> None:
    world = World()
    async with world.running():
        pass
    journal = Journal(world.state, world.record, world.wall)
    await journal.move(Phase.FENCING, "begins", only_from=Phase.STREAMING, fence_closed=True)
    await world.fence.close(1000.0, journal.record.fence_attempt)
    world.restart()
    async with world.running():
        await world.until(lambda: not world.record.fence_closed)
        assert world.record.phase is Phase.STREAMING
        assert not world.fence.is_closed


@virtual
async def test_behind_a_fence_that_rests_on_a_word_a_straggler_is_found_to_the_end() -> None:
    world = World(rests_on_word=True, cutover={"delivery_timeout": Duration(5)})
    async with world.running():
        await ready(world)
        world.fence.on_close = lambda: emit_after(world, 4.8)
        with pytest.raises(Refused) as caught:
            await cut_over(world)
        assert caught.value.code == "fence-ignored"


@virtual
async def test_behind_a_fence_that_is_enforced_nobody_waits_for_the_delivery_timeout() -> None:
    world = World(cutover={"delivery_timeout": Duration(5)})
    async with world.running():
        await ready(world)
        began = now()
        await cut_over(world)
        assert now() - began < 3


def emit_after(world: World, delay_s: float) -> None:
    asyncio.get_running_loop().call_later(delay_s, world.emit, upsert(9))


# -- from the point of no return on --------------------------------------------------------


@virtual
async def test_a_switch_that_fails_is_asked_again_where_that_does_no_harm() -> None:
    world = World()
    async with world.running():
        await ready(world)
        world.switch.errors.extend([REFUSED] * 4)
        await cut_over(world)
        assert len(world.switch.calls) == 5
        assert world.record.direction is Direction.REVERSE


@virtual
async def test_a_person_who_says_no_is_not_asked_again() -> None:
    world = World()
    async with world.running():
        await ready(world)
        world.switch.errors.append(Refused("declined", "the traffic was not sent"))
        with pytest.raises(OwnershipUnknown):
            await cut_over(world)
        assert len(world.switch.calls) == 1
        assert world.record.phase is Phase.HELD


@virtual
async def test_a_switch_whose_reply_is_lost_is_read_and_not_asked_again() -> None:
    world = World()
    world.switch.repeatable = False
    async with world.running():
        await ready(world)
        world.switch.lost.append(LOST)
        await cut_over(world)
        assert len(world.switch.calls) == 1
        assert world.record.direction is Direction.REVERSE


def fails_for_ever(world: World) -> None:
    world.switch.errors.extend([REFUSED] * 9)


def cannot_be_asked_twice(world: World) -> None:
    world.switch.repeatable = False
    world.switch.errors.append(REFUSED)


def cannot_be_read(world: World) -> None:
    world.switch.repeatable = world.switch.readable = False
    world.switch.lost.append(LOST)


def the_fence_lapses(world: World) -> None:
    """The keeper cannot extend it, and a writer comes back while traffic moves."""
    world.switch.takes_s = 300.0

    def from_now_on() -> None:
        world.fence.errors.extend([Retryable("fence-failed", "no answer")] * 99)

    world.fence.on_close = from_now_on
    world.switch.on_switch = lambda: world.emit(upsert(5))


@pytest.mark.parametrize(
    "go_wrong", [fails_for_ever, cannot_be_asked_twice, cannot_be_read, the_fence_lapses]
)
@virtual
async def test_where_nobody_knows_who_owns_the_data_a_person_decides(
    go_wrong: Callable[[World], None],
) -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        go_wrong(world)
        with pytest.raises(OwnershipUnknown):
            await cut_over(world)
        assert (world.record.phase, world.record.reason_code) == (
            Phase.HELD,
            "ownership-unknown",
        )
        assert world.record.fence_closed
        assert "open" not in world.fence.calls
        status = await migration.status()
        assert status.application_may_write is None
        assert [blocker.code for blocker in status.not_ready] == ["ownership-unknown"]
        calls = len(world.switch.calls)
        await asyncio.sleep(120)
        assert world.record.phase is Phase.HELD
        assert len(world.switch.calls) == calls
        world.fence.errors.clear()
        await migration.do(Own("target"))
        await world.until(lambda: not world.record.fence_closed)
        assert (world.record.phase, world.record.direction, world.record.epoch) == (
            Phase.STREAMING,
            Direction.REVERSE,
            1,
        )


@virtual
async def test_a_switch_that_a_person_says_did_not_take_place_changes_no_epoch() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        fails_for_ever(world)
        with pytest.raises(OwnershipUnknown):
            await cut_over(world)
        await migration.do(Own("source"))
        await world.until(lambda: not world.record.fence_closed)
        assert (world.record.direction, world.record.epoch) == (Direction.FORWARD, 0)
        world.write(upsert(50))
        await world.until_applied()
        assert world.held(50) is not None


@virtual
async def test_a_fence_that_lapses_while_nobody_writes_is_no_harm() -> None:
    world = World()
    async with world.running():
        await ready(world)
        the_fence_lapses(world)
        world.switch.on_switch = None
        await cut_over(world)
        assert world.record.direction is Direction.REVERSE


@virtual
async def test_what_the_fences_holder_said_is_journalled_with_the_steps() -> None:
    world = World()
    async with world.running():
        await ready(world)
        await cut_over(world)
        said = {entry.step: entry.evidence for entry in await world.state.journal(1000)}
        assert (said["closed"]["holder"], said["closed"]["writers"]) == ("the rig", 3)
        assert said["closed"]["held_s"] > 60
        assert said["open"]["holder"] == "the rig"


@virtual
async def test_a_holder_that_holds_for_less_than_it_was_asked_is_trusted_for_no_longer() -> (
    None
):
    world = World()
    async with world.running():
        await ready(world)
        world.fence.holds_s = 1.0
        world.hooks.work["before_switch"] = lambda: asyncio.sleep(2)
        with pytest.raises(Refused) as failed:
            await cut_over(world)
        assert failed.value.code == "fence-lapsed"
        assert world.switch.calls == []


@virtual
async def test_a_fence_that_is_closed_for_another_attempt_is_left_to_its_deadline() -> None:
    """Another daemon's, say: this one may not let the application write in the midst of it."""
    world = World()

    def overtaken() -> None:
        world.fence.closed_for = "another/1"
        world.fence.closed_until = now() + 30

    async with world.running():
        await ready(world)
        world.fence.on_close = overtaken
        world.hooks.errors["after_fence"] = Refused("hook-failed", "not today")
        crossing = asyncio.create_task(cut_over(world))
        await asyncio.sleep(20)
        assert world.record.phase is Phase.STREAMING
        assert world.fence.is_closed
        assert world.record.fence_closed, "nobody says that it is open"
        await asyncio.sleep(20)
        assert not world.record.fence_closed
        with pytest.raises(Refused, match="not today"):
            await crossing


@virtual
async def test_each_attempt_closes_its_fence_under_a_name_of_its_own() -> None:
    world = World()
    async with world.running():
        await ready(world)
        world.hooks.errors["after_fence"] = Refused("hook-failed", "not today")
        for _ in range(2):
            with pytest.raises(Refused, match="not today"):
                await cut_over(world)
        first, second = world.fence.attempts
        assert first != second
        assert world.record.fence_attempt == second


@virtual
async def test_the_next_capture_opens_what_the_one_before_it_has_left_closed() -> None:
    """Under another id, and so under another name if it made one of its own."""
    world = World()
    async with world.running():
        pass
    journal = Journal(world.state, world.record, world.wall)
    token = journal.record.attempt_at(1)
    await journal.move(
        Phase.ABORTED,
        "given up",
        only_from=Phase.STREAMING,
        fence_closed=True,
        fence_token=token,
        tries=1,
    )
    await world.fence.close(1e9, token)
    world.restart()
    async with world.running():
        await world.until(lambda: not world.record.fence_closed)
        assert not world.fence.is_closed


@virtual
async def test_the_fence_is_kept_closed_for_as_long_as_the_switch_takes() -> None:
    world = World()
    closed: list[bool] = []
    async with world.running():
        await ready(world)
        world.switch.takes_s = 500.0
        world.switch.on_switch = lambda: closed.append(world.fence.is_closed)
        await cut_over(world)
        assert closed == [True]


@pytest.mark.parametrize("step", ["after_switch", "after_open"])
@virtual
async def test_a_hook_behind_the_switch_fails_in_the_journal_only(step: str) -> None:
    world = World()
    async with world.running():
        await ready(world)
        hook(step)(world)
        await cut_over(world)
        await world.until(lambda: f"{step} reverse" in world.hooks.ran)
        await asyncio.sleep(1)
        assert world.record.direction is Direction.REVERSE
        [entry] = [x for x in await world.entries() if x.step == step]
        assert "the hook failed" in entry.message


async def die_in_switching(world: World) -> None:
    """A process that was asked to end while the switch took its time."""
    async with world.running():
        await ready(world)
        world.switch.takes_s = 1000.0
        cutting = asyncio.create_task(cut_over(world))
        await world.until(lambda: bool(world.switch.calls))
        world.migration.request_drain()
        with pytest.raises(Refused):
            await cutting
    assert world.record.phase is Phase.SWITCHING
    assert "open" not in world.fence.calls
    world.switch.takes_s = 0.0
    world.restart()


@virtual
async def test_a_restart_in_switching_goes_on_where_the_switch_can_be_repeated() -> None:
    world = World()
    await die_in_switching(world)
    async with world.running():
        assert world.record.direction is Direction.REVERSE
        assert world.switch.calls == [(Direction.REVERSE, 1)] * 2
        await world.until(lambda: not world.record.fence_closed)
        assert not world.fence.is_closed


@virtual
async def test_a_restart_does_not_ask_twice_for_what_took_place() -> None:
    world = World()
    world.switch.repeatable = False
    await die_in_switching(world)
    world.switch.at, world.switch.epoch = Direction.REVERSE, 1
    async with world.running():
        assert world.record.direction is Direction.REVERSE
        assert len(world.switch.calls) == 1


@virtual
async def test_a_restart_that_cannot_tell_is_for_a_person() -> None:
    world = World()
    world.switch.repeatable = world.switch.readable = False
    await die_in_switching(world)
    async with world.running(Phase.HELD):
        assert len(world.switch.calls) == 1
        assert world.record.fence_closed


@virtual
async def test_a_restart_after_the_fence_had_lapsed_and_writers_came_is_for_a_person() -> None:
    world = World()
    await die_in_switching(world)
    world.emit(upsert(7))
    async with world.running(Phase.HELD):
        assert len(world.switch.calls) == 1
        assert "lapsed" in world.record.reason or "either store" in world.record.reason


@virtual
async def test_behind_a_fence_on_a_word_a_change_whose_event_came_first_is_waited_for() -> None:
    world = World(rests_on_word=True, cutover={"delivery_timeout": Duration(5)})
    async with world.running():
        await ready(world)

        def change_under_way() -> None:
            world.emit(upsert(1, n=9))
            loop = asyncio.get_running_loop()
            loop.call_later(3, lambda: world.write(upsert(1, n=9), emit=False))

        world.fence.on_close = change_under_way
        await cut_over(world)
        assert world.payloads()[1] == {"n": 9}
