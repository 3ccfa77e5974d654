"""The connector keeps its word when things go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest

from replicator.connectors.qdrant import channel
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.kind import QDRANT, QdrantSettings
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.wire import wire
from replicator.ports.store import Store
from replicator.settings.units import Duration, Secret
from replicator.testing.proxy import Reply, grpc_reply
from replicator.testing.store_faults import Cell, ServerFaults, Throttling
from tests.connectors.conftest import QDRANT_URL

RESOURCE_EXHAUSTED, PERMISSION_DENIED, UNAUTHENTICATED = 8, 7, 16


class TestQdrantFaults(ServerFaults):
    traits = QDRANT.traits
    excused: ClassVar = {
        Cell.READ_ONLY: "Qdrant makes nothing read-only; a key that may only read is denied",
        Cell.UNREADABLE: "what Qdrant holds is a point; a test of its own has one too large",
    }
    if QDRANT_URL:
        excused[Cell.FULL] = "a real server counts its points now and then, and refuses later"
    throttling = (
        Throttling(grpc_reply(RESOURCE_EXHAUSTED, "Rate limit", retry_after="7"), 7.0),
        Throttling(grpc_reply(RESOURCE_EXHAUSTED, "Rate limit. Retry after 60s"), 60.0),
    )

    @pytest.fixture
    def address(self, qdrant_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
        # The server's own deadline is not waited for: the proxy keeps its answer.
        monkeypatch.setattr(channel, "GRACE_S", 0.1)
        self._url = qdrant_url
        return qdrant_url.rpartition("/")[2]

    def open(self, address: str, timeout_s: float, secret: str) -> Store:
        return QdrantStore(
            QdrantSettings(
                url=f"http://{address}", timeout=Duration(timeout_s), api_key=Secret(secret)
            )
        )

    def denials(self, secret: str) -> Sequence[Reply]:
        return (
            grpc_reply(UNAUTHENTICATED, f"Invalid API key {secret}"),
            grpc_reply(PERMISSION_DENIED, f"{secret} may not do that"),
        )

    @asynccontextmanager
    async def full(self, collection: str) -> AsyncIterator[None]:
        await self._limit(collection, 3)
        yield
        await self._limit(collection, 1_000_000)

    async def _limit(self, collection: str, points: int) -> None:
        request = wire().UpdateCollection(collection_name=collection)
        request.strict_mode_config.enabled = True
        request.strict_mode_config.max_points_count = points
        await self._change("Update", request)

    async def drop(self, direct: Store, collection: str) -> None:
        await self._change("Delete", wire().DeleteCollection(collection_name=collection))

    async def _change(self, method: str, request: object) -> None:
        other = Channel(QdrantSettings(url=self._url))
        await other.change(method, request)
        await other.close()
