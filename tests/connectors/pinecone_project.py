"""
A Pinecone of many indexes, for the conformance suite.

A collection of the connector is a namespace, and all namespaces of an index have the vectors
that it was made for. The suite wants collections of many shapes from one store. So a collection
lies in an index of the shape that it was made with, and is asked of the store of its index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from pinecone import AsyncPinecone, ServerlessSpec

from replicator.connectors.pinecone.kind import PINECONE, PineconeSettings
from replicator.connectors.pinecone.store import PineconeStore
from replicator.errors import Refused
from replicator.model.finding import CheckFinding
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    Mark,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Hit, Query
from replicator.model.write import Receipt, WriteBatch
from replicator.ports.store import Page
from replicator.settings.units import Duration, Secret
from replicator.testing.pinecone.service import PineconeService
from replicator.testing.store_conformance import PREFIX

METRICS = {Distance.COSINE: "cosine", Distance.DOT: "dotproduct", Distance.EUCLID: "euclidean"}

Shape = tuple[int | None, str]
Maker = Callable[[Shape], Awaitable[PineconeSettings]]
"""The settings of an index of a shape, which is made where there is none."""


def made_in(service: PineconeService, staleness: str = "0s") -> Maker:
    """Of a double."""

    async def make(shape: Shape) -> PineconeSettings:
        dimension, metric = shape
        name = f"{metric}-{dimension or 'sparse'}"
        if name not in service.indexes:
            await service.create(name, dimension=dimension, metric=metric)
        return PineconeSettings(
            index=name,
            control=service.url,
            api_key=Secret(service.api_key),
            # The pace of reads has its own tests.
            plan="dedicated",
            staleness=Duration.parse(staleness),
        )

    return make


def made_at(key: str, staleness: str, made: set[str]) -> Maker:
    """Of the service itself; `made`: the names of the indexes that there are."""

    async def make(shape: Shape) -> PineconeSettings:
        dimension, metric = shape
        name = f"{PREFIX}{metric}-{dimension or 'sparse'}"
        if name not in made:
            async with AsyncPinecone(api_key=key) as client:
                await client.indexes.create(
                    name=name,
                    dimension=dimension,
                    metric=metric,
                    vector_type="dense" if dimension else "sparse",
                    spec=ServerlessSpec(cloud="aws", region="us-east-1"),
                )
            made.add(name)
        return PineconeSettings(
            index=name, api_key=Secret(key), staleness=Duration.parse(staleness)
        )

    return make


async def remove(key: str, made: set[str]) -> None:
    """Indexes of the service itself."""
    async with AsyncPinecone(api_key=key) as client:
        for name in made:
            await client.indexes.delete(name)


class Project:
    """A store, as the suite sees one. What was never made is sought in an index of its own."""

    traits = PINECONE.traits

    def __init__(self, make: Maker, staleness_s: float = 0.0) -> None:
        self.staleness_s = staleness_s
        self.late_write_bound_s = 0.0
        self._make = make
        self._stores: dict[Shape, PineconeStore] = {}
        self._shapes: dict[str, Shape] = {}

    async def _of(self, collection: str) -> PineconeStore:
        return await self._store(self._shapes.get(collection, (2, "dotproduct")))

    async def _store(self, shape: Shape) -> PineconeStore:
        if shape not in self._stores:
            self._stores[shape] = PineconeStore(await self._make(shape), 1 << 20)
        return self._stores[shape]

    async def ensure(self, wanted: CollectionSchema) -> None:
        shape = _shape(wanted)
        await (await self._store(shape)).ensure(wanted)
        self._shapes[wanted.name] = shape

    async def collections(self) -> list[str]:
        return sorted({n for each in self._stores.values() for n in await each.collections()})

    async def describe(self, collection: str) -> CollectionSchema | None:
        return await (await self._of(collection)).describe(collection)

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        return await (await self._store(_shape(wanted))).foresee(wanted)

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        return await (await self._of(collection)).split(collection, parts)

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncIterator[Page]:
        store = await self._of(chunk.collection)
        async for page in store.scan(chunk, after, page_rows):
            yield page

    async def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncIterator[Page]:
        store = await self._of(chunk.collection)
        async for page in store.scan_keys(chunk, after, page_rows, fields):
            yield page

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        return await (await self._of(collection)).present(collection, ids)

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        return await (await self._of(collection)).fetch(collection, ids)

    async def count(self, collection: str) -> int | None:
        return await (await self._of(collection)).count(collection)

    async def mark(self, collection: str, mark: Mark) -> None:
        await (await self._of(collection)).mark(collection, mark)

    async def wipe(self, collection: str) -> None:
        await (await self._of(collection)).wipe(collection)

    async def apply(self, batch: WriteBatch) -> Receipt:
        return await (await self._of(batch.collection)).apply(batch)

    async def finish_bulk(self, collection: str) -> None:
        await (await self._of(collection)).finish_bulk(collection)

    async def search(self, collection: str, query: Query) -> list[Hit]:
        return await (await self._of(collection)).search(collection, query)

    async def check(self) -> list[CheckFinding]:
        return await (await self._of("")).check()

    async def close(self) -> None:
        for store in self._stores.values():
            await store.close()


def _shape(wanted: CollectionSchema) -> Shape:
    """What an index for these vectors has; where there is none such, the connector says so."""
    vector = (wanted.vectors or {}).get("", VectorSchema(size=2))
    if vector.kind is VectorKind.SPARSE:
        return None, "dotproduct"
    if vector.distance is not None and vector.distance not in METRICS:
        raise Refused("unsupported", f"Pinecone does not compare by {vector.distance.value}")
    return vector.size or 2, METRICS[vector.distance or Distance.DOT]
