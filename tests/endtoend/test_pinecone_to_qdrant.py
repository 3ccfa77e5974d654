"""From Pinecone to Qdrant and back: a strict double of the service, and the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pinecone import AsyncPinecone
from pinecone.async_client.async_index import AsyncIndex
from qdrant_client import models

from replicator.testing.pinecone.service import PineconeService
from tests.endtoend.application import DIMENSION
from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Id, Image, Records, connect, float32
from tests.endtoend.rig import Rig
from tests.endtoend.test_chroma_to_qdrant import ChromaApplication

STALENESS_S = 0.2
"""Reads of the double lag by this."""


class PineconeClient:
    """What the application asks of its store, of Pinecone's own client."""

    def __init__(self, service: PineconeService, index: AsyncIndex) -> None:
        self._service = service
        self._index = index

    async def create_collection(self, name: str) -> None:
        await self._index.create_namespace(name=name)

    async def write(self, name: str, records: Records) -> None:
        vectors = [
            {"id": each, "values": list(image.vector), "metadata": image.payload}
            for each, image in records.items()
        ]
        await self._index.upsert(vectors=vectors, namespace=name)

    async def upsert(self, name: str, points: Sequence[models.PointStruct], **_: Any) -> None:
        given: list[Any] = list(points)
        images = {each.id: Image(each.vector, each.payload or {}) for each in given}
        await self.write(name, images)

    async def set_payload(
        self, name: str, payload: Document, points: list[Id], **_: Any
    ) -> None:
        for each in points:
            await self._index.update(id=str(each), set_metadata=payload, namespace=name)

    async def delete_payload(
        self, name: str, keys: list[str], points: list[Id], **_: Any
    ) -> None:
        """An update takes no key away; and the application knows what it wrote last."""
        written = self._service.indexes["articles"].namespaces[name].written
        for record in [written[str(each)] for each in points if each in written]:
            payload = {k: v for k, v in (record.metadata or {}).items() if k not in keys}
            vector = {"id": record.id, "values": record.values, "metadata": payload}
            await self._index.upsert(vectors=[vector], namespace=name)

    async def delete(self, name: str, points: list[Id], **_: Any) -> None:
        await self._index.delete(ids=[str(each) for each in points], namespace=name)

    async def read(self, name: str) -> Records:
        await asyncio.sleep(STALENESS_S)
        found: Records = {}
        async for page in self._index.list(namespace=name):
            ids = [each.id for each in page.vectors if each.id is not None]
            vectors = (await self._index.fetch(ids=ids, namespace=name)).vectors
            for each, vector in vectors.items():
                found[each] = Image(float32(vector.values), vector.metadata or {})
        return found


@pytest.fixture
async def service() -> AsyncIterator[PineconeService]:
    async with PineconeService(staleness_s=STALENESS_S) as found:
        await found.create("articles", dimension=DIMENSION, metric="dotproduct")
        yield found


async def test_a_live_application_moves_from_pinecone_to_qdrant_and_back(
    rig: Rig,
    stores: tuple[str, str],
    service: PineconeService,
    changelog: tuple[ChangelogSink, Document],
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    qdrant = connect(stores[1])
    async with (
        AsyncPinecone(api_key=service.api_key, host=service.url) as control,
        await control.index(name="articles") as index,
    ):
        client: Any = PineconeClient(service, index)
        app = ChromaApplication(client, qdrant, sink, collections)
        await app.create(300)
        daemon = rig.daemon(
            ("http://unused:1", stores[1]), collections, feed, cutover=await rig.served(app)
        )
        daemon.document["source"] = {
            "kind": "pinecone",
            "index": "articles",
            "control": service.url,
            "api_key": service.api_key,
            "plan": "dedicated",
            "staleness": f"{STALENESS_S}s",
            "late_write_bound": "1s",
        }
        daemon.rewrite()
        async with app.writing():
            await daemon.start()
            await daemon.phase("STREAMING")
            await app.progress(60)
            report = await daemon.did("verify", level="full")
            assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
            assert report["compared"] >= 250
            await daemon.crossed("cutover")
            assert (app.active, app.epoch, app.fenced) == ("target", 1, False)
            await app.progress(100)
        await daemon.applied(app.sink.ends)
        assert app.changes_at_target > 50
        assert await app.differences("target") == []
        assert await app.differences("source") == []

        async with app.writing():
            await daemon.did("revert")
            assert (app.active, app.epoch, app.fenced) == ("source", 2, False)
            await app.progress(50)
        await daemon.applied(app.sink.ends)
        assert await app.differences("source") == []
        assert await app.differences("target") == []
        assert (await daemon.status())["stream"]["dead_letters"] == 0
        assert await daemon.child.terminate() == 0
    await qdrant.close()
