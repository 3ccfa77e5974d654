"""
Places in the feed, and what tells one log from another. A position is always the next offset to
read, never the last one read.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NewType

import msgspec

Partition = NewType("Partition", str)
"""`<topic>/<number>`, as status and metrics show it."""

Positions = dict[Partition, int]


class Bounds(msgspec.Struct, frozen=True):
    """
    What the broker says of one partition: `start` is the first offset still held, `end` the
    high watermark, `stable` the end that a reader of committed data may see (below `end` while
    a transaction is open).
    """

    start: int
    end: int
    stable: int


class Place(msgspec.Struct, frozen=True):
    """An offset of one partition: those of two are in no order."""

    partition: Partition
    offset: int


class LogIdentity(msgspec.Struct, frozen=True):
    """
    Which log it is: a log that is made anew under the same name has another `id`. None where
    the feed cannot tell; then only bookmarks can.
    """

    id: str | None


class Bookmark(msgspec.Struct, frozen=True):
    """
    What lies at an offset, so that the same record is known again. `digest` is of key and
    value; `at_ms` is the log's own time of it.
    """

    offset: int
    at_ms: int
    digest: str


class Record(msgspec.Struct):
    """One record of the feed, undecoded. `at_ms` is the log's own time for it."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    at_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes that the record occupies in a buffer."""
        return len(self.value or b"") + len(self.key or b"")


class Polled(msgspec.Struct):
    """
    What one poll brought. `positions` holds, for every partition read, the feed's own next
    offset: control records and compaction leave gaps behind the last record, which only the
    feed sees.
    """

    records: list[Record]
    positions: Positions


def bookmark_of(record: Record) -> Bookmark:
    """The bookmark of a record. Costs a pass over its bytes."""
    digest = blake2b(digest_size=16)
    for part in (record.key, record.value):
        # The length tells where the key ends, and absence from emptiness: a deletion is not an
        # empty value.
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return Bookmark(record.offset, record.at_ms, digest.hexdigest())
