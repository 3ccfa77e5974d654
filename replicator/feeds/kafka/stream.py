"""
The consumer of the stream: its partitions by hand, at positions that are ours.

It belongs to no group, so nothing that a group has committed can move it, and with
`auto_offset_reset="none"` an offset that the log no longer holds is an error and never a jump.

Positions are kept here beside the consumer's. When a fetch fails half-way, over a damaged batch
of one partition say, aiokafka has already moved past what it had taken from the others and
drops it: the consumer is put back to our positions before the error leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka import errors as kafka

from replicator.errors import Blocked
from replicator.feeds.kafka.connection import (
    METADATA_MAX_AGE_MS,
    Connection,
    partition_number,
    stop,
)
from replicator.feeds.kafka.pin import TopicPin
from replicator.model.position import Bookmark, Partition, Polled, Record, bookmark_of

FETCH_WAIT_MS = 100
"""How long the broker may hold a fetch that finds nothing. aiokafka has one fetch in flight for
each broker: while it waits for idle partitions, a busy one that was just emptied waits with it.
Half doubles the requests of an idle stream; twice is felt as pauses in a busy one."""

PARTITION_BYTES_MIN = 16 << 10
"""Least prefetch of a partition: about a producer's usual batch. Less would only make more
requests, since a broker returns whole batches."""


def consumer(
    connection: Connection, pin: TopicPin | None = None, **options: Any
) -> AIOKafkaConsumer:
    """
    A consumer of committed data that belongs to no group, never jumps, and with a pin stays
    with one topic. Not started.
    """
    made = AIOKafkaConsumer(
        **connection.options,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        **options,
    )
    if pin is not None:
        pin.fasten(made)
    return made


async def start(
    connection: Connection, client: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]
) -> None:
    """Start a consumer at these positions, or stop it and raise."""
    try:
        with connection.translated("connecting"):
            async with asyncio.timeout(connection.timeout_s):
                await client.start()
        # No await from here on: the fetcher must not run before it has been told where.
        client.assign(list(positions))
        for partition, offset in positions.items():
            client.seek(partition, offset)
    except BaseException:
        await stop(client)
        raise


def to_record(partition: Partition, record: ConsumerRecord[Any, Any]) -> Record:
    """A record as the model has it."""
    return Record(
        partition,
        record.offset,
        record.key,
        record.value,
        max(record.timestamp, 0),
        tuple((name, value or b"") for name, value in record.headers),
    )


class Stream:
    """Records of some or all partitions of a topic, from given positions on."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        positions: Mapping[Partition, int],
        pin: TopicPin,
    ) -> None:
        self.doubts: dict[Partition, Bookmark] = {}
        """The last records before another leader's. Whoever found them still there takes them
        out."""
        self._connection = connection
        self._pin = pin
        self._last: dict[TopicPartition, Bookmark] = {}
        assert positions, "a reader of nothing"
        self._names = {
            TopicPartition(topic, partition_number(name)): name for name in sorted(positions)
        }
        self._next = {each: positions[name] for each, name in self._names.items()}
        self._active = tuple(self._names)
        self._resumed = asyncio.Event()
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect. Called again, with a new client in the old one's place."""
        await self.stop()
        budget = int(self._connection.settings.fetch_bytes_max)
        client = consumer(
            self._connection,
            self._pin,
            fetch_max_bytes=budget,
            # The client may hold this for every partition at once, or one batch of a
            # producer where that is more: a broker never cuts a batch in two.
            max_partition_fetch_bytes=max(budget // len(self._names), PARTITION_BYTES_MIN),
        )
        await start(self._connection, client, self._next)
        self._consumer = client

    async def stop(self) -> None:
        """Close the client; the positions stay."""
        client, self._consumer = self._consumer, None
        if client is not None:
            await stop(client)

    def select(self, paused: Collection[Partition]) -> None:
        """
        Return records of all partitions but these. What was fetched of a paused one stays in
        the client's buffer, one fetch at most: aiokafka's own `pause` would drop it, and fetch
        it again at every `resume`.
        """
        self._active = tuple(each for each, name in self._names.items() if name not in paused)
        if self._active:
            self._resumed.set()
        else:
            self._resumed.clear()

    async def poll(self, records_max: int, timeout_s: float) -> Polled:
        """As `ChangeFeed.poll`, but that a broker which is away looks like an idle one."""
        client = self._consumer
        if client is None:
            raise self._connection.unavailable("polling without a connection", None)
        active = self._active
        if not active:
            await self._wait_resumed(timeout_s)
            return Polled([], self.positions())
        try:
            with self._connection.translated("polling"):
                fetched = await client.getmany(
                    *(() if len(active) == len(self._names) else active),
                    # Never 0: then the client's fetcher would not get a turn.
                    timeout_ms=max(int(timeout_s * 1000), 1),
                    max_records=records_max,
                )
        except Exception as error:
            self._put_back(client)
            if isinstance(error.__cause__, kafka.RecordTooLargeError):
                raise Blocked("message-too-large", str(error.__cause__)) from error
            raise
        for each in active:
            # A known position is answered at once, without asking anybody.
            self._next[each] = await client.position(each)
        records: list[Record] = []
        for each, batch in fetched.items():
            brought = [to_record(self._names[each], record) for record in batch]
            self._doubt(each, brought)
            records += brought
        return Polled(records, self.positions())

    def _doubt(self, each: TopicPartition, brought: list[Record]) -> None:
        if not brought:
            return
        first = self._pin.elections.get(each.partition)
        if first is not None and brought[-1].offset >= first:
            del self._pin.elections[each.partition]
            before = [record for record in brought if record.offset < first]
            # A batch that begins before what we read last, in a log that was cut off there and
            # has grown, says so of itself; after a rewind it is only read again.
            mark = bookmark_of(before[-1]) if before else self._last.get(each)
            if mark is not None:
                self.doubts.setdefault(self._names[each], mark)
        self._last[each] = bookmark_of(brought[-1])

    def rewind(self, positions: Mapping[Partition, int]) -> None:
        """Go back to positions of before."""
        self._next = {each: positions[name] for each, name in self._names.items()}
        if self._consumer is not None:
            self._put_back(self._consumer)

    async def _wait_resumed(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._resumed.wait()
        except TimeoutError:
            return

    def _put_back(self, client: AIOKafkaConsumer) -> None:
        for each, offset in self._next.items():
            client.seek(each, offset)

    def positions(self) -> dict[Partition, int]:
        """The next offset of every partition."""
        return {name: self._next[each] for each, name in self._names.items()}
