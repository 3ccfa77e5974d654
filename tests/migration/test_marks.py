"""
The target and the daemon are those with which the migration began, by the mark that a daemon
leaves: looked at before each stream, on resume, before the gate and by a verification.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from replicator.errors import Refused
from replicator.migration.migration import Migration
from replicator.model.command import Acknowledge, Pause, Resume
from replicator.model.phase import Direction, Phase
from replicator.model.schema import Mark
from replicator.model.write import Upsert
from tests.migration.lives import (
    at_target,
    by_a_new_stream,
    by_a_verification,
    by_the_gate,
    codes,
    cut_over,
    is_blocked,
    ready,
    stamped,
    streams,
)
from tests.migration.rig import World
from tests.stream.rig import point, upsert, virtual

BOOKS = "books_v2"
Making = Callable[[World], None]
Seeing = Callable[[World], Awaitable[None]]


def mark_of(world: World) -> Mark | None:
    held = world.target.collections.get(BOOKS)
    return None if held is None else held.schema.mark


def newer(world: World) -> None:
    """A process on a copy of this state has begun after us."""
    ours = mark_of(world)
    assert ours is not None
    theirs = msgspec.structs.replace(ours, incarnation=ours.incarnation + 5)
    world.target.mark(BOOKS, theirs)


def older(world: World) -> None:
    """A process that began before us writes on."""
    ours = mark_of(world)
    assert ours is not None
    theirs = msgspec.structs.replace(ours, incarnation=ours.incarnation - 1)
    world.target.mark(BOOKS, theirs)


def of_another_capture(world: World) -> None:
    world.target.mark(BOOKS, Mark("another"))


def without_mark(world: World) -> None:
    held = world.target.collections[BOOKS]
    held.schema = msgspec.structs.replace(held.schema, capture_id=None)


def gone(world: World) -> None:
    del world.target.collections[BOOKS]


CODES: list[tuple[Making, str]] = [
    (newer, "mark-newer"),
    (older, "mark-newer"),
    (of_another_capture, "mark-lost"),
    (without_mark, "mark-lost"),
    (gone, "target-missing"),
]

# -- another target ------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [by_the_gate, by_a_verification, by_a_new_stream])
@pytest.mark.parametrize(("happen", "code"), CODES)
@virtual
async def test_a_target_that_is_another_one_is_noticed_and_nothing_is_written_to_it(
    happen: Making, code: str, seen: Seeing
) -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        assert await codes(world) == set()
        happen(world)
        theirs = mark_of(world)
        await seen(world)
        await is_blocked(world, code)
        world.write(upsert(3, n=3))
        with pytest.raises(Refused) as caught:
            await migration.do(Resume())
        assert caught.value.code == code
        assert BOOKS not in world.target.collections or set(world.payloads()) == {1, 2}
        assert mark_of(world) == theirs


# A lower mark is noticed by whoever left the higher one; to the next process it is an old one.
@pytest.mark.parametrize(("happen", "code"), [each for each in CODES if each[0] is not older])
@virtual
async def test_a_target_that_is_another_one_is_noticed_at_the_next_start(
    happen: Making, code: str
) -> None:
    world = World()
    async with world.running():
        await ready(world)
    happen(world)
    theirs = mark_of(world)
    world.write(upsert(3, n=3))
    world.restart()
    async with world.running(Phase.BLOCKED) as migration:
        assert world.record.reason_code == code
        with pytest.raises(Refused):
            await migration.do(Resume())
        assert BOOKS not in world.target.collections or set(world.payloads()) == {1, 2}
        assert mark_of(world) == theirs


@pytest.mark.parametrize("mark", [newer, older])
@virtual
async def test_a_person_who_says_that_this_state_is_meant_has_it_claimed_and_verified_anew(
    mark: Making,
) -> None:
    world = World()
    async with world.running() as migration:
        await ready(world)
        await migration.do(Pause())
        mark(world)
        theirs = mark_of(world)
        await migration.do(Resume())
        await is_blocked(world, "mark-newer")
        await migration.do(Acknowledge("mark-newer", "the other one was a mistake"))
        await migration.do(Resume())
        await streams(world)
        ours = mark_of(world)
        assert ours is not None
        assert theirs is not None
        assert ours.incarnation == world.record.incarnation > theirs.incarnation
        assert await codes(world) == {"not-verified"}


# -- another daemon ------------------------------------------------------------------------


@pytest.mark.parametrize("crossed", [False, True])
@virtual
async def test_a_state_of_before_writes_nothing_beside_what_came_after_it(
    crossed: bool,
) -> None:
    world = World()
    async with world.running():
        await ready(world)
    before = copy.deepcopy(world.state.__dict__)
    world.restart()
    async with world.running():
        await streams(world)
        if crossed:
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


@virtual
async def test_our_own_restarts_and_switches_leave_higher_marks_and_are_no_second_daemon() -> (
    None
):
    world = World()
    left: list[Mark | None] = []
    for _ in range(3):
        async with world.running():
            await streams(world)
            left.append(mark_of(world))
        world.restart()
    async with world.running() as migration:
        await ready(world)
        left.append(mark_of(world))
        await cut_over(world)
        await migration.do(Pause())
        await migration.do(Resume())
        await streams(world)
        assert world.record.direction is Direction.REVERSE
        found = await world.target.attach().describe(BOOKS)
        assert found is not None
        record = world.record
        assert record.capture is not None
        assert found.mark == Mark(record.capture.id, record.epoch, record.incarnation)
        assert record.epoch == 1
        left.append(found.mark)
    incarnations = [mark.incarnation for mark in left if mark is not None]
    assert len(incarnations) == 5
    assert incarnations == sorted(set(incarnations))
