"""
What an operator can ask of a migration. The daemon's HTTP and the command line speak to this,
and the migration implements it; neither knows what is behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeVar

from replicator.model.command import Command
from replicator.model.finding import Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.record import JournalEntry
from replicator.model.report import Report
from replicator.model.status import Status

T = TypeVar("T")


class Control(Protocol):
    """Looking at a migration, and giving it commands, from any number of tasks."""

    async def do(self, command: Command[T]) -> T:
        """
        Do what is asked, to its end, and answer. Raises Refused when the situation does not
        allow it, and says why; each command says in `model.command` what else it raises.
        """
        ...

    async def status(self) -> Status:
        """The whole status, in memory: cheap, and never blocked by a store that is away."""
        ...

    async def journal(self, limit: int) -> list[JournalEntry]:
        """The newest journal entries, oldest of them first."""
        ...

    async def report(self) -> Report | None:
        """The last report."""
        ...

    def findings(self) -> AsyncIterator[Finding]:
        """Every finding that is kept."""
        ...

    async def letters(
        self, state: LetterState | None, limit: int, after: int
    ) -> Sequence[DeadLetter]:
        """Dead letters by number."""
        ...

    async def letter_bytes(self, number: int) -> RejectedRecord:
        """The bytes of one."""
        ...
