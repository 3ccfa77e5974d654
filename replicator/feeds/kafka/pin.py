"""
Keep a consumer to one topic, known by its id and not by its name.

A consumer that fetches by name goes on in whatever topic bears it: when a topic is deleted and
made anew, and has grown past our position, the next fetch would bring records of the other one
as if nothing had happened. Fetching by id leaves that to the broker, which has the answer in
the moment in which it reads: it returns records of that topic or none.

aiokafka does not know these requests. So they are put in the place of its own as they leave the
client, and the answers are turned back into what it knows.
"""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v11

from replicator.feeds.kafka.flexible import FetchByIdRequest, TooOld

_UNKNOWN_TOPIC, _UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID = 3, 100, 103


def shown(topic_id: UUID) -> str:
    """As Kafka's own tools show it."""
    return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()


class TopicPin:
    """One for each consumer."""

    def __init__(self, topic: str, topic_id: UUID) -> None:
        self.topic_id = topic_id
        self.denied = False
        """A broker said that it has no topic of this id, or has not heard of it yet."""
        self.by_name = False
        """A broker is too old to be asked by id: its records may be of another topic."""
        self._topic = topic

    def fasten(self, consumer: AIOKafkaConsumer) -> None:
        """From now on the consumer fetches by id. Before it is started."""
        client = consumer._client
        send = client.send

        async def send_by_id(node: int, request: Any, **options: Any) -> Any:
            if not isinstance(request, FetchRequest):
                return await send(node, request, **options)
            by_id = FetchByIdRequest(request, {self._topic: self.topic_id})
            try:
                response = await send(node, by_id, **options)
            except TooOld:  # raised before anything was sent
                self.by_name = True
                return await send(node, request, **options)
            return self._by_name(response)

        client.send = send_by_id

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
