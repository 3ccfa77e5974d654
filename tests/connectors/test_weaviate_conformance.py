"""The connector keeps the port's contract, without tenants and with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from replicator.connectors.weaviate.kind import WEAVIATE, WeaviateSettings
from replicator.connectors.weaviate.store import WeaviateStore
from replicator.model.schema import CollectionSchema, VectorSchema
from replicator.testing.store_conformance import StoreConformance
from tests.plugins.weaviate import WeaviatePlace

pytestmark = pytest.mark.weaviate


class TestWeaviate(StoreConformance):
    traits = WEAVIATE.traits

    @pytest.fixture
    async def store(self, weaviate_place: WeaviatePlace) -> AsyncIterator[WeaviateStore]:
        url, grpc_url = f"http://{weaviate_place.rest}", f"http://{weaviate_place.grpc}"
        store = WeaviateStore(WeaviateSettings(url=url, grpc_url=grpc_url))
        yield store
        await store.close()

    def wanted(
        self, name: str, vectors: dict[str, VectorSchema] | None = None, **given: Any
    ) -> CollectionSchema:
        # Some fields are properties, so that a search may ask for them; the others are JSON.
        given.setdefault("indexes", {"n": "integer", "tag": "keyword"})
        return super().wanted(name, vectors, **given)


class TestWeaviateTenants(TestWeaviate):
    scoped = True
    scopes: ClassVar = ("one_or-1", "2")
