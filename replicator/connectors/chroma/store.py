"""The Chroma connector."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence

from replicator.connectors.chroma.api import Api, Found
from replicator.connectors.chroma.collection import Collections
from replicator.connectors.chroma.configuration import OF_A_FOLDER, SETTINGS
from replicator.connectors.chroma.embedded import EmbeddedApi
from replicator.connectors.chroma.http import HttpApi
from replicator.connectors.chroma.kind import CHROMA, ChromaOptions, ChromaSettings
from replicator.connectors.chroma.reading import Reading
from replicator.connectors.chroma.writing import Writing
from replicator.errors import Refused, ReplicatorError
from replicator.model.finding import CheckFinding, Severity
from replicator.model.pages import PAGE_BYTES
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Receipt, WriteBatch
from replicator.ports.store import Page

_WIPED_AT_ONCE = 5_000
"""Records of one deletion of a wipe: as many as a write may hold, about."""

_DEFAULTS = ChromaOptions()


class ChromaStore:
    """
    A Chroma server, or a folder of Chroma, as source or target.

    Connects with the first call, so it may be made without a running loop.
    """

    def __init__(self, settings: ChromaSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: what a reply with points may hold, about."""
        self._settings = settings
        self._traits = settings.traits()
        self._api: Api = EmbeddedApi(settings) if settings.path else HttpApi(settings)
        carried = OF_A_FOLDER if settings.path else SETTINGS
        self._collections = Collections(self._api, self._traits, carried)
        self._options: dict[str, ChromaOptions] = {}
        limit = self._traits.limits.records_max
        assert limit is not None, "Chroma has one"
        self._records_max = limit
        self._reading = Reading(
            self._api,
            self._collections,
            page_bytes=page_bytes,
            rows_max=limit,
            document_field=self._document_field,
        )
        self._writing = Writing(
            self._api,
            self._collections,
            traits=self._traits,
            document_field=self._document_field,
        )

    def choose(self, collection: str, options: ChromaOptions) -> None:
        """See `Optioned`."""
        self._options[collection] = options

    @property
    def traits(self) -> Traits:
        """Those of its kind; of a folder, and of Chroma Cloud, less."""
        return self._traits

    @property
    def staleness_s(self) -> float:
        """How long a read may lag a write that returned."""
        return 0.0 if self._settings.path else float(self._settings.staleness)

    @property
    def late_write_bound_s(self) -> float:
        """How long after an unknown outcome a write may still land. See `embedded` for 0."""
        return 0.0 if self._settings.path else float(self._settings.late_write_bound)

    async def collections(self) -> list[str]:
        """Those of the database, page by page."""
        return await self._collections.names()

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema, with an exact count of points; None when there is no such collection."""
        return await self._collections.describe(collection)

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """One chunk; see `reading`."""
        del parts
        schema = await self._collections.describe(collection)
        if schema is None:
            raise Refused("source-missing", f"Chroma has no collection {collection!r}")
        return [Chunk(0, collection, "")]

    def scan(self, chunk: Chunk, after: str | None, page_rows: int) -> AsyncIterator[Page]:
        """From the youngest point to the oldest, pages smaller where the points are large."""
        return self._reading.scan(chunk, after, page_rows)

    def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncIterator[Page]:
        """As `KeyReader.scan_keys`."""
        return self._reading.scan(chunk, after, page_rows, keys_only=True, fields=fields)

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """As `KeyReader.present`."""
        return await self._reading.present(collection, ids)

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """The points that exist. An id that is no text is absent."""
        return await self._reading.fetch(collection, ids)

    async def count(self, collection: str) -> int:
        """Exact."""

        async def count(there: Found) -> int:
            return await self._api.count(there.id)

        return await self._collections.using(collection, count, "source-missing")

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """See `Foresight`."""
        return await self._collections.foresee(wanted)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """See StoreWriter. Raises Refused for a collection that cannot hold the vectors, or
        holds points under another mark.
        """
        await self._collections.ensure(wanted)

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """The collection as `ensure` would make it, and nothing else."""
        return self._collections.plan(wanted)

    async def configure(self, planned: CollectionSchema) -> None:
        """Nothing waits for the end of the bulk load."""

    async def mark(self, collection: str, mark: Mark) -> None:
        """See StoreWriter."""
        await self._collections.mark(collection, mark)

    async def wipe(self, collection: str) -> None:
        """Delete every record, and the mark."""
        await self._collections.wipe(collection, min(_WIPED_AT_ONCE, self._records_max))

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Write a batch. Of a refused batch some requests may have been carried out."""
        return await self._writing.apply(batch)

    async def finish_bulk(self, collection: str) -> None:
        """There is no index to wait for: it grows with every write."""

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """The nearest points, best first, by Chroma's index. Raises Refused("unsupported") for
        what it cannot be asked.
        """
        if query.filter is not None:
            raise Refused("unsupported", "Chroma is searched without a filter")
        if query.exact:
            raise Refused("unsupported", "Chroma is searched by its index")
        if query.using or not isinstance(query.vector, bytes):
            raise Refused("unsupported", "Chroma is searched by its one dense vector")
        vector = struct.unpack(f"<{len(query.vector) // 4}f", query.vector)

        async def ask(there: Found) -> list[tuple[str, float]]:
            return await self._api.query(there.id, vector, query.limit)

        nearest = await self._collections.using(collection, ask, "source-missing")
        return [Hit(point_id, -distance) for point_id, distance in nearest]

    async def check(self) -> list[CheckFinding]:
        """Whether it answers, and has the tenant and the database."""
        try:
            await self._api.check()
        except ReplicatorError as exc:
            place = f"{CHROMA.name} {self._settings.address()}"
            return [CheckFinding(Severity.BLOCKS, exc.code, place, exc.message)]
        return []

    async def close(self) -> None:
        """Disconnect. Writes in flight are not waited for."""
        await self._api.close()

    def _document_field(self, collection: str) -> str:
        return self._options.get(collection, _DEFAULTS).document_field
