"""Long operations: one at a time, to the end whoever asked, and ended by a drain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from replicator.errors import Refused
from replicator.migration.process.operations import Operations
from replicator.model.command import (
    Abort,
    Command,
    Complete,
    Cutover,
    Pause,
    Repair,
    RetryLetters,
    Revert,
    Verify,
)
from replicator.model.phase import Direction, Phase
from replicator.model.write import Delete
from replicator.stream.ownership import Ownership
from tests.migration.rig import SETTLE_S, World
from tests.stream.rig import now, virtual

COMMANDS: dict[str, Command[Any]] = {
    "verify": Verify(),
    "repair": Repair("books"),
    "retry": RetryLetters(),
    "cutover": Cutover(),
}


@virtual
async def test_an_operation_beside_another_is_refused_and_begins_nothing() -> None:
    operations, begun = Operations(Ownership(), 5.0), []
    release = asyncio.Event()

    async def long() -> str:
        await release.wait()
        return "done"

    async def other() -> None:
        begun.append("other")

    first = asyncio.create_task(operations.run("repair", long))
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="repair is under way"):
        await operations.run("verify", other)
    assert begun == []
    release.set()
    assert await first == "done"
    await operations.run("verify", other)
    assert begun == ["other"]


@pytest.mark.parametrize("name", COMMANDS)
@virtual
async def test_no_command_begins_while_a_repair_holds_its_keys(name: str) -> None:
    world = World()
    world.seed(1, 2)
    async with world.running() as migration:
        await world.verify()
        began = now()
        repairing = asyncio.create_task(migration.do(Repair("books")))
        await asyncio.sleep(SETTLE_S / 2)
        with pytest.raises(Refused):
            await migration.do(COMMANDS[name])
        assert now() - began < SETTLE_S, "it is refused at once, not done afterwards"
        assert not repairing.done()
        assert await repairing == 2


@virtual
async def test_nothing_is_ended_or_given_up_while_a_revert_runs_its_first_hook() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        await migration.do(Cutover())
        await world.until(lambda: world._is_in(Phase.STREAMING))
        world.hooks.work["before_fence"] = lambda: asyncio.sleep(5)
        reverting = asyncio.create_task(migration.do(Revert()))
        await asyncio.sleep(1)
        assert world.record.phase is Phase.STREAMING
        for command in (Complete(), Pause()):
            with pytest.raises(Refused, match="revert is under way"):
                await migration.do(command)
        await reverting
        assert (world.record.phase, world.record.direction) == (
            Phase.STREAMING,
            Direction.FORWARD,
        )


@virtual
async def test_a_caller_that_goes_away_takes_nothing_along() -> None:
    world = World()
    async with world.running() as migration:
        await world.verify()
        world.switch.takes_s = 5.0
        asking = asyncio.create_task(migration.do(Cutover()))
        await world.until(lambda: world.record.phase is Phase.FENCING)
        asking.cancel()
        await asyncio.wait([asking])
        await world.until(lambda: world.record.direction is Direction.REVERSE)


@virtual
async def test_a_drain_waits_for_the_operation_that_it_stops_and_lets_none_begin() -> None:
    operations, ended = Operations(Ownership(), 5.0), []

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)
            ended.append(now())

    running = asyncio.create_task(operations.run("cutover", cleans_up))
    await asyncio.sleep(1)
    operations.draining = True
    await operations.end("a drain")
    assert ended == [now()]
    with pytest.raises(Refused, match="was stopped"):
        await running
    with pytest.raises(Refused, match="shutting down"):
        await operations.run("verify", cleans_up)
    assert ended == [now()]


@virtual
async def test_who_ends_an_operation_twice_does_not_cut_its_way_back_short() -> None:
    """A cutover goes back to STREAMING there, so that its fence is opened."""
    operations, ended = Operations(Ownership(), 30.0), []

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)
            ended.append(now())

    running = asyncio.create_task(operations.run("cutover", cleans_up))
    await asyncio.sleep(1)
    first = asyncio.create_task(operations.end("the process is shutting down"))
    await asyncio.sleep(1)
    await operations.end("the process ends")
    await first
    assert ended == [now()]
    with pytest.raises(Refused, match="cutover was stopped"):
        await running


@virtual
async def test_an_abort_ends_what_it_may_go_beside() -> None:
    world = World()
    world.seed(1)
    task = asyncio.create_task(world.migration.run())
    await world.until(lambda: world._is_in(Phase.STREAMING))
    world.spoil(Delete(1))
    repairing = asyncio.create_task(world.migration.do(Repair("books")))
    await asyncio.sleep(SETTLE_S / 2)
    await world.migration.do(Abort())
    assert repairing.done()
    assert world.payloads() == {}, "nothing is written for a migration that was given up"
    with pytest.raises(Refused):
        await repairing
    await task
    assert world.record.phase is Phase.ABORTED
