"""
The migration: what an operator asks for, on top of the engine that does the work.

Long operations (verify, repair, cutover, revert, retry) are owned here, one at a time: a caller
that goes away does not stop them, a drain does, and a cutover that is stopped goes back. The
writer fence is opened in one place only, by a task that looks at the record: whenever the
record says that the fence is closed while the phase is one in which the application may write.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from replicator import __version__
from replicator.errors import OwnershipUnknown, Refused, ReplicatorError
from replicator.migration.cutover import Cutover, StepHooks
from replicator.migration.engine import Engine, Parts, first_cause
from replicator.migration.gate import GateFacts, closed_by
from replicator.migration.journal import Journal
from replicator.migration.repair import Repair, only_forward
from replicator.migration.suspects import Suspects
from replicator.migration.tuning import tune
from replicator.migration.verify import Verification, Verified
from replicator.migration.view import view
from replicator.model.event import Key
from replicator.model.finding import Blocker, Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import ABORTABLE, PAUSABLE, TERMINAL, Direction, Phase
from replicator.model.position import Positions
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.model.status import FenceStatus, Status, VerifyStatus
from replicator.ports.control import CutoverRequest, Report, VerifyRequest
from replicator.ports.store import Fence, Switch

T = TypeVar("T")

_REPAIR_KEYS = 2000
"""Keys held at once by a repair: their events wait meanwhile, within the stream's buffer."""
_OPEN_RETRY_S = 2.0
_LEAVE_S = 5.0
"""How long a process that ends waits for its fence to open. Its holder opens it in any case."""


class Question(Protocol):
    """What a person is asked."""

    @property
    def text(self) -> str:
        """In words."""
        ...


