"""
What an operator can ask of a migration. The daemon's HTTP and the command line speak to this,
and the migration implements it; neither knows what is behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import msgspec

from replicator.model.finding import Blocker, Finding, SettingDifference
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import Direction
from replicator.model.record import JournalEntry
from replicator.model.search import Query
from replicator.model.status import Status


class CutoverRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/cutover` and `/v1/revert`."""

    dry_run: bool = False
    timeout_s: float | None = None
    waive_dead_letters: bool = False
    waive_recall: bool = False
    """Go on although the target's searches certainly fall short of `verify.recall_min`."""
    yes: bool = False
    """Answer every question of a manual fence or switch with yes."""


class VerifyRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/verify`."""

    level: str = "full"
    """counts, sample or full"""
    queries: list[Query] | None = None
    """For the comparison of search quality; stored points when absent."""


class Report(msgspec.Struct, kw_only=True):
    """The result of a verification, kept as the document `report`."""

    level: str
    generation: int
    started_at: float
    finished_at: float
    compared: int
    missing: int
    extra: int
    different: int
    uncarried: int = 0
    """Source rows that cannot be carried at all; they are in the dead letters, not compared."""
    hot: int = 0
    """Keys that changed at every look: no findings, and not proven equal either."""
    counts: dict[str, list[int | None]] = {}
    """Source collection → points at the source, points at the target."""
    configuration: dict[str, list[SettingDifference]] = {}
    """Source collection → settings of its target that are not as planned."""
    findings: list[Finding] = []
    """The first of them; the state holds all."""
    search: dict[str, dict[str, Any]] = {}
    """Source collection → queries, k, method (`exact`: both stores looked at every point;
    `index`), recall with its 95% interval recall_low and recall_high, overlap, rank_agreement,
    latency_ms of both stores; classes: recall by the queries' class; not_compared: vector →
    why."""
    below: list[str] = []
    """Of which collections the recall certainly lies below `verify.recall_min`."""
    warnings: list[str] = []
    """What is worth a look and is no finding, such as the stores' own counts."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.extra or self.different or self.misconfigured)

    @property
    def misconfigured(self) -> int:
        """How many settings of target collections are not as planned, nor accepted."""
        return sum(
            difference.blocks for each in self.configuration.values() for difference in each
        )


class Control(Protocol):
    """Commands. Each raises Refused when the phase does not allow it, and says what would."""

    async def status(self) -> Status:
        """The whole status, in memory: cheap, and never blocked by a store that is away."""
        ...

    async def journal(self, limit: int) -> list[JournalEntry]:
        """The newest journal entries, oldest of them first."""
        ...

    async def pause(self) -> None:
        """Stop copying and applying, without losing a place. Persisted. Idempotent."""
        ...

    async def resume(self) -> None:
        """Undo `pause`; out of BLOCKED after a new check of what blocked. Idempotent."""
        ...

    async def tune(self, changes: dict[str, str]) -> dict[str, str]:
        """Change rate, concurrency and batch limits while running; returns all tunables. Not
        persisted.
        """
        ...

    async def verify(self, request: VerifyRequest) -> Report:
        """Run a verification to its end."""
        ...

    async def report(self) -> Report | None:
        """The last report."""
        ...

    async def repair(self, collection: str | None) -> int:
        """Copy anew the keys that a verification found, or every key of a source collection.
        Keys repaired.
        """
        ...

    async def cutover(self, request: CutoverRequest) -> list[Blocker]:
        """
        Cut over, to its end. With `dry_run`, the gate's reasons; otherwise an empty list, or
        Refused ("gate-closed") and the errors of a failed attempt. Progress is in
        `status().fence` and the journal.
        """
        ...

    async def revert(self, request: CutoverRequest) -> list[Blocker]:
        """Cutover the other way."""
        ...

    async def answer(self, yes: bool) -> None:
        """A person's answer to the question in `status().fence.question`."""
        ...

    async def acknowledge(self, code: str, note: str) -> None:
        """
        A person's word that a latched fact (misplaced keys, an intruder, a log that was moved)
        is dealt with. It is cleared, and journalled with the note and the evidence. Raises
        Refused("not-found") when nothing is kept under the code.
        """
        ...

    async def cancel_verification(self) -> bool:
        """Stop the verification under way; what it had found so far stays found. False when
        none is. Whoever waits for its report gets Refused("cancelled").
        """
        ...

    async def complete(self) -> None:
        """End the reverse window."""
        ...

    async def abort(self) -> None:
        """Give up before the switch."""
        ...

    async def own(self, direction: Direction) -> None:
        """A person's word on which store the application writes."""
        ...

    async def letters(
        self, state: LetterState | None, limit: int, after: int
    ) -> Sequence[DeadLetter]:
        """Dead letters by number."""
        ...

    async def letter_bytes(self, number: int) -> RejectedRecord:
        """The bytes of one."""
        ...

    async def retry_letters(self, numbers: Sequence[int] | None) -> dict[int, str]:
        """Replay the keys of open letters (None: of all) from the log; number → outcome."""
        ...

    async def discard_letters(self, numbers: Sequence[int]) -> int:
        """Give these open letters up, on a person's word; how many were open."""
        ...

    def findings(self) -> AsyncIterator[Finding]:
        """Every finding that is kept."""
        ...
