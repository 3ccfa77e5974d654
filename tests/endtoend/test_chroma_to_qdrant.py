"""From Chroma to Qdrant and back, on a real server and the real engine; and out of a folder."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chromadb
import pytest
from qdrant_client import models

from tests.endtoend.application import DIMENSION, Application, Collection
from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Id, Image, Records, connect, differences, float32, read
from tests.endtoend.rig import Rig

DOCUMENT = "title"
"""The field that is a document in Chroma."""


class ChromaClient:
    """What the application asks of its store, of Chroma's own client."""

    def __init__(self, client: chromadb.AsyncClientAPI) -> None:
        self._client = client

    async def _of(self, name: str) -> Any:
        return await self._client.get_collection(name, embedding_function=None)

    async def create_collection(self, name: str) -> None:
        space = {"hnsw": {"space": "ip"}}
        await self._client.create_collection(name, embedding_function=None, configuration=space)

    async def write(self, name: str, records: Records) -> None:
        """Every image has the same fields, so that nothing of an older one is left."""
        parts = [_parted(image.payload) for image in records.values()]
        await (await self._of(name)).upsert(
            ids=list(records),
            embeddings=[list(image.vector) for image in records.values()],
            documents=[document for document, _ in parts],
            metadatas=[metadata for _, metadata in parts],
        )

    async def upsert(self, name: str, points: Sequence[models.PointStruct], **_: Any) -> None:
        given: list[Any] = list(points)
        images = {each.id: Image(each.vector, each.payload or {}) for each in given}
        await self.write(name, images)

    async def set_payload(
        self, name: str, payload: Document, points: list[Id], **_: Any
    ) -> None:
        document, metadata = _parted(payload)
        collection = await self._of(name)
        # The client wants to embed a document that comes without a vector.
        found = await collection.get(ids=points, include=["embeddings"])
        await collection.update(
            ids=points,
            embeddings=found["embeddings"],
            documents=[document],
            metadatas=[metadata or None],
        )

    async def delete_payload(
        self, name: str, keys: list[str], points: list[Id], **_: Any
    ) -> None:
        await (await self._of(name)).update(ids=points, metadatas=[dict.fromkeys(keys)])

    async def delete(self, name: str, points: list[Id], **_: Any) -> None:
        await (await self._of(name)).delete(ids=points)

    async def read(self, name: str) -> Records:
        found = await (await self._of(name)).get(
            include=["embeddings", "documents", "metadatas"]
        )
        return {
            point_id: Image(float32(vector), {DOCUMENT: document} | _listed(metadata or {}))
            for point_id, vector, document, metadata in zip(
                found["ids"],
                found["embeddings"],
                found["documents"],
                found["metadatas"],
                strict=True,
            )
        }


def _parted(payload: Document) -> tuple[str, Document]:
    rest = {name: value for name, value in payload.items() if name != DOCUMENT}
    return payload[DOCUMENT], rest


def _listed(metadata: Document) -> Document:
    return {name: value for name, value in metadata.items() if value is not None}


class ChromaApplication(Application):
    """An application whose source is Chroma, where ids are texts; here those of UUIDs."""

    source: Any

    async def create(self, records: int) -> None:
        for collection in self.collections:
            await self.source.create_collection(collection.source)
            collection.records = {_id(number): self.image(number) for number in range(records)}
            await self.source.write(collection.source, collection.records)

    async def upsert(self, collection: Collection, point_id: Id) -> None:
        await super().upsert(
            collection, _id(point_id) if isinstance(point_id, int) else point_id
        )

    async def differences(self, store: str) -> list[str]:
        told: list[str] = []
        for each in self.collections:
            found = (
                await self.source.read(each.source)
                if store == "source"
                else await read(self.target, each.target)
            )
            told += differences(each.records, found)
        return told


def _id(number: int) -> str:
    """A UUID that belongs to the same one of four writers as the number."""
    candidates = (str(uuid.UUID(int=(number << 32) + n)) for n in range(1000))
    return next(each for each in candidates if hash(each) % 4 == number % 4)


@pytest.fixture
async def chroma(chroma_url: str) -> ChromaClient:
    host, _, port = chroma_url.removeprefix("http://").partition(":")
    return ChromaClient(await chromadb.AsyncHttpClient(host=host, port=int(port)))


async def test_a_live_application_moves_from_chroma_to_qdrant_and_back(
    rig: Rig,
    stores: tuple[str, str],
    chroma_url: str,
    chroma: ChromaClient,
    changelog: tuple[ChangelogSink, Document],
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    qdrant = connect(stores[1])
    client: Any = chroma
    app = ChromaApplication(client, qdrant, sink, collections)
    await app.create(300)
    daemon = rig.daemon(
        (chroma_url, stores[1]),
        collections,
        feed,
        cutover=await rig.served(app),
    )
    daemon.document["source"]["kind"] = "chroma"
    daemon.document["collections"][0]["source_options"] = {"document_field": DOCUMENT}
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


def filled(folder: Path, points: int) -> None:
    """A folder as somebody's own program leaves it."""
    client = chromadb.PersistentClient(path=str(folder))
    collection = client.create_collection("articles", embedding_function=None)
    collection.add(
        ids=[f"id {n}" for n in range(points)],
        embeddings=[[float(n)] * DIMENSION for n in range(points)],
        documents=[f"text {n}" for n in range(points)],
        metadatas=[{"n": n} for n in range(points)],
    )
    client.close()


async def test_a_folder_of_chroma_is_exported_and_refused_as_a_live_source(
    rig: Rig, stores: tuple[str, str], tmp_path: Path
) -> None:
    await asyncio.to_thread(filled, tmp_path / "chroma", 120)
    [collection] = rig.collections()
    collection.source = "articles"
    daemon = rig.daemon(stores, [collection], {"kind": "none"})
    daemon.document["source"] = {"kind": "chroma", "path": str(tmp_path / "chroma")}
    daemon.rewrite()
    code, out, err = await daemon.command("export", "--json", str(tmp_path / "out"))
    assert code == 0, out + err
    lines = (tmp_path / "out" / "articles.jsonl").read_text().splitlines()
    points = [each for each in map(json.loads, lines) if "id" in each]
    assert {each["id"]: each["payload"] for each in points} == {
        f"id {n}": {"document": f"text {n}", "n": n} for n in range(120)
    }

    changes = tmp_path / "changes.db"
    sink = ChangelogSink(changes)
    await sink.close()
    daemon.document["feed"] = {"kind": "changelog", "path": str(changes), "settle": "1s"}
    daemon.rewrite()
    code, out, err = await daemon.command("check", "--json")
    assert code == 2
    assert "nobody may write this store while it is copied" in out + err
