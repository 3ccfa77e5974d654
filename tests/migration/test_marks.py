"""
Log, collections and mark are still those with which a migration began: looked at before each
stream, on resume and before the gate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import msgspec
import pytest

from replicator.errors import Refused
from replicator.model.command import Acknowledge, Pause, Resume
from replicator.model.phase import Direction, Phase
from replicator.model.schema import Mark
from tests.migration.lives import codes, cut_over, ready, streams
from tests.migration.rig import World
from tests.stream.rig import upsert, virtual

BOOKS = "books_v2"
Making = Callable[[World], None]


def mark_of(world: World) -> Mark | None:
    return world.target.collections[BOOKS].schema.mark


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


def aliased(world: World) -> dict[str, str]:
    """Let the source know aliases; those that are returned, which a test may move."""
    behind = {"books": "books_of_spring"}
    schema = world.source.collections["books"].schema
    world.source.create(msgspec.structs.replace(schema, name="books_of_spring"))
    world.source.collections["books"] = world.source.collections["books_of_spring"]

    async def read_alias(alias: str) -> str | None:
        return behind.get(alias)

    async def point_alias(alias: str, collection: str) -> None:
        behind[alias] = collection

    world.images.read_alias = read_alias  # type: ignore[attr-defined]
    world.images.point_alias = point_alias  # type: ignore[attr-defined]
    return behind


async def blocks(world: World, code: str) -> None:
    await world.until(lambda: world.record.phase is Phase.BLOCKED)
    assert world.record.reason_code == code


# -- the mark ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "code"),
    [
        (newer, "mark-newer"),
        (older, "mark-newer"),
        (of_another_capture, "mark-lost"),
        (without_mark, "mark-lost"),
    ],
)
@virtual
async def test_nothing_is_written_to_a_target_that_another_one_has_marked(
    mark: Making, code: str
) -> None:
    world = World()
    async with world.running() as migration:
        await migration.do(Pause())
        mark(world)
        theirs = mark_of(world)
        world.write(upsert(1, n=1))
        await migration.do(Resume())
        await blocks(world, code)
        with pytest.raises(Refused) as caught:
            await migration.do(Resume())
        assert caught.value.code == code
        assert world.payloads() == {}
        assert mark_of(world) == theirs


@pytest.mark.parametrize("mark", [newer, older, of_another_capture, without_mark])
@virtual
async def test_the_gate_is_closed_beside_another_mark(mark: Making) -> None:
    world = World()
    async with world.running():
        await ready(world)
        assert await codes(world) == set()
        mark(world)
        assert "identity" in await codes(world)
        assert world.record.phase is Phase.BLOCKED, "the stream must not write on either"


@virtual
async def test_each_process_leaves_a_higher_mark_than_the_one_before() -> None:
    world = World()
    async with world.running():
        first = mark_of(world)
    world.restart()
    async with world.running():
        record, second = world.record, mark_of(world)
        assert first is not None
        assert second is not None
        assert second.incarnation > first.incarnation
        assert record.capture is not None
        assert second == Mark(record.capture.id, record.epoch, record.incarnation)


@virtual
async def test_a_process_on_a_state_of_before_stops_beside_what_came_after_it() -> None:
    world = World()
    async with world.running():
        before = copy.deepcopy(world.state._data)
    world.restart()
    async with world.running():
        pass
    world.state._data = before
    world.restart()
    async with world.running(Phase.BLOCKED):
        assert world.record.reason_code == "mark-newer"


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
        await blocks(world, "mark-newer")
        await migration.do(Acknowledge("mark-newer", "the other one was a mistake"))
        await migration.do(Resume())
        await streams(world)
        ours = mark_of(world)
        assert ours is not None
        assert theirs is not None
        assert ours.incarnation == world.record.incarnation > theirs.incarnation
        assert await codes(world) == {"not-verified"}


# -- aliases -------------------------------------------------------------------------------


@virtual
async def test_an_alias_that_leads_to_another_collection_stops_everything() -> None:
    world = World()
    behind = aliased(world)
    async with world.running() as migration:
        await ready(world)
        await migration.do(Pause())
        behind["books"] = "books_of_autumn"
        world.write(upsert(3, n=3))
        await migration.do(Resume())
        await blocks(world, "alias-moved")
        with pytest.raises(Refused):
            await migration.do(Resume())
        assert set(world.payloads()) == {1, 2}
        behind["books"] = "books_of_spring"
        await migration.do(Resume())
        await world.until_applied()
        assert set(world.payloads()) == {1, 2, 3}


@virtual
async def test_an_alias_that_the_switch_has_moved_to_the_target_is_no_other_collection() -> (
    None
):
    world = World()
    behind = aliased(world)
    world.switch.on_switch = lambda: behind.update(books=BOOKS)
    async with world.running() as migration:
        await ready(world)
        await cut_over(world)
        assert world.record.direction is Direction.REVERSE
        await migration.do(Pause())
        behind["books"] = "books_of_autumn"
        await migration.do(Resume())
        await blocks(world, "alias-moved")
