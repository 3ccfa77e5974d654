"""
The route's epochs: what came late, what comes from an epoch that we have not heard of, and what
a number that was offered once is good for.
"""

from __future__ import annotations

import asyncio

import pytest

from replicator.errors import OutcomeUnknown, OwnershipUnknown, Refused, Unavailable
from replicator.model.command import Abort, DiscardLetters, Own, Pause, Resume, RetryLetters
from replicator.model.epoch import EpochEnd, Epochs, Standing
from replicator.model.phase import Direction, Phase
from replicator.model.position import Partition
from replicator.model.write import Upsert
from replicator.ports.traffic import Pointer
from tests.migration.lives import (
    at_target,
    codes,
    cut_over,
    ready,
    revert,
    stamped,
    streams,
)
from tests.migration.rig import World
from tests.stream.rig import now, point, refuses_poison, upsert, virtual

ZERO = Partition("changes/0")
AWAY = Unavailable("switch-failed", "no answer")


async def letters(world: World) -> list[str]:
    return [letter.code for letter in await world.state.letters()]


def cannot_tell(world: World) -> None:
    world.switch.readable = False


def is_on_the_other_side(world: World) -> None:
    world.switch.at, world.switch.epoch = Direction.REVERSE, 7


def keeps_no_epoch(world: World) -> None:
    world.switch.epoch = None


# -- which event came late -----------------------------------------------------------------


def test_an_event_is_judged_by_the_vector_that_ended_its_own_epoch() -> None:
    """A retry over an old part of the log judges as the stream did."""
    epochs = Epochs().enter(1, {ZERO: 10}, moved=True).enter(2, {ZERO: 20}, moved=True)
    assert epochs.standing(0, ZERO, 9) is Standing.IN_FORCE
    assert epochs.standing(0, ZERO, 10) is Standing.STRAGGLER
    assert epochs.standing(1, ZERO, 19) is Standing.IN_FORCE
    assert epochs.standing(1, ZERO, 20) is Standing.STRAGGLER
    assert epochs.standing(2, ZERO, 5) is Standing.IN_FORCE
    assert epochs.standing(3, ZERO, 25) is Standing.LATER
    assert epochs.standing(None, ZERO, 25) is Standing.IN_FORCE


def test_an_epoch_that_was_offered_and_never_taken_ended_with_the_one_before_it() -> None:
    epochs = Epochs().offer().offer().enter(3, {ZERO: 10}, moved=True)
    assert epochs.ends == (EpochEnd(0, {ZERO: 10}),)
    assert epochs.standing(2, ZERO, 10) is Standing.STRAGGLER


def test_a_number_that_was_offered_is_free_no_more_when_a_lower_one_was_taken() -> None:
    """The switch answered late, and says that the first of two numbers is in force."""
    epochs = Epochs().offer().offer().enter(1, {ZERO: 10}, moved=True)
    assert (epochs.current, epochs.following) == (1, 3)


def test_no_epoch_falls() -> None:
    epochs = Epochs(current=2, offered=2)
    with pytest.raises(AssertionError, match="never falls"):
        epochs.enter(1, {ZERO: 10}, moved=True)
    assert epochs.enter(2, {ZERO: 10}, moved=True) is epochs


@pytest.mark.parametrize("readable", [True, False])
@virtual
async def test_a_writer_of_before_the_switch_is_late_though_the_migration_is_another(
    readable: bool,
) -> None:
    """Epochs that began again at 0 would take its event for one of ours."""
    world = World()
    world.switch.readable = readable
    async with world.running() as migration:
        await ready(world)
        await cut_over(world)
        await revert(world)
        assert world.record.epoch == 2
        await migration.do(Abort())
    world.target.clear("books_v2")
    world.restart()
    async with world.running():
        await world.verify()
        await streams(world)
        await cut_over(world)
        assert [epoch for _, epoch in world.switch.calls] == [1, 2, 3]
        world.emit(stamped(upsert(1, n=99), 2))
        await world.until_applied()
        assert await letters(world) == ["epoch-stale"]


