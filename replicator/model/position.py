"""Places in the feed. A position is always the next offset to read, never the last one read."""

from __future__ import annotations

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
