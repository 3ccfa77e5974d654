"""A running local store server, and qdrant-client's own client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from replicator.local_store import LocalStoreServer


def client_of(server: LocalStoreServer) -> AsyncQdrantClient:
    """The standard client; its REST half is never used."""
    host, _, port = server.address.rpartition(":")
    return AsyncQdrantClient(
        host=host, grpc_port=int(port), prefer_grpc=True, check_compatibility=False
    )


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalStoreServer]:
    async with LocalStoreServer(tmp_path / "store") as running:
        yield running


@pytest.fixture
async def client(server: LocalStoreServer) -> AsyncIterator[AsyncQdrantClient]:
    connected = client_of(server)
    yield connected
    await connected.close()
