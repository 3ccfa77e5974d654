"""The connector keeps its word when things go wrong between it and an index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import pytest

from replicator.connectors.pinecone.kind import PINECONE, PineconeSettings
from replicator.connectors.pinecone.store import PineconeStore
from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.settings.units import Duration, Secret
from replicator.testing.pinecone.records import Record, Sparse
from replicator.testing.pinecone.service import PineconeService
from replicator.testing.proxy import Reply, http_reply
from replicator.testing.store_faults import Cell, ServerFaults, Throttling
from replicator.testing.store_faults.server import SECRET


class TestPineconeFaults(ServerFaults):
    traits = PINECONE.traits
    excused: ClassVar = {
        Cell.FULL: "a service has no disk to fill; a quota that is used up has its tests",
        Cell.READ_ONLY: "nothing is read-only there; a key that may only read is denied",
    }
    throttling = (
        Throttling(http_reply(429, '{"message":"slowly"}', Retry_After="7"), 7.0),
        Throttling(http_reply(429, "slowly"), None),
    )

    @pytest.fixture
    async def address(self) -> AsyncIterator[str]:
        async with PineconeService(api_key=SECRET) as service:
            self._index = await service.create("articles", dimension=2, metric="dotproduct")
            yield service.hosts["articles"].rpartition("/")[2]

    def open(self, address: str, timeout_s: float, secret: str) -> Store:
        return PineconeStore(
            PineconeSettings(
                host=f"http://{address}",
                timeout=Duration(timeout_s),
                api_key=Secret(secret),
                plan="dedicated",
                staleness=Duration(0),
            )
        )

    def denials(self, secret: str) -> Sequence[Reply]:
        return (
            http_reply(401, f"who is {secret}?"),
            http_reply(403, f'{{"message":"{secret} may not do that"}}'),
        )

    async def drop(self, direct: Store, collection: str) -> None:
        del self._index.namespaces[collection]

    async def spoil(self, direct: Store, collection: str) -> PointId:
        bad = Record(id="bad", values=[1.0, 2.0], sparse=Sparse([1], [1.0]))
        self._index.upsert(collection, [bad])
        return "bad"
