"""
The migration: its process, and what an operator asks of it.

The `supervisor` starts the work of the `engine` that the phase asks for; `crossing` moves the
application between the stores; `upkeep` keeps them equal. Here they are put together, recover
what a process before left, and end when the migration is over or the process drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar, assert_never, cast

import msgspec

from replicator import __version__
from replicator.errors import Blocked, Refused, ReplicatorError, Unavailable, first_cause
from replicator.migration.cutover.advice import advised
from replicator.migration.cutover.crossing import Crossing, Person
from replicator.migration.cutover.cutover import StepHooks
from replicator.migration.evidence.journal import Journal
from replicator.migration.evidence.unsettled import keep_unsettled, recall_unsettled
from replicator.migration.parts import Parts
from replicator.migration.process.acknowledge import Acknowledgement
from replicator.migration.process.engine import Engine
from replicator.migration.process.observe import ANSWER_S
from replicator.migration.process.operations import Operations
from replicator.migration.process.supervisor import Supervisor
from replicator.migration.process.tuning import tune
from replicator.migration.process.upkeep import Upkeep
from replicator.migration.process.view import view
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
from replicator.model.finding import Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import PAUSABLE, Direction, Phase
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.model.report import Report
from replicator.model.situation import Situation, possible, refusal, situation
from replicator.model.status import Status, VerifyStatus
from replicator.ports.traffic import Fence, Switch
from replicator.settings.feeds import feed_kind

T = TypeVar("T")

_SAY_IT_THEMSELVES = (Cross, CancelVerification, DiscardLetters, Answer)
"""The gate says what is in the way with all its other reasons; where nothing is under way, open
or asked, that is their answer."""


class Begun(msgspec.Struct, frozen=True):
    """What there is once `run` has begun."""

    engine: Engine
    supervisor: Supervisor
    upkeep: Upkeep
    crossing: Crossing


class Migration:
    """One migration, from its capture to its end. Implements `ports.control.Control`."""

    def __init__(
        self,
        parts: Parts,
        *,
        fence: Fence,
        switch: Switch,
        hooks: StepHooks,
        person: Person,
    ) -> None:
        self.parts = parts
        self.verification = VerifyStatus()
        self._fence = fence
        self._switch = switch
        self._hooks = hooks
        self._person = person
        self._draining = False
        self._operations: Operations
        self._have_begun: Begun | None = None

    # -- the process -----------------------------------------------------------------------

    async def run(self) -> None:
        """
        Everything, until the migration is over, or a drain. Raises Refused
        when the record does not fit the settings; Fatal and defects as they come.
        """
        state = self.parts.state
        record = await state.load()
        was_clean = await state.mark_running()
        engine = Engine(self.parts, await self._journal(record))
        self._operations = Operations(
            engine.ownership, float(self.parts.settings.stream.drain_timeout)
        )
        upkeep = Upkeep(engine, self._operations, self.verification)
        supervisor = Supervisor(
            engine, self._operations, plain_copy_check=upkeep.check_plain_copy
        )
        upkeep.not_ours = supervisor.failed
        crossing = Crossing(
            engine,
            supervisor,
            self._operations,
            self.verification,
            fence=self._fence,
            switch=self._switch,
            hooks=self._hooks,
            person=self._person,
        )
        self._have_begun = Begun(engine, supervisor, upkeep, crossing)
        await recall_unsettled(state, engine.writers, self.parts.clock, was_clean=was_clean)
        engine.absolves = was_clean and engine.is_clear
        await self._recall()
        helpers = [asyncio.create_task(crossing.open_when_due(), name="fence opener")]
        if self.parts.settings.verify.interval > 0:
            helpers.append(
                asyncio.create_task(
                    upkeep.verify_regularly(lambda: self.do(Verify())), name="verifier"
                )
            )
        if engine.observer is not None:
            helpers.append(asyncio.create_task(supervisor.probe_regularly(), name="probe"))
        main = asyncio.create_task(supervisor.run(), name="supervisor")
        if self._draining:
            self._operations.draining = True
            supervisor.drain()
        try:
            await asyncio.wait([main, *helpers], return_when=asyncio.FIRST_COMPLETED)
            await self._operations.end("the process ends")
            supervisor.drain()
            await asyncio.wait([main])
            await crossing.leave_open()
            await self._end(helpers)
            await keep_unsettled(state, engine.writers, self.parts.clock)
            await state.mark_clean()
        finally:
            await self._end([main, *helpers])
        for task in (main, *helpers):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise first_cause(error)
        left = engine.letters.open
        if self.parts.feed is None and self.record.phase is Phase.COMPLETE and left:
            raise ReplicatorError("rows-left", f"the copy is complete but for {left} rows")

    def request_drain(self) -> None:
        """Finish what is in flight, persist, and let `run` return."""
        self._draining = True
        if self._have_begun is not None:
            self._operations.draining = True
            asyncio.get_running_loop().create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        # At the same time: each waits for what it has in flight, and no new job begins.
        self._begun.supervisor.drain()
        await self._operations.end("the process is shutting down")

    @staticmethod
    async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    @property
    def _begun(self) -> Begun:
        if self._have_begun is None:
            raise Refused("phase-refused", "the migration is still starting; try again")
        return self._have_begun

    @property
    def engine(self) -> Engine:
        """The engine, once `run` has begun."""
        return self._begun.engine

    @property
    def record(self) -> MigrationRecord:
        """The record in force."""
        return self.engine.journal.record

    async def _journal(self, record: MigrationRecord | None) -> Journal:
        name = self.parts.settings.name
        if record is None:
            journal = Journal(self.parts.state, MigrationRecord(name=name), self.parts.clock)
            await journal.begin(journal.record, "planned")
            return journal
        record = record.upgraded()
        journal = Journal(self.parts.state, record, self.parts.clock)
        if record.phase is Phase.ABORTED:
            following = MigrationRecord(
                name=name,
                attempt=record.attempt + 1,
                # What writers and stores were told outlives the attempt.
                epochs=record.epochs,
                tries=record.tries,
                incarnation=record.incarnation,
                fence_closed=record.fence_closed,
                fence_token=record.fence_attempt,
                fenced_at=record.fenced_at,
            )
            await journal.begin(following, "planned")
        elif record.fingerprint and record.fingerprint != self.parts.fingerprint:
            raise Refused(
                "plan-changed",
                "source, target, collections, transforms or feed are not those of the "
                "migration under way",
            )
        if journal.record.phase is Phase.FENCING:
            await journal.move(
                Phase.STREAMING, "restarted while fenced; going back", only_from=Phase.FENCING
            )
        return journal

    async def _recall(self) -> None:
        """What the status shows of earlier runs."""
        verified = await self.engine.recall_verified()
        if verified is not None:
            self.verification.generation, self.verification.at = (
                verified.generation,
                verified.at,
            )
        report = await self.report()
        if report is not None:
            self.verification.recall_below = report.below
            self.verification.configuration = report.misconfigured
        await self._begun.upkeep.count_findings()
        await self.engine.letters.load()
        self.engine.persisted = await self.parts.state.positions()
        progress = self.engine.pace.progress
        progress.copied = sum(chunk.rows for chunk in await self.parts.state.chunks())
        raw = await self.parts.state.get("estimate")
        progress.estimated = None if raw is None else msgspec.json.decode(raw, type=int | None)

    # -- Control: looking ------------------------------------------------------------------

    async def status(self) -> Status:
        """The whole status, from memory."""
        status = view(
            self.engine,
            version=__version__,
            verification=self.verification,
            fence=self._begun.crossing.status(),
        )
        status.possible = possible(self._situation())
        kind = feed_kind(self.parts.settings.feed)
        status.not_ready = advised(status.not_ready, kind)
        status.blockers = advised(await self._begun.crossing.blockers(Cross()), kind)
        status.can_cutover = not status.blockers and self.record.direction is Direction.FORWARD
        return status

    async def journal(self, limit: int) -> list[JournalEntry]:
        """The newest entries, oldest of them first."""
        return await self.parts.state.journal(limit)

    async def report(self) -> Report | None:
        """The last report."""
        raw = await self.parts.state.get("report")
        return None if raw is None else msgspec.json.decode(raw, type=Report)

    async def findings(self) -> AsyncIterator[Finding]:
        """Every finding that is kept."""
        async for finding in self._begun.upkeep.findings():
            yield finding

    async def letters(
        self, state: LetterState | None, limit: int, after: int
    ) -> Sequence[DeadLetter]:
        """Dead letters by number."""
        return await self.parts.state.letters(state, limit, after)

    async def letter_bytes(self, number: int) -> RejectedRecord:
        """The bytes of one."""
        return await self.parts.letter_log.load((await self._begun.upkeep.letter(number)).ref)

    # -- Control: commands -----------------------------------------------------------------

    async def do(self, command: Command[T]) -> T:
        """Do what is asked, once the rules have let it through."""
        assert isinstance(command, AnyCommand), command
        self._check(command)
        return cast("T", await self._do(command))

    # One branch for each command, and nothing but that.
    async def _do(self, command: AnyCommand) -> object:  # noqa: C901, PLR0912
        begun = self._begun
        match command:
            case Pause():
                await self._pause()
            case Resume():
                await self._resume()
            case Tune(changes):
                return await self._tune(changes)
            case Verify():
                return await begun.upkeep.verify(command)
            case CancelVerification():
                return await self._operations.cancel("verify")
            case Repair(collection):
                return await begun.upkeep.repair(collection)
            case RetryLetters(numbers):
                return await begun.upkeep.retry(numbers)
            case DiscardLetters(numbers):
                return await self._discard(numbers)
            case Cutover() | Revert():
                blockers = await begun.crossing.cross(command)
                return advised(blockers, feed_kind(self.parts.settings.feed))
            case Complete():
                await self._end_with(command, Phase.COMPLETE, "the reverse window is ended")
            case Abort():
                await self._operations.end("the migration is aborted")
                self._check(command)
                await self._end_with(command, Phase.ABORTED, "aborted by a person")
            case Own():
                await begun.crossing.own(command.direction)
                begun.supervisor.wake()
            case Acknowledge(code, note):
                await Acknowledgement(self.engine).give(code, note)
                begun.supervisor.wake()
            case Answer(yes):
                self._person.answer(yes)
            case _:
                assert_never(command)
        return None

    def _situation(self) -> Situation:
        return situation(
            self.record,
            operation=self._operations.under_way,
            asked=self._person.question is not None,
            feed=self.parts.feed is not None,
            letters=self.engine.letters.open > 0,
        )

    def _check(self, command: AnyCommand) -> None:
        """Raises Refused while the migration is still starting, and where the rules say so."""
        at = self._situation()
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

        await self.engine.journal.update("pause", "paused", paused)
        if not self.record.paused:
            raise self._overtaken()  # a cutover began before it was written down
        self._begun.supervisor.wake()
        await self._begun.supervisor.paused()

    async def _resume(self) -> None:
        record = self.record
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
            await self.engine.journal.change("resume", "resumed", paused=False)
        else:
            return
        self._begun.supervisor.wake()

    async def _check_unblocked(self) -> None:
        """Raises Refused while log or collections are still not those of the capture."""
        feed, record = self.parts.feed, self.record
        if record.capture is None:
            return
        try:
            await self.engine.identity.look()
        except Blocked as error:
            raise Refused(error.code, error.message) from error
        if feed is None:
            return
        bounds = await feed.bounds()
        if len(bounds) != record.capture.partitions:
            raise Refused("partitions-changed", record.reason)
        positions = await self.parts.state.positions()
        behind = [p for p, at in bounds.items() if positions.get(p, -1) < at.start]
        if behind:
            raise Refused("log-truncated", f"the log begins after our position on {behind[0]}")

    async def _tune(self, changes: dict[str, str]) -> dict[str, str]:
        tuned = tune(self.engine, changes)
        if changes:
            await self.engine.journal.note("tune", "limits changed", **changes)
        return tuned

    async def _discard(self, numbers: Sequence[int]) -> int:
        closed = await self.parts.state.close_letters(
            numbers, LetterState.DISCARDED, "a person"
        )
        if closed:
            await self.engine.journal.note(
                "discard", f"{closed} dead letters were given up", numbers=list(numbers)
            )
        await self.engine.letters.recount()
        return closed

    async def _end_with(self, command: Complete | Abort, phase: Phase, message: str) -> None:
        """Enter the last phase, if it is possible still when that is written down."""

        def still(_: MigrationRecord) -> bool:
            return refusal(type(command), self._situation()) is None

        await self._move(self.record.phase, phase, message, when=still, paused=False)
        self._begun.supervisor.wake()

    async def _move(
        self, current: Phase, following: Phase, message: str, **changes: Any
    ) -> None:
        """Enter a phase on a person's word. Raises Refused when another was entered first."""
        if not await self.engine.journal.move(following, message, only_from=current, **changes):
            raise self._overtaken()

    def _overtaken(self) -> Refused:
        return Refused(
            "phase-refused", f"the phase is {self.record.phase.value} by now; look again"
        )
