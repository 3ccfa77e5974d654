"""The connector keeps the port's contract, over the double; over the service, with a key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from replicator.connectors.pinecone.kind import PINECONE
from replicator.testing.pinecone.service import PineconeService
from replicator.testing.store_conformance import StoreConformance
from tests.connectors.pinecone_project import Maker, Project, made_at, made_in, remove

KEY = os.environ.get("PINECONE_API_KEY", "")
"""Of a project of the service itself, where indexes are made, for as long as the tests take."""

STALENESS_S = 20


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


@pytest.mark.skipif(
    not KEY, reason="PINECONE_API_KEY names a project of the service to test on"
)
class TestPineconeService(StoreConformance):
    """Takes an hour or so: nearly every test waits for the service to show what was written."""

    traits = PINECONE.traits

    @pytest.fixture(scope="class")
    def make(self) -> Iterator[Maker]:
        made: set[str] = set()
        yield made_at(KEY, f"{STALENESS_S}s", made)
        asyncio.run(remove(KEY, made))

    @pytest.fixture
    async def store(self, make: Maker) -> AsyncIterator[Project]:
        store = Project(make, staleness_s=STALENESS_S)
        yield store
        await store.close()
