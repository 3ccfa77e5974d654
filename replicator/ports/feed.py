"""
The change feed: where the application's events come from, and the log that carries them.

Order holds within a partition. Positions are given by the caller and mean *next to read*; what
a broker remembers of a consumer group is never read back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from replicator.model.event import ChangeEvent, Key
from replicator.model.letter import RejectedRecord
from replicator.model.position import (
    Bookmark,
    Bounds,
    LogIdentity,
    Partition,
    Place,
    Polled,
    Positions,
    Record,
)


class ChangeFeed(Protocol):
    """
    Read one log. Called from one task, but for `identity`, `bounds`, `bookmarks_at` and `read`,
    which may run beside `poll`.

    A log that was deleted and made anew under the same name is another log, and our positions
    mean nothing in it. The feed keeps to the log that `identity` told last, or else to the one
    it found at `open`: when another lies there, `open`, `poll` and `read` raise
    Blocked("log-replaced"), before any of its records is returned. A feed that cannot tell logs
    apart leaves it to bookmarks.
    """

    async def identity(self) -> LogIdentity:
        """
        Which log this is, asked now. The same for as long as the log exists; another for one
        made anew. Raises Unavailable when nobody answers.
        """
        ...

    async def bookmarks_at(self, offsets: Mapping[Partition, int]) -> dict[Partition, Bookmark]:
        """
        What lies at one offset of each partition now, whichever log that is. Partitions whose
        record is gone (retention, compaction, a log that ends before it) are left out. Raises
        Unavailable when nobody answers: that is no absence.
        """
        ...

    async def bounds(self) -> dict[Partition, Bounds]:
        """
        Start, end and last stable offset of every partition of the topic, asked of the broker
        now. Raises Unavailable when it does not answer: an unknown end is never zero.
        """
        ...

    async def open(
        self, positions: Mapping[Partition, int], partitions: int | None = None
    ) -> None:
        """
        Start reading at these positions, and of these partitions only, at least one.
        `partitions` is how many the whole log has: without it these are all. Raises
        Blocked("log-truncated") when the log begins after a position,
        Blocked("partitions-changed") when it has another count of partitions or lacks one of
        these (and so does `poll`, whichever are read, once the count has changed),
        Blocked("log-replaced") when it is another log or ends before a position. May be called
        again: it forgets what was buffered and starts over at the positions given.
        """
        ...

    async def poll(self, records_max: int, timeout_s: float) -> Polled:
        """
        Up to `records_max` records of the partitions that are not paused, waiting at most
        `timeout_s` for the first. Raises Unavailable when the broker is away (poll again),
        Blocked as `open` does.
        """
        ...

    def pause(self, partitions: Collection[Partition]) -> None:
        """Stop returning records of these partitions, without losing their place."""
        ...

    def resume(self, partitions: Collection[Partition]) -> None:
        """Undo `pause`."""
        ...

    async def publish(self, positions: Mapping[Partition, int]) -> None:
        """Let others see what is applied (Kafka: commit to the group). Best effort, never read
        back by us.
        """
        ...

    def read(self, partition: Partition, start: int, end: int) -> AsyncIterator[list[Record]]:
        """
        The records with start ≤ offset < end, in order, independent of `open` and `poll`; then
        it ends. Raises Blocked as `open` does.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Decoder(Protocol):
    """
    What turns a feed's records into events: which program wrote them. Pure; one for all lanes,
    called from one loop.
    """

    def decode(self, record: Record) -> ChangeEvent | None:
        """
        The event, or None when it is of no collection that is listed. Raises Rejected with the
        code and the path of what is wrong: the record is a dead letter then.
        """
        ...

    def key(self, record: Record) -> Key | None:
        """
        The key that the record's event has, whether or not the rest of it can be read; None
        where that cannot be said. Never raises.
        """
        ...


@runtime_checkable
class GroupWatch(Protocol):
    """A feed whose published positions others could move."""

    async def intruders(self, published: Positions) -> list[str]:
        """
        One sentence for each foreign member of our group and each committed position that is
        not what we published last. Empty when all is ours. `published` was so when the question
        was asked: what is published meanwhile is ours as well.
        """
        ...


@runtime_checkable
class Retention(Protocol):
    """A feed that drops old records by itself."""

    async def retention_s(self) -> float | None:
        """How long the log keeps a record; None for ever."""
        ...


class EventLog(Protocol):
    """The writing side of a feed."""

    async def append(
        self,
        records: Sequence[tuple[bytes, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> list[Place]:
        """
        Append (key, value) records in order, each with these headers; returns the place of
        each once all are durable. Raises Refused("unsupported") for headers where a log keeps
        none.
        """
        ...

    async def close(self) -> None:
        """Flush and let go."""
        ...


class DeadLetterLog(Protocol):
    """Where the bytes of rejected records are kept."""

    async def keep(self, records: Sequence[RejectedRecord]) -> list[str]:
        """Store the bytes durably; one `ref` for each. Raises Retryable when it cannot."""
        ...

    async def load(self, ref: str) -> RejectedRecord:
        """Read one back. Raises Refused("not-found") when the log no longer holds it."""
        ...