@virtual
async def test_a_capture_adopts_the_epoch_that_the_route_is_in() -> None:
    world = World()
    world.switch.epoch = 5
    async with world.running():
        assert world.record.epoch == 5
        world.emit(stamped(upsert(1, n=1), 4))
        world.write(stamped(upsert(2, n=2), 5))
        await world.until_applied()
        assert world.payloads() == {2: {"n": 2}}
        assert await letters(world) == ["epoch-stale"]
        [letter] = await world.state.letters()
        await world.migration.do(DiscardLetters((letter.number,)))
        await world.verify()
        await cut_over(world)
        assert world.switch.calls == [(Direction.REVERSE, 6)]


@virtual
async def test_a_capture_adopts_the_declared_epoch_where_the_switch_cannot_tell() -> None:
    world = World(cutover={"epoch": 4})
    world.switch.readable = False
    async with world.running():
        assert world.record.epoch == 4


@virtual
async def test_nothing_is_copied_from_a_source_that_the_application_has_left() -> None:
    world = World()
    world.seed(1)
    world.switch.at = Direction.REVERSE
    with pytest.raises(Refused) as caught:
        await world.migration.run()
    assert caught.value.code == "switch-at-target"
    assert world.target.collections == {}


# -- epochs that we have not heard of ------------------------------------------------------


@pytest.mark.parametrize("go_wrong", [cannot_tell, is_on_the_other_side, keeps_no_epoch])
@virtual
async def test_nothing_of_a_later_epoch_is_applied_that_the_switch_does_not_explain(
    go_wrong: object,
) -> None:
    world = World()
    async with world.running() as migration:
        go_wrong(world)  # type: ignore[operator]
        world.emit(stamped(upsert(1, n=1), 7))
        await world.until(lambda: world.record.phase is Phase.HELD)
        assert (world.record.reason_code, world.record.shown_epoch) == ("epoch-ahead", 7)
        assert world.payloads() == {}
        assert world.record.back_to is Phase.STREAMING
        await migration.do(Own("source"))
        await streams(world)
        assert (world.record.epoch, world.record.shown_epoch) == (7, None)
        assert world.payloads() == {1: {"n": 1}}


@virtual
async def test_a_crossing_ends_where_a_person_must_first_say_who_writes() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        world.fence.open_errors.extend([Unavailable("fence-failed", "no answer")] * 1000)
        crossing = asyncio.create_task(cut_over(world))
        await streams(world)
        await world.until(lambda: world.record.direction is Direction.REVERSE)
        cannot_tell(world)
        world.emit(stamped(upsert(1, n=1), 7))
        with pytest.raises(OwnershipUnknown):
            await crossing
        assert world.record.phase is Phase.HELD
        world.fence.open_errors.clear()
        await migration.do(Own("target"))
        await world.until(lambda: not world.record.fence_closed)


@virtual
async def test_an_epoch_that_left_the_application_where_it_was_is_followed() -> None:
    world = World()
    async with world.running():
        world.write(stamped(upsert(1, n=0), 0))
        world.switch.epoch = 3
        world.write(stamped(upsert(1, n=1), 3))
        await world.until_applied()
        assert world.payloads() == {1: {"n": 1}}
        assert (world.record.phase, world.record.epoch) == (Phase.STREAMING, 3)
        assert "HELD" not in await world.steps()
        await world.verify()
        await cut_over(world)
        assert world.switch.calls == [(Direction.REVERSE, 4)]


@virtual
async def test_an_epoch_that_the_switch_denies_is_a_letter_and_stops_nobody() -> None:
    world = World()
    async with world.running():
        world.emit(stamped(upsert(1, n=1), 7))
        world.write(upsert(2, n=2))
        await world.until_applied()
        assert world.payloads() == {2: {"n": 2}}
        assert await letters(world) == ["epoch-denied"]
        assert (world.record.phase, world.record.epoch) == (Phase.STREAMING, 0)


