"""
Read ranges of partitions, beside the stream.

A range is mostly a record or two (a dead letter's, those of a batch that was refused) and there
can be many in a row, so the client of one is kept for the next for a while: to connect anew
costs ten times what it costs to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from replicator.errors import Blocked, Unavailable
from replicator.feeds.kafka.cluster import Cluster
from replicator.feeds.kafka.connection import Connection, partition_number, stop
from replicator.feeds.kafka.pin import TopicPin
from replicator.feeds.kafka.stream import PARTITION_BYTES_MIN, consumer, start, to_record
from replicator.model.position import Bookmark, Bounds, Partition, Record, bookmark_of

_PAGE_RECORDS = 500
_FETCH_BYTES = 1 << 20
"""Held by the client at once. Most ranges are short, and what is fetched past the end is
wasted: four times as much makes them four times as slow, and long ones no faster."""

_WAIT_S = 0.2

_KEPT_S = 10.0
"""How long a client is kept for the next range. Half would close it between the batches of a
slow retry; twice would hold a connection for nothing that much longer."""


class RangeReader:
    """
    Ranges of one topic. Any number may be read at once, each with a client of its own, of which
    one is kept.
    """

    def __init__(self, connection: Connection, cluster: Cluster) -> None:
        self._connection = connection
        self._cluster = cluster
        self._kept: tuple[AIOKafkaConsumer, TopicPin | None] | None = None
        self._expiring: asyncio.Task[None] | None = None
        self._ends: dict[Partition, int] = {}
        """Where the log went to when we last asked. Up to there nobody need be asked again."""

    async def read(
        self, partition: Partition, start_at: int, end: int, pin: TopicPin | None
    ) -> AsyncGenerator[list[Record], None]:
        """
        Committed records with start_at ≤ offset < end, as far as the log goes when called.

        The range is over when the client's own position has reached its end: the last offsets
        may be control records or aborted ones, and bring nothing. Raises
        Blocked as `not_held` says, Unavailable("transaction-open") when an open transaction
        hides the rest for longer than `request_timeout`, Unavailable("feed-unavailable").
        """
        if not start_at < end <= self._ends.get(partition, 0):
            end = min(end, await self._end(partition, start_at))
        if start_at >= end:
            return
        topic = self._connection.settings.topic
        each = TopicPartition(topic, partition_number(partition))
        client, fastened = await self._client({each: start_at}, pin)
        whole = False
        try:
            loop = asyncio.get_running_loop()
            position, moved_at = start_at, loop.time()
            while position < end:
                with self._connection.translated(f"reading {partition}"):
                    fetched = await client.getmany(
                        timeout_ms=int(_WAIT_S * 1000),
                        max_records=min(_PAGE_RECORDS, end - position),
                    )
                    reached = await client.position(each)
                if pin is not None and fastened is not None:
                    pin.by_name = fastened.by_name
                    if fastened.denied:
                        raise self._connection.unavailable(f"{topic} was deleted", None)
                page = [
                    to_record(partition, record)
                    for record in fetched.get(each, ())
                    if record.offset < end
                ]
                if page:
                    yield page
                if reached > position:
                    position, moved_at = reached, loop.time()
                elif loop.time() - moved_at > self._connection.timeout_s:
                    raise await self._stuck(partition, position)
            whole = True
        finally:
            # One that failed may be connected to nobody any more.
            if whole and self._kept is None:
                self._keep(client, fastened)
            else:
                await stop(client)

    async def _end(self, partition: Partition, start_at: int) -> int:
        topic = self._connection.settings.topic
        bounds = (await self._cluster.bounds(topic)).get(partition)
        if bounds is None:
            raise Blocked("partitions-changed", f"topic {topic} has no partition {partition}")
        if not bounds.start <= start_at <= bounds.end:
            raise not_held(partition, start_at, bounds)
        self._ends[partition] = bounds.end
        return bounds.end

    async def bookmarks(
        self, offsets: Mapping[Partition, int], bounds: Mapping[Partition, Bounds]
    ) -> dict[Partition, Bookmark]:
        """What lies at these offsets, of partitions with these bounds."""
        topic = self._connection.settings.topic
        wanted: dict[TopicPartition, Partition] = {}
        for partition, offset in offsets.items():
            held = bounds.get(partition)
            if held is not None and held.start <= offset < held.end:
                wanted[TopicPartition(topic, partition_number(partition))] = partition
        if not wanted:
            return {}
        client = consumer(self._connection, max_partition_fetch_bytes=PARTITION_BYTES_MIN)
        places = {each: offsets[partition] for each, partition in wanted.items()}
        await start(self._connection, client, places)
        found: dict[Partition, Bookmark] = {}
        try:
            loop = asyncio.get_running_loop()
            moved_at = loop.time()
            while places:
                with self._connection.translated(f"looking up records of {topic}"):
                    fetched = await client.getmany(*places, timeout_ms=int(_WAIT_S * 1000))
                    reached = {each: await client.position(each) for each in places}
                for each, records in fetched.items():
                    if records and records[0].offset == places[each]:
                        record = to_record(wanted[each], records[0])
                        found[record.partition] = bookmark_of(record)
                passed = {each for each, place in places.items() if reached[each] > place}
                for each in passed:
                    client.pause(each)
                    del places[each]
                if passed:
                    moved_at = loop.time()
                elif loop.time() - moved_at > self._connection.timeout_s:
                    each, place = next(iter(places.items()))
                    raise await self._stuck(wanted[each], place)
        finally:
            await stop(client)
        return found

    async def close(self) -> None:
        """Close the client that is kept."""
        self._ends = {}
        kept, expiring = self._take(), self._expiring
        if kept is not None:
            await stop(kept[0])
        if expiring is not None:
            await asyncio.wait([expiring])

    # -- the client that is kept ----------------------------------------------------------
    async def _client(
        self, place: Mapping[TopicPartition, int], pin: TopicPin | None
    ) -> tuple[AIOKafkaConsumer, TopicPin | None]:
        """A client at a place, and the pin that it bears: an equal one, if it was kept."""
        kept = self._take()
        if kept is not None:
            client, fastened = kept
            if (fastened and fastened.topic_id) == (pin and pin.topic_id):
                client.assign(list(place))
                for each, offset in place.items():
                    client.seek(each, offset)
                return kept
            await stop(client)
        client = consumer(
            self._connection,
            pin,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        await start(self._connection, client, place)
        return client, pin

    def _take(self) -> tuple[AIOKafkaConsumer, TopicPin | None] | None:
        kept, self._kept = self._kept, None
        if kept is not None and self._expiring is not None:
            self._expiring.cancel()  # it sleeps: nothing was closed yet
        return kept

    def _keep(self, client: AIOKafkaConsumer, pin: TopicPin | None) -> None:
        # Paused it fetches nothing more while nobody reads.
        client.pause(*client.assignment())
        self._kept = client, pin
        self._expiring = asyncio.create_task(self._expire(), name="kafka-range-kept")

    async def _expire(self) -> None:
        await asyncio.sleep(_KEPT_S)
        kept, self._kept = self._kept, None
        if kept is not None:
            await stop(kept[0])

    async def _stuck(self, partition: Partition, position: int) -> Unavailable:
        topic = partition.rpartition("/")[0]
        bounds = (await self._cluster.bounds(topic))[partition]
        if bounds.stable <= position < bounds.end:
            return Unavailable(
                "transaction-open",
                f"an open transaction hides the records of {partition} from {bounds.stable} on",
            )
        return Unavailable(
            "feed-unavailable", f"reading {partition} makes no progress at offset {position}"
        )


def not_held(partition: Partition, position: int, bounds: Bounds) -> Blocked:
    """
    The error of a position that the log did not hold, with its bounds then or later: one before
    its start was truncated, and any other lay beyond its end, where only another log ends.
    """
    return Blocked(
        "log-truncated" if position < bounds.start else "log-replaced",
        f"position {position} of {partition} is not held by the log, which starts at "
        f"{bounds.start} and ends at {bounds.end}",
    )
