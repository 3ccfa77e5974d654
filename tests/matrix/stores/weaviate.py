"""Weaviate, over its REST interface: the server that `make weaviate` built, or another one."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import aiohttp

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, float32
from tests.matrix.access import Access, Entry, Ids
from tests.plugins.weaviate import WEAVIATE_URL, WeaviatePlace, WeaviateServer, built

_TOGETHER = 200
_PAGE = 1000


class WeaviateAccess:
    """Classes of one text that is the payload as JSON, as the replicator makes them too."""

    options: ClassVar[Document] = {"payload": "payload"}

    def __init__(self, place: WeaviatePlace, session: aiohttp.ClientSession) -> None:
        self.section: Document = {**place.section, "late_write_bound": "500ms"}
        self._root = f"http://{place.rest}/v1"
        self._session = session

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, f"{self._root}{path}", json=body) as reply:
            told = await reply.text()
            assert reply.status < 300, (path, reply.status, told)
            return json.loads(told) if told else None

    async def create(self, name: str, ids: Ids) -> None:
        vector = {
            "vectorizer": {"none": {}},
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": {"distance": "dot"},
        }
        payload = {"name": "payload", "dataType": ["text"], "tokenization": "field"}
        document = {
            "class": name,
            "properties": [payload],
            "vectorConfig": {"default": vector},
        }
        await self._ask("POST", "/schema", document)

    async def write(self, name: str, records: Records) -> None:
        objects = [
            {
                "class": name,
                "id": each,
                "properties": {"payload": json.dumps(image.payload, ensure_ascii=False)},
                "vectors": {"default": list(image.vector)},
            }
            for each, image in records.items()
        ]
        for start in range(0, len(objects), _TOGETHER):
            some = {"objects": objects[start : start + _TOGETHER]}
            for told in await self._ask("POST", "/batch/objects", some):
                assert told["result"]["status"] == "SUCCESS", told

    async def patch(
        self, name: str, point_id: Id, changed: Document, gone: Sequence[str], whole: Image
    ) -> None:
        """The text is written as a whole."""
        await self.write(name, {point_id: whole})

    async def delete(self, name: str, point_id: Id) -> None:
        await self._ask("DELETE", f"/objects/{name}/{point_id}")

    async def read(self, name: str) -> Records:
        found: Records = {}
        after = ""
        while True:
            path = f"/objects?class={name}&limit={_PAGE}&include=vector&after={after}"
            objects = (await self._ask("GET", path))["objects"]
            for each in objects:
                payload = json.loads(each["properties"]["payload"])
                found[each["id"]] = Image(float32(each["vectors"]["default"]), payload)
            if len(objects) < _PAGE:
                return found
            after = objects[-1]["id"]

    async def drop(self, name: str) -> None:
        await self._ask("DELETE", f"/schema/{name}")


def lacks() -> str:
    if WEAVIATE_URL or built().exists():
        return ""
    return "no server: build one with `make weaviate`, or set WEAVIATE_URL"


@contextmanager
def started(folder: Path) -> Iterator[str]:
    if WEAVIATE_URL:
        rest = WEAVIATE_URL.removeprefix("http://").rstrip("/")
        grpc = os.environ.get("WEAVIATE_GRPC_URL", "").removeprefix("http://").rstrip("/")
        yield f"{rest} {grpc or rest.partition(':')[0] + ':50051'}"
        return
    (folder / "weaviate").mkdir()
    server = WeaviateServer(folder / "weaviate")
    try:
        place = server.start()
        yield f"{place.rest} {place.grpc}"
    finally:
        server.stop()


@asynccontextmanager
async def opened(address: str, _: Path) -> AsyncIterator[Access]:
    rest, _space, grpc = address.partition(" ")
    async with aiohttp.ClientSession() as session:
        yield WeaviateAccess(WeaviatePlace(rest, grpc), session)


WEAVIATE = Entry(
    kind="weaviate",
    fixture="weaviate_address",
    lacks=lacks,
    started=started,
    opened=opened,
    ids=Ids.UUID,
    accepts=frozenset({Ids.UUID}),
    nested=True,
    mixed=False,
)
