"""A bounded trace of a run: what happened last, readable, and cheap while nobody reads it."""

from __future__ import annotations

from collections import deque
from typing import Any

_CHATTER = frozenset({"change", "emit", "land source", "land target", "fault"})
"""What happens all the time. It has a ring of its own, not to push out what is rare."""


class Trace:
    """The newest entries of both kinds; a line is made of one only when it is shown."""

    def __init__(self, size: int = 250) -> None:
        self._rare: deque[tuple[int, float, str, tuple[Any, ...]]] = deque(maxlen=size)
        self._chatter: deque[tuple[int, float, str, tuple[Any, ...]]] = deque(maxlen=size)
        self._count = 0

    def add(self, at: float, what: str, *details: Any) -> None:
        """Note something at a virtual time."""
        self._count += 1
        ring = self._chatter if what in _CHATTER else self._rare
        ring.append((self._count, at, what, details))

    def show(self, about: str | None = None) -> str:
        """The entries as text, oldest first; only those that mention `about`, if given."""
        lines = [
            f"{at:9.3f}  {what:<14} {' '.join(str(detail) for detail in details)}"
            for _, at, what, details in sorted([*self._rare, *self._chatter])
        ]
        return "\n".join(line for line in lines if about is None or about in line)
