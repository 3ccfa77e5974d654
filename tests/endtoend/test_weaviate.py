"""Between Weaviate and Qdrant, and back, on a real server and the real engine."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
from qdrant_client import models

from tests.endtoend.application import Application, Collection
from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Id, Image, Records, connect, differences, float32, read
from tests.endtoend.rig import Rig
from tests.plugins.weaviate import WeaviatePlace

PROPERTIES = [
    {"name": "title", "dataType": ["text"], "tokenization": "field"},
    {"name": "n", "dataType": ["int"]},
    {"name": "tags", "dataType": ["text[]"]},
]


class WeaviateClient:
    """What the application asks of its store, over REST."""

    def __init__(self, session: aiohttp.ClientSession, root: str) -> None:
        self._session = session
        self._root = root

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, f"{self._root}{path}", json=body) as reply:
            told = await reply.text()
            assert reply.status < 300, (path, reply.status, told)
            return json.loads(told) if told else None

    async def create_collection(self, name: str, **_: Any) -> None:
        index = {"distance": "dot"}
        vector = {
            "vectorizer": {"none": {}}, "vectorIndexType": "hnsw", "vectorIndexConfig": index
        }  # fmt: skip
        document = {
            "class": name,
            "properties": PROPERTIES,
            "vectorConfig": {"default": vector},
        }
        await self._ask("POST", "/schema", document)

    async def write(self, name: str, records: Records) -> None:
        objects = [
            {
                "class": name,
                "id": point_id,
                "properties": image.payload,
                "vectors": {"default": list(image.vector)},
            }
            for point_id, image in records.items()
        ]
        for told in await self._ask("POST", "/batch/objects", {"objects": objects}):
            assert told["result"]["status"] == "SUCCESS", told

    async def upsert(self, name: str, points: Sequence[models.PointStruct], **_: Any) -> None:
        given: list[Any] = list(points)
        images = {each.id: Image(each.vector, each.payload or {}) for each in given}
        await self.write(name, images)

    async def set_payload(
        self, name: str, payload: Document, points: list[Id], **_: Any
    ) -> None:
        for each in points:
            await self._ask(
                "PATCH", f"/objects/{name}/{each}", {"class": name, "properties": payload}
            )

    async def delete_payload(
        self, name: str, keys: list[str], points: list[Id], **_: Any
    ) -> None:
        await self.set_payload(name, dict.fromkeys(keys), points)

    async def delete(self, name: str, points: list[Id], **_: Any) -> None:
        for each in points:
            await self._ask("DELETE", f"/objects/{name}/{each}")

    async def read(self, name: str) -> Records:
        told = await self._ask("GET", f"/objects?class={name}&limit=10000&include=vector")
        return {
            each["id"]: Image(
                float32(each["vectors"]["default"]),
                {k: v for k, v in each["properties"].items() if v is not None},
            )
            for each in told["objects"]
        }


class WeaviateApplication(Application):
    """An application of which one store is Weaviate, where ids are UUIDs."""

    source: Any
    target: Any

    async def create(self, records: int) -> None:
        await super().create(0)
        for collection in self.collections:
            collection.records = {_id(number): self.image(number) for number in range(records)}
            points = [
                models.PointStruct(id=each, vector=list(image.vector), payload=image.payload)
                for each, image in collection.records.items()
            ]
            await self.source.upsert(collection.source, points, wait=True)

    async def upsert(self, collection: Collection, point_id: Id) -> None:
        await super().upsert(
            collection, _id(point_id) if isinstance(point_id, int) else point_id
        )

    async def differences(self, store: str) -> list[str]:
        told: list[str] = []
        for each in self.collections:
            client, name = getattr(self, store), getattr(each, store)
            is_ours = isinstance(client, WeaviateClient)
            found = await (client.read(name) if is_ours else read(client, name))
            told += differences(each.records, found)
        return told


def _id(number: int) -> str:
    """A UUID that belongs to the same one of four writers as the number."""
    candidates = (str(uuid.UUID(int=(number << 32) + n)) for n in range(1000))
    return next(each for each in candidates if hash(each) % 4 == number % 4)


@pytest.fixture
async def weaviate(weaviate_place: WeaviatePlace) -> AsyncIterator[WeaviateClient]:
    async with aiohttp.ClientSession() as session:
        yield WeaviateClient(session, f"http://{weaviate_place.rest}/v1")


@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_live_application_moves_from_one_to_the_other_and_back(
    rig: Rig,
    stores: tuple[str, str],
    weaviate_place: WeaviatePlace,
    weaviate: WeaviateClient,
    changelog: tuple[ChangelogSink, Document],
    side: str,
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    setattr(collections[0], side, f"Docs_{uuid.uuid4().hex[:10]}")
    qdrant = connect(stores[1])
    clients: dict[str, Any] = {"source": qdrant, "target": qdrant, side: weaviate}
    app = WeaviateApplication(clients["source"], clients["target"], sink, collections)
    await app.create(300)
    daemon = rig.daemon(
        (stores[1], stores[1]), collections, feed, cutover=await rig.served(app)
    )
    daemon.document[side] |= weaviate_place.section
    # What the application writes there after the switch are properties.
    if side == "target":
        properties = {each["name"]: each["dataType"][0] for each in PROPERTIES}
        daemon.document["collections"][0]["target_options"] = {"properties": properties}
    daemon.rewrite()
    async with app.writing():
        await daemon.start()
        await daemon.phase("STREAMING")
        await app.progress(30)
        daemon.kill()
        await app.progress(30)
        await daemon.start()
        await daemon.phase("STREAMING")
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
        # The writers delete as well: of what there is, from either side.
        assert report["compared"] >= sum(len(each.records) for each in app.collections)
        await daemon.crossed("cutover")
        assert (app.active, app.epoch, app.fenced) == ("target", 1, False)
        await app.progress(60)
    await daemon.applied(app.sink.ends)
    assert app.changes_at_target > 30
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
