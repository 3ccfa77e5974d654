"""
Read a Kafka topic.

Three parts, each with connections of its own: `Stream` brings records, `Cluster` answers
questions, `GroupProgress` publishes what is applied. Beside them a watch asks, every few
seconds, for the topic's partitions. It is how an absent cluster and a changed partition count
are noticed at all: a consumer whose brokers are gone looks idle, and one with partitions
assigned by hand ignores new ones.

A topic that is deleted and made anew has the name of the old one and another id. The watch sees
it sooner or later; that no record of it is taken for one of ours before, is the work of
`TopicPin`, and so is a tail that an election cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from uuid import UUID

from aiokafka import errors as kafka

from replicator.errors import Blocked, Refused, ReplicatorError, Unavailable
from replicator.feeds.kafka.cluster import Cluster
from replicator.feeds.kafka.connection import Connection, partition_name, partition_number
from replicator.feeds.kafka.group import GroupProgress
from replicator.feeds.kafka.pin import TopicPin, shown
from replicator.feeds.kafka.preflight import preflight, retention_s
from replicator.feeds.kafka.range import RangeReader, not_held
from replicator.feeds.kafka.stream import Stream
from replicator.model.finding import CheckFinding
from replicator.model.position import (
    Bookmark,
    Bounds,
    LogIdentity,
    Partition,
    Polled,
    Positions,
    Record,
)
from replicator.settings.feeds import KafkaSettings

_WATCH_EVERY_S_MAX = 5.0
"""Longest time between two looks at the topic. Half doubles the questions of an idle stream;
twice lets a partition that was added go unread for longer before the migration blocks."""

_CONFIRM_S = 1.0
"""A partition count that differs is believed when it still does after this time. A broker that
is starting may tell an older one, and a person has to come and look when the migration
blocks."""


class KafkaFeed:
    """
    A `ChangeFeed`, `GroupWatch` and `SelfCheck` over one topic. `name` is the migration's: it
    names the consumer group, unless the settings do, and the client.
    """

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._topic = settings.topic
        self._group_id = settings.group_id or f"replicator.{name}"
        self._connection = Connection(settings, client_id=f"replicator.{name}")
        self._cluster = Cluster(self._connection)
        self._group = GroupProgress(self._cluster, self._group_id, self._topic)
        self._ranges = RangeReader(self._connection, self._cluster)
        self._stream: Stream | None = None
        self._told: UUID | None = None
        self._opened: UUID | None = None
        """The topic that we keep to; None where the broker has no ids."""
        self._pin: TopicPin | None = None
        self._paused: set[Partition] = set()
        self._watching: asyncio.Task[None] | None = None
        self._trouble: Blocked | Unavailable | None = None
        self._lost = False

    async def bounds(self) -> dict[Partition, Bounds]:
        """See `ChangeFeed.bounds`. Raises Refused("topic-missing") when there is no topic."""
        return await self._cluster.bounds(self._topic)

    async def identity(self) -> LogIdentity:
        """See `ChangeFeed.identity`. The topic's id, which brokers have since Kafka 2.8."""
        self._told = await self._cluster.topic_id(self._topic)
        return LogIdentity(None if self._told is None else shown(self._told))

    async def bookmarks_at(self, offsets: Mapping[Partition, int]) -> dict[Partition, Bookmark]:
        """See `ChangeFeed.bookmarks_at`. Also raises Unavailable("transaction-open")."""
        return await self._ranges.bookmarks(offsets, await self.bounds())

    async def open(
        self, positions: Mapping[Partition, int], partitions: int | None = None
    ) -> None:
        """See `ChangeFeed.open`."""
        await self._stop()
        self._opened = self._told or await self._cluster.topic_id(self._topic)
        await self._check_identity()
        expected = len(positions) if partitions is None else partitions
        bounds = await self.bounds()
        if len(bounds) != expected or not bounds.keys() >= positions.keys():
            await asyncio.sleep(_CONFIRM_S)
            bounds = await self.bounds()
        if len(bounds) != expected or not bounds.keys() >= positions.keys():
            raise self._changed(expected, len(bounds))
        for partition, position in positions.items():
            if not bounds[partition].start <= position <= bounds[partition].end:
                raise not_held(partition, position, bounds[partition])
        self._pin = TopicPin(self._topic, self._opened)
        stream = Stream(self._connection, self._topic, positions, self._pin)
        await stream.start()
        self._stream, self._trouble, self._lost = stream, None, False
        self._watching = asyncio.create_task(self._watch(expected), name="kafka-watch")

    async def poll(self, records_max: int, timeout_s: float) -> Polled:
        """See `ChangeFeed.poll`. An absent cluster shows within `request_timeout`."""
        stream, watching = self._stream, self._watching
        assert stream is not None, "open comes before poll"
        assert watching is not None
        if watching.done():
            watching.result()  # raises what only a defect can have caused
        if isinstance(self._trouble, Blocked):
            raise self._trouble
        if self._lost and self._trouble is None:
            # A client that lived through an outage can stay alive and bring nothing more
            # (aio-libs/aiokafka#1154): a new one takes its place, at the same positions.
            await stream.start()
            self._lost = False
        before = stream.positions()
        try:
            polled = await stream.poll(records_max, timeout_s)
        except Blocked as error:
            # A position that is not held is held no more, or is one of another topic.
            with contextlib.suppress(Unavailable, Refused):
                await self._check_identity()
                await self._check_end(error)
            raise
        try:
            await self._check_pin(polled)
            await self._check_past(stream)
        except Unavailable:
            # Whose records they are is not known yet: they come again.
            stream.rewind(before)
            raise
        if not polled.records and self._trouble is not None:
            raise self._trouble
        return polled

    def pause(self, partitions: Collection[Partition]) -> None:
        """See `ChangeFeed.pause`."""
        self._select(self._paused | set(partitions))

    def resume(self, partitions: Collection[Partition]) -> None:
        """See `ChangeFeed.resume`."""
        self._select(self._paused - set(partitions))

    async def publish(self, positions: Mapping[Partition, int]) -> None:
        """
        Commit to the group. A group with members of another program takes no commits of ours:
        `intruders` says so.
        """
        await self._group.publish(_by_number(positions))

    async def intruders(self, published: Positions) -> list[str]:
        """See `GroupWatch.intruders`."""
        return await self._group.intruders(_by_number(published))

    async def read(
        self, partition: Partition, start: int, end: int
    ) -> AsyncIterator[list[Record]]:
        """See `ChangeFeed.read`. Also raises Unavailable("transaction-open")."""
        ours = self._opened or self._told
        pin = None if ours is None else TopicPin(self._topic, ours)
        pages = self._ranges.read(partition, start, end, pin)
        try:
            async with contextlib.aclosing(pages):
                async for page in pages:
                    if pin is not None and pin.by_name:
                        await self._check_identity()
                    yield page
        except (Blocked, Unavailable) as error:
            # What it could not read may be so because it is another topic's by now.
            await self._check_identity()
            await self._check_end(error)
            raise

    async def check(self) -> list[CheckFinding]:
        """See `SelfCheck.check`."""
        return await preflight(self._cluster, self._connection.settings, self._group_id)

    async def retention_s(self) -> float | None:
        """
        How long the topic keeps a record, in seconds; None when it does not go by time.
        Raises Refused("topic-missing"), Unavailable.
        """
        return await retention_s(self._cluster, self._topic)

    async def close(self) -> None:
        """Close every client. The feed may be opened again."""
        await self._stop()
        await self._ranges.close()
        await self._cluster.close()

    # -- which topic it is ----------------------------------------------------------------
    async def _check_identity(self) -> None:
        ours = self._opened or self._told
        if ours is None:
            return
        found = await self._cluster.topic_id(self._topic)
        if found != ours:
            # A broker that is a little behind tells what it heard last.
            await asyncio.sleep(_CONFIRM_S)
            found = await self._cluster.topic_id(self._topic)
        if found != ours:
            raise self._replaced(found, ours)

    async def _check_end(self, error: ReplicatorError) -> None:
        """Of a position that a broker does not hold it does not say on which side it lies."""
        cause = error.__cause__
        if not isinstance(cause, kafka.OffsetOutOfRangeError):
            return
        bounds = await self.bounds()
        for each, position in cause.args[0].items():
            partition = partition_name(self._topic, each.partition)
            if partition in bounds:
                raise not_held(partition, position, bounds[partition]) from error

    async def _check_pin(self, polled: Polled) -> None:
        pin = self._pin
        if pin is not None and (pin.denied or (pin.by_name and polled.records)):
            pin.denied = False
            try:
                await self._check_identity()
            except Refused as error:
                # The topic is gone, or we may no longer see it.
                raise Blocked(error.code, error.message) from error

    async def _check_past(self, stream: Stream) -> None:
        """After an election: is what we read before it still the past of what comes behind?"""
        if not stream.doubts:
            return
        asked = dict(stream.doubts)
        found = await self.bookmarks_at({each: mark.offset for each, mark in asked.items()})
        for partition, mark in asked.items():
            # What retention or compaction has taken since proves nothing.
            if found.get(partition, mark) != mark:
                raise Blocked(
                    "log-replaced",
                    f"{partition} lost records that we had read: an election made a broker "
                    f"leader that did not have them, and another one lies at {mark.offset}",
                )
            del stream.doubts[partition]

    def _replaced(self, found: UUID | None, ours: UUID) -> Blocked:
        is_now = "without id" if found is None else shown(found)
        return Blocked(
            "log-replaced",
            f"topic {self._topic} was deleted and made anew: it is {is_now}, and ours was "
            f"{shown(ours)}",
        )

    # -- the watch ------------------------------------------------------------------------
    async def _watch(self, opened: int) -> None:
        # Together a little less than request_timeout, within which an outage must show.
        every_s = min(self._connection.timeout_s / 3, _WATCH_EVERY_S_MAX)
        answer_s = self._connection.timeout_s * 0.6
        while True:
            await asyncio.sleep(every_s)
            try:
                found = len(await self._cluster.leaders(self._topic, answer_s))
                if found != opened:
                    await asyncio.sleep(_CONFIRM_S)
                    found = len(await self._cluster.leaders(self._topic, answer_s))
                await self._check_identity()
            except Blocked as error:
                self._trouble = error
            except Unavailable as error:
                self._trouble, self._lost = error, True
            except Refused as error:
                # The topic is gone, or we may no longer see it.
                self._trouble = Blocked(error.code, error.message)
            else:
                self._trouble = self._changed(opened, found) if found != opened else None

    async def _stop(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
        stream, self._stream = self._stream, None
        self._paused = set()
        if stream is not None:
            await stream.stop()

    def _select(self, paused: set[Partition]) -> None:
        self._paused = paused
        if self._stream is not None:
            self._stream.select(paused)

    def _changed(self, opened: int, found: int) -> Blocked:
        return Blocked(
            "partitions-changed",
            f"topic {self._topic} has {found} partitions, and the positions are those of "
            f"{opened}: records of one key may be in two partitions now",
        )


def _by_number(positions: Mapping[Partition, int]) -> dict[int, int]:
    return {partition_number(partition): offset for partition, offset in positions.items()}
