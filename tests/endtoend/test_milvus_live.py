"""Milvus as a source and as a target of a live application, on a real milvus-lite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymilvus import DataType
from pymilvus import MilvusClient as Client
from qdrant_client import models

from tests.endtoend.application import DIMENSION, Application
from tests.endtoend.daemon import Daemon, Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Id, Image, Records, connect, differences, float32
from tests.endtoend.rig import Rig, underscored

FIELDS = ("title", "n", "tags")


class MilvusClient:
    """
    What the application asks of its store, of Milvus's own client. `whole`: the payload is one
    JSON field, as the replicator makes it; else each field of it is one of the collection.
    """

    def __init__(self, client: Client, *, whole: bool) -> None:
        self._client = client
        self._whole = whole

    async def create_collection(self, name: str) -> None:
        schema = self._client.create_schema()
        key, vector, _ = self._names
        schema.add_field(key, DataType.INT64, is_primary=True)
        schema.add_field(vector, DataType.FLOAT_VECTOR, dim=DIMENSION)
        if self._whole:
            schema.add_field("payload", DataType.JSON)
        else:
            self._declare(schema)
        indexes = self._client.prepare_index_params()
        indexes.add_index(vector, index_type="HNSW", metric_type="IP")
        await asyncio.to_thread(
            self._client.create_collection, name, schema=schema, index_params=indexes
        )
        await asyncio.to_thread(self._client.load_collection, name)

    @staticmethod
    def _declare(schema: Any) -> None:
        schema.add_field("title", DataType.VARCHAR, max_length=100)
        schema.add_field("n", DataType.INT64, nullable=True)
        schema.add_field(
            "tags", DataType.ARRAY, element_type=DataType.VARCHAR,
            max_capacity=9, max_length=20, nullable=True,
        )  # fmt: skip

    async def write(self, name: str, records: Records) -> None:
        rows = [self._row(point_id, image) for point_id, image in records.items()]
        await asyncio.to_thread(self._client.upsert, name, rows)

    async def upsert(self, name: str, points: Sequence[models.PointStruct], **_: Any) -> None:
        given: list[Any] = list(points)
        await self.write(name, {e.id: Image(e.vector, e.payload or {}) for e in given})

    async def set_payload(
        self, name: str, payload: Document, points: list[Id], **_: Any
    ) -> None:
        await self._change(name, points, payload, ())

    async def delete_payload(
        self, name: str, keys: list[str], points: list[Id], **_: Any
    ) -> None:
        await self._change(name, points, {}, keys)

    async def delete(self, name: str, points: list[Id], **_: Any) -> None:
        await asyncio.to_thread(self._client.delete, name, ids=points)

    async def read(self, name: str, where: str | None = None) -> Records:
        key, vector, payload = self._names
        rows = await asyncio.to_thread(
            self._client.query,
            name,
            filter=where or f"{key} >= 0",
            output_fields=[key, vector, *payload],
            limit=10_000,
            consistency_level="Strong",
        )
        return {
            row[key]: Image(
                float32(row[vector]),
                row["payload"]
                if self._whole
                else {field: row[field] for field in FIELDS if row[field] is not None},
            )
            for row in rows
        }

    @property
    def _names(self) -> tuple[str, str, tuple[str, ...]]:
        return ("id", "vector", ("payload",)) if self._whole else ("nr", "embedding", FIELDS)

    def _row(self, point_id: Id, image: Image) -> Document:
        key, vector, _ = self._names
        own = {"payload": image.payload} if self._whole else dict.fromkeys(FIELDS)
        own |= {} if self._whole else image.payload
        return {key: point_id, vector: list(image.vector), **own}

    async def _change(
        self, name: str, points: list[Id], payload: Document, gone: Sequence[str]
    ) -> None:
        """One after the other: a key has one writer."""
        key, _, _ = self._names
        found = await self.read(name, f"{key} in {points}")
        for point_id, image in found.items():
            left = {field: each for field, each in image.payload.items() if field not in gone}
            await self.write(name, {point_id: Image(image.vector, left | payload)})


class MilvusApplication(Application):
    """An application one of whose stores is Milvus."""

    source: Any
    target: Any

    async def create(self, records: int) -> None:
        if not isinstance(self.source, MilvusClient):
            await super().create(records)
            return
        for collection in self.collections:
            await self.source.create_collection(collection.source)
            collection.records = {number: self.image(number) for number in range(records)}
            await self.source.write(collection.source, collection.records)

    async def differences(self, store: str) -> list[str]:
        client = self.source if store == "source" else self.target
        if not isinstance(client, MilvusClient):
            return await super().differences(store)
        told: list[str] = []
        for each in self.collections:
            name = each.source if store == "source" else each.target
            told += differences(each.records, await client.read(name))
        return told


@asynccontextmanager
async def opened(uri: str, *, whole: bool) -> AsyncIterator[MilvusClient]:
    client = Client(uri)
    yield MilvusClient(client, whole=whole)
    client.close()


BUSY = {"recall_min": 0.8}
"""milvus-lite takes its time to search, and the writers change most records within seconds:
what was written between the answers of both stores is missed by one of them."""


async def there_and_back(daemon: Daemon, app: MilvusApplication, sink: ChangelogSink) -> None:
    """From the stream on: verify, cut over, write, revert; the stores are equal throughout."""
    async with app.writing():
        await daemon.phase("STREAMING")
        await app.progress(40)
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
        # The writers delete as well: of what there is, from either side.
        there = sum(len(collection.records) for collection in app.collections)
        assert report["compared"] >= there
        await daemon.crossed("cutover")
        assert (app.active, app.epoch, app.fenced) == ("target", 1, False)
        await app.progress(70)
    await daemon.applied(sink.ends)
    assert app.changes_at_target > 40
    assert await app.differences("target") == []
    assert await app.differences("source") == []

    async with app.writing():
        await daemon.did("revert")
        assert (app.active, app.epoch, app.fenced) == ("source", 2, False)
        await app.progress(30)
    await daemon.applied(sink.ends)
    assert await app.differences("source") == []
    assert await app.differences("target") == []
    report = await daemon.did("verify", level="full")
    assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
    recalls = [figures["recall"] for figures in report["search"].values()]
    assert min(recalls) >= 0.99, "nobody writes any more"
    assert (await daemon.status())["stream"]["dead_letters"] == 0
    assert await daemon.child.terminate() == 0


async def test_a_live_application_moves_from_fields_of_milvus_to_qdrant_and_back(
    rig: Rig,
    stores: tuple[str, str],
    milvus_uri: str,
    changelog: tuple[ChangelogSink, Document],
) -> None:
    sink, feed = changelog
    collections = underscored(rig.collections())
    qdrant = connect(stores[1])
    async with opened(milvus_uri, whole=False) as milvus:
        client: Any = milvus
        app = MilvusApplication(client, qdrant, sink, collections)
        await app.create(120)
        daemon = rig.daemon(
            stores, collections, feed, cutover=await rig.served(app), verify=BUSY
        )
        daemon.document["source"] = {"kind": "milvus", "uri": milvus_uri}
        daemon.rewrite()
        await daemon.start()
        await there_and_back(daemon, app, sink)
    await qdrant.close()


@pytest.mark.crash
async def test_a_live_application_moves_to_milvus_and_back_though_the_daemon_is_killed(
    rig: Rig,
    stores: tuple[str, str],
    milvus_uri: str,
    changelog: tuple[ChangelogSink, Document],
) -> None:
    sink, feed = changelog
    collections = underscored(rig.collections())
    qdrant = connect(stores[0])
    async with opened(milvus_uri, whole=True) as milvus:
        client: Any = milvus
        app = MilvusApplication(qdrant, client, sink, collections)
        await app.create(120)
        daemon = rig.daemon(
            stores, collections, feed, cutover=await rig.served(app), verify=BUSY
        )
        daemon.document["target"] = {
            "kind": "milvus",
            "uri": milvus_uri,
            "late_write_bound": "500ms",
        }
        daemon.rewrite()
        # The source has numbers and UUIDs, and a key is of one type: who makes it says which.
        await milvus.create_collection(collections[0].target)
        async with app.writing():
            await daemon.start()
            daemon.kill()  # while it copies, or before
            await app.progress(20)
            await daemon.start()
            await daemon.phase("STREAMING")
            await app.progress(20)
            daemon.kill()
            await daemon.start()
        await there_and_back(daemon, app, sink)
    await qdrant.close()
