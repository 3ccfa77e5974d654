"""
The application of these tests: it writes the store in use and emits one event for each change,
and it has a writer fence and a traffic switch over HTTP.

What it has done is kept in its own models, one for each collection. A key belongs to one
writer, so that its changes have one order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid5

import msgspec
from aiohttp import web
from qdrant_client import AsyncQdrantClient, models

from tests.endtoend.events import Sink, Wire, event, key
from tests.endtoend.model import Id, Image, Mapping, Records, differences, float32, read
from tests.endtoend.processes import until

DIMENSION = 4
NAMESPACE = UUID("92eb0a74-d6f3-5e60-919c-49275e843727")
"""Of the ids at a target that several collections share."""


class Collection(msgspec.Struct, kw_only=True):
    """A collection as the application knows it, in both stores."""

    source: str
    target: str
    mapping: Mapping = Mapping()
    distance: models.Distance = models.Distance.DOT
    records: Records = {}
    mapped: bool = False
    """Its points lie among those of others at the target, each under the UUID of its key."""

    def place(self, point_id: Id) -> Id:
        """The id at the target."""
        if not self.mapped:
            return point_id
        return str(uuid5(NAMESPACE, key(self.source, point_id).decode()))

    def origin(self, point_id: Id) -> dict[str, Any]:
        """What a point carries at the target beside its payload."""
        if not self.mapped:
            return {}
        return {"_source_id": point_id, "_source_collection": self.source}

    def is_of(self, image: Image) -> bool:
        """Whether a point of the target is one of this collection's."""
        return not self.mapped or image.payload.get("_source_collection") == self.source


