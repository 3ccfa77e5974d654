"""The connector keeps the port's contract, over a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from replicator.connectors.pgvector.kind import PGVECTOR, PgvectorSettings
from replicator.connectors.pgvector.store import PgvectorStore
from replicator.settings.units import Secret
from replicator.testing.store_conformance import StoreConformance


class TestPgvector(StoreConformance):
    traits = PGVECTOR.traits

    @pytest.fixture
    async def store(self, postgres_dsn: str) -> AsyncIterator[PgvectorStore]:
        store = PgvectorStore(PgvectorSettings(dsn=Secret(postgres_dsn)))
        yield store
        await store.close()
