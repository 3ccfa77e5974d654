"""Write change events to the topic: `emit`, the application's library and tests."""

from __future__ import annotations

from collections.abc import Sequence

from replicator.feeds.kafka.cluster import Cluster
from replicator.feeds.kafka.connection import Connection, partition_name
from replicator.feeds.kafka.producer import Outgoing, Producer
from replicator.model.position import Place
from replicator.settings.feeds import KafkaSettings


class KafkaEventLog:
    """
    An `EventLog` over the topic. Keys are placed as `feed.partitioner` says, so that records
    written here and by the application's own producers share a partition and its order.
    """

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        connection = Connection(settings, client_id=f"replicator.{name}.events")
        self._topic = settings.topic
        self._cluster = Cluster(connection)
        self._known = False
        partitioner = "murmur2" if settings.partitioner == "unchecked" else settings.partitioner
        self._producer = Producer(connection, settings.topic, partitioner)

    async def append(
        self,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> list[Place]:
        """
        See `EventLog.append`. Raises Refused("topic-missing"), never creating the topic;
        Rejected("value-too-large"); Unavailable, or OutcomeUnknown when some may be in the log:
        append them again, events are idempotent.
        """
        if not self._known:
            # A producer that asks for a topic can make the broker create it, with one
            # partition and a week of retention.
            await self._cluster.leaders(self._topic)
            self._known = True
        places = await self._producer.append(
            [Outgoing(key=key, value=value, headers=headers) for key, value in records]
        )
        return [Place(partition_name(self._topic, number), at) for number, at in places]

    async def close(self) -> None:
        """See `EventLog.close`."""
        await self._producer.close()
        await self._cluster.close()
