"""Append records durably: the producer that the event log and the dead letters share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from replicator.codecs.partition import expected_partition
from replicator.errors import OutcomeUnknown, Rejected, ReplicatorError
from replicator.feeds.kafka.connection import METADATA_MAX_AGE_MS, Connection, stop

_BATCH_BYTES = 256 << 10
"""A batch of one partition. An event with a vector has 6 KB: aiokafka's default of 16 KB would
make a request of every two. Twice as much gains nothing measurable."""

_REQUEST_BYTES_MAX = 1 << 30
"""The client's own limit is out of the way: the topic's max.message.bytes is the one in
force."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A record to append; `partition` None leaves it to the partitioner."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


class Partitioner:
    """aiokafka's hook: where a key goes, by the configured family of clients."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spread = DefaultPartitioner()

    def __call__(self, key: bytes | None, partitions: list[int], available: list[int]) -> int:
        """The partition of `key`; records without a place of their own are spread."""
        place = expected_partition(self._name, key, len(partitions))
        if place is None:
            spread = self._spread(key, partitions, available)
            assert isinstance(spread, int)
            return spread
        return partitions[place]


class Producer:
    """Append to one topic, `acks=all` and idempotent. Calls are served in turn."""

    def __init__(self, connection: Connection, topic: str, partitioner: str) -> None:
        self._connection = connection
        self._topic = topic
        self._partitioner = partitioner
        self._client: AIOKafkaProducer | None = None
        self._turn = asyncio.Lock()

    async def append(self, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """
        Append in order; partition and offset of each, once all are durable.

        Raises OutcomeUnknown when some may be in the log and some not: append them again.
        Raises Rejected("value-too-large") for a record above the topic's limit, Unavailable
        when there is no connection, Refused.
        """
        async with self._turn:
            client = await self._connected()
            try:
                return await self._append(client, records)
            except BaseException:
                # After a failure an idempotent producer's sequence may have a hole that the
                # broker refuses for ever: the next call begins with a new one.
                self._client = None
                await _abandon(client)
                raise

    async def close(self) -> None:
        """Flush and close."""
        async with self._turn:
            client, self._client = self._client, None
            if client is not None:
                await stop(client)

    async def _append(
        self, client: AIOKafkaProducer, records: Sequence[Outgoing]
    ) -> list[tuple[int, int]]:
        what = f"appending to {self._topic}"
        try:
            sent = [await self._send(client, record) for record in records]
            await self._until_durable(sent)
            # Every future is asked, so that none is left with an error nobody has seen.
            errors = [failed for each in sent if (failed := each.exception()) is not None]
            if errors:
                raise errors[0]
            return [(each.result().partition, each.result().offset) for each in sent]
        except (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError) as exc:
            raise Rejected(
                "value-too-large",
                f"{what}: a record is larger than the topic's max.message.bytes",
            ) from exc
        except kafka.KafkaError as exc:
            error: ReplicatorError = self._connection.translate(exc, what)
            if error.code == "feed-unavailable":
                error = OutcomeUnknown("outcome-unknown", error.message)
            raise error from exc

    async def _send(
        self, client: AIOKafkaProducer, record: Outgoing
    ) -> asyncio.Future[RecordMetadata]:
        try:
            async with asyncio.timeout(self._connection.timeout_s):
                sent: asyncio.Future[RecordMetadata] = await client.send(
                    self._topic,
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    headers=list(record.headers),
                )
                return sent
        except TimeoutError as exc:
            raise self._stuck() from exc

    async def _until_durable(self, sent: Sequence[asyncio.Future[RecordMetadata]]) -> None:
        """
        Wait for all, as long as some get through. An idempotent producer tries for ever, and a
        topic that lacks replicas (min.insync.replicas) refuses for as long as it does.
        """
        waiting = set(sent)
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=self._connection.timeout_s)
            if not done:
                for each in waiting:
                    each.add_done_callback(_seen)
                raise self._stuck()

    def _stuck(self) -> OutcomeUnknown:
        return OutcomeUnknown(
            "outcome-unknown",
            f"appending to {self._topic} got nowhere for {self._connection.timeout_s:g} s: its "
            "leader may be away, or too few replicas in sync",
        )

    async def _connected(self) -> AIOKafkaProducer:
        if self._client is None:
            client = AIOKafkaProducer(
                **self._connection.options,
                acks="all",
                enable_idempotence=True,
                partitioner=Partitioner(self._partitioner),
                max_batch_size=_BATCH_BYTES,
                max_request_size=_REQUEST_BYTES_MAX,
                metadata_max_age_ms=METADATA_MAX_AGE_MS,
            )
            try:
                with self._connection.translated("connecting"):
                    async with asyncio.timeout(self._connection.timeout_s):
                        await client.start()
            except BaseException:
                await stop(client)
                raise
            self._client = client
        return self._client


async def _abandon(client: AIOKafkaProducer) -> None:
    """
    Stop a client without waiting for what it could not send: `stop` flushes first, and that may
    take for ever. A request under way is waited for, and has its deadline.
    """
    client._closed = True
    try:
        if client._sender is not None:
            await client._sender.close()
    finally:
        await client.client.close()


def _seen(future: asyncio.Future[RecordMetadata]) -> None:
    """Nobody waits for it any more; what became of it is not news."""
    if not future.cancelled():
        future.exception()
