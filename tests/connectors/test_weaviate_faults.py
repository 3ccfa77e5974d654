"""The connector keeps its word when things go wrong between it and a server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import aiohttp
import pytest

from replicator.connectors.weaviate.channel import Channel
from replicator.connectors.weaviate.classes import REST
from replicator.connectors.weaviate.kind import WEAVIATE, WeaviateSettings
from replicator.connectors.weaviate.messages import wire
from replicator.connectors.weaviate.store import WeaviateStore
from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.settings.units import Duration, Secret
from replicator.testing.proxy import Reply, grpc_reply, http_reply
from replicator.testing.store_faults import Cell, ServerFaults, Throttling
from tests.connectors.weaviate_door import door
from tests.plugins.weaviate import WEAVIATE_URL, WeaviatePlace

pytestmark = pytest.mark.weaviate

RESOURCE_EXHAUSTED, PERMISSION_DENIED, UNAUTHENTICATED = 8, 7, 16


def either(http: Reply, grpc: Reply) -> Reply:
    """Of the two the one that the connection speaks: requests go either way."""

    def reply(stream: int) -> bytes:
        return grpc(stream) if stream else http(stream)

    return reply


class TestWeaviateFaults(ServerFaults):
    traits = WEAVIATE.traits
    timeout_s: ClassVar = 5.0  # to make a class takes a second or two on a busy machine
    recovery_s: ClassVar = 40.0
    excused: ClassVar = {
        Cell.FULL: "the disk of a server cannot be filled from here; it sets its shards to"
        " READONLY then, which is another fault"
    }
    throttling = (
        Throttling(
            either(
                http_reply(429, "slowly", Retry_After="7"),
                grpc_reply(RESOURCE_EXHAUSTED, "too many requests", retry_after="7"),
            ),
            7.0,
        ),
    )

    @pytest.fixture
    async def address(self, weaviate_place: WeaviatePlace) -> AsyncIterator[str]:
        if WEAVIATE_URL:
            pytest.skip("the server of WEAVIATE_URL does not know the key of the faults")
        self._place = weaviate_place
        async with door(weaviate_place) as address:
            yield address

    def open(self, address: str, timeout_s: float, secret: str) -> Store:
        url = f"http://{address}"
        return WeaviateStore(
            WeaviateSettings(
                url=url, grpc_url=url, timeout=Duration(timeout_s), api_key=Secret(secret)
            )
        )

    def denials(self, secret: str) -> Sequence[Reply]:
        return (
            either(
                http_reply(401, f'{{"code":401,"message":"who is {secret}?"}}'),
                grpc_reply(UNAUTHENTICATED, f"who is {secret}?"),
            ),
            either(
                http_reply(403, f'{{"error":[{{"message":"{secret} may not"}}]}}'),
                grpc_reply(PERMISSION_DENIED, f"{secret} may not do that"),
            ),
        )

    async def drop(self, direct: Store, collection: str) -> None:
        await self._ask("DELETE", f"/schema/{collection}")

    @asynccontextmanager
    async def read_only(self, collection: str) -> AsyncIterator[None]:
        await self._set(collection, "READONLY")
        yield
        await self._set(collection, "READY")

    async def spoil(self, direct: Store, collection: str) -> PointId:
        told = await self._ask("GET", f"/schema/{collection}")
        [rest] = [e["name"] for e in told["properties"] if e.get("description") == REST]
        bad = wire().BatchObject(uuid=str(uuid.uuid4()), collection=collection)
        bad.properties.non_ref_properties.fields.add(key=rest).value.string_value = "no JSON"
        url = f"http://{self._place.rest}"
        channel = Channel(WeaviateSettings(url=url, grpc_url=f"http://{self._place.grpc}"))
        await channel.write("BatchObjects", wire().BatchObjectsRequest(objects=[bad]))
        await channel.close()
        return str(bad.uuid)

    async def _set(self, collection: str, status: str) -> None:
        for shard in await self._ask("GET", f"/schema/{collection}/shards"):
            path = f"/schema/{collection}/shards/{shard['name']}"
            await self._ask("PUT", path, {"status": status})

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        url = f"http://{self._place.rest}/v1{path}"
        async with aiohttp.request(method, url, json=body) as reply:
            assert reply.status == 200, await reply.text()
            return await reply.json() if await reply.read() else None