class Person(Protocol):
    """Somebody who answers questions."""

    assume_yes: bool

    @property
    def question(self) -> Question | None:
        """What is asked now."""
        ...

    def answer(self, yes: bool) -> None:
        """The answer. Raises Refused("not-found") when nothing is asked."""
        ...


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
        until: Phase | None = None,
    ) -> None:
        """`until` ends `run` once that phase (or a later one) is reached, for jobs."""
        self.parts = parts
        self.verification = VerifyStatus()
        self._fence = fence
        self._switch = switch
        self._hooks = hooks
        self._person = person
        self._until = until
        self._engine: Engine | None = None
        self._cutover: Cutover | None = None
        self._operation: asyncio.Task[Any] | None = None
        self._operation_name = ""
        self._draining = False
        self._ended = asyncio.Event()

    # -- the process -----------------------------------------------------------------------

    async def run(self) -> None:
        """
        Everything, until the migration is over, `until` is reached, or a drain. Raises Refused
        when the record does not fit the settings; Fatal and defects as they come.
        """
        state = self.parts.state
        record = await state.load()
        was_clean = await state.mark_running()
        engine = self._engine = Engine(self.parts, await self._journal(record))
        engine.resume_switch = self._resume_switch
        engine.plain_copy_check = self._check_plain_copy
        if not was_clean:
            # Invariant 5: the process before us may have writes on their way.
            for writer in engine.writers.values():
                writer.guard.suspect()
        await self._recall()
        helpers = [asyncio.create_task(self._open_fence_when_due(), name="fence opener")]
        if self.parts.settings.verify.interval > 0:
            helpers.append(asyncio.create_task(self._verify_regularly(), name="verifier"))
        if engine.observer is not None:
            helpers.append(asyncio.create_task(engine.probe_regularly(), name="probe"))
        main = asyncio.create_task(engine.supervise(self._is_done), name="supervisor")
        if self._draining:
            engine.drain()
        try:
            await asyncio.wait([main, *helpers], return_when=asyncio.FIRST_COMPLETED)
            await self._end_operation()
            engine.drain()
            await asyncio.wait([main])
            await self._leave_no_fence_closed()
            await self._end(helpers)
            if engine.is_clear:
                await state.mark_clean()
        finally:
            self._ended.set()
            await self._end([main, *helpers])
        for task in (main, *helpers):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise first_cause(error)
        left = engine.letters.open
        if self.parts.feed is None and self.record.phase is Phase.COMPLETE and left:
            raise ReplicatorError("rows-left", f"the copy is complete but for {left} rows")

    async def _leave_no_fence_closed(self) -> None:
        """Give the opener a moment: an application should not wait for its fence's deadline."""
        closed_on_purpose = (Phase.SWITCHING, Phase.HELD)
        if self._fence.rests_on_word or self.record.phase in closed_on_purpose:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._fence_opened()

    def request_drain(self) -> None:
        """Finish what is in flight, persist, and let `run` return."""
        self._draining = True
        if self._engine is not None:
            asyncio.get_running_loop().create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        await self._end_operation()
        self.engine.drain()

    async def _end_operation(self) -> None:
        operation = self._operation
        if operation is not None and not operation.done():
            # A cutover goes back to STREAMING in its own handler; what it asked of a person is
            # moot.
            operation.cancel()
            await asyncio.wait([operation])

    @staticmethod
    async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    @property
    def engine(self) -> Engine:
        """The engine, once `run` has begun."""
        if self._engine is None:
            raise Refused("phase-refused", "the migration is still starting; try again")
        return self._engine

    @property
    def record(self) -> MigrationRecord:
        """The record in force."""
        return self.engine.journal.record

    async def _journal(self, record: MigrationRecord | None) -> Journal:
        fresh = record is None or record.phase is Phase.ABORTED
        if record is None:
            record = MigrationRecord(name=self.parts.settings.name)
        journal = Journal(self.parts.state, record, self.parts.clock)
        if fresh:
            attempt = record.attempt + (record.phase is Phase.ABORTED)
            await journal.begin(
                MigrationRecord(name=self.parts.settings.name, attempt=attempt), "planned"
            )
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
        raw = await self.parts.state.get("verified")
        if raw is not None:
            verified = msgspec.json.decode(raw, type=Verified)
            self.verification.generation, self.verification.at = (
                verified.generation,
                verified.at,
            )
        await self._count_findings()
        await self.engine.letters.load()
        self.engine.persisted = await self.parts.state.positions()
        progress = self.engine.pace.progress
        progress.copied = sum(chunk.rows for chunk in await self.parts.state.chunks())
        raw = await self.parts.state.get("estimate")
        progress.estimated = None if raw is None else msgspec.json.decode(raw, type=int | None)

    def _is_done(self) -> bool:
        reached = {
            Phase.REPLAY: (Phase.REPLAY, Phase.STREAMING),
            Phase.STREAMING: (Phase.STREAMING,),
            None: (),
        }[self._until]
        return self.record.phase in reached

    # -- fence -----------------------------------------------------------------------------

    async def _open_fence_when_due(self) -> None:
        closed_in = (Phase.FENCING, Phase.SWITCHING, Phase.HELD)
        while True:
            record = self.record
            if record.fence_closed and record.phase not in closed_in:
                try:
                    await self._fence.open()
                except ReplicatorError as error:
                    self.engine.patience.saw(self, error)
                    await asyncio.sleep(_OPEN_RETRY_S)
                    continue
                self.engine.patience.over(self)
                # What a script answered in advance was for this attempt, its way back included.
                self._person.assume_yes = False
                await self.engine.journal.change(
                    "open", "the writer fence is open", fence_closed=False
                )
                if self._cutover is not None and self._cutover.status.outcome is None:
                    await self._cutover.opened()
            else:
                await self.engine.journal.changes()

    # -- operations ------------------------------------------------------------------------

    async def _owned(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run an operation to its end, whatever becomes of the caller; one at a time."""
        if self._draining:
            raise Refused("phase-refused", "the process is shutting down")
        if self._operation is not None and not self._operation.done():
            raise Refused("phase-refused", f"{self._operation_name} is under way; wait for it")
        task: asyncio.Task[T] = asyncio.ensure_future(work())
        self._operation, self._operation_name = task, name
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Refused(
                    "phase-refused", f"{name} was stopped: the process is shutting down"
                ) from None
            raise

    def _streaming(self) -> None:
        record = self.record
        if record.phase is not Phase.STREAMING or record.paused:
            state = "paused" if record.paused else f"in {record.phase.value}"
            raise Refused("phase-refused", f"this needs STREAMING, not paused; it is {state}")

    async def _stream_runs(self) -> None:
        self._streaming()
        while self.engine.stream is None or not self.engine.stream.lanes:
            await asyncio.sleep(0.05)
            self._streaming()

    # -- Control: looking ------------------------------------------------------------------

    async def status(self) -> Status:
        """The whole status, from memory."""
        if self._engine is None:
            raise Refused("phase-refused", "the migration is still starting; try again")
        status = view(
            self.engine,
            version=__version__,
            verification=self.verification,
            fence=self._fence_status(),
        )
        status.blockers = await self._blockers(CutoverRequest())
        status.can_cutover = not status.blockers and self.record.direction is Direction.FORWARD
        return status

    def _fence_status(self) -> FenceStatus | None:
        question = self._person.question
        status = self._cutover.status if self._cutover is not None else None
        if status is None and question is not None:
            record = self.record
            status = FenceStatus(operation="cutover", step="open", since=record.since)
        if status is not None:
            status.question = question.text if question is not None else None
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
        after = 0
        while rows := await self.parts.state.findings(1000, after):
            after = rows[-1][0]
            for _, finding in rows:
                yield finding

    # -- Control: pause, resume, tune ------------------------------------------------------

    async def pause(self) -> None:
        """Stop copying and applying; persisted."""
        record = self.record
        if record.phase not in PAUSABLE:
            raise Refused("phase-refused", f"{record.phase.value} cannot be paused")
        if self._operation_name in ("cutover", "revert") and not self._idle():
            raise Refused("phase-refused", f"{self._operation_name} is under way; wait for it")
        if not record.paused:
            await self.engine.journal.change("pause", "paused", paused=True)
        self.engine.wake()

    def _idle(self) -> bool:
        return self._operation is None or self._operation.done()

    async def resume(self) -> None:
        """Undo `pause`; leave BLOCKED after a new check."""
        record = self.record
        if record.phase is Phase.BLOCKED:
            await self._check_unblocked()
            assert record.blocked_from is not None
            await self._move(
                Phase.BLOCKED,
                record.blocked_from,
                "resumed after a new check",
                blocked_from=None,
            )
        elif record.paused:
            await self.engine.journal.change("resume", "resumed", paused=False)
        self.engine.wake()

    async def _check_unblocked(self) -> None:
        """Raises Refused while the log is still not the one that was captured."""
        feed, record = self.parts.feed, self.record
        if feed is None or record.capture is None:
            return
        bounds = await feed.bounds()
        if len(bounds) != record.capture.partitions:
            raise Refused("partitions-changed", record.reason)
        positions = await self.parts.state.positions()
        behind = [p for p, at in bounds.items() if positions.get(p, -1) < at.start]
        if behind:
            raise Refused("log-truncated", f"the log begins after our position on {behind[0]}")

    async def tune(self, changes: dict[str, str]) -> dict[str, str]:
        """Change limits while running."""
        return tune(self.engine, changes)

    # -- Control: verify and repair --------------------------------------------------------

    async def verify(self, request: VerifyRequest) -> Report:
        """Run a verification to its end."""
        if request.level not in ("counts", "sample", "full"):
            raise Refused(
                "bad-request", f"level is counts, sample or full, not {request.level!r}"
            )
        await self._stream_runs()
        return await self._owned("verify", lambda: self._verify(request))

    async def _verify_regularly(self) -> None:
        """A full generation whenever the last one is older than `verify.interval`."""
        interval_s = self.parts.settings.verify.interval
        while True:
            last = self.verification.at
            due_s = 0.0 if last is None else last + interval_s - self.parts.clock()
            await asyncio.sleep(max(1.0, due_s))
            try:
                await self.verify(VerifyRequest())
            except Refused:
                continue  # not streaming just now, or something else is under way

    async def _verify(self, request: VerifyRequest) -> Report:
        parts, engine = self.parts, self.engine
        atlas = engine.atlas or await engine.draw()
        mirror = engine.mirror()
        suspects = Suspects(
            mirror=mirror,
            stream=lambda: engine.stream,
            log_end=self._log_end,
            show_after_s=max(engine.show_after_s, parts.target.staleness_s),
        )
        verification = Verification(
            source=parts.source,
            target=parts.target,
            atlas=atlas,
            collections=parts.settings.collections,
            mirror=mirror,
            suspects=suspects,
            state=parts.state,
            patience=engine.patience,
            settings=parts.settings.verify,
            clock=parts.clock,
            progress=self.verification,
            positions=lambda: engine.committed,
        )
        try:
            report = await verification.run(request.level, request.queries)
        finally:
            await self._count_findings()
        await engine.journal.note(
            "verify",
            _sentence(report),
            level=report.level,
            compared=report.compared,
            missing=report.missing,
            extra=report.extra,
            different=report.different,
        )
        return report

    async def _log_end(self) -> Positions:
        feed = self.parts.feed
        if feed is None:
            return {}
        bounds = await self.engine.patience.until_answered(feed.bounds)
        capture = self.record.capture
        known = capture.positions if capture is not None else {}
        return {partition: at.stable for partition, at in bounds.items() if partition in known}

    async def _check_plain_copy(self) -> None:
        report = await self._verify(VerifyRequest())
        if not report.equal:
            raise ReplicatorError(
                "recheck-mismatch",
                f"copied, but {report.missing} keys are missing, {report.extra} extra, "
                f"{report.different} different; was the source written meanwhile?",
            )

    async def _count_findings(self) -> None:
        counts = await self.parts.state.finding_counts()
        progress = self.verification
        progress.missing = counts.get("missing", 0)
        progress.extra = counts.get("extra", 0)
        progress.different = counts.get("different", 0)

    async def repair(self, collection: str | None) -> int:
        """Copy keys anew: those with findings, or a whole source collection."""
        only_forward(self.record.direction is Direction.FORWARD)
        names = [c.source for c in self.parts.settings.collections]
        if collection is not None and collection not in names:
            raise Refused(
                "not-found", f"no collection {collection!r}; there are {', '.join(names)}"
            )
        await self._stream_runs()
        return await self._owned("repair", lambda: self._repair(collection))

    async def _repair(self, collection: str | None) -> int:
        repaired, batch = 0, []
        keys = self._keys_found() if collection is None else self._keys_of(collection)
        async for key in keys:
            batch.append(key)
            if len(batch) == _REPAIR_KEYS:
                repaired += await self._repair_batch(batch)
                batch = []
        if batch:
            repaired += await self._repair_batch(batch)
        await self._count_findings()
        await self.engine.journal.note("repair", "keys were copied anew", keys=repaired)
        return repaired

    async def _keys_found(self) -> AsyncIterator[Key]:
        async for finding in self.findings():
            yield finding.key

    async def _keys_of(self, collection: str) -> AsyncIterator[Key]:
        for chunk in await self.parts.source.split(collection, 8):
            async for page in self.parts.source.scan(chunk, None, 500):
                for point in page.points:
                    yield Key(collection, point.id)

    async def _repair_batch(self, keys: Sequence[Key]) -> int:
        return len(keys) - len(await self._repairer().keys(keys))

    def _repairer(self) -> Repair:
        engine, feed, stream = self.engine, self.parts.feed, self.engine.stream
        if feed is None or stream is None or not stream.lanes:
            raise Refused("phase-refused", "the stream rests; try again once it runs")
        return Repair(
            stream=stream,
            feed=feed,
            mirror=engine.mirror(),
            state=self.parts.state,
            letters=engine.letters,
            patience=engine.patience,
            show_after_s=engine.show_after_s,
        )

    # -- Control: cutover and revert -------------------------------------------------------

    async def cutover(self, request: CutoverRequest) -> list[Blocker]:
        """Move the application to the target."""
        return await self._cross(request, Direction.FORWARD, "cutover")

    async def revert(self, request: CutoverRequest) -> list[Blocker]:
        """Move the application back to the source."""
        return await self._cross(request, Direction.REVERSE, "revert")

    async def _cross(
        self, request: CutoverRequest, direction: Direction, name: str
    ) -> list[Blocker]:
        if self.engine.observer is not None:
            await self.engine.probe()
        blockers = await self._blockers(request)
        if self.record.direction is not direction:
            place = "source" if self.record.direction is Direction.FORWARD else "target"
            blockers.append(Blocker("phase", f"the application is on the {place} already"))
        if request.dry_run:
            return blockers
        if blockers:
            raise Refused("gate-closed", "; ".join(blocker.message for blocker in blockers))
        await self._owned(name, lambda: self._cross_over(request))
        return []

    async def _cross_over(self, request: CutoverRequest) -> None:
        feed, engine = self.parts.feed, self.engine
        assert feed is not None
        cutover = self._cutover = Cutover(
            journal=engine.journal,
            feed=feed,
            fence=self._fence,
            switch=self._switch,
            hooks=self._hooks,
            path=engine,
            settings=self.parts.settings.cutover,
            metrics=self.parts.metrics,
            clock=self.parts.clock,
            timeout_s=request.timeout_s or float(self.parts.settings.cutover.timeout),
        )
        self._person.assume_yes = request.yes
        engine.switch_is_owned = True
        try:
            await cutover.run()
            await self._fence_opened()
        finally:
            engine.switch_is_owned = False
            engine.wake()

    async def _fence_opened(self) -> None:
        """Wait until the application may write again."""
        while self.record.fence_closed:
            await self.engine.journal.changes()

    async def _resume_switch(self) -> None:
        feed = self.parts.feed
        assert feed is not None
        cutover = self._cutover = Cutover(
            journal=self.engine.journal,
            feed=feed,
            fence=self._fence,
            switch=self._switch,
            hooks=self._hooks,
            path=self.engine,
            settings=self.parts.settings.cutover,
            metrics=self.parts.metrics,
            clock=self.parts.clock,
            timeout_s=float(self.parts.settings.cutover.timeout),
        )
        try:
            await cutover.resume()
        except OwnershipUnknown:
            return  # HELD is journalled; a person decides

    async def _blockers(self, request: CutoverRequest) -> list[Blocker]:
        parts, engine, record = self.parts, self.engine, self.record
        if engine.observer is None:
            return [Blocker("no-feed", "a plain copy has nothing to cut over")]
        settings = parts.settings.cutover
        shows_after_s = engine.show_after_s if engine.may_wait_for_images else 0.0
        facts = GateFacts(
            phase=record.phase,
            direction=record.direction,
            paused=record.paused,
            lag=engine.lag(),
            misplaced=engine.counters.misplaced,
            intruders=engine.observer.intruders,
            open_letters=engine.letters.open,
            waive_dead_letters=request.waive_dead_letters,
            verified_at=self.verification.at,
            findings=sum((await parts.state.finding_counts()).values()),
            lossy=engine.lossy,
            shows_after_s=shows_after_s,
            needed_s=shows_after_s
            + (float(settings.delivery_timeout) if self._fence.rests_on_word else 1.0),
            timeout_s=request.timeout_s or float(settings.timeout),
            now=parts.clock(),
            trouble=engine.trouble,
        )
        blockers = closed_by(facts, settings)
        if not self._idle():
            blockers.append(Blocker("busy", f"{self._operation_name} is under way"))
        if record.fence_closed and record.phase is Phase.STREAMING:
            blockers.append(Blocker("busy", "the writer fence is not open yet"))
        return blockers

    async def answer(self, yes: bool) -> None:
        """A person's answer to the question in the status."""
        self._person.answer(yes)

    # -- Control: the end ------------------------------------------------------------------

    async def complete(self) -> None:
        """End the reverse window."""
        record = self.record
        if record.phase is not Phase.STREAMING or record.direction is not Direction.REVERSE:
            raise Refused(
                "phase-refused",
                "only the reverse window can be completed: STREAMING, the application on "
                "the target",
            )
        self._nothing_under_way()
        await self._move(
            Phase.STREAMING, Phase.COMPLETE, "the reverse window is ended", paused=False
        )
        self.engine.wake()

    async def abort(self) -> None:
        """Give up before the switch."""
        record = self.record
        if record.phase not in ABORTABLE or record.direction is not Direction.FORWARD:
            raise Refused(
                "phase-refused",
                f"{record.phase.value} ({record.direction.value}) cannot be aborted; after the "
                "switch there is revert",
            )
        self._nothing_under_way("cutover", "revert")
        if record.fence_closed:
            raise Refused("phase-refused", "the writer fence is not open yet; try again")
        await self._end_operation()
        await self._move(record.phase, Phase.ABORTED, "aborted by a person", paused=False)
        self.engine.wake()

    async def own(self, direction: Direction) -> None:
        """A person's word on where the application writes."""
        if self.record.phase is not Phase.HELD:
            raise Refused(
                "phase-refused", f"nothing is HELD: the phase is {self.record.phase.value}"
            )
        place = "source" if direction is Direction.FORWARD else "target"
        await self._move(
            Phase.HELD,
            Phase.STREAMING,
            f"a person says: the application is on the {place}",
            direction=direction,
            # Where the switch did not take place, no writer heard of the new epoch: what they
            # write carries the old one, and is not late.
            epoch=self.record.epoch - (direction is self.record.direction),
        )
        self.engine.wake()

    async def _move(
        self, current: Phase, following: Phase, message: str, **changes: Any
    ) -> None:
        """Enter a phase on a person's word. Raises Refused when another was entered first."""
        if not await self.engine.journal.move(following, message, only_from=current, **changes):
            raise Refused(
                "phase-refused", f"the phase is {self.record.phase.value} by now; look again"
            )

    def _nothing_under_way(self, *names: str) -> None:
        if not self._idle() and (not names or self._operation_name in names):
            raise Refused("phase-refused", f"{self._operation_name} is under way; wait for it")
        if self.record.phase in TERMINAL:
            raise Refused("phase-refused", "the migration is over")

    # -- Control: dead letters -------------------------------------------------------------

    async def letters(
        self, state: LetterState | None, limit: int, after: int
    ) -> Sequence[DeadLetter]:
        """Dead letters by number."""
        return await self.parts.state.letters(state, limit, after)

    async def letter_bytes(self, number: int) -> RejectedRecord:
        """The bytes of one."""
        return await self.parts.letter_log.load((await self._letter(number)).ref)

    async def _letter(self, number: int) -> DeadLetter:
        letter = await self.parts.state.letter(number)
        if letter is None:
            raise Refused("not-found", f"there is no dead letter {number}")
        return letter

    async def retry_letters(self, numbers: Sequence[int] | None) -> dict[int, str]:
        """Replay the keys of open letters from the log."""
        await self._stream_runs()
        return await self._owned("retry", lambda: self._retry(numbers))

    async def _retry(self, numbers: Sequence[int] | None) -> dict[int, str]:
        if numbers is None:
            open_letters = list(await self.parts.state.letters(LetterState.OPEN, 1000))
        else:
            open_letters = [await self._letter(number) for number in numbers]
        outcomes: dict[int, str] = {}
        for letter in open_letters:
            fresh = await self._letter(letter.number)
            if fresh.state is not LetterState.OPEN:
                outcomes[letter.number] = fresh.state.value
                continue
            if fresh.offset is None:
                only_forward(self.record.direction is Direction.FORWARD)
            outcomes[letter.number] = await self._repairer().retry(
                fresh, self.record.fence_vector
            )
        return outcomes

    async def discard_letters(self, numbers: Sequence[int]) -> int:
        """Give letters up, on a person's word."""
        closed = await self.parts.state.close_letters(
            numbers, LetterState.DISCARDED, "a person"
        )
        await self.engine.letters.recount()
        return closed


def _sentence(report: Report) -> str:
    if not report.equal:
        return "the stores differ"
    if report.uncarried:
        return f"equal, but for {report.uncarried} rows in the dead letters"
    return "both stores are equal"
