"""The faults, by name."""

from __future__ import annotations

from enum import Enum


class Cell(Enum):
    """A fault that a kind of store gives, or is excused from with a reason."""

    AWAY = "away"
    """Nobody is there: `away`."""
    HANG = "hang"
    """The store takes a request and does not answer within its timeout."""
    LOST_REPLY = "lost-reply"
    """The store carries a request out, and the connection breaks before its answer is heard."""
    THROTTLED = "throttled"
    """Too many requests: `throttling`."""
    CREDENTIALS = "credentials"
    """The key is wrong: `denials`."""
    PARTIAL = "partial"
    """Some points of a batch are refused: `unfit`."""
    FULL = "full"
    """There is no room: `full`."""
    READ_ONLY = "read-only"
    """Writing is not allowed: `read_only`."""
    GONE = "gone"
    """The collection is deleted by somebody else: `drop`."""
    UNREADABLE = "unreadable"
    """A row is no point: `spoil`."""
