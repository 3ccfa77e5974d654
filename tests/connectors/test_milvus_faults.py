"""The connector keeps its word when things go wrong between it and a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from replicator.connectors.milvus.channel import Channel
from replicator.connectors.milvus.field_types import Type
from replicator.connectors.milvus.kind import MILVUS, MilvusSettings
from replicator.connectors.milvus.store import MilvusStore
from replicator.connectors.milvus.wire import wire
from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.settings.units import Duration, Secret
from replicator.testing.proxy import Reply, grpc_reply
from replicator.testing.store_conformance import floats
from replicator.testing.store_faults import Cell, ServerFaults, Throttling

RESOURCE_EXHAUSTED, PERMISSION_DENIED, UNAUTHENTICATED = 8, 7, 16


class TestMilvusFaults(ServerFaults):
    traits = MILVUS.traits
    excused: ClassVar = {
        Cell.FULL: "milvus-lite has no quota; what Milvus answers is translated below",
        Cell.READ_ONLY: "milvus-lite makes nothing read-only; who may only read is denied",
    }
    throttling = (Throttling(grpc_reply(RESOURCE_EXHAUSTED, "rate limit exceeded"), None),)

    @pytest.fixture
    def address(self, milvus_uri: str) -> str:
        self._uri = milvus_uri
        return milvus_uri.rpartition("/")[2]

    def open(self, address: str, timeout_s: float, secret: str) -> Store:
        return MilvusStore(
            MilvusSettings(
                uri=f"http://{address}", timeout=Duration(timeout_s), token=Secret(secret)
            )
        )

    def denials(self, secret: str) -> Sequence[Reply]:
        return (
            grpc_reply(UNAUTHENTICATED, f"auth check failure of {secret}"),
            grpc_reply(PERMISSION_DENIED, f"{secret} may not do that"),
        )

    async def drop(self, direct: Store, collection: str) -> None:
        await self._change(
            "DropCollection", wire().DropCollectionRequest(collection_name=collection)
        )

    async def spoil(self, direct: Store, collection: str) -> PointId:
        request = wire().UpsertRequest(collection_name=collection, num_rows=1)
        key = request.fields_data.add(field_name="id", type=int(Type.INT64))
        key.scalars.long_data.data.append(99)
        vector = request.fields_data.add(field_name="vector", type=int(Type.FLOAT_VECTOR))
        vector.vectors.dim = 2
        vector.vectors.float_vector.data = floats(1, 2)
        payload = request.fields_data.add(field_name="payload", type=int(Type.JSON))
        payload.scalars.json_data.data.append(b"[1]")
        await self._change("Upsert", request)
        return 99

    async def _change(self, method: str, request: object) -> None:
        other = Channel(MilvusSettings(uri=self._uri))
        await other.change(method, request)
        await other.close()
