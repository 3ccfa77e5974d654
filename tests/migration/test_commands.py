"""
The table of commands against the migration itself: what the status lists as possible is taken,
and what it does not list changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest

from replicator.errors import OwnershipUnknown, Refused, ReplicatorError
from replicator.migration.migration import Migration
from replicator.model.command import (
    COMMANDS,
    Abort,
    Acknowledge,
    Answer,
    AnyCommand,
    CancelVerification,
    Command,
    Complete,
    Cutover,
    DiscardLetters,
    Own,
    Pause,
    Resume,
)
from replicator.model.fact import FactCode
from replicator.model.letter import LetterState
from replicator.model.phase import Direction, Phase
from replicator.model.record import ChunkState, MigrationRecord
from tests.migration.lives import cut_over, ready, stamped, streams
from tests.migration.rig import World
from tests.stream.rig import upsert, virtual

NOTHING = {CancelVerification, DiscardLetters}
"""They answer that there was nothing to do, and do not refuse it."""


async def given(command: type[AnyCommand], migration: Migration) -> AnyCommand:
    """A command as a person would give it here."""
    if command is DiscardLetters:
        letters = await migration.letters(None, 10, 0)
        return DiscardLetters(tuple(letter.number for letter in letters))
    if command is Acknowledge:
        facts = migration.record.facts
        return Acknowledge(facts[0].code.value if facts else "log-replaced")
    values: dict[type[AnyCommand], AnyCommand] = {Own: Own("source"), Answer: Answer(True)}
    return values[command] if command in values else cast("Callable[[], AnyCommand]", command)()


async def give(command: type[AnyCommand], migration: Migration) -> None:
    """Raises Refused where there was nothing to do, too."""
    done = await migration.do(cast("Command[object]", await given(command, migration)))
    if command in NOTHING and not done:
        raise Refused("phase-refused", "there was nothing to do")


NO = {"phase-refused", "bad-request", "not-invertible"}
"""Codes of a refusal by the table."""

# -- states --------------------------------------------------------------------------------

State = Callable[[World], Awaitable[None]]


async def streaming(world: World) -> None:
    await ready(world)


async def paused(world: World) -> None:
    await ready(world)
    await world.migration.do(Pause())


async def on_the_target(world: World) -> None:
    await ready(world)
    await cut_over(world)


async def blocked(world: World) -> None:
    await ready(world)
    world.log.grow(2)
    await world.until(lambda: world.record.phase is Phase.BLOCKED)


async def blocked_on_the_target(world: World) -> None:
    await on_the_target(world)
    world.log.grow(2)
    await world.until(lambda: world.record.phase is Phase.BLOCKED)


async def blocked_by_another_log(world: World) -> None:
    await ready(world)
    world.log.make_anew()
    for number in range(3):
        world.write(upsert(number))
    await world.until(lambda: world.record.phase is Phase.BLOCKED)


async def held(world: World) -> None:
    await ready(world)
    world.switch.readable = False
    world.emit(stamped(upsert(1), 7))
    await world.until(lambda: world.record.phase is Phase.HELD)


async def held_by_a_switch(world: World) -> None:
    await ready(world)
    world.switch.repeatable = world.switch.readable = False
    world.switch.errors.append(Refused("switch-failed", "no"))
    with pytest.raises(OwnershipUnknown):
        await cut_over(world)


async def fenced_still(world: World) -> None:
    await ready(world)
    world.fence.open_errors.extend([Refused("fence-failed", "it sticks")] * 1000)
    world.hooks.errors["after_fence"] = Refused("hook-failed", "no")
    with pytest.raises(Refused):
        await cut_over(world)


async def crossing(world: World) -> None:
    await ready(world)
    world.hooks.work["after_fence"] = lambda: asyncio.sleep(30)
    asyncio.ensure_future(world.migration.do(Cutover())).add_done_callback(
        lambda done: done.exception()
    )
    await world.until(lambda: world.record.phase is Phase.FENCING)


async def with_a_fact(world: World) -> None:
    await ready(world)
    await world.migration.engine.journal.latch(FactCode.MISPLACED, "seen")


async def with_a_letter(world: World) -> None:
    await ready(world)
    world.log.produce(b"books/1", b"\xff", partition=0)
    await world.until_applied()


STATES: list[State] = [
    streaming,
    paused,
    on_the_target,
    blocked,
    blocked_on_the_target,
    blocked_by_another_log,
    held,
    held_by_a_switch,
    fenced_still,
    crossing,
    with_a_fact,
    with_a_letter,
]


@asynccontextmanager
async def process(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.migration.run())
    try:
        await world.until(lambda: world._is_in(Phase.STREAMING))
        yield
    finally:
        world.fence.open_errors.clear()
        world.migration.request_drain()
        await asyncio.wait([task])
        task.exception()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("state", STATES)
@virtual
async def test_a_command_does_what_the_status_says_of_it(
    state: State, command: type[AnyCommand]
) -> None:
    world = World()
    async with process(world):
        await state(world)
        listed = command.name in (await world.migration.status()).possible
        before = msgspec.structs.replace(world.record)
        outcome: ReplicatorError | None = None
        try:
            async with asyncio.timeout(20):
                await give(command, world.migration)
        except (Refused, ReplicatorError) as error:
            outcome = error
        said_no = outcome is not None and outcome.code in NO
        if listed:
            # What it needs beyond the table it finds out itself: a gate, a log that is ours.
            assert not said_no, outcome
            return
        gate = outcome is not None and outcome.code == "gate-closed"
        assert said_no or gate or command is Resume, outcome
        now = world.record
        for name in ("phase", "direction", "paused", "facts", "epochs", "voided"):
            assert getattr(now, name) == getattr(before, name), name


@pytest.mark.parametrize("command", COMMANDS)
@virtual
async def test_a_command_given_while_the_migration_is_starting_is_told_to_come_again(
    command: type[AnyCommand],
) -> None:
    world = World()
    async with process(world):
        await with_a_letter(world)
    world.restart()
    load, may_load = world.state.load, asyncio.Event()

    async def slow() -> MigrationRecord | None:
        await may_load.wait()
        return await load()

    world.state.load = slow  # type: ignore[method-assign]
    starting = asyncio.create_task(world.migration.run())
    await asyncio.sleep(1)
    before = await load()
    asked = Acknowledge("log-replaced") if command is Acknowledge else None
    with pytest.raises(Refused, match="still starting") as caught:
        await world.migration.do(
            cast("Command[object]", asked or await given(command, world.migration))
        )
    assert caught.value.code == "phase-refused"
    assert await load() == before
    assert [letter.state for letter in await world.state.letters()] == [LetterState.OPEN]
    may_load.set()
    await world.until(lambda: world._is_in(Phase.STREAMING))
    world.migration.request_drain()
    await starting


@virtual
async def test_while_the_state_is_recalled_letters_are_discarded_and_nothing_is_cancelled() -> (
    None
):
    world = World()
    async with process(world):
        await with_a_letter(world)
    world.restart()
    chunks, may_recall = world.state.chunks, asyncio.Event()

    async def slow() -> list[ChunkState]:
        await may_recall.wait()
        return await chunks()

    world.state.chunks = slow  # type: ignore[method-assign]
    migration = world.migration
    starting = asyncio.create_task(migration.run())
    await world.until(lambda: migration._have_begun is not None)
    await asyncio.sleep(1)
    assert await migration.do(CancelVerification()) is False
    [letter] = await world.state.letters()
    assert await migration.do(DiscardLetters((letter.number,))) == 1
    assert await migration.do(DiscardLetters((letter.number,))) == 0
    may_recall.set()
    await world.until(lambda: world._is_in(Phase.STREAMING))
    assert migration.engine.letters.open == 0
    migration.request_drain()
    await starting


@virtual
async def test_nothing_goes_beside_a_verification_but_what_ends_it() -> None:
    world = World(verify={"rate_max": 10.0})
    world.seed(*range(100))
    async with process(world):
        running = asyncio.create_task(world.verify())
        await asyncio.sleep(1)
        possible = set((await world.migration.status()).possible)
        assert "verify --cancel" in possible
        assert not possible & {"verify", "repair", "dead-letters retry", "cutover"}
        assert {"pause", "abort"} <= possible
        assert await world.migration.do(CancelVerification())
        with pytest.raises(Refused):
            await running


# -- ways out ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["complete", "own", "own and abort"])
@virtual
async def test_there_is_a_way_out_of_what_blocks_the_reverse_window(way: str) -> None:
    world = World()
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await blocked_on_the_target(world)
    migration = world.migration
    with pytest.raises(Refused):
        await migration.do(Resume())
    with pytest.raises(Refused):
        await migration.do(Abort())
    match way:
        case "complete":
            await migration.do(Complete())
            assert world.record.phase is Phase.COMPLETE
        case "own":
            await migration.do(Own("source"))
            assert (world.record.phase, world.record.direction) == (
                Phase.BLOCKED,
                Direction.FORWARD,
            )
            migration.request_drain()
        case _:
            await migration.do(Own("source"))
            await migration.do(Abort())
            assert world.record.phase is Phase.ABORTED
    await task


@virtual
async def test_the_target_is_not_owned_before_it_is_complete() -> None:
    """Else a copy would go on over the store that the application writes."""
    world = World()
    world.seed(*range(200), n=1)
    world.door.held = {150}
    async with world.running(Phase.BACKFILL) as migration:
        await world.until(lambda: bool(world.door.batches))
        world.log.grow(2)
        await world.until(lambda: world.record.phase is Phase.BLOCKED)
        with pytest.raises(Refused, match="not complete yet"):
            await migration.do(Own("target"))
        assert world.record.direction is Direction.FORWARD
        await migration.do(Abort())


@virtual
async def test_a_migration_that_is_held_before_any_switch_can_be_given_up() -> None:
    world = World()
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await held(world)
    await world.migration.do(Abort())
    await task
    assert world.record.phase is Phase.ABORTED


@virtual
async def test_what_is_held_in_a_switch_is_not_given_up() -> None:
    world = World()
    async with process(world):
        await held_by_a_switch(world)
        with pytest.raises(Refused, match="fence"):
            await world.migration.do(Abort())
        await world.migration.do(Own("source"))
        await streams(world)


@virtual
async def test_nothing_is_completed_before_the_fence_of_its_switch_is_open() -> None:
    """After the end nobody would open it, or ask the person who can."""
    world = World(rests_on_word=True)
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    await held_by_a_switch(world)
    world.fence.open_errors.extend([Refused("declined", "not yet")] * 20)
    await world.migration.do(Own("target"))
    await streams(world)
    with pytest.raises(Refused, match="fence"):
        await world.migration.do(Complete())
    await world.until(lambda: not world.record.fence_closed)
    await world.migration.do(Complete())
    await task
    assert world.record.phase is Phase.COMPLETE
