"""The connector keeps the port's contract, over a real milvus-lite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from replicator.connectors.milvus.kind import MILVUS, MilvusSettings
from replicator.connectors.milvus.store import MilvusStore
from replicator.model.schema import Precision
from replicator.model.traits import Traits
from replicator.testing.store_conformance import StoreConformance
from tests.plugins.milvus import MILVUS_URI

LITE = msgspec.structs.replace(
    MILVUS.traits,
    vectors=msgspec.structs.replace(
        MILVUS.traits.vectors, precisions=frozenset({Precision.FLOAT32})
    ),
)
"""A milvus-lite has no fields of half floats."""


class Lite(MilvusStore):
    """The connector, which knows no better than its kind before it is connected."""

    @property
    def traits(self) -> Traits:
        return LITE


class TestMilvus(StoreConformance):
    traits = MILVUS.traits if MILVUS_URI else LITE

    @pytest.fixture
    async def store(self, milvus_uri: str) -> AsyncIterator[MilvusStore]:
        settings = MilvusSettings(uri=milvus_uri)
        store = MilvusStore(settings) if MILVUS_URI else Lite(settings)
        yield store
        await store.close()