@virtual
async def test_no_switch_is_told_a_number_that_a_writer_stamps_already() -> None:
    """Its events would count as written after a switch that had not taken place."""
    world = World()
    async with world.running() as migration:
        world.emit(stamped(upsert(1, n=1), 1))
        await world.until_applied()
        [letter] = await world.state.letters()
        await migration.do(DiscardLetters((letter.number,)))
        await world.verify()
        await cut_over(world)
        assert world.switch.calls == [(Direction.REVERSE, 2)]


@virtual
async def test_an_epoch_that_appears_while_fenced_keeps_the_fence_closed() -> None:
    world = World()

    async def another() -> None:
        world.switch.at, world.switch.epoch = Direction.REVERSE, 4
        world.emit(stamped(upsert(5, n=5), 4))

    async with world.running() as migration:
        await ready(world)
        world.hooks.work["after_fence"] = another
        with pytest.raises(Refused):
            await cut_over(world)
        assert world.record.phase is Phase.HELD
        await asyncio.sleep(30)
        assert world.fence.is_closed
        assert world.switch.calls == []
        await migration.do(Own("target"))
        await world.until(lambda: not world.fence.is_closed)
        await streams(world)
        assert (world.record.direction, world.record.epoch) == (Direction.REVERSE, 4)


@virtual
async def test_an_epoch_followed_during_an_attempt_voids_what_the_attempt_rests_on() -> None:
    world = World()

    async def another() -> None:
        world.switch.epoch = 3
        world.write(stamped(upsert(5, n=5), 3))

    async with world.running():
        await ready(world)
        world.hooks.work["after_fence"] = another
        with pytest.raises(Refused) as caught:
            await cut_over(world)
        assert caught.value.code == "gate-closed"
        await world.until(lambda: not world.record.fence_closed)
        assert world.switch.calls == []
        world.hooks.work.clear()
        assert await codes(world) == {"not-verified"}
        await world.verify()
        await cut_over(world)


# -- numbers that were offered, and what a person says -------------------------------------


async def held_by_a_switch_that_failed(world: World) -> None:
    world.switch.repeatable = world.switch.readable = False
    world.switch.errors.append(Refused("switch-failed", "no"))
    with pytest.raises(OwnershipUnknown):
        await cut_over(world, waive_dead_letters=True)
    assert world.record.phase is Phase.HELD


@virtual
async def test_the_number_of_a_switch_that_did_not_take_place_is_not_used_again() -> None:
    """Some writer may have heard it."""
    world = World()
    async with world.running() as migration:
        await ready(world)
        await held_by_a_switch_that_failed(world)
        await migration.do(Own("source"))
        await streams(world)
        await world.until(lambda: not world.record.fence_closed)
        assert world.record.epoch == 0
        world.switch.readable = True
        await cut_over(world)
        assert [epoch for _, epoch in world.switch.calls] == [1, 2]


@virtual
async def test_letters_are_retried_after_a_switch_that_did_not_take_place() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        world.target.refuses = refuses_poison
        world.write(upsert(7, poison=1))
        await world.until_applied()
        await held_by_a_switch_that_failed(world)
        await migration.do(Own("source"))
        await streams(world)
        assert world.record.fence_vector == {}
        world.target.refuses = None
        assert list((await migration.do(RetryLetters())).values()) == ["settled"]


@virtual
async def test_a_person_who_says_that_it_took_place_puts_the_offered_number_in_force() -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        await held_by_a_switch_that_failed(world)
        await migration.do(Own("target"))
        await streams(world)
        record = world.record
        assert (record.direction, record.epoch) == (Direction.REVERSE, 1)
        assert record.epochs.ends == (EpochEnd(0, {world.first: 2}),)


@pytest.mark.parametrize("direction", Direction)
@virtual
async def test_what_was_written_before_a_persons_word_is_not_late_by_it(
    direction: Direction,
) -> None:
    """The epoch ended where the log ended when it was asked for, and not before."""
    world = World()
    async with world.running() as migration:
        world.switch.readable = False
        world.write(stamped(upsert(1, n=1), 0))
        world.emit(stamped(upsert(2, n=2), 7))
        await world.until(lambda: world.record.phase is Phase.HELD)
        await migration.do(Own("source" if direction is Direction.FORWARD else "target"))
        await streams(world)
        record = world.record
        moved = direction is Direction.REVERSE
        assert record.epochs.ends == (EpochEnd(0, {world.first: 2}, moved),)
        assert await letters(world) == []
        world.emit(stamped(upsert(3, n=3), 0))
        await world.until_applied()
        assert await letters(world) == ["epoch-stale"]


