"""Steps that stories are made of: what a person does on the way from one phase to another."""

from __future__ import annotations

import asyncio

from replicator.errors import OwnershipUnknown, ReplicatorError
from replicator.model.command import (
    Abort,
    Acknowledge,
    AnyCommand,
    Complete,
    Cutover,
    DiscardLetters,
    Level,
    Own,
    Pause,
    Repair,
    Resume,
    RetryLetters,
    Revert,
    Tune,
    Verify,
)
from replicator.model.letter import LetterState
from replicator.model.phase import Direction, Phase
from replicator.testing.faults import Fault
from tests.simulation.asking import Over
from tests.simulation.comparing import Comparing
from tests.simulation.process import Killed

_PATIENCE = 6
"""Failed attempts after which the world calms down, so that every story ends."""

_TO = {Direction.REVERSE: Cutover, Direction.FORWARD: Revert}
"""What moves the application that way."""
_STOPPED = (Phase.BLOCKED, Phase.HELD)


class Steps(Comparing):
    """Moves the migration on, with as many attempts as that takes."""

    async def early(self) -> None:
        """What may happen before the migration streams."""
        plan = self.world.plan
        if self.random.random() < 0.1:
            changes = {"stream.in_flight_max": "2", "stream.linger": "30ms"}
            await self.command(Tune(changes), optional=True)
        if plan.pause:
            await asyncio.sleep(self.random.random() * 4)
            await self.command(Pause(), optional=True)
            await asyncio.sleep(self.random.random() * 2)
            await self.command(Resume(), optional=True)
        if plan.compare_early:
            await self.reach(Phase.STREAMING)
            await self.rest_and_compare()
        if plan.verify_early:
            await self.reach(Phase.STREAMING)
            await self.verify()
        elif self.random.random() < 0.5:
            await asyncio.sleep(self.random.random() * 5)

    async def linger(self) -> None:
        await asyncio.sleep(self.random.choice([0.0, 1.0, 4.0]))

    async def second_capture(self) -> None:
        """After an abort: a new attempt, with permission to wipe what the first one left."""
        self.again()
        await self.until(lambda: self.phase is not Phase.ABORTED, "a new attempt")

    async def stopped(self, *codes: str) -> None:
        """Wait until a person is asked to act, for one of these reasons."""
        for _ in range(2000):
            if self.phase is Phase.HELD and "epoch-ahead" not in codes:
                await self.own()  # somebody else moved the route on, in the meantime
            if self.phase in _STOPPED:
                break
            if self.is_paused and self.random.random() < 0.05:
                await self.command(Resume(), optional=True)
            await asyncio.sleep(0.1)
        record = self.record
        assert record is not None
        told = f"{record.phase.value} by {record.reason_code}: {record.reason}"
        assert record.phase in _STOPPED, f"not stopped ({codes}): {told}"
        assert record.reason_code in codes, told
        await asyncio.sleep(1.0)  # until the process knows what is persisted
        self.world.stale = False
        # Whatever is tried now, it stays so: these are lies here, or end the story.
        lies: set[type[AnyCommand]] = {Abort, Complete, Own}
        before = set(self.world.meddler.forbidden)
        self.world.meddler.forbidden |= lies
        self.world.meddler.come()
        for _ in range(self.random.choice([1, 4])):
            self.world.meddler.nudge(0.8)
            await asyncio.sleep(0.7)
        await self.alone(blocked=True)
        self.world.meddler.forbidden = before
        assert self.phase in _STOPPED, f"it went on: {self.record}"

    async def out_of_blocked(self) -> None:
        """Whatever blocks for good is ended: by an abort before the switch, and a new capture;
        by completing after it.
        """
        record = self.record
        assert record is not None
        if record.direction is Direction.REVERSE:
            await self.finish(Phase.COMPLETE, blocked=True)
            raise Over
        await self.finish(Phase.ABORTED, blocked=True)
        await self.second_capture()
        self.world.meddler.come()
        await self.early()
        await self.crossed()

    async def crossed(self) -> None:
        """Cut over, compare everything, and complete."""
        await self.to(Direction.REVERSE)
        await self.linger()
        await self.settled(Direction.REVERSE)
        await self.equal()
        await self.finish(Phase.COMPLETE)

    async def settled(self, direction: Direction) -> None:
        """Streaming in a direction, and nobody meddles."""
        await self.to(direction)
        await self.alone()
        await self.to(direction)

    async def forward(self) -> None:
        """Nobody meddles, and the application is on the source, whatever the phase."""
        await self.alone()
        record = self.record
        if self.phase in (Phase.FENCING, Phase.SWITCHING, Phase.HELD) or (
            record is not None and record.direction is Direction.REVERSE
        ):
            await self.to(Direction.FORWARD)

    async def to(self, direction: Direction) -> None:
        """Cut over or revert, with as many attempts as it takes."""
        tries = 0
        while True:
            await self.reach(Phase.STREAMING)
            record = self.record
            if record is not None and record.direction is direction:
                return
            tries += 1
            if tries > _PATIENCE:
                self.world.quieten()
            if tries > 6 * _PATIENCE:
                raise AssertionError(f"no way to {direction.value} in {tries} attempts")
            try:
                await self.prepare(direction, tries)
                await self.attempt(direction, tries)
            except Killed:
                continue
            except OwnershipUnknown:
                continue
            except ReplicatorError as error:
                self.told("attempt", error)
                await asyncio.sleep(self.random.random())

    async def prepare(self, direction: Direction, tries: int) -> None:
        """Do what the gate asks for."""
        asked = _TO[direction](dry_run=True, waive_dead_letters=tries % 2 == 0)
        # To look is no command of the table: it is possible always, and changes nothing.
        for blocker in await self.call(lambda migration: migration.do(asked)):
            self.world.trace.add(self.world.now, "gate", blocker.code, blocker.message)
            match blocker.code:
                case "paused":
                    await self.give(Resume())
                case "dead-letters":
                    await self.heal_letters(tries)
                case "not-verified" | "verification-old":
                    await self.verify()
                case "findings":
                    await self.repair()
                    await self.verify()
                case "misplaced-keys" | "group-foreign":
                    await self.acknowledge(blocker.code)
                case _:
                    await asyncio.sleep(0.5)

    async def acknowledge(self, code: str) -> None:
        """Look at what is latched, and say so."""
        await self.command(Acknowledge(code, "looked at"), optional=True)

    async def attempt(self, direction: Direction, tries: int) -> None:
        command = _TO[direction](
            yes=self.random.random() < 0.6,
            waive_dead_letters=tries % 2 == 0,
            timeout_s=self.random.choice([None, None, 8.0]) if tries <= _PATIENCE else None,
        )
        await self.give(command)

    async def verify(self) -> None:
        levels: list[Level] = ["full", "full", "full", "sample", "counts"]
        for level in dict.fromkeys([self.random.choice(levels), "full"]):
            await self.command(Verify(level=level), optional=True)

    async def repair(self) -> None:
        collection = self.random.choice([None, self.world.plan.collections[0].source])
        await self.command(Repair(collection), optional=True)

    async def heal_letters(self, tries: int) -> None:
        """Retry, rewrite or discard what lies in the dead letters."""
        if self.random.random() < 0.4:
            self.world.heal()
        if self.world.application.mended or self.random.random() < 0.5:
            await self.command(RetryLetters(), optional=True)
        application = self.world.application
        for collection, point_id in sorted(
            application.refused | application.broken | application.unsure, key=str
        ):
            if not application.fenced and self.random.random() < 0.7:
                await application.rewrite(collection, point_id)
        if tries > 2:
            letters = await self.call(
                lambda migration: migration.letters(LetterState.OPEN, 1000, 0)
            )
            numbers = [x.number for x in letters if self.world.is_producers_fault(x)]
            if numbers:
                await self.give(DiscardLetters(tuple(numbers)))

    async def finish(self, phase: Phase, *, blocked: bool = False) -> None:
        """Enter a terminal phase; no seed without a fault."""
        if not self.world.faults.fired:
            self.world.faults.fire(Fault.CRASH)
            self.world.restart()
        await self.alone(blocked=blocked)
        command = Complete() if phase is Phase.COMPLETE else Abort()
        tries = 0
        while self.phase is not phase:
            tries += 1
            if tries > _PATIENCE:
                self.world.quieten()
            assert tries < 60, f"{phase.value} is not reached"
            await self.command(command, optional=True)
            await asyncio.sleep(0.1)
