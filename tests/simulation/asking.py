"""Asking and waiting: how a person deals with a process that dies and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from replicator.errors import ReplicatorError
from replicator.migration.migration import Migration
from replicator.model.command import Acknowledge, Command, Own, Resume
from replicator.model.phase import Phase
from replicator.model.record import MigrationRecord
from tests.simulation.process import Killed, Process
from tests.simulation.world import World

T = TypeVar("T")


class Over(Exception):
    """The migration was completed before its story came to that: what is left is to compare."""


class Asking:
    """Gives commands, waits for phases, and does on the way what a person must."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(f"operator {world.plan.seed}")
        self._unblocking = False
        self.trusts_state = False
        """The state is the right one, whatever mark another one left at the target."""
        self.beside = False
        """Another process works on a copy of the state: to be stopped for it is right."""
        self._wanted_after = 0
        """The aborted attempt after which a new one was asked for."""

    @property
    def record(self) -> MigrationRecord | None:
        return self.world.record

    @property
    def captured(self) -> bool:
        """Whether the positions are captured: what happens to the log from now on matters."""
        record = self.record
        if record is None or record.phase is Phase.ABORTED:
            return False
        return record.capture is not None

    @property
    def phase(self) -> Phase | None:
        record = self.record
        return None if record is None else record.phase

    async def call(self, ask: Callable[[Migration], Coroutine[Any, Any, T]]) -> T:
        """Ask the process that runs; raises Killed when it dies before it answers."""
        return await self._answered((await self._running()).call(ask))

    async def give(self, command: Command[T]) -> T:
        """Give the process that runs a command; raises Killed as `call` does."""
        return await self._answered((await self._running()).give(command))

    async def _answered(self, asked: Coroutine[Any, Any, T]) -> T:
        answer = asyncio.ensure_future(asked)
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=3.0)
                if not answer.done() and self.phase is Phase.BLOCKED and not self._unblocking:
                    # What was asked for waits until the migration goes on.
                    self._unblocking = True
                    try:
                        await self.unblock()
                    finally:
                        self._unblocking = False
                if not answer.done() and self.phase is Phase.HELD:
                    await self.own()
                if not answer.done() and self.is_paused and self.random.random() < 0.3:
                    # Somebody has paused what was asked for.
                    await self.command(Resume(), optional=True)
            return answer.result()
        finally:
            answer.cancel()

    @property
    def is_paused(self) -> bool:
        """Whether somebody has paused the migration."""
        record = self.record
        return record is not None and record.paused

    async def alone(self, *, blocked: bool = False) -> None:
        """Send the second person away, and let end what he has begun."""
        self.world.meddler.go()
        await self.until(
            lambda: not self.world.meddler.is_waiting,
            "the end of his commands",
            blocked=blocked,
        )

    async def _running(self) -> Process:
        """The process, once one runs."""
        for _ in range(400):
            process = self.world.process
            if process is not None and process.alive:
                return process
            await asyncio.sleep(0.1)
        raise Killed

    async def command(self, command: Command[Any], *, optional: bool = False) -> None:
        """Give a command until it is taken, or once where it is optional."""
        for _ in range(30):
            try:
                self.world.trace.add(self.world.now, "command", command.name)
                await self.give(command)
            except Killed:
                await asyncio.sleep(0.2)
                if optional:
                    return
            except ReplicatorError as error:
                self.told(command.name, error)
                if optional:
                    return
                await asyncio.sleep(0.5)
            else:
                return
        raise AssertionError(f"{command.name} is not taken")

    async def reach(self, phase: Phase) -> None:
        """Wait for a phase, answering what a person must answer."""
        await self.until(lambda: self.phase is phase, phase.value)

    async def until(
        self,
        true: Callable[[], bool],
        what: str,
        *,
        blocked: bool = False,
    ) -> None:
        """Wait until something is true, acting as a person must on the way."""
        waited = 0.0
        while not true():
            if self.phase is Phase.ABORTED:
                self.again()
            if self.phase is Phase.COMPLETE:
                raise Over
            if self.phase is Phase.HELD and not blocked:
                await self.own()
            if self.phase is Phase.BLOCKED and not blocked:
                await self.unblock()
            if self.world.refused_by == "target-not-empty":
                self.world.wipe = True  # of the next process, which is started by itself
            record = self.record
            if record is not None and record.paused and waited > 20:
                await self.command(Resume(), optional=True)
            await asyncio.sleep(0.1)
            waited += 0.1
            if waited > 120 and not self.world.calm:
                self.world.quieten()
            if waited > 400:
                raise AssertionError(f"waited in vain for {what}: {record}")

    def again(self) -> None:
        """After an abort: a new attempt, with permission to wipe what the last one left."""
        record = self.record
        assert record is not None
        if record.attempt != self._wanted_after:
            self._wanted_after = record.attempt
            self.world.wipe = True
            self.world.wanted.set()

    async def own(self) -> None:
        """Find out which store the application writes, and say so."""
        await asyncio.sleep(self.random.choice([0.0, 0.5, 2.0]))
        while self.world.application.switches_under_way:
            await asyncio.sleep(0.5)
        await self.command(Own(self.world.application.owned), optional=True)

    async def unblock(self) -> None:
        """Read why, and do what it asks for."""
        record = self.record
        assert record is not None
        if self.trusts_state and record.reason_code == "mark-newer":
            for command in (Acknowledge("mark-newer", "it is the one"), Resume()):
                await self.command(command, optional=True)
            return
        if self.beside and record.reason_code == "mark-newer":
            raise Killed
        if record.reason_code == "target-not-empty":
            self.world.wipe = True
            self.world.restart()
            await asyncio.sleep(1)
            await self.command(Resume(), optional=True)
            return
        if self.world.plan.story == "glitch":
            await self.command(Resume(), optional=True)
            await asyncio.sleep(0.5)
            return
        raise AssertionError(f"blocked by {record.reason_code}: {record.reason}")

    def told(self, what: str, error: ReplicatorError) -> None:
        """Note what the operator was told."""
        self.world.trace.add(self.world.now, "told", what, error.code, error.message)
