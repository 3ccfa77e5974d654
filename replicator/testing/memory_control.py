"""
A migration in memory that moves nothing: its commands do to its status what they say.

It stands behind the HTTP server, the command line and the daemon in their tests, where the
question is what people see and what the process does, not what becomes of points.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar, assert_never, cast

import msgspec

from replicator.errors import Refused, ReplicatorError
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
from replicator.model.finding import Blocker, Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import PAUSABLE, Direction, Phase
from replicator.model.record import JournalEntry
from replicator.model.report import Report
from replicator.model.status import (
    BackfillStatus,
    FenceStatus,
    LagStatus,
    RetentionStatus,
    Status,
    StreamStatus,
    VerifyStatus,
)

T = TypeVar("T")

EPOCH_S = 1_750_000_000.0
"""The time at which everything here happens."""


def streaming_status(name: str = "articles") -> Status:
    """A healthy migration before its cutover."""
    return Status(
        name=name,
        version="1.0",
        phase=Phase.STREAMING,
        direction=Direction.FORWARD,
        paused=False,
        since=EPOCH_S,
        can_cutover=True,
        application_may_write="source",
        backfill=BackfillStatus(estimated=100, copied=100, percent=100.0),
        stream=StreamStatus(applied=7),
        lag=LagStatus(records=0, seconds=0.0),
        verify=VerifyStatus(),
        retention=RetentionStatus(),
        ready=True,
    )


class MemoryControl:
    """
    The port Control, and what the daemon runs.

    `failure` is raised by the next command and then forgotten; while `held` is not set, the
    long commands (verify, repair, cutover, revert) wait for it; `question`, if any, is asked by
    a switch-over.
    """

    def __init__(self, status: Status | None = None) -> None:
        self.shown = status or streaming_status()
        self.entries: list[JournalEntry] = []
        self.kept: dict[int, tuple[DeadLetter, RejectedRecord]] = {}
        self.found: list[Finding] = []
        self.hot = 0
        self.last_report: Report | None = None
        self.tunables = {"backfill.rate_max": "0.0"}
        self.requests: list[object] = []
        self.failure: ReplicatorError | None = None
        self.question: str | None = None
        self.latched: set[str] = set()
        self.held = asyncio.Event()
        self.held.set()
        self.begun = asyncio.Event()
        self.reported = asyncio.Event()
        self.draining = asyncio.Event()
        self._answer: asyncio.Future[bool] | None = None

    # -- what the daemon does -------------------------------------------------------------
    async def run(self) -> None:
        """Until drained."""
        await self.draining.wait()
        self._raise()

    def request_drain(self) -> None:
        """Let `run` return."""
        self.draining.set()

    # -- looking --------------------------------------------------------------------------
    async def status(self) -> Status:
        """As in Control."""
        return self.shown

    async def journal(self, limit: int) -> list[JournalEntry]:
        """As in Control."""
        return self.entries[-limit:] if limit else []

    async def report(self) -> Report | None:
        """As in Control."""
        return self.last_report

    async def findings(self) -> AsyncIterator[Finding]:
        """As in Control; a failure comes after the first."""
        for finding in self.found:
            yield finding
            self._raise()

    async def letters(
        self, state: LetterState | None, limit: int, after: int
    ) -> Sequence[DeadLetter]:
        """As in Control."""
        letters = [letter for letter, _ in self.kept.values() if letter.number > after]
        return [letter for letter in letters if state in {None, letter.state}][:limit]

    async def letter_bytes(self, number: int) -> RejectedRecord:
        """As in Control."""
        if number not in self.kept:
            raise Refused("not-found", f"there is no dead letter {number}")
        return self.kept[number][1]

    # -- commands -------------------------------------------------------------------------
    async def do(self, command: Command[T]) -> T:
        """As in Control."""
        assert isinstance(command, AnyCommand), command
        return cast("T", await self._do(command))

    # One branch for each command.
    async def _do(self, command: AnyCommand) -> object:  # noqa: C901, PLR0912
        match command:
            case Pause():
                self._pause()
            case Resume():
                self._raise()
                self._show(paused=False)
                self._note("resume", "resumed")
            case Tune(changes):
                return self._tune(changes)
            case Verify():
                return await self._verify(command)
            case CancelVerification():
                return self._cancel()
            case Repair():
                await self._begin(command)
                repaired, self.found = len(self.found), []
                return repaired
            case RetryLetters(numbers):
                return dict.fromkeys(self._close(numbers, LetterState.SETTLED), "settled")
            case DiscardLetters(numbers):
                return len(self._close(numbers, LetterState.DISCARDED))
            case Cutover() | Revert():
                return await self._switch_over(command)
            case Complete():
                self._raise()
                self._show(phase=Phase.COMPLETE)
            case Abort():
                self._raise()
                self._show(phase=Phase.ABORTED)
            case Own():
                self._raise()
                self._show(phase=Phase.STREAMING, direction=command.direction)
            case Acknowledge(code, note):
                self._acknowledge(code, note)
            case Answer(yes):
                self._answered(yes)
            case _:
                assert_never(command)
        return None

    def _pause(self) -> None:
        self._raise()
        if self.shown.phase not in PAUSABLE:
            raise Refused("phase-refused", f"{self.shown.phase.value} cannot be paused")
        self._show(paused=True)
        self._note("pause", "paused")

    def _tune(self, changes: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(changes) - set(self.tunables))
        if unknown:
            raise Refused("bad-request", f"{unknown[0]} cannot be tuned")
        self.tunables |= changes
        return self.tunables

    async def _verify(self, command: Verify) -> Report:
        """Finds what was put into `found` and `hot`."""
        await self._begin(command)
        kinds = [finding.kind.value for finding in self.found]
        self.last_report = Report(
            level=command.level,
            generation=1,
            started_at=EPOCH_S,
            finished_at=EPOCH_S + 1,
            compared=100,
            missing=kinds.count("missing"),
            extra=kinds.count("extra"),
            different=kinds.count("different"),
            hot=self.hot,
            findings=self.found,
        )
        self.reported.set()
        return self.last_report

    def _cancel(self) -> bool:
        under_way = self.begun.is_set() and not self.held.is_set()
        self.failure = Refused("cancelled", "verify was cancelled") if under_way else None
        self.held.set()
        return under_way

    def _acknowledge(self, code: str, note: str) -> None:
        self._raise()
        if code not in self.latched:
            raise Refused("not-found", f"nothing is kept under {code!r}")
        self.latched.discard(code)
        self._note("acknowledge", f"{code}: {note}")

    def _answered(self, yes: bool) -> None:
        if self._answer is None or self._answer.done():
            raise Refused("phase-refused", "nothing is asked")
        self._answer.set_result(yes)

    # -- inside ---------------------------------------------------------------------------
    async def _switch_over(self, command: Cross) -> list[Blocker]:
        operation = command.name
        if command.dry_run:
            return self.shown.blockers
        if self.shown.blockers:
            raise Refused("gate-closed", self.shown.blockers[0].message)
        self._step(operation, "fence")
        if self.question is not None and not command.yes:
            await self._ask(operation, self.question)
        await self._begin(command)
        self._step(operation, "drain")
        self._show(direction=command.leaves.other)
        self._step(operation, "done", outcome="done")
        return []

    async def _ask(self, operation: str, question: str) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        self._show(
            fence=FenceStatus(
                operation=operation, step="fence", since=EPOCH_S, question=question
            )
        )
        if not await self._answer:
            self._step(operation, "failed", outcome="declined")
            raise Refused("declined", "the answer was no")
        self._step(operation, "fence")

    async def _begin(self, request: object) -> None:
        self.requests.append(request)
        self.begun.set()
        await self.held.wait()
        self._raise()

    def _raise(self) -> None:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def _step(self, operation: str, step: str, outcome: str | None = None) -> None:
        self._note(step, f"{operation}: {step}")
        self._show(
            fence=FenceStatus(operation=operation, step=step, since=EPOCH_S, outcome=outcome)
        )

    def _note(self, step: str, message: str) -> None:
        self.entries.append(
            JournalEntry(
                at=EPOCH_S + len(self.entries),
                phase=self.shown.phase,
                direction=self.shown.direction,
                step=step,
                message=message,
            )
        )

    def _show(self, **changes: object) -> None:
        self.shown = msgspec.structs.replace(self.shown, **changes)

    def _close(self, numbers: Sequence[int] | None, state: LetterState) -> list[int]:
        closed = []
        for number, (letter, record) in self.kept.items():
            if letter.state is LetterState.OPEN and (numbers is None or number in numbers):
                self.kept[number] = (msgspec.structs.replace(letter, state=state), record)
                closed.append(number)
        return closed
