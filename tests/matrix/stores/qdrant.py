"""Qdrant, by qdrant-client: the local store server, or a real one at QDRANT_URL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ClassVar

from qdrant_client import AsyncQdrantClient, models

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, connect, read
from tests.endtoend.processes import StoreServer
from tests.endtoend.rig import QDRANT_URL
from tests.matrix.access import DIMENSION, Access, Entry, Ids

_TOGETHER = 500


class QdrantAccess:
    options: ClassVar[Document] = {}

    def __init__(self, url: str, client: AsyncQdrantClient) -> None:
        self.section: Document = {"kind": "qdrant", "url": url, "late_write_bound": "500ms"}
        self._client = client

    async def create(self, name: str, ids: Ids) -> None:
        size = models.VectorParams(size=DIMENSION, distance=models.Distance.DOT)
        await self._client.create_collection(name, vectors_config=size)

    async def write(self, name: str, records: Records) -> None:
        points = [
            models.PointStruct(id=each, vector=list(image.vector), payload=image.payload)
            for each, image in records.items()
        ]
        for start in range(0, len(points), _TOGETHER):
            await self._client.upsert(name, points[start : start + _TOGETHER], wait=True)

    async def patch(
        self,
        name: str,
        point_id: Id,
        changed: Document,
        gone: Sequence[str],
        whole: Image,
    ) -> None:
        await self._client.set_payload(name, changed, points=[point_id], wait=True)
        await self._client.delete_payload(name, list(gone), [point_id], wait=True)

    async def delete(self, name: str, point_id: Id) -> None:
        await self._client.delete(name, [point_id], wait=True)

    async def read(self, name: str) -> Records:
        return await read(self._client, name)

    async def drop(self, name: str) -> None:
        await self._client.delete_collection(name)


@contextmanager
def started(folder: Path) -> Iterator[str]:
    if QDRANT_URL:
        yield QDRANT_URL
        return
    server = StoreServer(folder / "qdrant")
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


@asynccontextmanager
async def opened(address: str, _: Path) -> AsyncIterator[Access]:
    client = connect(address)
    try:
        yield QdrantAccess(address, client)
    finally:
        await client.close()


QDRANT = Entry(
    kind="qdrant",
    fixture="qdrant_grpc",
    started=started,
    opened=opened,
    ids=Ids.INTEGER,
    accepts=frozenset({Ids.INTEGER, Ids.UUID}),
    nested=True,
    needs_schema=True,
)
