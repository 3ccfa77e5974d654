"""
The state store: the truth about positions, phases and everything that must survive.

A write that returned survives `kill -9`. One daemon holds a state at a time: a lock keeps
others out where it can, and where it cannot the record's revision stops whoever was overtaken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from replicator.model.event import Key
from replicator.model.finding import Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import Direction
from replicator.model.position import Bookmark, Partition, Place, Positions
from replicator.model.record import Chunk, ChunkState, JournalEntry, MigrationRecord


class StateStore(Protocol):
    """
    All methods are atomic, and safe to call concurrently from one loop. The environment's
    failures (disk full, file gone) come as Fatal. So does, as "state-conflict", every write
    once another process has changed the record; it then changes nothing.
    """

    # -- the migration and its journal ----------------------------------------------------
    async def load(self) -> MigrationRecord | None:
        """The current migration; None in a new state."""
        ...

    async def save(self, record: MigrationRecord, entry: JournalEntry) -> None:
        """
        Replace the record and append to the journal, in one transaction. Raises
        Fatal("state-conflict") unless `record.revision` follows the one of the record kept, 0
        where there is none.
        """
        ...

    async def begin(self, record: MigrationRecord, entry: JournalEntry) -> None:
        """
        As `save`, for a new attempt: positions, bookmarks, chunks, findings, documents and
        open dead letters of the attempt before it are forgotten in the same transaction. The
        journal and settled letters stay.
        """
        ...

    async def note(self, entry: JournalEntry) -> None:
        """Append to the journal."""
        ...

    async def journal(self, limit: int) -> list[JournalEntry]:
        """The newest entries, oldest of them first."""
        ...

    # -- clean shutdown -------------------------------------------------------------------
    async def mark_running(self) -> bool:
        """Say that writes may be in flight from now on. Returns whether the last run ended
        cleanly.
        """
        ...

    async def mark_clean(self) -> None:
        """Say that every write that was sent has been answered."""
        ...

    # -- positions ------------------------------------------------------------------------
    async def positions(self) -> Positions:
        """The next offset to apply, for each partition."""
        ...

    async def bookmarks(self) -> dict[Partition, Bookmark]:
        """The last record applied, of the partitions that had one."""
        ...

    async def commit(
        self,
        positions: Mapping[Partition, int],
        settled: Mapping[Key, Place],
        bookmarks: Mapping[Partition, Bookmark] | None = None,
        *,
        direction: Direction | None = None,
    ) -> None:
        """
        Persist positions with their bookmarks, and settle open dead letters: of each key in
        `settled`, those whose record lies in the same partition below the place given, and
        those of copied rows, because a later upsert or delete of the key is durable; only those
        of the direction, where one is given. Partitions that are not named keep theirs.
        """
        ...

    # -- the copy -------------------------------------------------------------------------
    async def add_chunks(self, collection: str, chunks: Sequence[Chunk]) -> None:
        """Persist the chunks of a collection, once; a second call for it is a defect."""
        ...

    async def chunks(self) -> list[ChunkState]:
        """Every chunk with its progress, by collection and number."""
        ...

    async def advance(self, state: ChunkState) -> None:
        """Persist a chunk's progress, after its rows are durable."""
        ...

    # -- verification ---------------------------------------------------------------------
    async def add_findings(self, findings: Sequence[Finding]) -> None:
        """Add findings, replacing older ones of the same keys."""
        ...

    async def clear_findings(self, keys: Sequence[Key] | None) -> None:
        """Forget the findings of these keys; None forgets all."""
        ...

    async def findings(self, limit: int, after: int = 0) -> list[tuple[int, Finding]]:
        """Findings with their row numbers, ascending, those above `after`."""
        ...

    async def finding_counts(self) -> dict[str, int]:
        """Findings by kind (`missing`, `extra`, `different`)."""
        ...

    # -- small documents (verification progress, last report, last cutover) ---------------
    async def put(self, name: str, document: bytes) -> None:
        """Store a JSON document under a name."""
        ...

    async def get(self, name: str) -> bytes | None:
        """The document, or None."""
        ...

    # -- dead letters ---------------------------------------------------------------------
    async def add_letters(self, letters: Sequence[tuple[str, RejectedRecord]]) -> list[int]:
        """
        Index rejected records by (ref, record); returns their numbers. A record with the
        partition and offset of one indexed in this attempt (repeated after a restart) keeps the
        older entry, unless that is settled, which it reopens; so does a copied row without a
        key whose bytes, place and reason are those of one. A copied row with a key keeps the
        open entry of that key.
        """
        ...

    async def letters(
        self, state: LetterState | None = None, limit: int = 1000, after: int = 0
    ) -> list[DeadLetter]:
        """Dead letters by number, ascending, those above `after`."""
        ...

    async def letter(self, number: int) -> DeadLetter | None:
        """One dead letter."""
        ...

    async def letters_of(self, keys: Sequence[Key]) -> list[DeadLetter]:
        """The open dead letters of these keys."""
        ...

    async def letter_counts(self, direction: Direction | None = None) -> dict[str, int]:
        """Dead letters by state (`open`, `settled`, `discarded`); of one direction or both."""
        ...

    async def close_letters(self, numbers: Sequence[int], state: LetterState, by: str) -> int:
        """Settle or discard open letters, noting who did; returns how many were open."""
        ...

    async def close(self) -> None:
        """Let go of the lock and the file."""
        ...
