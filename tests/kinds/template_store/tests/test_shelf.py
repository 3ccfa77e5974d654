"""A shelf keeps the contract of the stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from shelf_store.kind import SHELF, ShelfSettings

from replicator.ports.store import Store
from replicator.testing.store_conformance import StoreConformance


class TestShelf(StoreConformance):
    traits = SHELF.traits

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = SHELF.open(ShelfSettings(path=str(tmp_path / "a.shelf")), 1 << 20)
        yield store
        await store.close()
