"""The connector keeps the port's contract, over the double; over the service, with a key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from replicator.connectors.pinecone.kind import PINECONE
from replicator.testing.pinecone.service import PineconeService
from replicator.testing.store_conformance import StoreConformance
from tests.connectors.pinecone_project import Project, made_in


class TestPinecone(StoreConformance):
    traits = PINECONE.traits

    @pytest.fixture
    async def store(self) -> AsyncIterator[Project]:
        async with PineconeService() as service:
            store = Project(made_in(service))
            yield store
            await store.close()


class TestStalePinecone(StoreConformance):
    """Every look waits for what was written before."""

    traits = PINECONE.traits

    @pytest.fixture
    async def store(self) -> AsyncIterator[Project]:
        async with PineconeService(staleness_s=0.03) as service:
            store = Project(made_in(service, "40ms"), staleness_s=0.04)
            yield store
            await store.close()
