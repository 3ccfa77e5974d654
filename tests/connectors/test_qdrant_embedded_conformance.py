from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replicator.connectors.qdrant_embedded.kind import QDRANT_EMBEDDED, QdrantEmbeddedSettings
from replicator.connectors.qdrant_embedded.store import QdrantEmbeddedStore
from replicator.testing.store_conformance import StoreConformance


class TestQdrantEmbeddedStore(StoreConformance):
    traits = QDRANT_EMBEDDED.traits

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[QdrantEmbeddedStore]:
        store = QdrantEmbeddedStore(QdrantEmbeddedSettings(path=str(tmp_path / "shards")))
        yield store
        await store.close()
