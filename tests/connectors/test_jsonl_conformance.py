from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replicator.connectors.jsonl.kind import JSONL, JsonlSettings
from replicator.connectors.jsonl.store import JsonlStore
from replicator.settings.units import Size
from replicator.testing.store_conformance import StoreConformance


class TestJsonlStore(StoreConformance):
    traits = JSONL.traits

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[JsonlStore]:
        # Small chunks, so that small collections are cut as well.
        store = JsonlStore(JsonlSettings(path=str(tmp_path / "jsonl"), segment_bytes=Size(512)))
        yield store
        await store.close()


class TestJsonlStoreWithScopes(TestJsonlStore):
    """Every file says in its header that its lines have scopes."""

    scoped = True
