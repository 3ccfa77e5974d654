"""Folders of shards, by Qdrant's own engine in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import qdrant_edge as edge

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, float32
from tests.matrix.access import DIMENSION, Access, Entry, Ids

_PAGE = 1000


class ShardAccess:
    """A shard is open for as long as it is used: one process has it at a time."""

    options: ClassVar[Document] = {}

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.section: Document = {"kind": "qdrant-embedded", "path": str(folder)}
        self._folder = folder

    async def create(self, name: str, ids: Ids) -> None:
        params = edge.EdgeVectorParams(DIMENSION, edge.Distance.Dot)
        config = edge.EdgeConfig(vectors={"": params})
        shard = edge.EdgeShard.create(str(self._folder / name), config)
        shard.flush()
        shard.close()

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        shard = edge.EdgeShard.load(str(self._folder / name))
        try:
            yield shard
        finally:
            shard.flush()
            shard.close()

    async def write(self, name: str, records: Records) -> None:
        points = [
            edge.Point(each, {"": list(image.vector)}, image.payload)
            for each, image in records.items()
        ]
        with self._opened(name) as shard:
            shard.update(edge.UpdateOperation.upsert_points(points))

    async def patch(
        self, name: str, point_id: Id, changed: Document, gone: Sequence[str], whole: Image
    ) -> None:
        raise AssertionError("a folder is copied, and not lived in")

    async def delete(self, name: str, point_id: Id) -> None:
        raise AssertionError("a folder is copied, and not lived in")

    async def read(self, name: str) -> Records:
        return await asyncio.to_thread(self._read, name)

    def _read(self, name: str) -> Records:
        found: Records = {}
        offset: Any = None
        with self._opened(name) as shard:
            while True:
                records, offset = shard.scroll(
                    edge.ScrollRequest(
                        offset=offset, limit=_PAGE, with_payload=True, with_vector=True
                    )
                )
                for each in records:
                    vector = each.vector
                    values = vector[""] if isinstance(vector, dict) else vector
                    place = each.id if isinstance(each.id, int) else str(each.id)
                    found[place] = Image(float32(list(values)), each.payload or {})
                if offset is None:
                    return found

    async def drop(self, name: str) -> None:
        """The folder goes with its run."""


@asynccontextmanager
async def opened(_address: str, folder: Path) -> AsyncIterator[Access]:
    yield ShardAccess(folder / "shards")


QDRANT_EMBEDDED = Entry(
    kind="qdrant-embedded",
    opened=opened,
    ids=Ids.INTEGER,
    accepts=frozenset({Ids.INTEGER, Ids.UUID}),
    nested=True,
    live=False,
    needs_schema=True,
)
