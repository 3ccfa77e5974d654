from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replicator.connectors.parquet.kind import PARQUET, ParquetSettings
from replicator.connectors.parquet.store import ParquetStore
from replicator.settings.units import Size
from replicator.testing.store_conformance import StoreConformance


class TestParquetStore(StoreConformance):
    traits = PARQUET.traits

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ParquetStore]:
        store = ParquetStore(ParquetSettings(path=str(tmp_path / "parquet")))
        yield store
        await store.close()


class TestParquetStoreWithScopes(TestParquetStore):
    """Every row says in its own column which scope its id belongs to."""

    scoped = True


class TestParquetStoreOfSmallParts(TestParquetStore):
    """Small parts are gathered with every few batches."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ParquetStore]:
        settings = ParquetSettings(path=str(tmp_path / "parquet"), part_bytes=Size(8 << 10))
        store = ParquetStore(settings)
        yield store
        await store.close()
