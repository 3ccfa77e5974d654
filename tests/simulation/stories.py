"""
The operator: what a person does to one migration, from its start to a terminal phase.

A person does not know what the oracle knows. The operator here reads the status and the errors,
does what they ask for, and tries again; only which store the application really writes (asked
in HELD) and which keys the application has to write anew are known otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from replicator.errors import OwnershipUnknown, ReplicatorError
from replicator.migration.migration import Migration
from replicator.model.letter import DeadLetter, LetterState
from replicator.model.phase import Direction, Phase
from replicator.model.record import MigrationRecord
from replicator.ports.control import CutoverRequest, VerifyRequest
from replicator.testing.faults import Fault
from tests.simulation.application import Poison
from tests.simulation.process import Killed, Process
from tests.simulation.world import World

T = TypeVar("T")

_PATIENCE = 6
"""Failed attempts after which the world calms down, so that every story ends."""


class Operator:
    """Plays the plan's story."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(f"operator {world.plan.seed}")
        self._unblocking = False
        self._repaired = False

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
        await self.command("resume", lambda migration: migration.resume(), blocked=True)
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

    async def rest_and_compare(self) -> None:
        """
        Let the writers rest until everything is applied, and compare: before any verification
        had a chance to heal what the copy and the stream left wrong.
        """
        application = self.world.application
        if self.random.random() < 0.5:
            # What the dead process had sent may land behind what the next one writes.
            self.world.crash()
            await asyncio.sleep(self.random.random() * 0.6)
        await application.stop()
        await asyncio.sleep(self.world.plan.emit_delay_s + 1.0)
        for _ in range(600):
            record = self.record
            calm = record is not None and record.phase is Phase.STREAMING and not record.paused
            if calm and self.caught_up():
                await asyncio.sleep(self.world.plan.late_write_bound_s)
                if self.random.random() < 0.5:
                    self.world.heal()
                if self.world.application.mended:
                    await self.retry_refused()
                self.compare(Direction.FORWARD)
                break
            await asyncio.sleep(0.1)
        application.restart()

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
                case _:
                    await asyncio.sleep(0.5)

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

    def _is_producers_fault(self, letter: DeadLetter) -> bool:
        if letter.partition is None or letter.offset is None:
            return False
        place = int(letter.partition.rpartition("/")[2]), letter.offset
        return place in self.world.application.poisoned

    # -- the end --------------------------------------------------------------------------
    async def equal(self) -> None:
        """Let everything come to rest, and compare both stores with the oracle."""
        world = self.world
        application = world.application
        await application.stop()
        world.quieten()
        await self.reach(Phase.STREAMING)
        if application.fenced:
            # An attempt that a crash ended: the person who closed the fence opens it.
            await self.until(lambda: not application.fenced, "the fence open")
        if application.mended:
            await self.retry_refused()
        for collection, point_id in sorted(
            application.refused | application.broken | application.unsure, key=str
        ):
            await application.rewrite(collection, point_id)
        for number in range(world.log.partitions):
            world.log.end_transaction(number)
        await self.until(self.caught_up, "lag 0")
        await asyncio.sleep(world.plan.late_write_bound_s + 0.1)
        self.compare(Direction.FORWARD)
        self.compare(Direction.REVERSE)
        await self.check_letters()

    async def retry_refused(self) -> None:
        """What the mended target refused before is healed by a retry alone."""
        record = self.record
        if record is None or record.direction is Direction.REVERSE:
            return
        for _ in range(10):
            await self.command(
                "retry", lambda migration: migration.retry_letters(None), optional=True
            )
            letters = self.world.state._data.letters.values()
            if not any(
                letter.state is LetterState.OPEN and letter.code == "target-rejected"
                for letter in letters
            ):
                self.world.application.refused.clear()
                return

    def caught_up(self) -> bool:
        """Whether everything in the log is applied, as persisted."""
        positions = self.world.state._data.positions
        return all(
            positions.get(partition, -1) >= at.end
            for partition, at in self.world.log.bounds().items()
        )

    def compare(self, direction: Direction) -> None:
        """Raise with every difference of the store that is written in a direction."""
        told = self.world.differences_of(direction)
        if told:
            raise AssertionError("the stores differ from the oracle:\n  " + "\n  ".join(told))

    async def sources_equal(self) -> None:
        await self.world.application.stop()
        self.compare(Direction.REVERSE)

    async def check_letters(self) -> None:
        """Every poison record is in the dead letters, with code and path; nothing else is."""
        record = self.record
        assert record is not None
        assert record.capture is not None
        data = self.world.state._data
        by_place = {
            (int(x.partition.rpartition("/")[2]), x.offset): x
            for x in data.letters.values()
            if x.partition is not None
        }
        log = self.world.log
        for (partition, offset), poison in self.world.application.poisoned.items():
            if offset < record.capture.positions[log.name(partition)]:
                continue
            letter = by_place.get((partition, offset))
            assert letter is not None, f"poison at {partition}:{offset} is not in the letters"
            found, wanted = (letter.code, letter.path), (poison.code, poison.path)
            assert found == wanted, f"poison at {partition}:{offset} is {found}, not {wanted}"
            self._check_state(letter, (partition, offset), poison)
        for letter in data.letters.values():
            if letter.state is LetterState.OPEN:
                assert self._is_producers_fault(letter), f"a letter stayed open: {letter}"

    def _check_state(self, letter: DeadLetter, place: tuple[int, int], poison: Poison) -> None:
        """
        A later image of the key settles a letter, and nothing else but a person does. Where
        there is a filter, a later patch may be written as the source's image.
        """
        image = self.world.application.images.get(poison.key) if poison.key else None
        healed = image is not None and image[0] == place[0] and image[1] > place[1]
        if healed:
            assert letter.state is not LetterState.OPEN, f"a later image settles {letter}"
            return
        straggler = self.world.application.stragglers.get(poison.key) if poison.key else None
        if self._repaired or self._filters(poison):
            return
        if straggler is None or straggler < place:
            assert letter.state is not LetterState.SETTLED, f"nobody settled {letter}"

    def _filters(self, poison: Poison) -> bool:
        return any(
            plan.settings.transform.filter is not None
            for plan in self.world.plan.collections
            if poison.key is not None and plan.source == poison.key[0]
        )

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

    # -- asking ---------------------------------------------------------------------------
    @property
    def record(self) -> MigrationRecord | None:
        return self.world.record

    @property
    def captured(self) -> bool:
        """Whether the positions are captured: what happens to the log from now on matters."""
        record = self.record
        return record is not None and record.capture is not None

    @property
    def phase(self) -> Phase | None:
        record = self.record
        return None if record is None else record.phase

    async def call(self, ask: Callable[[Migration], Coroutine[Any, Any, T]]) -> T:
        """Ask the process that runs; raises Killed when it dies before it answers."""
        process = await self._running()
        answer = asyncio.ensure_future(process.call(ask))
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
            return answer.result()
        finally:
            answer.cancel()

    async def _running(self) -> Process:
        """The process, once one runs."""
        for _ in range(400):
            process = self.world.process
            if process is not None and process.alive:
                return process
            await asyncio.sleep(0.1)
        raise Killed

    async def command(
        self,
        name: str,
        ask: Callable[[Migration], Coroutine[Any, Any, Any]],
        *,
        optional: bool = False,
        blocked: bool = False,
    ) -> None:
        """Give a command until it is taken, or once where it is optional."""
        for _ in range(30):
            try:
                self.world.trace.add(self.world.now, "command", name)
                await self.call(ask)
            except Killed:
                await asyncio.sleep(0.2)
                if optional:
                    return
            except ReplicatorError as error:
                self.told(name, error)
                if optional:
                    return
                await asyncio.sleep(0.5)
            else:
                return
        raise AssertionError(f"{name} is not taken")

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
            if self.phase is Phase.HELD:
                await self.own()
            if self.phase is Phase.BLOCKED and not blocked:
                await self.unblock()
            record = self.record
            if record is not None and record.paused and waited > 20:
                await self.command(
                    "resume", lambda migration: migration.resume(), optional=True
                )
            await asyncio.sleep(0.1)
            waited += 0.1
            if waited > 120 and not self.world.calm:
                self.world.quieten()
            if waited > 400:
                raise AssertionError(f"waited in vain for {what}: {record}")

    async def own(self) -> None:
        """Find out which store the application writes, and say so."""
        while self.world.application.switches_under_way:
            await asyncio.sleep(0.5)
        active = self.world.application.active
        await self.command("own", lambda migration: migration.own(active), optional=True)

    async def unblock(self) -> None:
        """Read why, and do what it asks for."""
        record = self.record
        assert record is not None
        if record.reason_code == "target-not-empty":
            self.world.wipe = True
            self.world.restart()
            await asyncio.sleep(1)
            await self.command("resume", lambda migration: migration.resume(), optional=True)
            return
        if self.world.plan.story == "glitch":
            await self.command("resume", lambda migration: migration.resume(), optional=True)
            await asyncio.sleep(0.5)
            return
        raise AssertionError(f"blocked by {record.reason_code}: {record.reason}")

    def told(self, what: str, error: ReplicatorError) -> None:
        """Note what the operator was told."""
        self.world.trace.add(self.world.now, "told", what, error.code, error.message)
