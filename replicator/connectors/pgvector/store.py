"""The pgvector connector."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from replicator.connectors.pgvector import indexes, outlook
from replicator.connectors.pgvector.collection import Collections
from replicator.connectors.pgvector.connections import Connections
from replicator.connectors.pgvector.kind import PGVECTOR, PgvectorOptions, PgvectorSettings
from replicator.connectors.pgvector.reading import Reading
from replicator.connectors.pgvector.searching import Searching
from replicator.connectors.pgvector.tables import Tables
from replicator.connectors.pgvector.writing import Writing
from replicator.model.filter import Filter
from replicator.model.finding import CheckFinding
from replicator.model.pages import PAGE_BYTES
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Receipt, WriteBatch
from replicator.ports.store import Page


class PgvectorStore:
    """
    A PostgreSQL database with pgvector, as source or target.

    Connects with the first call, so it may be made without a running loop. Reads of a primary
    show whatever was committed, so that there is no more careful way to read it.
    """

    def __init__(self, settings: PgvectorSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: what a reply with points may hold, about."""
        self._settings = settings
        self._tables = Tables(settings.schema)
        self._connections = Connections(settings)
        self._collections = Collections(self._connections, self._tables, settings.schema)
        self._reading = Reading(self._connections, self._tables, page_bytes)
        self._writing = Writing(self._connections, self._tables, PGVECTOR.traits)
        self._searching = Searching(self._connections, self._tables)

    def choose(self, collection: str, options: PgvectorOptions) -> None:
        """See `Optioned`."""
        self._tables.choose(collection, options)

    @property
    def traits(self) -> Traits:
        """Those of its kind."""
        return PGVECTOR.traits

    @property
    def staleness_s(self) -> float:
        """How long a read may lag a write that returned."""
        return float(self._settings.staleness)

    @property
    def late_write_bound_s(self) -> float:
        """How long after an unknown outcome a commit may still take effect."""
        return float(self._settings.late_write_bound)

    async def collections(self) -> list[str]:
        """The tables of the schema that hold vectors and may be read."""
        return await self._collections.names()

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema, with an exact count of points; None when there is no such table."""
        return await self._collections.describe(collection)

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """Ranges of keys of about equal shares, by a sample; they cover every key."""
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

    def scan_where(
        self, chunk: Chunk, after: str | None, page_rows: int, where: Filter
    ) -> AsyncIterator[Page]:
        """As `Narrower.scan_where`."""
        return self._reading.scan(chunk, after, page_rows, where=where)

    async def count_where(self, collection: str, where: Filter) -> int:
        """As `Narrower.count_where`."""
        return await self._reading.count(collection, where)

    async def fetch_fields(
        self, collection: str, ids: Sequence[PointId], fields: Sequence[str]
    ) -> dict[PointId, Point]:
        """As `Narrower.fetch_fields`."""
        return await self._reading.fetch(collection, ids, fields=fields)

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
        """See StoreWriter. Raises Refused for a table that cannot hold the vectors, or holds
        points under another mark.
        """
        await self._collections.ensure(wanted)

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """The collection as `ensure` and `configure` would make it."""
        return indexes.plan(wanted)

    async def configure(self, planned: CollectionSchema) -> None:
        """Make the indexes of the vectors, which waited for the end of the bulk load."""
        await self._collections.configure(planned)

    async def mark(self, collection: str, mark: Mark) -> None:
        """See StoreWriter."""
        await self._collections.mark(collection, mark)

    async def wipe(self, collection: str) -> None:
        """Truncate the table, and take our mark from it."""
        await self._collections.wipe(collection)

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Write a batch in one transaction. Of a refused batch nothing is written."""
        return await self._writing.apply(batch)

    async def finish_bulk(self, collection: str) -> None:
        """See StoreWriter; the caller bounds it."""
        await self._collections.finish_bulk(collection)

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """The nearest points, best first: by the index of the column, or `exact`."""
        return await self._searching.search(collection, query)

    async def check(self) -> list[CheckFinding]:
        """Whether the server answers, has the extension, and is fit to be read."""
        told = await outlook.check(self._connections, self._settings, self._tables)
        return self._findings(told)

    async def check_writing(self, collections: Sequence[str]) -> list[CheckFinding]:
        """Whether it lets us write; see `WriteCheck`."""
        told = await outlook.check_writing(
            self._connections, self._settings, self._tables, collections
        )
        return self._findings(told)

    async def close(self) -> None:
        """Disconnect. Writes in flight are not waited for."""
        await self._connections.close()

    def _findings(self, told: Sequence[outlook.Told]) -> list[CheckFinding]:
        subject = f"{PGVECTOR.name} {self._settings.address()}"
        return [
            CheckFinding(severity, code, subject, message) for severity, code, message in told
        ]
