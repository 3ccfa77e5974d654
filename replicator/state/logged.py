"""The state store that also tells the log of what it journals."""

from __future__ import annotations

import structlog

from replicator.model.record import JournalEntry, MigrationRecord
from replicator.state.sqlite import SqliteStateStore

log = structlog.get_logger()


class LoggedStateStore(SqliteStateStore):
    """
    Phase changes and persons' words at level info, other steps at debug, once they are
    persisted. Messages of the journal name phases, partitions and counts, never values.
    """

    async def save(self, record: MigrationRecord, entry: JournalEntry) -> None:
        """As in StateStore."""
        await super().save(record, entry)
        _tell(entry)

    async def begin(self, record: MigrationRecord, entry: JournalEntry) -> None:
        """As in StateStore."""
        await super().begin(record, entry)
        _tell(entry)

    async def note(self, entry: JournalEntry) -> None:
        """As in StateStore."""
        await super().note(entry)
        _tell(entry)


_TOLD = frozenset({"phase", "pause", "resume", "tune", "own", "acknowledge", "discard", "heal"})
"""Phases, and what a person has decided. The steps of an operation are detail."""


def _tell(entry: JournalEntry) -> None:
    say = log.info if entry.step in _TOLD else log.debug
    say(
        "journal",
        step=entry.step,
        phase=entry.phase.value,
        direction=entry.direction.value,
        reason=entry.message,
    )
