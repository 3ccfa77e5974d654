"""The persisted record of a migration, and its journal."""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.model.epoch import EpochEnd, Epochs
from replicator.model.fact import Fact, FactCode
from replicator.model.phase import Direction, Phase
from replicator.model.position import LogIdentity, Positions


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """The positions taken before the first source row was read. `partitions` is the topic's
    count then.
    """

    id: str
    positions: Positions
    partitions: int
    at: float


class EvidenceContext(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a piece of evidence rests on. A verification counts while the migration is in the
    context in which it began: the same capture, the same epoch, and nothing that voids it
    since (another log or collection, an acknowledged fact).
    """

    capture: str
    epoch: int
    voided: int


class MigrationRecord(msgspec.Struct, kw_only=True):
    """Everything a restart needs to know about where the migration stands."""

    name: str
    attempt: int = 1
    """Counts captures on this state: abort and a new run begin the next attempt."""
    revision: int = 0
    """Counts the changes of this record, over all attempts. A state keeps one only in the place
    of the revision before it, so that of two processes on one state the later one stops."""
    phase: Phase = Phase.PLANNED
    direction: Direction = Direction.FORWARD
    paused: bool = False
    epoch_before: int = msgspec.field(name="epoch", default=0)
    """Of the version before, which knew one number; `epochs` has it since."""
    epochs: Epochs = Epochs()
    tries: int = 0
    """Attempts at a cutover or revert: the number of the last one binds its fence and its
    evidence, and travels in no event."""
    since: float = 0.0
    reason: str = ""
    reason_code: str = ""
    capture: Capture | None = None
    fingerprint: str = ""
    """Of the settings that a running copy depends on."""
    replay_until: Positions = {}
    fence_vector: Positions = {}
    """The log ends seen with the fence closed, of the switch under way; empty otherwise."""
    back_to: Phase | None = None
    """Where BLOCKED and HELD lead back to."""
    blocked_before: Phase | None = msgspec.field(name="blocked_from", default=None)
    """Of the version before: as `back_to`."""
    shown_epoch: int | None = None
    """In HELD: the later epoch that an event carried, which a person's word adopts."""
    fence_closed: bool = False
    """A fence that only a person may open is closed, or may be."""
    fence_token: str = ""
    """The attempt that the fence was closed for last: only who names it may open. Kept when the
    next capture begins under a closed fence."""
    fenced_at: float | None = None
    """Since when writers have been stopped, while they are."""
    facts: tuple[Fact, ...] = ()
    """Latched; they gate until acknowledged."""
    voided: int = 0
    """Raised whenever evidence gathered before counts no more."""
    incarnation: int = 0
    """Raised at every start and switch, and kept at the target too: who sees a higher one there
    is not the only one, or was restored from before."""
    log: LogIdentity | None = None
    """Of the log that the positions belong to; None before it was ever looked at."""
    collections: dict[str, str] = {}
    """What each configured name (`source/articles`) stood for when the migration began: an
    alias is resolved once."""

    @property
    def epoch(self) -> int:
        """The epoch in force."""
        return self.epochs.current

    @property
    def context(self) -> EvidenceContext:
        """What evidence gathered now rests on."""
        capture = self.capture.id if self.capture is not None else ""
        return EvidenceContext(capture=capture, epoch=self.epochs.current, voided=self.voided)

    @property
    def fence_attempt(self) -> str:
        """The name of the attempt under way, or of the last one, for the fence."""
        # A fence that the version before closed was closed for its try.
        return self.fence_token or self.attempt_at(self.tries)

    def attempt_at(self, tries: int) -> str:
        """The name of a try, for the fence."""
        capture = self.capture.id if self.capture is not None else ""
        return f"{capture}/{tries}"

    def fact(self, code: FactCode) -> Fact | None:
        """The latched fact of this code."""
        return next((fact for fact in self.facts if fact.code is code), None)

    def upgraded(self) -> MigrationRecord:
        """This record as it is kept today, where the version before kept it otherwise."""
        record = self
        epoch = record.epoch_before
        if epoch > record.epochs.current:
            in_switch = record.phase is Phase.SWITCHING  # it was counted when it was offered
            ended = EpochEnd(epoch - 1, record.fence_vector)
            record = msgspec.structs.replace(
                record,
                epoch_before=0,
                epochs=Epochs(current=epoch - 1, offered=epoch)
                if in_switch
                else Epochs(current=epoch, offered=epoch, ends=(ended,)),
            )
        if record.blocked_before is not None:
            record = msgspec.structs.replace(
                record, back_to=record.blocked_before, blocked_before=None
            )
        return record


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One step, with its evidence. `phase` is the phase in force after it."""

    at: float
    phase: Phase
    direction: Direction
    step: str
    """`phase`, or the name of a step of a cutover, a repair, a command."""
    message: str
    evidence: dict[str, Any] = {}


class Chunk(msgspec.Struct, frozen=True):
    """A part of a collection to copy. `spec` is the connector's own text; persisted, never
    recomputed.
    """

    number: int
    collection: str
    spec: str


class ChunkState(msgspec.Struct, frozen=True):
    """How far a chunk is copied: everything up to `cursor` is durable at the target."""

    chunk: Chunk
    cursor: str | None = None
    rows: int = 0
    done: bool = False
