"""
Fields of events that the contract does not know, counted by name: what stands in them reaches
no store, and mostly somebody believes that it does.
"""

from __future__ import annotations

from collections.abc import Iterable

NAMES_MAX = 20
"""Names that are told apart. A producer that makes names up would fill the memory otherwise."""
OTHERS = "others"


class UnknownFields:
    """Events by the unknown names in them; beyond so many names, what comes later is one."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def note(self, names: Iterable[str]) -> None:
        """Count one event with these."""
        for name in names:
            told = name if name in self.counts or len(self.counts) < NAMES_MAX else OTHERS
            self.counts[told] = self.counts.get(told, 0) + 1
