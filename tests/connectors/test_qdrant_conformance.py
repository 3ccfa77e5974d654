"""The connector keeps the port's contract."""

from __future__ import annotations

from replicator.connectors.qdrant.kind import QDRANT
from replicator.testing.store_conformance import StoreConformance


class TestQdrantStore(StoreConformance):
    traits = QDRANT.traits


class TestQdrantStoreWithShardKeys(StoreConformance):
    """Every collection has two shard keys, and every test meets equal ids in both."""

    traits = QDRANT.traits
    scoped = True
