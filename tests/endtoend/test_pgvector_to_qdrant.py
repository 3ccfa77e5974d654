"""From a person's own table to Qdrant and back, on real servers and the real engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
from qdrant_client import models

from tests.endtoend.application import Application
from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Id, Image, Records, connect, differences, float32, read
from tests.endtoend.rig import Rig


class Tables:
    """What the application asks of its store, of a driver and in SQL."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def create_collection(self, name: str) -> None:
        await self._connection.execute(
            f'CREATE TABLE "{name}" (id bigint PRIMARY KEY, title text NOT NULL, n int,'
            " tags text[], embedding vector(4),"
            " words int GENERATED ALWAYS AS (length(title)) STORED)"
        )

    async def write(self, name: str, records: Records) -> None:
        rows = [
            (
                point_id,
                image.payload["title"],
                image.payload.get("n"),
                image.payload.get("tags"),
                str(list(image.vector)),
            )
            for point_id, image in records.items()
        ]
        await self._connection.executemany(
            f'INSERT INTO "{name}" VALUES ($1, $2, $3, $4, $5::text::vector)'
            " ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title, n = EXCLUDED.n,"
            " tags = EXCLUDED.tags, embedding = EXCLUDED.embedding",
            rows,
        )

    async def upsert(self, name: str, points: Sequence[models.PointStruct], **_: Any) -> None:
        given: list[Any] = list(points)
        images = {each.id: Image(each.vector, each.payload or {}) for each in given}
        await self.write(name, images)

    async def set_payload(
        self, name: str, payload: Document, points: list[Id], **_: Any
    ) -> None:
        await self._connection.execute(
            f'UPDATE "{name}" SET title = $2 WHERE id = ANY($1)', points, payload["title"]
        )

    async def delete_payload(
        self, name: str, keys: list[str], points: list[Id], **_: Any
    ) -> None:
        gone = ", ".join(f"{key} = NULL" for key in keys)
        await self._connection.execute(f'UPDATE "{name}" SET {gone} WHERE id = ANY($1)', points)

    async def delete(self, name: str, points: list[Id], **_: Any) -> None:
        await self._connection.execute(f'DELETE FROM "{name}" WHERE id = ANY($1)', points)

    async def read(self, name: str) -> Records:
        rows = await self._connection.fetch(
            f'SELECT id, title, n, tags, embedding::text FROM "{name}"'
        )
        return {
            row["id"]: Image(
                float32(json.loads(row["embedding"])),
                {key: row[key] for key in ("title", "n", "tags") if row[key] is not None},
            )
            for row in rows
        }


class TableApplication(Application):
    """An application whose source is a database."""

    source: Any

    async def create(self, records: int) -> None:
        for collection in self.collections:
            await self.source.create_collection(collection.source)
            collection.records = {number: self.image(number) for number in range(records)}
            await self.source.write(collection.source, collection.records)

    async def differences(self, store: str) -> list[str]:
        told: list[str] = []
        for each in self.collections:
            if store == "source":
                found = await self.source.read(each.source)
            else:
                found = await read(self.target, each.target)
                for image in found.values():
                    # The table counts it, as far as the copy saw it.
                    image.payload.pop("words", None)
            told += differences(each.records, found)
        return told


@pytest.fixture
async def tables(postgres_dsn: str) -> AsyncIterator[Tables]:
    pool = await asyncpg.create_pool(postgres_dsn, min_size=0, max_size=4)
    yield Tables(pool)
    await pool.close()


async def test_a_live_application_moves_from_a_table_to_qdrant_and_back(
    rig: Rig,
    stores: tuple[str, str],
    postgres_dsn: str,
    tables: Tables,
    changelog: tuple[ChangelogSink, Document],
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    qdrant = connect(stores[1])
    client: Any = tables
    app = TableApplication(client, qdrant, sink, collections)
    await app.create(300)
    daemon = rig.daemon(stores, collections, feed, cutover=await rig.served(app))
    daemon.document["source"] = {"kind": "pgvector", "dsn": postgres_dsn}
    daemon.document["collections"][0]["source_options"] = {"distance": "dot"}
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
