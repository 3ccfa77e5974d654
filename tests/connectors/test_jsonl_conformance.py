from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.jsonl.store import JsonlStore
from replicator.model.schema import IdKinds
from replicator.settings.units import Size
from replicator.testing.store_conformance import StoreConformance


class TestJsonlStore(StoreConformance):
    ids: ClassVar[IdKinds] = IdKinds.UINT64 | IdKinds.UUID | IdKinds.STRING
    int_max: ClassVar[int | None] = 2**64 - 1
    normalises: ClassVar[bool] = False
    filters: ClassVar[bool] = False

    @pytest.fixture
    async def store(self, tmp_path: Path):
        # Small chunks, so that small collections are cut as well.
        store = JsonlStore(JsonlSettings(path=str(tmp_path / "jsonl"), segment_bytes=Size(512)))
        yield store
        await store.close()