@virtual
async def test_a_reply_that_was_lost_ends_in_no_question_where_the_switch_can_be_read() -> None:
    world = World()
    world.switch.repeatable = False
    async with world.running():
        await ready(world)
        world.switch.lost.append(OutcomeUnknown("switch-failed", "it did not answer"))
        await cut_over(world)
        assert "HELD" not in await world.steps()


@virtual
async def test_letters_stay_retriable_when_an_epoch_was_followed_without_a_move() -> None:
    """The application never left the source; nobody may be told to discard them."""
    world = World()
    async with world.running() as migration:
        world.target.refuses = refuses_poison
        world.write(upsert(7, poison=1))
        await world.until_applied()
        world.switch.epoch = 3
        world.write(stamped(upsert(1, n=1), 3))
        await world.until_applied()
        assert world.record.epoch == 3
        world.target.refuses = None
        assert list((await migration.do(RetryLetters())).values()) == ["settled"]
        assert world.payloads()[7] == {"poison": 1}


@virtual
async def test_a_revert_compares_what_was_written_before_an_epoch_was_followed() -> None:
    world = World()
    async with world.running():
        await ready(world)
        await cut_over(world)
        at_target(world, stamped(upsert(3, n=3), 1))
        await world.until_applied()
        world.switch.epoch = 5
        at_target(world, stamped(upsert(4, n=4), 5))
        await world.until_applied()
        assert (world.record.direction, world.record.epoch) == (Direction.REVERSE, 5)
        world.source.write("books", Upsert(point(3, n="lost")))  # behind everybody's back
        await streams(world)
        await revert(world)
        assert world.source.points("books")[3].payload == {"n": 3}


# -- the switch that does not answer -------------------------------------------------------


@virtual
async def test_a_switch_that_is_away_at_the_capture_is_waited_for_where_all_can_see() -> None:
    world = World()
    real, away = world.switch.current, True

    async def current() -> Pointer | None:
        if away:
            raise AWAY
        return await real()

    world.switch.current = current  # type: ignore[method-assign]
    world.switch.epoch = 5
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world.migration._have_begun is not None)
    await asyncio.sleep(20)
    [*_, asked] = [w for w in (await world.migration.status()).waits if w.code == "route-asked"]
    assert asked.until is not None
    assert asked.until - asked.since == pytest.approx(60.0)
    away = False
    await world.until(lambda: world._is_in(Phase.STREAMING))
    assert world.record.epoch == 5
    world.migration.request_drain()
    await task


@pytest.mark.parametrize("at", ["capture", "explain"])
@virtual
async def test_a_switch_that_hangs_holds_up_neither_a_drain_nor_a_pause(at: str) -> None:
    world = World()
    hung: list[float] = []

    async def current() -> None:
        hung.append(now())
        await asyncio.Event().wait()

    if at == "capture":
        world.switch.current = current  # type: ignore[method-assign]
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: bool(hung) or world._is_in(Phase.STREAMING))
    if at == "explain":
        world.switch.current = current  # type: ignore[method-assign]
        world.emit(stamped(upsert(1, n=1), 7))
        await world.until(lambda: bool(hung))
        waits = {wait.code for wait in (await world.migration.status()).waits}
        assert "route-asked" in waits
        began = now()
        await world.migration.do(Pause())
        assert now() - began < 1
        assert world.record.phase is Phase.STREAMING
        await world.migration.do(Resume())
        await world.until(lambda: len(hung) == 2)
    began = now()
    world.migration.request_drain()
    await task
    assert now() - began < 1
    assert world.payloads() == {} if at == "explain" else world.record.phase is Phase.PLANNED
