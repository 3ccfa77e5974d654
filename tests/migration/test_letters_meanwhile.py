"""A dead letter that is kept while its key is healed is about what the healing did not see."""

from __future__ import annotations

import asyncio
from random import Random

from replicator.model.command import Repair, RetryLetters
from replicator.model.letter import LetterState
from replicator.model.phase import Phase
from replicator.model.write import Patch
from replicator.testing.faults import Fault, Faults
from tests.migration.rig import World
from tests.stream.rig import delete, refuses_poison, upsert, virtual


async def open_offsets(world: World) -> list[int | None]:
    return [letter.offset for letter in await world.state.letters(LetterState.OPEN)]


def spoil_event(world: World, number: int) -> None:
    world.log.produce(b"books/%d" % number, b"\xff no event", partition=0)


@virtual
async def test_a_repair_settles_no_letter_that_came_behind_its_image() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running(Phase.STREAMING) as migration:
        spoil_event(world, 1)
        await world.until(lambda: migration.engine.letters.open == 1)
        world.door.held = {1}
        written = len(world.door.batches)
        repairing = asyncio.create_task(migration.do(Repair("books")))
        await world.until(lambda: len(world.door.batches) > written)
        spoil_event(world, 1)
        await world.until(lambda: migration.engine.letters.open == 2)
        world.door.release()
        await repairing
        assert await open_offsets(world) == [1]


@virtual
async def test_a_retry_settles_no_letter_that_came_behind_what_it_replayed() -> None:
    world = World()
    async with world.running(Phase.STREAMING) as migration:
        world.target.refuses = refuses_poison
        world.write(upsert(1, poison="point"))
        await world.until(lambda: migration.engine.letters.open == 1)
        [letter] = await world.state.letters(LetterState.OPEN)
        world.target.refuses = None
        world.door.held = {1}
        written = len(world.door.batches)
        retrying = asyncio.create_task(migration.do(RetryLetters((letter.number,))))
        await world.until(lambda: len(world.door.batches) > written)
        spoil_event(world, 1)
        await world.until(lambda: migration.engine.letters.open == 2)
        world.door.release()
        assert await retrying == {letter.number: "settled"}
        assert world.payloads() == {1: {"poison": "point"}}
        assert await open_offsets(world) == [1]


@virtual
async def test_a_later_event_makes_up_for_the_letter_of_a_repair() -> None:
    world = World()
    world.seed(1, n=1)
    async with world.running(Phase.STREAMING) as migration:
        world.target.refuses = refuses_poison
        world.source.write("books", Patch(id=1, set={"poison": "point"}))
        world.kept.faults = Faults(Random(0), {Fault.LETTERS_AWAY: 1.0})
        repairing = asyncio.create_task(migration.do(Repair("books")))
        await world.until(lambda: migration.engine.letters.trouble is not None)
        world.write(delete(1))
        await asyncio.sleep(5)
        world.kept.faults.calm()
        assert await repairing == 0
        await world.until_applied()
        assert world.payloads() == {}
        await world.until(lambda: migration.engine.letters.open == 0)
