"""
The change feed: where the application's events come from, and the log that carries them.

Order holds within a partition. Positions are given by the caller and mean *next to read*; what
a broker remembers of a consumer group is never read back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from replicator.model.letter import RejectedRecord
from replicator.model.position import Bounds, Partition, Polled, Positions, Record


class ChangeFeed(Protocol):
    """Read one log. Called from one task, but for `bounds` and `read`, which may run beside
    `poll`.
    """

    async def bounds(self) -> dict[Partition, Bounds]:
        """
        Start, end and last stable offset of every partition of the topic, asked of the broker
        now. Raises Unavailable when it does not answer: an unknown end is never zero.
        """
        ...

    async def open(self, positions: Mapping[Partition, int]) -> None:
        """
        Start reading at these positions, every partition of the topic. Raises
        Blocked("log-truncated") when the log no longer holds one, Blocked("partitions-changed")
        when the partitions are not these. May be called again: it forgets what was buffered and
        starts over at the positions given.
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
        it ends. Raises Blocked("log-truncated") when `start` is no longer held.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class GroupWatch(Protocol):
    """A feed whose published positions others could move."""

    async def intruders(self, published: Positions) -> list[str]:
        """
        One sentence for each foreign member of our group and each committed position that is
        not what we published last. Empty when all is ours.
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

    async def append(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Append (key, value) records in order; returns when they are durable."""
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
