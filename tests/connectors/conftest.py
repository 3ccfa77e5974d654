"""The Qdrant servers that the connector is tested on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.wire import wire
from replicator.local_store import LocalStoreServer
from replicator.settings.units import Duration
from replicator.testing.store_conformance import PREFIX

QDRANT_URL = os.environ.get("QDRANT_URL", "")
"""The gRPC address of a real server; the local store server stands in without it."""


@pytest.fixture
async def qdrant_url(tmp_path: Path) -> AsyncIterator[str]:
    """A server, without the collections of these tests afterwards."""
    if not QDRANT_URL:
        async with LocalStoreServer(tmp_path / "store") as server:
            yield server.url
        return
    yield QDRANT_URL
    channel = Channel(QdrantSettings(url=QDRANT_URL))
    listed = await channel.read("Collections", "List", wire().ListCollectionsRequest())
    for found in listed.collections:
        if found.name.startswith(PREFIX):
            await channel.change("Delete", wire().DeleteCollection(collection_name=found.name))
    await channel.close()


@pytest.fixture
async def store(qdrant_url: str) -> AsyncIterator[QdrantStore]:
    """A connector to it."""
    connected = QdrantStore(QdrantSettings(url=qdrant_url, timeout=Duration(10)))
    yield connected
    await connected.close()
