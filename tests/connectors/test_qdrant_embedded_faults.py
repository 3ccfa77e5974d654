"""The connector keeps its word when something is wrong with its folder."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import qdrant_edge as edge

from replicator.connectors.qdrant_embedded.folder import ROOM_BYTES
from replicator.connectors.qdrant_embedded.kind import QDRANT_EMBEDDED, QdrantEmbeddedSettings
from replicator.connectors.qdrant_embedded.store import QdrantEmbeddedStore
from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.testing.store_faults import Cell, StoreFaults


class TestQdrantEmbeddedFaults(StoreFaults):
    """One store is both, the one that is tested and the other: a shard has one handle."""

    traits = QDRANT_EMBEDDED.traits
    excused: ClassVar = {
        Cell.AWAY: "a folder is there, or it holds no collection",
        Cell.READ_ONLY: "the engine writes its log to read as well; a test of its own has that",
    }

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = tmp_path, monkeypatch

    @pytest.fixture
    async def store(self, folder: None) -> AsyncIterator[QdrantEmbeddedStore]:
        store = QdrantEmbeddedStore(QdrantEmbeddedSettings(path=str(self._folder)))
        yield store
        await store.close()

    @pytest.fixture
    async def direct(self, store: QdrantEmbeddedStore) -> Store:
        self._store = store
        return store

    @asynccontextmanager
    async def full(self, collection: str) -> AsyncIterator[None]:
        room = shutil.disk_usage(self._folder)._replace(free=ROOM_BYTES)
        with self._patch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: room)
            yield

    async def drop(self, direct: Store, collection: str) -> None:
        shutil.rmtree(self._folder / collection)

    async def spoil(self, direct: Store, collection: str) -> PointId:
        """A point whose payload is nested deeper than the engine reads back."""
        payload: dict[str, Any] = {}
        inner = payload
        for _ in range(200):
            inner["k"] = {}
            inner = inner["k"]
        bad = edge.UpdateOperation.upsert_points([edge.Point(2**40, {}, payload)])
        await self._store._do(lambda: self._store._shard(collection).write([bad]))
        return 2**40
