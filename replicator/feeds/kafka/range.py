"""Read one range of a partition with a client of its own, beside the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from aiokafka import TopicPartition

from replicator.errors import Blocked, Unavailable
from replicator.feeds.kafka.cluster import Cluster
from replicator.feeds.kafka.connection import Connection, partition_number, stop
from replicator.feeds.kafka.stream import consumer, start, to_record
from replicator.model.position import Bounds, Partition, Record

_PAGE_RECORDS = 500
_FETCH_BYTES = 1 << 20
"""Held by the client at once. Most ranges are short, and what is fetched past the end is
wasted: four times as much makes them four times as slow, and long ones no faster."""

_WAIT_S = 0.2


async def read_range(
    connection: Connection, cluster: Cluster, partition: Partition, start_at: int, end: int
) -> AsyncGenerator[list[Record], None]:
    """
    Committed records with start_at ≤ offset < end, as far as the log goes when called.

    The range is over when the client's own position has reached its end: the last offsets may
    be control records or aborted ones, and bring nothing. Raises Blocked("log-truncated"),
    Unavailable("transaction-open") when an open transaction hides the rest for longer than
    `request_timeout`, Unavailable("feed-unavailable").
    """
    topic = connection.settings.topic
    bounds = (await cluster.bounds(topic)).get(partition)
    if bounds is None:
        raise Blocked("partitions-changed", f"topic {topic} has no partition {partition}")
    if not bounds.start <= start_at <= bounds.end:
        raise truncated(partition, start_at, bounds)
    end = min(end, bounds.end)
    if start_at >= end:
        return
    each = TopicPartition(topic, partition_number(partition))
    client = consumer(
        connection, fetch_max_bytes=_FETCH_BYTES, max_partition_fetch_bytes=_FETCH_BYTES
    )
    await start(connection, client, {each: start_at})
    try:
        loop = asyncio.get_running_loop()
        position, moved_at = start_at, loop.time()
        while position < end:
            with connection.translated(f"reading {partition}"):
                fetched = await client.getmany(
                    timeout_ms=int(_WAIT_S * 1000),
                    max_records=min(_PAGE_RECORDS, end - position),
                )
                reached = await client.position(each)
            page = [
                to_record(partition, record)
                for record in fetched.get(each, ())
                if record.offset < end
            ]
            if page:
                yield page
            if reached > position:
                position, moved_at = reached, loop.time()
            elif loop.time() - moved_at > connection.timeout_s:
                raise await _stuck(cluster, partition, position)
    finally:
        await stop(client)


def truncated(partition: Partition, position: int, bounds: Bounds) -> Blocked:
    """The error of a position outside the log."""
    return Blocked(
        "log-truncated",
        f"position {position} of {partition} is not held by the log, which starts at "
        f"{bounds.start} and ends at {bounds.end}",
    )


async def _stuck(cluster: Cluster, partition: Partition, position: int) -> Unavailable:
    topic = partition.rpartition("/")[0]
    bounds = (await cluster.bounds(topic))[partition]
    if bounds.stable <= position < bounds.end:
        return Unavailable(
            "transaction-open",
            f"an open transaction hides the records of {partition} from {bounds.stable} on",
        )
    return Unavailable(
        "feed-unavailable", f"reading {partition} makes no progress at offset {position}"
    )
