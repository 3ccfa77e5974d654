"""Chroma, by its own client, as a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import chromadb
from chromadb.errors import NotFoundError

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, float32
from tests.matrix.access import Access, Entry, Ids
from tests.plugins.chroma import ChromaServer

DOCUMENT = "title"
"""The field that is a document in Chroma."""

_TOGETHER = 1000


class ChromaAccess:
    """Every image has the fields of the others but for those that a patch took away, so that
    nothing of an older one is left by an upsert, which merges.
    """

    options: ClassVar[Document] = {"document_field": DOCUMENT}

    def __init__(self, url: str, client: chromadb.AsyncClientAPI) -> None:
        self.section: Document = {"kind": "chroma", "url": url, "late_write_bound": "500ms"}
        self._client = client

    async def _of(self, name: str) -> Any:
        return await self._client.get_collection(name, embedding_function=None)

    async def create(self, name: str, ids: Ids) -> None:
        space = {"hnsw": {"space": "ip"}}
        await self._client.create_collection(name, embedding_function=None, configuration=space)

    async def write(self, name: str, records: Records) -> None:
        collection, rows = await self._of(name), list(records.items())
        for start in range(0, len(rows), _TOGETHER):
            some = rows[start : start + _TOGETHER]
            parts = [_parted(image.payload) for _, image in some]
            await collection.upsert(
                ids=[each for each, _ in some],
                embeddings=[list(image.vector) for _, image in some],
                documents=[document for document, _ in parts],
                metadatas=[metadata for _, metadata in parts],
            )

    async def patch(
        self,
        name: str,
        point_id: Id,
        changed: Document,
        gone: Sequence[str],
        whole: Image,
    ) -> None:
        rest = {field: value for field, value in changed.items() if field != DOCUMENT}
        await (await self._of(name)).update(
            ids=[point_id],
            # The client wants to embed a document that comes without a vector.
            embeddings=[list(whole.vector)],
            documents=[whole.payload[DOCUMENT]],
            metadatas=[{**rest, **dict.fromkeys(gone)}],
        )

    async def delete(self, name: str, point_id: Id) -> None:
        await (await self._of(name)).delete(ids=[point_id])

    async def read(self, name: str) -> Records:
        found = await (await self._of(name)).get(
            include=["embeddings", "documents", "metadatas"]
        )
        rows = zip(
            found["ids"],
            found["embeddings"],
            found["documents"],
            found["metadatas"],
            strict=True,
        )
        return {
            point_id: Image(
                float32(vector),
                {DOCUMENT: document, **_present(metadata or {})},
            )
            for point_id, vector, document, metadata in rows
        }

    async def drop(self, name: str) -> None:
        with suppress(NotFoundError):
            await self._client.delete_collection(name)


def _parted(payload: Document) -> tuple[str, Document]:
    rest = {name: value for name, value in payload.items() if name != DOCUMENT}
    return payload[DOCUMENT], rest


def _present(metadata: Document) -> Document:
    return {name: value for name, value in metadata.items() if value is not None}


@contextmanager
def started(folder: Path) -> Iterator[str]:
    (folder / "chroma").mkdir()
    server = ChromaServer(folder / "chroma")
    try:
        yield server.start()
    finally:
        server.stop()


@asynccontextmanager
async def opened(address: str, _: Path) -> AsyncIterator[Access]:
    host, _colon, port = address.removeprefix("http://").partition(":")
    yield ChromaAccess(address, await chromadb.AsyncHttpClient(host=host, port=int(port)))
    await asyncio.sleep(0)  # it has no close


CHROMA = Entry(
    kind="chroma",
    fixture="chroma_url",
    started=started,
    opened=opened,
    ids=Ids.TEXT,
    id_begins="dök/",
    accepts=frozenset({Ids.TEXT}),
    mixed=False,
    nested=False,
)