class Application:
    """Writers are added with `writing`; the fence stops them between two changes."""

    def __init__(
        self,
        source: AsyncQdrantClient,
        target: AsyncQdrantClient,
        sink: Sink,
        collections: list[Collection],
        *,
        seed: int = 1,
    ) -> None:
        self.source = source
        self.target = target
        self.sink = sink
        self.collections = collections
        self.active = "source"
        self.epoch: int | None = 0
        """What events are stamped with; None for an application that nobody tells."""
        self.fenced = False
        self.closed_for = ""
        self.over: set[str] = set()
        """Attempts for which the fence was opened: what closes for one of them comes late."""
        self.closings = 0
        self.changes = 0
        self.changes_at_target = 0
        self.random = random.Random(seed)
        self.refuse_switch = False
        self.refuse_fence = False
        self.spared: set[Id] = set()
        """Keys that the writers leave alone."""
        self._admitted = asyncio.Condition()
        self._under_way = 0

    # -- changes
    # ---------------------------------------------------------------------------------------

    async def create(self, records: int) -> None:
        """Make the source collections with so many records each, without events."""
        for collection in self.collections:
            await self.source.create_collection(
                collection.source,
                vectors_config=models.VectorParams(
                    size=DIMENSION, distance=collection.distance
                ),
            )
            collection.records = {number: self.image(number) for number in range(records)}
            await _upsert(self.source, collection.source, collection.records)

    def image(self, number: int) -> Image:
        """A record that nobody has seen before."""
        self.changes += 1
        vector = float32([self.random.uniform(-1, 1) for _ in range(DIMENSION)])
        payload = {"title": f"record {number}", "n": self.changes, "tags": ["a", "b"]}
        return Image(vector, payload)

    async def upsert(self, collection: Collection, point_id: Id) -> None:
        image = self.image(self.changes)
        collection.records[point_id] = image
        if self.active == "source":
            await _upsert(self.source, collection.source, {point_id: image})
        else:
            await _upsert(
                self.target,
                collection.target,
                _at_target(collection, {point_id: image}, _unnormalised(collection.mapping)),
                collection.mapping.vector,
            )
        await self._emit(
            event(
                "upsert",
                collection.source,
                point_id,
                vector=image.vector,
                payload=image.payload,
                **self._stamp,
            )
        )

    async def patch(self, collection: Collection, point_id: Id) -> None:
        """Change a field, and drop another."""
        self.changes += 1
        old = collection.records[point_id]
        changed = {"title": f"patched {self.changes}"}
        payload = {**old.payload, **changed}
        payload.pop("tags", None)
        collection.records[point_id] = Image(old.vector, payload)
        client, name, rename = self.source, collection.source, {}
        place = point_id
        if self.active == "target":
            client, name, rename = (
                self.target,
                collection.target,
                collection.mapping.rename,
            )
            place = collection.place(point_id)
        mapped = {rename.get(field, field): value for field, value in changed.items()}
        await client.set_payload(name, mapped, points=[place], wait=True)
        await client.delete_payload(name, [rename.get("tags", "tags")], [place], wait=True)
        await self._emit(
            event(
                "patch",
                collection.source,
                point_id,
                set=changed,
                unset=["tags"],
                **self._stamp,
            )
        )

    async def delete(self, collection: Collection, point_id: Id) -> None:
        self.changes += 1
        del collection.records[point_id]
        source = self.active == "source"
        client = self.source if source else self.target
        name = collection.source if source else collection.target
        await client.delete(
            name, [point_id if source else collection.place(point_id)], wait=True
        )
        if self.changes % 2:
            await self._emit((key(collection.source, point_id), None))
        else:
            await self._emit(event("delete", collection.source, point_id, **self._stamp))

    @property
    def _stamp(self) -> dict[str, int]:
        return {} if self.epoch is None else {"epoch": self.epoch}

    async def _emit(self, record: Wire) -> None:
        await self.sink.emit([record])

    # -- writers
    # ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def writing(self, writers: int = 4, pause_s: float = 0.01) -> AsyncIterator[None]:
        """Change things at random all the while; at the end nothing is under way."""
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(self._write(number, writers, stop, pause_s))
            for number in range(writers)
        ]
        try:
            yield
        finally:
            stop.set()
            async with self._admitted:
                self._admitted.notify_all()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            for each in done:
                # Also where somebody gave up waiting for changes: this is why none came.
                if isinstance(each, BaseException):
                    raise each

    async def _write(
        self, number: int, writers: int, stop: asyncio.Event, pause_s: float
    ) -> None:
        fresh = 1_000_000 * (number + 1)
        while not stop.is_set():
            async with self._admitted:
                await self._admitted.wait_for(lambda: not self.fenced or stop.is_set())
                if stop.is_set():
                    return
                self._under_way += 1
            try:
                fresh += 1
                await self._change(number, writers, fresh)
                self.changes_at_target += self.active == "target"
            finally:
                async with self._admitted:
                    self._under_way -= 1
                    self._admitted.notify_all()
            await asyncio.sleep(pause_s)

    async def _change(self, number: int, writers: int, fresh: int) -> None:
        collection = self.random.choice(self.collections)
        own = [
            key
            for key in collection.records
            if hash(key) % writers == number and key not in self.spared
        ]
        # A few keys are written over and over.
        key = min(own, default=None) if self.random.random() < 0.2 else None
        if key is None and own:
            key = self.random.choice(own)
        choice = self.random.random()
        if key is None or choice < 0.15:
            await self.upsert(collection, fresh - fresh % writers + number)
        elif choice < 0.5:
            await self.upsert(collection, key)
        elif choice < 0.8:
            await self.patch(collection, key)
        else:
            await self.delete(collection, key)

    # -- fence and switch
    # ------------------------------------------------------------------------------

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """The URL under which `/fence` and `/switch` are."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/fence", self._fence),
                web.post("/switch", self._switch),
                web.get("/switch", self._shows),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()

    async def _fence(self, request: web.Request) -> web.Response:
        if self.refuse_fence:
            return web.json_response({"error": "come again"}, status=503)
        body = await request.json()
        closing, attempt = body["action"] == "close", body["attempt"]
        if closing and attempt in self.over:
            return web.json_response({"error": "that attempt is over"}, status=409)
        if not closing and self.fenced and attempt != self.closed_for:
            return web.json_response({"error": "another attempt holds it"}, status=409)
        if closing:
            self.closed_for = attempt
        else:
            self.over.add(attempt)
        async with self._admitted:
            self.fenced = closing
            self.closings += closing
            self._admitted.notify_all()
            if closing:
                await self._admitted.wait_for(lambda: not self._under_way)
        return web.json_response({})

    async def _switch(self, request: web.Request) -> web.Response:
        if self.refuse_switch:
            return web.json_response({"error": "not now"}, status=409)
        body = await request.json()
        assert self.fenced, "traffic is switched behind a closed fence only"
        self.active, self.epoch = body["to"], body["epoch"]
        return web.json_response({})

    async def _shows(self, _: web.Request) -> web.Response:
        return web.json_response({"active": self.active, "epoch": self.epoch})

    # -- judging
    # ---------------------------------------------------------------------------------------

    async def differences(self, store: str) -> list[str]:
        """How `source` or `target` differs from what was done."""
        told = []
        for collection in self.collections:
            mapping = collection.mapping
            if store == "source":
                found = await read(self.source, collection.source)
                mapping = Mapping(normalised=mapping.normalised)
                records = collection.records
                wanted = {name: mapping.image(image) for name, image in records.items()}
            else:
                every = await read(self.target, collection.target, mapping.vector)
                found = {name: each for name, each in every.items() if collection.is_of(each)}
                wanted = _at_target(collection, collection.records, mapping)
            told += [
                f"{store} {collection.source}/{each}" for each in differences(wanted, found)
            ]
        return told

    async def progress(self, changes: int) -> None:
        """Once the writers have made so many changes more."""
        goal = self.changes + changes

        async def done() -> bool:
            return self.changes >= goal

        await until(done, f"{changes} more changes")


def _unnormalised(mapping: Mapping) -> Mapping:
    return msgspec.structs.replace(mapping, normalised=False)


def _at_target(collection: Collection, records: Records, mapping: Mapping) -> Records:
    moved = {point_id: mapping.image(image) for point_id, image in records.items()}
    return {
        collection.place(point_id): Image(
            image.vector, {**image.payload, **collection.origin(point_id)}
        )
        for point_id, image in moved.items()
    }


async def _upsert(
    client: AsyncQdrantClient, collection: str, records: Records, vector: str = ""
) -> None:
    points = [
        models.PointStruct(
            id=key,
            vector={vector: list(image.vector)} if vector else list(image.vector),
            payload=image.payload,
        )
        for key, image in records.items()
    ]
    for start in range(0, len(points), 500):
        await client.upsert(collection, points[start : start + 500], wait=True)
