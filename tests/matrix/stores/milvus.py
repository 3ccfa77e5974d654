"""Milvus, by pymilvus, as a real milvus-lite; or another one at MILVUS_URI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pymilvus import DataType
from pymilvus import MilvusClient as Client

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, float32
from tests.matrix.access import DIMENSION, Access, Entry, Ids
from tests.plugins.milvus import MILVUS_URI, MilvusServer

_TOGETHER = 500
_PAGE = 1000


class MilvusAccess:
    """Collections of a key, a vector and a JSON field, as the replicator makes them too."""

    options: ClassVar[Document] = {}

    def __init__(self, uri: str, client: Client) -> None:
        self.section: Document = {"kind": "milvus", "uri": uri, "late_write_bound": "500ms"}
        self._client = client

    async def create(self, name: str, ids: Ids) -> None:
        schema = self._client.create_schema()
        if ids is Ids.INTEGER:
            schema.add_field("id", DataType.INT64, is_primary=True)
        else:
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=1000)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
        schema.add_field("payload", DataType.JSON, nullable=True)
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_type="HNSW", metric_type="IP")
        await asyncio.to_thread(
            self._client.create_collection, name, schema=schema, index_params=indexes
        )
        await asyncio.to_thread(self._client.load_collection, name)

    async def write(self, name: str, records: Records) -> None:
        rows = [
            {"id": each, "vector": list(image.vector), "payload": image.payload}
            for each, image in records.items()
        ]
        for start in range(0, len(rows), _TOGETHER):
            await asyncio.to_thread(self._client.upsert, name, rows[start : start + _TOGETHER])

    async def patch(
        self, name: str, point_id: Id, changed: Document, gone: Sequence[str], whole: Image
    ) -> None:
        """A JSON field is written as a whole."""
        await self.write(name, {point_id: whole})

    async def delete(self, name: str, point_id: Id) -> None:
        await asyncio.to_thread(self._client.delete, name, ids=[point_id])

    async def read(self, name: str) -> Records:
        return await asyncio.to_thread(self._read, name)

    def _read(self, name: str) -> Records:
        pages: Any = self._client.query_iterator(
            name,
            batch_size=_PAGE,
            output_fields=["id", "vector", "payload"],
            consistency_level="Strong",
        )
        found: Records = {}
        while rows := pages.next():
            for row in rows:
                found[row["id"]] = Image(float32(row["vector"]), row["payload"])
        pages.close()
        return found

    async def drop(self, name: str) -> None:
        await asyncio.to_thread(self._client.drop_collection, name)


@contextmanager
def started(folder: Path) -> Iterator[str]:
    if MILVUS_URI:
        yield MILVUS_URI
        return
    (folder / "milvus").mkdir()
    server = MilvusServer(folder / "milvus")
    try:
        yield server.start()
    finally:
        server.stop()


@asynccontextmanager
async def opened(address: str, _: Path) -> AsyncIterator[Access]:
    client = await asyncio.to_thread(Client, address)
    try:
        yield MilvusAccess(address, client)
    finally:
        await asyncio.to_thread(client.close)


MILVUS = Entry(
    kind="milvus",
    fixture="milvus_uri",
    started=started,
    opened=opened,
    ids=Ids.INTEGER,
    accepts=frozenset({Ids.INTEGER, Ids.TEXT}),
    nested=True,
    needs_schema=True,
    mixed=False,
)
