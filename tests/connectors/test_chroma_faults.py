"""The connector keeps its word when things go wrong between it and a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import aiohttp
import pytest

from replicator.connectors.chroma.api import Record
from replicator.connectors.chroma.http import HttpApi
from replicator.connectors.chroma.kind import CHROMA, ChromaSettings
from replicator.connectors.chroma.store import ChromaStore
from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.settings.units import Duration, Secret
from replicator.testing.proxy import Reply, http_reply
from replicator.testing.store_conformance import floats
from replicator.testing.store_faults import Cell, ServerFaults, Throttling

DATABASE = "/api/v2/tenants/default_tenant/databases/default_database"


class TestChromaFaults(ServerFaults):
    traits = CHROMA.traits
    excused: ClassVar = {
        Cell.FULL: "the disk of a server cannot be filled from here; it answers 500, as below",
        Cell.READ_ONLY: "Chroma makes nothing read-only; a token that may only read is denied",
    }
    between = "an upsert merges, and what it left of the old record is taken away afterwards"
    throttling = (
        Throttling(http_reply(429, "slowly", Retry_After="7"), 7.0),
        Throttling(http_reply(429, "slowly"), None),
    )

    @pytest.fixture
    def address(self, chroma_url: str) -> str:
        self._url = chroma_url
        return chroma_url.rpartition("/")[2]

    def open(self, address: str, timeout_s: float, secret: str) -> Store:
        return ChromaStore(
            ChromaSettings(
                url=f"http://{address}", timeout=Duration(timeout_s), token=Secret(secret)
            )
        )

    def denials(self, secret: str) -> Sequence[Reply]:
        return (
            http_reply(401, f'{{"error":"AuthError","message":"who is {secret}?"}}'),
            http_reply(403, f"<html>{secret} may not do that</html>"),
        )

    @pytest.fixture
    async def api(self, chroma_url: str) -> AsyncIterator[HttpApi]:
        api = HttpApi(ChromaSettings(url=chroma_url))
        yield api
        await api.close()

    @pytest.fixture(autouse=True)
    def beside(self, api: HttpApi) -> None:
        self._api = api

    async def drop(self, direct: Store, collection: str) -> None:
        place = f"{self._url}{DATABASE}/collections/{collection}"
        async with aiohttp.request("DELETE", place) as reply:
            assert reply.status == 200

    async def spoil(self, direct: Store, collection: str) -> PointId:
        found = await self._api.find(collection)
        assert found is not None
        bad = Record(
            id="bad", vector=floats(1, 2), metadata={"document": "one"}, document="another"
        )
        await self._api.upsert(found.id, [bad])
        return "bad"
