"""
Three Kafka brokers on this machine that are one cluster, for tests of what only several can do:
lose a leader, lack a replica, elect one that lags.

Every node is broker and controller, so that two of three are enough to go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from replicator.testing.kafka_broker import KafkaBroker, Started, new_cluster_id


class KafkaCluster(Started):
    """Nodes 1 to 3; a context manager. `options` and `listeners` are those of every broker."""

    def __init__(
        self,
        *,
        options: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
    ) -> None:
        cluster_id = new_cluster_id()
        self.nodes = {
            number: KafkaBroker(listeners=listeners, heap_mb=192, cluster_id=cluster_id)
            for number in (1, 2, 3)
        }
        voters = ",".join(
            f"{number}@{node.listener('CONTROLLER')}" for number, node in self.nodes.items()
        )
        for number, node in self.nodes.items():
            node.options = {
                "node.id": str(number),
                "controller.quorum.voters": voters,
                "offsets.topic.replication.factor": "3",
                "transaction.state.log.replication.factor": "3",
                # A dead leader is missed sooner than by default, and not as soon as a pause of
                # a busy machine would look like death.
                "controller.quorum.election.timeout.ms": "1000",
                "controller.quorum.fetch.timeout.ms": "2000",
                "replica.lag.time.max.ms": "3000",
                **(options or {}),
            }

    def bootstrap_servers(self, listener: str = "PLAINTEXT") -> str:
        """Every node, whichever are up."""
        return ",".join(node.listener(listener) for node in self.nodes.values())

    def start(self) -> None:
        """Start the nodes that are down, and wait until they answer."""
        down = [node for node in self.nodes.values() if not node.running]
        # At once: one alone has no quorum to become ready in.
        with ThreadPoolExecutor(len(down) or 1) as pool:
            list(pool.map(KafkaBroker.start, down))

    def close(self) -> None:
        """Stop all, and remove their data."""
        for node in self.nodes.values():
            node.close()
