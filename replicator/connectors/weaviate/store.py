"""The Weaviate connector."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Collection, Sequence

from replicator.connectors.weaviate import outlook
from replicator.connectors.weaviate.channel import Channel
from replicator.connectors.weaviate.collection import Collections
from replicator.connectors.weaviate.kind import WEAVIATE, WeaviateOptions, WeaviateSettings
from replicator.connectors.weaviate.messages import LEVELS
from replicator.connectors.weaviate.reading import Reading
from replicator.connectors.weaviate.rest import Rest
from replicator.connectors.weaviate.searching import Searching
from replicator.connectors.weaviate.tenants import Tenants
from replicator.connectors.weaviate.writing import Writing
from replicator.model.finding import CheckFinding
from replicator.model.pages import PAGE_BYTES
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Receipt, WriteBatch
from replicator.ports.store import Page

_DEFAULTS = WeaviateOptions()


class WeaviateStore:
    """
    A Weaviate as source or target.

    Connects with the first call, so it may be made without a running loop.
    """

    def __init__(self, settings: WeaviateSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: what a reply with points may hold, about."""
        self._settings = settings
        self._page_bytes = page_bytes
        self._chosen: dict[str, WeaviateOptions] = {}
        self._channel = Channel(settings)
        self._rest = Rest(settings)
        self._tenants = Tenants(self._channel, self._rest)
        self._collections = Collections(self._channel, self._rest, self._tenants, self._options)
        self._reading = self._reader(None)
        self._writing = Writing(
            self._channel,
            self._rest,
            self._collections,
            self._tenants,
            traits=WEAVIATE.traits,
            level=LEVELS[settings.consistency],
        )
        self._searching = Searching(self._channel, self._collections, self._tenants)

    def choose(self, collection: str, options: WeaviateOptions) -> None:
        """See `Optioned`."""
        self._chosen[collection] = options

    @property
    def traits(self) -> Traits:
        """Those of its kind."""
        return WEAVIATE.traits

    @property
    def staleness_s(self) -> float:
        """How long a read may lag a write that returned."""
        return float(self._settings.staleness)

    @property
    def late_write_bound_s(self) -> float:
        """How long after an unknown outcome a write may still land."""
        return float(self._settings.late_write_bound)

    async def collections(self) -> list[str]:
        """The classes that the server lists."""
        return await self._rest.names()

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema, with an exact count where every tenant is active; None without a class
        of this name.
        """
        return await self._collections.describe(collection)

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """Ranges of UUIDs, of each tenant where there are, and one of the tenants to come."""
        return await self._reading.split(collection, parts)

    async def split_scopes(
        self, collection: str, parts: int, scopes: Collection[str]
    ) -> list[Chunk]:
        """See `ScopeReader`."""
        return await self._reading.split(collection, parts, list(scopes))

    def scan(self, chunk: Chunk, after: str | None, page_rows: int) -> AsyncIterator[Page]:
        """Pages in the order of ids, smaller where the points are large."""
        return self._reading.scan(chunk, after, page_rows)

    def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncIterator[Page]:
        """As `KeyReader.scan_keys`."""
        return self._reading.scan(chunk, after, page_rows, fields=fields)

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """As `KeyReader.present`."""
        return set(await self._reading.fetch(collection, ids, fields=()))

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """The points that exist. An id that no object can have is absent."""
        return await self._reading.fetch(collection, ids)

    async def count(self, collection: str) -> int | None:
        """Exact; None where a tenant is not active."""
        kept = await self._collections.present(collection, "source-missing")
        return await self._collections.count(kept)

    async def count_scopes(self, collection: str, scopes: Collection[str]) -> int | None:
        """See `ScopeReader`; None where one of them is not active."""
        kept = await self._collections.present(collection, "source-missing")
        return await self._collections.count(kept, list(scopes))

    def consistent(self) -> WeaviateStore:
        """The same store, whose reads want every replica; see `ConsistentReader`."""
        careful = copy.copy(self)
        careful._reading = self._reader(LEVELS["all"])
        return careful

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """See `Foresight`."""
        return await self._collections.foresee(wanted)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """See StoreWriter. Raises Refused for a class that cannot hold the vectors, or holds
        points under another mark.
        """
        await self._collections.ensure(wanted)

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """The collection as `ensure` would make it."""
        return self._collections.plan(wanted)

    async def configure(self, planned: CollectionSchema) -> None:
        """Nothing is kept back for the end of a bulk load."""
        await self._collections.present(planned.name)

    async def mark(self, collection: str, mark: Mark) -> None:
        """See StoreWriter."""
        await self._collections.mark(collection, mark)

    async def wipe(self, collection: str) -> None:
        """Delete every object, and every tenant; the class stays as it is."""
        await self._collections.wipe(collection, LEVELS[self._settings.consistency])

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Write a batch. Of a refused batch some requests may have been carried out."""
        return await self._writing.apply(batch)

    async def finish_bulk(self, collection: str) -> None:
        """The graph of vectors grows with each write, and is not waited for."""
        await self._collections.present(collection)

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """The nearest points, best first."""
        return await self._searching.search(collection, query)

    async def check(self) -> list[CheckFinding]:
        """Whether the server answers, is new enough, and what of its classes stays behind."""
        told = await outlook.check(self._rest, self._collections, self._tenants, self._chosen)
        return self._findings(told)

    async def check_writing(self, collections: Sequence[str]) -> list[CheckFinding]:
        """Whether its shards take writes; see `WriteCheck`."""
        told = await outlook.check_writing(self._rest, self._collections, collections)
        return self._findings(told)

    async def close(self) -> None:
        """Disconnect. Writes in flight are not waited for."""
        await self._channel.close()
        await self._rest.close()

    def _reader(self, level: int | None) -> Reading:
        return Reading(
            self._channel,
            self._collections,
            self._tenants,
            self._options,
            page_bytes=self._page_bytes,
            level=level,
        )

    def _options(self, collection: str) -> WeaviateOptions:
        return self._chosen.get(collection, _DEFAULTS)

    def _findings(self, told: Sequence[outlook.Told]) -> list[CheckFinding]:
        subject = f"{WEAVIATE.name} {self._settings.address()}"
        return [
            CheckFinding(severity, code, subject, message) for severity, code, message in told
        ]
