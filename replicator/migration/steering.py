"""
Steering: what an operator asks of a migration that runs.

The rules (`model.situation`) say what is possible; what the doing itself finds out, it refuses
itself. A command that changes the phase looks again when the change is written down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar, assert_never, cast

import msgspec

from replicator.errors import Blocked, Refused, Unavailable
from replicator.migration.cutover.advice import advised
from replicator.migration.cutover.crossing import Crossing, Person
from replicator.migration.cutover.whereabouts import Whereabouts
from replicator.migration.process.acknowledge import Acknowledgement
from replicator.migration.process.engine import Engine
from replicator.migration.process.observe import ANSWER_S
from replicator.migration.process.operations import Operations
from replicator.migration.process.supervisor import Supervisor
from replicator.migration.process.tuning import tune
from replicator.migration.process.upkeep import Upkeep
from replicator.model.command import (
    Abort,
    Acknowledge,
    Answer,
    AnyCommand,
    CancelVerification,
    Command,
    Complete,
    Cross,
    Cutover,
    DiscardLetters,
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
from replicator.model.phase import PAUSABLE, Direction, Phase
from replicator.model.record import MigrationRecord
from replicator.model.situation import Situation, refusal, situation
from replicator.settings.feeds import feed_kind

T = TypeVar("T")

_SAY_IT_THEMSELVES = (Cross, CancelVerification, DiscardLetters, Answer)
"""The gate says what is in the way with all its other reasons; where nothing is under way, open
or asked, that is their answer."""


class Steering:
    """Does what is asked, once the rules have let it through."""

    def __init__(
        self,
        engine: Engine,
        supervisor: Supervisor,
        operations: Operations,
        *,
        upkeep: Upkeep,
        crossing: Crossing,
        whereabouts: Whereabouts,
        person: Person,
    ) -> None:
        self._engine = engine
        self._supervisor = supervisor
        self._operations = operations
        self._upkeep = upkeep
        self._crossing = crossing
        self._whereabouts = whereabouts
        self._person = person

    @property
    def _record(self) -> MigrationRecord:
        return self._engine.journal.record

    async def do(self, command: Command[T]) -> T:
        """Do what is asked, once the rules have let it through."""
        assert isinstance(command, AnyCommand), command
        self._check(command)
        return cast("T", await self._do(command))

    # One branch for each command, and nothing but that.
    async def _do(self, command: AnyCommand) -> object:  # noqa: C901, PLR0912
        match command:
            case Pause():
                await self._pause()
            case Resume():
                await self._resume()
            case Tune(changes):
                return await self._tune(changes)
            case Verify():
                return await self._upkeep.verify(command)
            case CancelVerification():
                return await self._operations.cancel("verify")
            case Repair(collection):
                return await self._upkeep.repair(collection)
            case RetryLetters(numbers):
                return await self._upkeep.retry(numbers)
            case DiscardLetters(numbers):
                return await self._discard(numbers)
            case Cutover() | Revert():
                blockers = await self._crossing.cross(command)
                return advised(blockers, feed_kind(self._engine.parts.settings.feed))
            case Complete():
                await self._end_with(command, Phase.COMPLETE, "the reverse window is ended")
            case Abort():
                await self._operations.end("the migration is aborted")
                self._check(command)
                await self._end_with(command, Phase.ABORTED, "aborted by a person")
            case Own():
                await self._whereabouts.own(command.direction)
                self._supervisor.wake()
            case Acknowledge(code, note):
                await Acknowledgement(self._engine).give(code, note)
                self._supervisor.wake()
            case Answer(yes):
                self._person.answer(yes)
            case _:
                assert_never(command)
        return None

    def situation(self) -> Situation:
        """What the rules judge by."""
        return situation(
            self._record,
            operation=self._operations.under_way,
            asked=self._person.question is not None,
            feed=self._engine.parts.feed is not None,
            letters=self._engine.letters.open > 0,
        )

    def _check(self, command: AnyCommand) -> None:
        """Raises Refused where the rules say so."""
        at = self.situation()
        reason = refusal(type(command), at)
        if reason is None or isinstance(command, _SAY_IT_THEMSELVES):
            return
        if isinstance(command, Resume) and not at.rests:
            return  # there is nothing to resume, and that is no error
        lossy = isinstance(command, Repair) and at.direction is Direction.REVERSE
        raise Refused("not-invertible" if lossy else "phase-refused", reason)

    async def _pause(self) -> None:
        """Returns when nothing runs any more, operations that hold keys included."""

        def paused(record: MigrationRecord) -> MigrationRecord | None:
            if record.paused or record.phase not in PAUSABLE:
                return None
            return msgspec.structs.replace(record, paused=True)

        await self._engine.journal.update("pause", "paused", paused)
        if not self._record.paused:
            raise self._overtaken()  # a cutover began before it was written down
        self._supervisor.wake()
        await self._supervisor.paused()

    async def _resume(self) -> None:
        record = self._record
        if record.phase is Phase.BLOCKED:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._check_unblocked()
            except TimeoutError as error:
                raise Unavailable(
                    "store-unavailable", f"no answer within {ANSWER_S:.0f} s; still BLOCKED"
                ) from error
            await self._move(
                Phase.BLOCKED,
                record.back_to or Phase.STREAMING,
                "resumed after a new check",
                back_to=None,
            )
        elif record.paused:
            await self._engine.journal.change("resume", "resumed", paused=False)
        else:
            return
        self._supervisor.wake()

    async def _check_unblocked(self) -> None:
        """Raises Refused while log or collections are still not those of the capture."""
        feed, record = self._engine.parts.feed, self._record
        if record.capture is None:
            return
        try:
            await self._engine.identity.look()
        except Blocked as error:
            raise Refused(error.code, error.message) from error
        if feed is None:
            return
        bounds = await feed.bounds()
        if len(bounds) != record.capture.partitions:
            raise Refused("partitions-changed", record.reason)
        positions = await self._engine.parts.state.positions()
        behind = [p for p, at in bounds.items() if positions.get(p, -1) < at.start]
        if behind:
            raise Refused("log-truncated", f"the log begins after our position on {behind[0]}")

    async def _tune(self, changes: dict[str, str]) -> dict[str, str]:
        tuned = tune(self._engine, changes)
        if changes:
            await self._engine.journal.note("tune", "limits changed", **changes)
        return tuned

    async def _discard(self, numbers: Sequence[int]) -> int:
        closed = await self._engine.parts.state.close_letters(
            numbers, LetterState.DISCARDED, "a person"
        )
        if closed:
            await self._engine.journal.note(
                "discard", f"{closed} dead letters were given up", numbers=list(numbers)
            )
        await self._engine.letters.recount()
        return closed

    async def _end_with(self, command: Complete | Abort, phase: Phase, message: str) -> None:
        """Enter the last phase, if it is possible still when that is written down."""

        def still(_: MigrationRecord) -> bool:
            return refusal(type(command), self.situation()) is None

        await self._move(self._record.phase, phase, message, when=still, paused=False)
        self._supervisor.wake()

    async def _move(
        self, current: Phase, following: Phase, message: str, **changes: Any
    ) -> None:
        """Enter a phase on a person's word. Raises Refused when another was entered first."""
        if not await self._engine.journal.move(
            following, message, only_from=current, **changes
        ):
            raise self._overtaken()

    def _overtaken(self) -> Refused:
        return Refused(
            "phase-refused", f"the phase is {self._record.phase.value} by now; look again"
        )
