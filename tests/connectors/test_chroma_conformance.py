"""The connector keeps the port's contract, over a server and over a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from replicator.connectors.chroma.kind import CHROMA, ChromaSettings
from replicator.connectors.chroma.store import ChromaStore
from replicator.testing.store_conformance import StoreConformance


class TestChromaServer(StoreConformance):
    traits = CHROMA.traits

    @pytest.fixture
    async def store(self, chroma_url: str) -> AsyncIterator[ChromaStore]:
        store = ChromaStore(ChromaSettings(url=chroma_url))
        yield store
        await store.close()


class TestChromaFolder(StoreConformance):
    traits = msgspec.structs.replace(CHROMA.traits, live=False)

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ChromaStore]:
        store = ChromaStore(ChromaSettings(path=str(tmp_path / "chroma")))
        yield store
        await store.close()
