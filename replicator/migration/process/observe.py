"""
Watching the log from outside the stream: bounds, lag, partitions, retention, intruders.

Invariant 9: what is not known is not zero. A probe that fails, a partition that nobody reads
and an end that is older than a few probes make the lag unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from replicator.clock import Clock
from replicator.errors import Blocked, Fatal, Refused, Retryable
from replicator.model.finding import Blocker
from replicator.model.position import Bounds, Partition, Positions
from replicator.model.status import (
    LagStatus,
    PartitionHealth,
    PartitionStatus,
    RetentionStatus,
)
from replicator.ports.feed import ChangeFeed, GroupWatch, Retention
from replicator.stream.counters import Counters
from replicator.stream.stream import Stream

_FRESH_S = 30.0
"""Bounds older than this are not known. Sooner forgets them during a broker's ordinary
restart.
"""
_BEYOND_S = 30.0
"""How long a log may end before our position: a failover shows an older end for seconds."""
_SLOW_S = 5.0
"""A partition that stands still for this long with more to apply is falling behind."""
ANSWER_S = 10.0
"""An answer that comes later than this is of another time than the question: not known."""
_INTRUDERS_EVERY_S = 15.0
"""Looking for foreign members and commits costs the broker two requests."""


class Observer:
    """Probes the feed regularly; everything else reads what it found last."""

    def __init__(
        self,
        feed: ChangeFeed,
        *,
        clock: Clock,
        counters: Counters,
        stuck_after_s: float | None,
        positions: Callable[[], Positions],
    ) -> None:
        """`positions`: what is persisted."""
        self.bounds: dict[Partition, Bounds] = {}
        self.intruders: list[str] = []
        self.trouble: Blocker | None = None
        self.retention_s: float | None = None
        """How long the log is kept, where the feed can tell."""
        self._feed = feed
        self._clock = clock
        self._counters = counters
        self._stuck_after_s = stuck_after_s
        self._probed_at = float("-inf")
        self._asked_at = float("-inf")
        self._read_all_at: dict[Partition, float] = {}
        self._ahead: dict[Partition, tuple[int, float]] = {}
        """An end that is still to be read to, and when it was asked for."""
        self._moved: dict[Partition, tuple[int, float]] = {}
        self._beyond_since: dict[Partition, float] = {}
        self._known_positions = positions

    async def probe(self, stream: Stream | None, expected_partitions: int | None) -> None:
        """
        Ask the feed once. Raises Blocked when the log no longer holds our position or has other
        partitions than the capture, Fatal("feed-stuck") when the consumer is alive without
        progress.
        """
        loop, asked_at = asyncio.get_running_loop(), self._clock()
        positions = dict(self._known_positions())  # before the question: no end lies below them
        try:
            async with asyncio.timeout(ANSWER_S):
                bounds = await self._feed.bounds()
                await self._ask_for_others(stream)
        except (Retryable, Refused) as error:
            self._unanswered(Blocker(error.code, error.message))
            return
        except TimeoutError:
            message = f"the log did not answer within {ANSWER_S:.0f} s"
            self._unanswered(Blocker("feed-unavailable", message))
            return
        self.trouble = None
        self.bounds = bounds
        self._probed_at = loop.time()
        self._watch_the_end(bounds, positions)
        if expected_partitions is not None and len(bounds) != expected_partitions:
            raise Blocked(
                "partitions-changed",
                f"the topic has {len(bounds)} partitions, the capture {expected_partitions}",
            )
        if stream is not None and stream.lanes:
            self._compare(stream, bounds, asked_at)

    def _unanswered(self, trouble: Blocker) -> None:
        self.trouble = trouble
        # Of a log that is away nothing comes: a consumer is stuck only beside one that answers.
        self._counters.polled_at = asyncio.get_running_loop().time()

    async def _ask_for_others(self, stream: Stream | None) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(self._feed, GroupWatch) or (
            loop.time() - self._asked_at < _INTRUDERS_EVERY_S
        ):
            return
        published = stream.published if stream is not None else {}
        self.intruders = await self._feed.intruders(published)
        if isinstance(self._feed, Retention):
            self.retention_s = await self._feed.retention_s()
        self._asked_at = loop.time()  # only once it is answered: else nobody would know

    def _watch_the_end(self, bounds: dict[Partition, Bounds], positions: Positions) -> None:
        """
        Raises Blocked when the log has ended before our position for a while: a failover may
        show an older end for a moment, a log that was made anew shows it for good. Until then
        the lag is unknown.
        """
        now = asyncio.get_running_loop().time()
        for partition, position in positions.items():
            at = bounds.get(partition)
            if at is None or position <= at.end:
                self._beyond_since.pop(partition, None)
                continue
            since = self._beyond_since.setdefault(partition, now)
            if now - since >= _BEYOND_S:
                raise Blocked(
                    "log-replaced",
                    f"{partition} ends at {at.end}, before our position {position}",
                )

    def _compare(
        self, stream: Stream, bounds: dict[Partition, Bounds], asked_at: float
    ) -> None:
        loop_now = asyncio.get_running_loop().time()
        unread = False
        for partition, position in stream.positions.items():
            at = bounds.get(partition)
            if at is None:
                continue
            read_to = stream.lanes[partition].watermark.tracked_to
            if read_to < at.start:
                raise Blocked(
                    "log-truncated",
                    f"{partition} begins at {at.start}, and {read_to} is still to be read",
                )
            unread = unread or read_to < at.stable
            # Where events come all the time, nobody ever has the last one: what tells is an end
            # of a while ago.
            end, since = self._ahead.get(partition, (at.end, asked_at))
            if read_to >= end:
                self._read_all_at[partition] = asked_at if read_to >= at.end else since
                end, since = at.end, asked_at
            self._ahead[partition] = end, since
            if self._moved.get(partition, (-1, 0.0))[0] != position:
                self._moved[partition] = (position, loop_now)
        self._watch_the_consumer(stream, unread=unread, now=loop_now)

    def _watch_the_consumer(self, stream: Stream, *, unread: bool, now: float) -> None:
        idle = not stream.buffered_bytes and not stream.in_flight
        if not (unread and idle and self._stuck_after_s):
            self._counters.polled_at = now
        elif now - self._counters.polled_at > self._stuck_after_s:
            raise Fatal(
                "feed-stuck",
                f"records wait in the log and none came for {self._stuck_after_s:.0f} s",
            )

    # -- what is known ---------------------------------------------------------------------

    @property
    def is_fresh(self) -> bool:
        """Whether the bounds may be believed."""
        if self.trouble is not None:
            return (
                False  # the last question was not answered: what was true before is not known
            )
        return asyncio.get_running_loop().time() - self._probed_at <= _FRESH_S

    def lag(self, positions: Positions, stream: Stream | None) -> LagStatus:
        """
        The lag of these positions. An event in memory has the log's own time. What is not read
        yet is at most as old as the time since we had last read everything.
        """
        unknown = [partition for partition in self.bounds if partition not in positions]
        if not self.is_fresh or not self.bounds or unknown:
            return LagStatus(unknown_partitions=len(unknown) or len(self.bounds))
        if self._beyond_since:  # a log that ends before our position is not the one we know
            return LagStatus(unknown_partitions=len(self._beyond_since))
        behind = [p for p, at in self.bounds.items() if at.end > positions[p]]
        if not behind:
            return LagStatus(records=0, seconds=0.0)
        records = sum(self.bounds[p].end - positions[p] for p in behind)
        since = [self._behind_since(partition, stream) for partition in behind]
        if None in since:
            return LagStatus(records=records, seconds=None)
        oldest = min(at for at in since if at is not None)
        return LagStatus(records=records, seconds=max(0.0, self._clock() - oldest))

    def _behind_since(self, partition: Partition, stream: Stream | None) -> float | None:
        oldest_ms = stream.lanes[partition].oldest_ms() if stream and stream.lanes else None
        if oldest_ms is not None:
            return oldest_ms / 1000
        return self._read_all_at.get(partition)

    def partitions(
        self,
        positions: Positions,
        read_to: Callable[[Partition], int | None],
        committed: Positions,
        *,
        reads: bool = True,
        troubled: bool = False,
    ) -> list[PartitionStatus]:
        """
        One row for each partition of the topic, in order of their numbers. `reads`: whether
        somebody is meant to read now; `troubled`: whether the stream waits for something.
        """
        names = sorted(self.bounds.keys() | committed.keys(), key=lambda p: (len(p), p))
        rows = []
        for name in names:
            at = self.bounds.get(name) if self.is_fresh else None
            rows.append(
                PartitionStatus(
                    partition=name,
                    end=at.end if at is not None else None,
                    position=read_to(name),
                    applied=positions.get(name),
                    committed=committed.get(name),
                    status=self._health(name, positions.get(name), at, troubled=troubled)
                    if reads
                    else PartitionHealth.OK,
                )
            )
        return rows

    def _health(
        self, name: Partition, applied: int | None, at: Bounds | None, *, troubled: bool
    ) -> PartitionHealth:
        if applied is None:
            return PartitionHealth.STOP
        if at is None:
            return PartitionHealth.WARN
        if name in self._beyond_since:
            return PartitionHealth.REWIND
        if applied >= at.end:  # an end that was asked for a moment ago may lie behind us by now
            return PartitionHealth.OK
        _, moved_at = self._moved.get(name, (applied, asyncio.get_running_loop().time()))
        stands = asyncio.get_running_loop().time() - moved_at
        if stands > _FRESH_S:
            return PartitionHealth.STALL
        return PartitionHealth.WARN if troubled or stands > _SLOW_S else PartitionHealth.OK

    def retention(self, lag: LagStatus) -> RetentionStatus:
        """How long until the log may drop what is not applied; None where nothing tells."""
        if self.retention_s is None or lag.seconds is None:
            return RetentionStatus()
        return RetentionStatus(headroom_s=max(0.0, self.retention_s - lag.seconds))
