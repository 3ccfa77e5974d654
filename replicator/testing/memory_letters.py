"""Dead letters in memory, which sometimes cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from replicator.errors import Refused, Retryable
from replicator.model.letter import RejectedRecord
from replicator.testing.faults import Fault, Faults


class MemoryDeadLetters:
    """Where rejected records are kept: the server's side, and `attach()` for a client."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.kept: list[RejectedRecord] = []

    def attach(self) -> AttachedDeadLetters:
        """A client of its own, for one incarnation of the program."""
        return AttachedDeadLetters(self)


class AttachedDeadLetters:
    """The port DeadLetterLog."""

    def __init__(self, letters: MemoryDeadLetters) -> None:
        self._letters = letters
        self._attached = True

    def detach(self) -> None:
        """The process behind this client is dead."""
        self._attached = False

    async def keep(self, records: Sequence[RejectedRecord]) -> list[str]:
        """Keep them; the reference is the place in the list."""
        await self._travel()
        kept = self._letters.kept
        kept.extend(records)
        return [str(number) for number in range(len(kept) - len(records), len(kept))]

    async def load(self, ref: str) -> RejectedRecord:
        """One of them."""
        await self._travel()
        if not ref.isdigit() or int(ref) >= len(self._letters.kept):
            raise Refused("not-found", f"there is no dead letter {ref!r}")
        return self._letters.kept[int(ref)]

    async def _travel(self) -> None:
        if not self._attached:
            raise asyncio.CancelledError
        await asyncio.sleep(self._letters.faults.latency())
        if not self._attached:
            raise asyncio.CancelledError
        if self._letters.faults.strikes(Fault.LETTERS_AWAY):
            raise Retryable("dead-letters-unavailable", "dead letters cannot be written now")
