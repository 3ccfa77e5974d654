"""Dead letters: what could not be carried, kept with its reason until a person or a later event
settles it.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from replicator.model.event import Key
from replicator.model.phase import Direction
from replicator.model.position import Partition


class LetterState(Enum):
    """`open` closes the gate; `settled` was healed by a later event, retry or repair;
    `discarded` by a person.
    """

    OPEN = "open"
    SETTLED = "settled"
    DISCARDED = "discarded"


class RejectedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """
    The bytes that are kept, with the reason. A record of the feed has a partition and an
    offset; a row that the backfill read has neither, and its key says where it came from.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    code: str
    path: str
    message: str
    at: float
    partition: Partition | None = None
    offset: int | None = None
    event_key: Key | None = None
    """None when the key itself could not be read."""
    direction: Direction = Direction.FORWARD
    """Which way the stream went. Kept in the index, not with the bytes."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """The index entry of a rejected record; `ref` says where its bytes lie."""

    number: int
    ref: str
    state: LetterState
    code: str
    path: str
    message: str
    at: float
    partition: Partition | None
    offset: int | None
    event_key: Key | None
    direction: Direction = Direction.FORWARD
