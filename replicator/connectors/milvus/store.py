"""The connector: the collections of one database of Milvus, as the engine sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from replicator.connectors.milvus.channel import Channel
from replicator.connectors.milvus.collection import Collections
from replicator.connectors.milvus.configuration import plan
from replicator.connectors.milvus.kind import MILVUS, MilvusOptions, MilvusSettings
from replicator.connectors.milvus.layout import Layout
from replicator.connectors.milvus.layouts import Layouts
from replicator.connectors.milvus.reading import Reading
from replicator.connectors.milvus.searching import Searching
from replicator.connectors.milvus.writing import Writing
from replicator.errors import ReplicatorError
from replicator.model.finding import CheckFinding, Severity
from replicator.model.pages import PAGE_BYTES
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Receipt, WriteBatch
from replicator.ports.store import Page


class MilvusStore:
    """
    A database of Milvus, as source or target.

    Connects with the first call, so it may be made without a running loop. Every read asks for
    the level Strong, so that there is no more careful way to read it.
    """

    def __init__(self, settings: MilvusSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: what a reply with points may hold, about."""
        self._settings = settings
        self._channel = Channel(settings)
        self._layouts = Layouts(self._channel)
        self._reading = Reading(self._layouts, page_bytes)
        self._writing = Writing(self._channel, self._layouts, settings.json_bytes_max)
        self._searching = Searching(self._layouts)
        self._collections = Collections(
            self._channel, self._layouts, self._reading, self._writing
        )

    def choose(self, collection: str, options: MilvusOptions) -> None:
        """See `Optioned`."""
        self._layouts.choose(collection, options)

    @property
    def traits(self) -> Traits:
        """Those of its kind."""
        return MILVUS.traits

    @property
    def staleness_s(self) -> float:
        """A read shows what was written before it."""
        return 0.0

    @property
    def late_write_bound_s(self) -> float:
        """How long after an unknown outcome a write may still land."""
        return float(self._settings.late_write_bound)

    async def collections(self) -> list[str]:
        """Those of the database, all in one reply."""
        return await self._collections.names()

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema, with an exact count of points; None when there is no such collection."""
        return await self._collections.describe(collection)

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """Ranges of keys of about equal shares, by counts; they cover every key."""
        return await self._reading.split(collection, parts)

    def scan(self, chunk: Chunk, after: str | None, page_rows: int) -> AsyncIterator[Page]:
        """Pages in the order of keys, smaller where the points are large."""
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
        """The points that exist. An id that the key cannot hold is absent."""
        return await self._reading.fetch(collection, ids)

    async def count(self, collection: str) -> int:
        """Exact."""
        return await self._reading.count(collection)

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """See `Foresight`."""
        return await self._collections.foresee(wanted)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """See StoreWriter. Raises Refused for a collection that cannot hold the vectors, or
        holds points under another mark.
        """
        await self._collections.ensure(wanted)

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """The collection as `ensure` would make it."""
        return plan(wanted)

    async def configure(self, planned: CollectionSchema) -> None:
        """Nothing waits for the end of the bulk load."""

    async def mark(self, collection: str, mark: Mark) -> None:
        """See StoreWriter."""
        await self._collections.mark(collection, mark)

    async def wipe(self, collection: str) -> None:
        """Truncate the collection, and take our mark from it."""
        await self._collections.wipe(collection)

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Write a batch. Of a refused batch some requests may have been carried out."""
        return await self._writing.apply(batch)

    async def finish_bulk(self, collection: str) -> None:
        """There is nothing to end: the server seals and indexes segments as they fill."""

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """The nearest points, best first. Raises Refused("unsupported") for what Milvus cannot
        be asked.
        """
        return await self._searching.search(collection, query)

    async def check(self) -> list[CheckFinding]:
        """Whether the server answers, and what of the collections stays behind."""
        try:
            await self._collections.names()
            told = [await self._layouts.find(name) for name in self._layouts.options]
        except ReplicatorError as exc:
            return [self._finding(Severity.BLOCKS, exc.code, exc.message)]
        return [
            finding for layout in told if layout is not None for finding in self._of(layout)
        ]

    async def close(self) -> None:
        """Disconnect. Writes in flight are not waited for."""
        await self._channel.close()

    def _of(self, layout: Layout) -> list[CheckFinding]:
        found = []
        if layout.left:
            message = (
                f"of {layout.name!r} the fields {', '.join(layout.left)} are neither key,"
                " vector nor payload: they stay behind, and what is written empties them"
            )
            found.append(self._finding(Severity.INFORMS, "unsupported", message))
        if layout.key_is_made:
            message = (
                f"the keys of {layout.name!r} are made by Milvus (autoID): it can be copied"
                " from, and neither written after a cutover nor gone back to"
            )
            found.append(self._finding(Severity.WARNS, "unsupported", message))
        return found

    def _finding(self, severity: Severity, code: str, message: str) -> CheckFinding:
        place = f"{MILVUS.name} {self._settings.address()}"
        return CheckFinding(severity, code, place, message)
