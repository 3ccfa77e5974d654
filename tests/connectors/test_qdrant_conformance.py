"""The connector keeps the port's contract."""

from __future__ import annotations

from replicator.testing.store_conformance import StoreConformance


class TestQdrantStore(StoreConformance):
    aliases = True
