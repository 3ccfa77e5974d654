"""
Keep a consumer to one log: one topic, known by its id and not by its name, and one past of it.

A consumer that fetches by name goes on in whatever topic bears it: when a topic is deleted and
made anew, and has grown past our position, the next fetch would bring records of the other one
as if nothing had happened. Fetching by id leaves that to the broker, which has the answer in
the moment in which it reads: it returns records of that topic or none.

A topic can also change its past: an unclean election makes a broker leader that lacks the last
records, and other ones are written in their place. Each batch says under which leader it was
written. Where that changes, the record before it is to be looked up again, and must be the one
that we were given (`elections`).

aiokafka does not know these requests. So they are put in the place of its own as they leave the
client, and the answers are turned back into what it knows.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v11

from replicator.feeds.kafka.flexible import FetchByIdRequest, TooOld

_UNKNOWN_TOPIC, _UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID = 3, 100, 103


_BATCH = struct.Struct(">qiib")
"""How a batch of records begins: first offset, length of what follows it, epoch of the leader,
and the format, of which the third (2) has these fields in these places."""


def shown(topic_id: UUID) -> str:
    """As Kafka's own tools show it."""
    return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()


class TopicPin:
    """One for each consumer."""

    def __init__(self, topic: str, topic_id: UUID | None) -> None:
        """`topic_id` is None where brokers have no ids."""
        self.topic_id = topic_id
        self.denied = False
        """A broker said that it has no topic of this id, or has not heard of it yet."""
        self.by_name = False
        """A broker is too old to be asked by id: its records may be of another topic."""
        self.elections: dict[int, int] = {}
        """Partition → first offset that another leader wrote. Whoever looked takes it out."""
        self._epochs: dict[int, int] = {}
        self._topic = topic

    def fasten(self, consumer: AIOKafkaConsumer) -> None:
        """From now on the consumer fetches by id. Before it is started."""
        client = consumer._client
        send = client.send

        async def send_by_id(node: int, request: Any, **options: Any) -> Any:
            if not isinstance(request, FetchRequest):
                return await send(node, request, **options)
            response = await self._fetch(send, node, request, options)
            for _, partitions in response.topics:
                for number, error, *_, records in partitions:
                    if not error and records:
                        self._look(number, records)
            return response

        client.send = send_by_id

    async def _fetch(
        self, send: Any, node: int, request: FetchRequest, options: dict[str, Any]
    ) -> Any:
        if self.topic_id is None:
            return await send(node, request, **options)
        by_id = FetchByIdRequest(request, {self._topic: self.topic_id})
        try:
            return self._by_name(await send(node, by_id, **options))
        except TooOld:  # raised before anything was sent
            self.by_name = True
            return await send(node, request, **options)

    def _look(self, number: int, records: bytes) -> None:
        for first, epoch in epochs(records):
            if self._epochs.setdefault(number, epoch) != epoch:
                self._epochs[number] = epoch
                self.elections.setdefault(number, first)

    def _by_name(self, response: Any) -> FetchResponse_v11:
        topics = [
            (self._topic, [self._partition(partition) for partition in partitions])
            for topic_id, partitions, _ in response.topics
            if topic_id == self.topic_id
        ]
        return FetchResponse_v11(
            response.throttle_time_ms, response.error_code, response.session_id, topics
        )

    def _partition(self, partition: tuple[Any, ...]) -> tuple[Any, ...]:
        number, error, end, stable, start, aborted, replica, records, _ = partition
        if error in (_UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID):
            # To the driver it looks as if the topic was deleted, which is so.
            self.denied, error = True, _UNKNOWN_TOPIC
        dropped = None if aborted is None else [(producer, at) for producer, at, _ in aborted]
        return number, error, end, stable, start, dropped, replica, records or b""


def epochs(records: bytes) -> Iterator[tuple[int, int]]:
    """First offset and leader's epoch of each batch, as far as they tell one."""
    at = 0
    while at + _BATCH.size <= len(records):
        first, length, epoch, form = _BATCH.unpack_from(records, at)
        if form < 2 or epoch < 0:
            return
        yield first, epoch
        at += 12 + length
