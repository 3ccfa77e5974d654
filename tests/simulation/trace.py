"""A bounded trace of a run: what happened last, readable, and cheap while nobody reads it."""

from __future__ import annotations

from collections import deque
from typing import Any


class Trace:
    """The newest entries; a line is made of one only when it is shown."""

    def __init__(self, size: int = 400) -> None:
        self._entries: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=size)

    def add(self, at: float, what: str, *details: Any) -> None:
        """Note something at a virtual time."""
        self._entries.append((at, what, details))

    def show(self, about: str | None = None, last: int = 400) -> str:
        """The entries as text, oldest first; only those that mention `about`, if given."""
        lines = [
            f"{at:9.3f}  {what:<14} {' '.join(str(detail) for detail in details)}"
            for at, what, details in self._entries
        ]
        return "\n".join([line for line in lines if about is None or about in line][-last:])
