"""What streams did since the process began, as the status shows it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

NAMES_MAX = 20
"""Names that are told apart. A producer that makes names up would fill the memory otherwise."""
OTHERS = "others"


class UnknownFields:
    """
    Events by the names in them that the contract does not know; beyond so many names, what
    comes later is one. What stands in such a field reaches no store, and mostly somebody
    believes that it does.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def note(self, names: Iterable[str]) -> None:
        """Count one event with these."""
        for name in names:
            told = name if name in self.counts or len(self.counts) < NAMES_MAX else OTHERS
            self.counts[told] = self.counts.get(told, 0) + 1


class Counters(msgspec.Struct):
    """Over every start and both directions."""

    applied: int = 0
    coalesced: int = 0
    discarded: int = 0
    ignored: int = 0
    misplaced: int = 0
    absent: int = 0
    unknown: UnknownFields = msgspec.field(default_factory=UnknownFields)
    polled_at: float = 0.0
    """Loop time when records last came, or none could."""
