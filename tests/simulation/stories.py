"""
The operator: what a person does to one migration, from its start to a terminal phase.

A person does not know what the oracle knows. The operator here reads the status and the errors,
does what they ask for, and tries again; only which store the application really writes (asked
in HELD) and which keys the application has to write anew are known otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from replicator.errors import OwnershipUnknown, ReplicatorError
from replicator.migration.migration import Migration
from replicator.model.letter import LetterState
from replicator.model.phase import Direction, Phase
from replicator.ports.control import CutoverRequest, VerifyRequest
from replicator.testing.faults import Fault
from tests.simulation.comparing import Comparing
from tests.simulation.process import Killed

_PATIENCE = 6
"""Failed attempts after which the world calms down, so that every story ends."""


class Operator(Comparing):
    """Plays the plan's story."""

    async def play(self) -> None:
        """The whole story; returns in a terminal phase with everything compared."""
        stories: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "cutover": self.cutover_story,
            "held": self.cutover_story,
            "revert": self.revert_story,
            "abort-again": self.again_story,
            "lost-state": self.lost_story,
            "grown": self.grown_story,
            "truncated": self.truncated_story,
            "glitch": self.glitch_story,
            "plain": self.plain_story,
            "abort": self.abort_story,
            "unstarted": self.unstarted_story,
        }
        await stories[self.world.plan.story]()

    # -- stories --------------------------------------------------------------------------
    async def cutover_story(self) -> None:
        await self.early()
        await self.to(Direction.REVERSE)
        await self.linger()
        await self.equal()
        await self.finish(lambda migration: migration.complete(), Phase.COMPLETE)

    async def revert_story(self) -> None:
        await self.early()
        await self.to(Direction.REVERSE)
        await self.linger()
        await self.to(Direction.FORWARD)
        await self.linger()
        if self.random.random() < 0.5:
            await self.to(Direction.REVERSE)
            await self.equal()
            await self.finish(lambda migration: migration.complete(), Phase.COMPLETE)
        else:
            await self.equal()
            await self.finish(lambda migration: migration.abort(), Phase.ABORTED)

    async def abort_story(self) -> None:
        await self.early()
        if self.random.random() < 0.5:
            await self.reach(Phase.STREAMING)
            await self.equal()
        await self.finish(lambda migration: migration.abort(), Phase.ABORTED)
        await self.sources_equal()

    async def again_story(self) -> None:
        await self.early()
        if self.random.random() < 0.5:
            await self.reach(Phase.STREAMING)
        await self.linger()
        await self.finish(lambda migration: migration.abort(), Phase.ABORTED)
        await self.linger()
        await self.second_capture()
        await self.cutover_story()

    async def lost_story(self) -> None:
        await self.early()
        if self.random.random() < 0.6:
            await self.reach(Phase.STREAMING)
        await self.linger()
        self.world.lose_state()
        await self.linger()
        self.world.wipe = True
        self.world.restart()
        await self.cutover_story()

    async def grown_story(self) -> None:
        await self.early()
        await self.until(lambda: self.captured, "a capture")
        self.world.log.grow(self.world.log.partitions + 1)
        await self.blocked_then_again("partitions-changed")

    async def truncated_story(self) -> None:
        await self.early()
        if self.random.random() < 0.5:
            await self.reach(Phase.STREAMING)
        world = self.world
        await self.command("pause", lambda migration: migration.pause())
        behind: list[int] = []
        before: dict[Any, int] = {}
        for _ in range(200):
            await asyncio.sleep(1.0)
            positions = dict(world.state._data.positions)
            record = self.record
            if record is not None and record.paused and positions == before:
                bounds = world.log.bounds()
                behind = [
                    number
                    for number in range(world.log.partitions)
                    if positions.get(world.log.name(number), 0)
                    < bounds[world.log.name(number)].stable
                ]
                if behind:
                    break
            before = positions
        number = behind[0]
        world.faults.fire(Fault.TRUNCATED)
        world.log.truncate(number, world.log.bounds()[world.log.name(number)].stable)
        world.trace.add(world.now, "log", "truncated", number)
        # It may be blocked already, by a process that looked before it was resumed.
        await self.command("resume", lambda migration: migration.resume(), optional=True)
        await self.blocked_then_again("log-truncated")

    async def glitch_story(self) -> None:
        """The broker answers for another topic for a while; then all is well again."""
        world = self.world
        story = asyncio.ensure_future(self.cutover_story())
        try:
            while not story.done():
                await asyncio.sleep(0.3)
                if self.phase is Phase.BLOCKED and (world.log.glitch or world.log.damaged):
                    await asyncio.sleep(self.random.random() * 2)
                    world.log.glitch = world.log.damaged = False
            story.result()
        finally:
            story.cancel()

    async def unstarted_story(self) -> None:
        """The broker is away from the beginning, and the operator has second thoughts."""
        self.world.faults.fire(Fault.BROKER_OUTAGE)
        self.world.log.away = True
        await self.until(lambda: self.phase is Phase.PLANNED, "PLANNED")
        await self.finish(lambda migration: migration.abort(), Phase.ABORTED)
        await self.sources_equal()

    async def plain_story(self) -> None:
        """A plain copy of a store that nobody writes."""
        await self.until(
            lambda: self.phase in {Phase.COMPLETE, Phase.BLOCKED}, "COMPLETE", blocked=True
        )
        if self.phase is Phase.BLOCKED:
            raise AssertionError(f"a plain copy is blocked: {self.record}")
        self.compare(Direction.FORWARD)

    # -- parts of stories -----------------------------------------------------------------
    async def early(self) -> None:
        """What may happen before the migration streams."""
        plan = self.world.plan
        if self.random.random() < 0.1:
            changes = {"stream.in_flight_max": "2", "stream.linger": "30ms"}
            await self.command("tune", lambda migration: migration.tune(changes), optional=True)
        if plan.pause:
            await asyncio.sleep(self.random.random() * 4)
            await self.command("pause", lambda migration: migration.pause(), optional=True)
            await asyncio.sleep(self.random.random() * 2)
            await self.command("resume", lambda migration: migration.resume(), optional=True)
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
        self.world.wipe = True
        self.world.wanted.set()
        await self.until(lambda: self.phase is not Phase.ABORTED, "a new attempt")

    async def blocked_then_again(self, code: str) -> None:
        """Wait for BLOCKED with this reason, abort, capture anew, and go on to the end."""
        await self.until(lambda: self.phase is Phase.BLOCKED, f"BLOCKED ({code})", blocked=True)
        record = self.record
        assert record is not None
        assert record.reason_code == code, f"blocked by {record.reason_code}: {record.reason}"
        await self.finish(lambda migration: migration.abort(), Phase.ABORTED, blocked=True)
        await self.second_capture()
        await self.cutover_story()

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
        ask = self._ask(direction)
        request = CutoverRequest(dry_run=True, waive_dead_letters=tries % 2 == 0)
        for blocker in await self.call(lambda migration: ask(migration)(request)):
            self.world.trace.add(self.world.now, "gate", blocker.code, blocker.message)
            match blocker.code:
                case "paused":
                    await self.call(lambda migration: migration.resume())
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
        await self.command(
            f"acknowledge {code}",
            lambda migration: migration.acknowledge(code, "looked at"),
            optional=True,
        )

    async def attempt(self, direction: Direction, tries: int) -> None:
        ask = self._ask(direction)
        request = CutoverRequest(
            yes=True,
            waive_dead_letters=tries % 2 == 0,
            timeout_s=self.random.choice([None, None, 8.0]) if tries <= _PATIENCE else None,
        )
        await self.call(lambda migration: ask(migration)(request))

    @staticmethod
    def _ask(direction: Direction) -> Callable[[Migration], Any]:
        if direction is Direction.REVERSE:
            return lambda migration: migration.cutover
        return lambda migration: migration.revert

    async def verify(self) -> None:
        level = self.random.choice(["full", "full", "full", "sample", "counts"])
        for one in dict.fromkeys([level, "full"]):
            await self.command(
                f"verify {one}",
                lambda migration, one=one: migration.verify(VerifyRequest(level=one)),
                optional=True,
            )

    async def repair(self) -> None:
        self._repaired = True
        collection = self.random.choice([None, self.world.plan.collections[0].source])
        await self.command(
            "repair", lambda migration: migration.repair(collection), optional=True
        )

    async def heal_letters(self, tries: int) -> None:
        """Retry, rewrite or discard what lies in the dead letters."""
        if self.random.random() < 0.4:
            self.world.heal()
        if self.world.application.mended or self.random.random() < 0.5:
            await self.command(
                "retry", lambda migration: migration.retry_letters(None), optional=True
            )
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
            numbers = [x.number for x in letters if self._is_producers_fault(x)]
            if numbers:
                await self.call(lambda migration: migration.discard_letters(numbers))

    async def finish(
        self,
        ask: Callable[[Migration], Coroutine[Any, Any, None]],
        phase: Phase,
        *,
        blocked: bool = False,
    ) -> None:
        """Enter a terminal phase; no seed without a fault."""
        if not self.world.faults.fired:
            self.world.faults.fire(Fault.CRASH)
            self.world.restart()
        tries = 0
        while self.phase is not phase:
            tries += 1
            if tries > _PATIENCE:
                self.world.quieten()
            assert tries < 60, f"{phase.value} is not reached"
            await self.command(phase.value, ask, blocked=blocked, optional=True)
            await asyncio.sleep(0.1)
