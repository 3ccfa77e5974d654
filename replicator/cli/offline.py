"""
The migration while no daemon runs: what its state says, and nothing that needs a store.

Reading goes beside whoever holds the state; giving up takes the lock, so it never happens under
a daemon that is just starting.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar, cast

import msgspec

from replicator import __version__, clock
from replicator.errors import Refused
from replicator.migration.evidence.journal import Journal
from replicator.migration.process.acknowledge import acknowledge_fact, latched, not_latched
from replicator.model.command import (
    Abort,
    Acknowledge,
    AnyCommand,
    CancelVerification,
    Command,
    Complete,
    DiscardLetters,
)
from replicator.model.finding import Blocker, Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import TERMINAL, Direction, Phase
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.model.report import Report
from replicator.model.situation import possible, refusal, situation
from replicator.model.status import (
    BackfillStatus,
    LagStatus,
    PartitionHealth,
    PartitionStatus,
    RetentionStatus,
    Status,
    StreamStatus,
    VerifyStatus,
)
from replicator.ports.state import StateStore
from replicator.settings.feeds import feed_kind
from replicator.settings.settings import Settings
from replicator.wiring import make_letter_log, open_state

T = TypeVar("T")

_PAGE = 1000
_START = "Start it with `replicator run`."
_UNSETTLED = frozenset({Phase.FENCING, Phase.SWITCHING, Phase.HELD})
"""Phases in which the direction alone does not say which store the application writes."""


class OfflineControl:
    """`Control` over a state that nobody drives."""

    def __init__(self, settings: Settings, state: StateStore) -> None:
        """Use `open`."""
        self._settings = settings
        self._state = state

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[OfflineControl]:
        """Raises Refused("state-missing") where nothing was ever run."""
        state = await open_state(settings, read_only=True)
        try:
            yield cls(settings, state)
        finally:
            await state.close()

    # -- what the state says --------------------------------------------------------------
    async def status(self) -> Status:
        """As in Control; what only a daemon knows is null."""
        record = await self._record()
        chunks = await self._state.chunks()
        copied = bool(chunks) and all(chunk.done for chunk in chunks)
        estimate = await self._state.get("estimate")
        letters = await self._state.letter_counts()
        is_over = record.phase in TERMINAL
        return Status(
            name=record.name,
            version=__version__,
            phase=record.phase,
            direction=record.direction,
            paused=record.paused,
            since=record.since,
            reason=record.reason,
            application_may_write=_writable(record),
            backfill=BackfillStatus(
                estimated=None
                if estimate is None
                else msgspec.json.decode(estimate, type=int | None),
                copied=sum(chunk.rows for chunk in chunks),
                percent=100.0 if copied else None,
            ),
            stream=StreamStatus(dead_letters=letters.get("open", 0)),
            lag=LagStatus(),
            partitions=[
                PartitionStatus(
                    partition=name,
                    end=None,
                    position=None,
                    applied=None,
                    committed=position,
                    status=PartitionHealth.STOP,
                )
                # Of a migration that is over nobody need read on.
                for name, position in sorted((await self._state.positions()).items())
                if not is_over
            ],
            verify=await self._verify(),
            facts=list(record.facts),
            epoch=record.epoch,
            possible=possible(
                situation(
                    record,
                    feed=feed_kind(self._settings.feed) != "none",
                    letters=letters.get("open", 0) > 0,
                    running=False,
                )
            ),
            retention=RetentionStatus(),
            ready=is_over,
            not_ready=[]
            if is_over
            else [Blocker("daemon-unavailable", "no daemon runs on this state", _START)],
        )

    async def journal(self, limit: int) -> list[JournalEntry]:
        """As in Control."""
        return await self._state.journal(limit)

    async def report(self) -> Report | None:
        """As in Control."""
        told = await self._state.get("report")
        return None if told is None else msgspec.json.decode(told, type=Report)

    async def findings(self) -> AsyncIterator[Finding]:
        """As in Control."""
        after = 0
        while page := await self._state.findings(_PAGE, after):
            for number, finding in page:
                after = number
                yield finding

    async def letters(
        self, state: LetterState | None, limit: int, after: int
    ) -> Sequence[DeadLetter]:
        """As in Control."""
        return await self._state.letters(state, limit, after)

    async def letter_bytes(self, number: int) -> RejectedRecord:
        """As in Control."""
        letter = await self._state.letter(number)
        if letter is None:
            raise Refused("not-found", f"there is no dead letter {number}")
        log = make_letter_log(self._settings)
        try:
            return await log.load(letter.ref)
        finally:
            await log.close()

    # -- what needs no daemon ---------------------------------------------------------------
    async def do(self, command: Command[T]) -> T:
        """As in Control, of what writes no store. Everything else is refused."""
        assert isinstance(command, AnyCommand), command
        return cast("T", await self._do(command))

    async def _do(self, command: AnyCommand) -> object:
        match command:
            case Abort():
                await self._end(command, Phase.ABORTED, "aborted by a person")
            case Complete():
                await self._end(command, Phase.COMPLETE, "the reverse window is ended")
            case Acknowledge():
                await self._acknowledge(command)
            case DiscardLetters(numbers):
                return await self._discard(numbers)
            case CancelVerification():
                return False  # nothing runs that could be cancelled
            case _:
                raise Refused(
                    "daemon-needed", "this needs the daemon, and none runs on this state"
                )
        return None

    async def _end(self, command: AnyCommand, phase: Phase, message: str) -> None:
        async with self._locked() as (_, journal):
            _check(command, journal.record)
            await journal.move(
                phase,
                f"{message}, with no daemon running",
                only_from=journal.record.phase,
                paused=False,
            )

    async def _acknowledge(self, command: Acknowledge) -> None:
        """Of what is latched. Why log or mark are not ours needs a look at them."""
        async with self._locked() as (_, journal):
            record = journal.record
            _check(command, record)
            fact = latched(record, command.code)
            if fact is None:
                raise not_latched(record, command.code)
            await acknowledge_fact(journal, fact, command.note)

    async def _discard(self, numbers: Sequence[int]) -> int:
        async with self._locked() as (state, journal):
            closed = await state.close_letters(numbers, LetterState.DISCARDED, "a person")
            await journal.note(
                "discard", "dead letters were given up", numbers=list(numbers), closed=closed
            )
        return closed

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[tuple[StateStore, Journal]]:
        """The state under its lock, and its journal. Raises Refused("state-missing")."""
        state = await open_state(self._settings)
        try:
            record = await state.load()
            if record is None:
                raise self._missing()
            yield state, Journal(state, record.upgraded(), clock.wall)
        finally:
            await state.close()

    # -- inside ---------------------------------------------------------------------------
    async def _record(self) -> MigrationRecord:
        record = await self._state.load()
        if record is None:
            raise self._missing()
        return record.upgraded()

    async def _verify(self) -> VerifyStatus:
        counts = await self._state.finding_counts()
        report = await self.report()
        return VerifyStatus(
            generation=0 if report is None else report.generation,
            level=None if report is None else report.level,
            compared=0 if report is None else report.compared,
            missing=counts.get("missing", 0),
            extra=counts.get("extra", 0),
            different=counts.get("different", 0),
            configuration=None if report is None else report.misconfigured,
            recall_below=[] if report is None else report.below,
            at=report.finished_at if report is not None and report.level == "full" else None,
        )

    def _missing(self) -> Refused:
        return Refused("state-missing", f"{self._settings.state.path} holds no migration")


def _check(command: AnyCommand, record: MigrationRecord) -> None:
    """Raises Refused where the rules say so."""
    kind = type(command)
    reason = refusal(kind, situation(record, running=False))
    if reason is not None:
        needs_daemon = refusal(kind, situation(record)) is None
        code = "daemon-needed" if needs_daemon else "phase-refused"
        raise Refused(code, reason)


def _writable(record: MigrationRecord) -> str | None:
    if record.phase in _UNSETTLED or record.fence_closed:
        return None
    return "source" if record.direction is Direction.FORWARD else "target"
