"""The dead letters of a topic: the topic `<topic>.dead-letters`, created when it is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from replicator.errors import Refused, Rejected, ReplicatorError, Retryable, Unavailable
from replicator.feeds.kafka.cluster import Cluster
from replicator.feeds.kafka.connection import (
    Connection,
    dead_letter_topic,
    partition_name,
    stop,
)
from replicator.feeds.kafka.letter_headers import from_headers, to_headers
from replicator.feeds.kafka.producer import Outgoing, Producer
from replicator.feeds.kafka.stream import consumer, start
from replicator.model.letter import RejectedRecord
from replicator.settings.feeds import KafkaSettings

_HEADER_BYTES = 64 << 10
"""Room for our headers beside a record that already has the largest size its topic allows."""

_FETCH_BYTES = 1 << 20


class KafkaDeadLetters:
    """
    A `DeadLetterLog` over a topic of one partition. A ref is `<topic>/<partition>/<offset>`.

    The topic is created with `retention.ms=-1`: a dead letter waits for a person. One that is
    there already is taken as it is.
    """

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._connection = Connection(settings, client_id=f"replicator.{name}.letters")
        self._source = settings.topic
        self._topic = dead_letter_topic(settings.topic)
        self._cluster = Cluster(self._connection)
        self._producer = Producer(self._connection, self._topic, "murmur2")
        self._ready = False
        self._turn = asyncio.Lock()

    async def keep(self, records: Sequence[RejectedRecord]) -> list[str]:
        """See `DeadLetterLog.keep`. Kept twice after an unknown outcome; the index knows
        one.
        """
        try:
            await self._prepare()
            places = await self._producer.append([_outgoing(record) for record in records])
        except (Retryable, Rejected, Refused) as error:
            raise Unavailable(
                "dead-letters-unavailable", f"{self._topic}: {error.message}"
            ) from error
        return [f"{self._topic}/{number}/{offset}" for number, offset in places]

    async def load(self, ref: str) -> RejectedRecord:
        """See `DeadLetterLog.load`. Raises Unavailable when the cluster does not answer."""
        topic, number, offset = self._parse(ref)
        try:
            bounds = (await self._cluster.bounds(topic)).get(partition_name(topic, number))
        except Refused as error:
            if error.code != "topic-missing":
                raise
            bounds = None
        if bounds is None or not bounds.start <= offset < bounds.end:
            raise Refused(
                "not-found", f"the topic {topic} no longer holds the dead letter {ref}"
            )
        record = await self._fetch(TopicPartition(topic, number), offset)
        if record is None:
            raise Refused("not-found", f"{ref} is not a dead letter")
        return record

    async def close(self) -> None:
        """Flush and close."""
        await self._producer.close()
        await self._cluster.close()

    def _parse(self, ref: str) -> tuple[str, int, int]:
        topic, _, rest = ref.partition("/")
        number, _, offset = rest.partition("/")
        if topic != self._topic or not (number.isdecimal() and offset.isdecimal()):
            raise Refused("not-found", f"{ref} is no dead letter of the topic {self._topic}")
        return topic, int(number), int(offset)

    async def _fetch(self, partition: TopicPartition, offset: int) -> RejectedRecord | None:
        client = consumer(
            self._connection,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        await start(self._connection, client, {partition: offset})
        try:
            with self._connection.translated(f"reading a dead letter of {self._topic}"):
                async with asyncio.timeout(self._connection.timeout_s):
                    record = await client.getone()
        finally:
            await stop(client)
        if record.offset != offset:  # removed by compaction, or never a record
            return None
        headers = [(name, content or b"") for name, content in record.headers]
        return from_headers(record.key, record.value, headers)

    async def _prepare(self) -> None:
        async with self._turn:
            if self._ready:
                return
            try:
                await self._cluster.leaders(self._topic)
            except Refused as error:
                if error.code != "topic-missing":
                    raise
                await self._create()
            self._ready = True

    async def _create(self) -> None:
        largest = int((await self._cluster.options(self._source))["max.message.bytes"])
        topic = NewTopic(
            self._topic,
            1,
            -1,
            # Only beside an explicit assignment does the client take "the broker's default".
            replica_assignments={},
            topic_configs={
                "cleanup.policy": "delete",
                "retention.ms": "-1",
                "retention.bytes": "-1",
                "max.message.bytes": str(largest + _HEADER_BYTES),
            },
        )
        admin = AIOKafkaAdminClient(**_admin_options(self._connection))
        try:
            with self._connection.translated(f"creating the topic {self._topic}"):
                async with asyncio.timeout(self._connection.timeout_s):
                    await admin.start()
                    created = await admin.create_topics([topic])
        finally:
            await admin.close()
        [(_, code, message)] = created.topic_errors
        if code and kafka.for_code(code) is not kafka.TopicAlreadyExistsError:
            raise _not_created(self._topic, message or kafka.for_code(code).__name__)


def _admin_options(connection: Connection) -> dict[str, object]:
    return dict(connection.options)


def _not_created(topic: str, message: str) -> ReplicatorError:
    return Unavailable(
        "dead-letters-unavailable",
        f"the topic {topic} is missing and was not created: {message}",
    )


def _outgoing(record: RejectedRecord) -> Outgoing:
    bare = record.key is None and record.value is None
    return Outgoing(
        key=b"" if bare else record.key,
        value=b"" if bare else record.value,
        headers=to_headers(record),
        partition=0,
    )
