"""Pinecone, by its own client, on a strict double of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from pinecone import AsyncPinecone
from pinecone.async_client.async_index import AsyncIndex
from pinecone.errors import NotFoundError

from replicator.testing.pinecone.service import PineconeService
from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, float32
from tests.matrix.access import DIMENSION, Access, Entry, Ids

STALENESS_S = 0.2
"""Reads of the double lag by this."""

_TOGETHER = 200


class PineconeAccess:
    options: ClassVar[Document] = {}

    def __init__(self, service: PineconeService, index: AsyncIndex) -> None:
        self.section: Document = {
            "kind": "pinecone",
            "index": "articles",
            "control": service.url,
            "api_key": service.api_key,
            "plan": "dedicated",  # the pace of reads has its own tests
            "staleness": f"{STALENESS_S}s",
            "late_write_bound": "1s",
        }
        self._index = index

    async def create(self, name: str, ids: Ids) -> None:
        await self._index.create_namespace(name=name)

    async def write(self, name: str, records: Records) -> None:
        vectors = [
            {"id": each, "values": list(image.vector), "metadata": image.payload}
            for each, image in records.items()
        ]
        for start in range(0, len(vectors), _TOGETHER):
            some = vectors[start : start + _TOGETHER]
            await self._index.upsert(vectors=some, namespace=name)

    async def patch(
        self,
        name: str,
        point_id: Id,
        changed: Document,
        gone: Sequence[str],
        whole: Image,
    ) -> None:
        """An update takes no key away; and the application knows what it wrote last."""
        await self.write(name, {point_id: whole})

    async def delete(self, name: str, point_id: Id) -> None:
        await self._index.delete(ids=[str(point_id)], namespace=name)

    async def read(self, name: str) -> Records:
        await asyncio.sleep(STALENESS_S)
        found: Records = {}
        async for page in self._index.list(namespace=name):
            ids = [each.id for each in page.vectors if each.id is not None]
            vectors = (await self._index.fetch(ids=ids, namespace=name)).vectors
            for each, vector in vectors.items():
                payload = {k: _number(v) for k, v in (vector.metadata or {}).items()}
                found[each] = Image(float32(vector.values), payload)
        return found

    async def drop(self, name: str) -> None:
        with suppress(NotFoundError):
            await self._index.delete_namespace(namespace=name)


def _number(value: Any) -> Any:
    """There are floats only; what has no fraction was an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@asynccontextmanager
async def opened(_address: str, _folder: Path) -> AsyncIterator[Access]:
    async with PineconeService(staleness_s=STALENESS_S) as service:
        await service.create("articles", dimension=DIMENSION, metric="dotproduct")
        async with (
            AsyncPinecone(api_key=service.api_key, host=service.url) as control,
            await control.index(name="articles") as index,
        ):
            yield PineconeAccess(service, index)


PINECONE = Entry(
    kind="pinecone",
    opened=opened,
    ids=Ids.TEXT,
    accepts=frozenset({Ids.TEXT}),
    ascii_ids=True,
    mixed=False,
    nested=False,
)
