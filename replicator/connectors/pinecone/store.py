"""The connector: one index of Pinecone, as the engine sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from replicator.connectors.pinecone.collection import Collections
from replicator.connectors.pinecone.filters import translated
from replicator.connectors.pinecone.index import Index
from replicator.connectors.pinecone.kind import PINECONE, PineconeOptions, PineconeSettings
from replicator.connectors.pinecone.reading import Reading
from replicator.connectors.pinecone.records import parts_of
from replicator.connectors.pinecone.writing import Writing
from replicator.errors import Refused, ReplicatorError
from replicator.model.finding import CheckFinding, Severity
from replicator.model.pages import PAGE_BYTES
from replicator.model.point import Point, PointId, SparseVector
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Receipt, WriteBatch
from replicator.ports.store import Page

_DEFAULTS = PineconeOptions()

_NAMESPACES_MAX = {"starter": 100, "standard": 1_000, "enterprise": 100_000}
"""Of one index; the vendor's page of limits. Of dedicated read nodes it says nothing apart."""

_TOP_K = 10_000
"""What a query may ask for; by the vendor's client."""


class PineconeStore:
    """
    An index of Pinecone as source or target.

    Connects with the first call, so it may be made without a running loop.

    Searches say the number of the last write that they have seen, fetches and lists say none:
    what a search sees a fetch need not. So nothing here waits for a number, and reads are as
    stale as the settings say.
    """

    def __init__(self, settings: PineconeSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: what a reply with points may hold, about."""
        self._settings = settings
        self._options: dict[str, PineconeOptions] = {}
        self._index = Index(settings)
        self._collections = Collections(self._index)
        self._reading = Reading(self._index, page_bytes=page_bytes, sparse=self._sparse)
        self._writing = Writing(self._index, traits=PINECONE.traits, sparse=self._sparse)

    def choose(self, collection: str, options: PineconeOptions) -> None:
        """See `Optioned`."""
        self._options[collection] = options

    @property
    def traits(self) -> Traits:
        """Those of its kind."""
        return PINECONE.traits

    @property
    def staleness_s(self) -> float:
        """How long a read may lag a write that returned."""
        return float(self._settings.staleness)

    @property
    def late_write_bound_s(self) -> float:
        """How long after an unknown outcome a write may still land."""
        return float(self._settings.late_write_bound)

    async def collections(self) -> list[str]:
        """The namespaces that the index lists, page by page."""
        return await self._index.namespaces()

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema, without a count; None where there is no such namespace."""
        return await self._collections.describe(collection, self._sparse(collection))

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """By what ids begin with; see `prefixes`."""
        return await self._reading.split(collection, parts)

    def scan(self, chunk: Chunk, after: str | None, page_rows: int) -> AsyncIterator[Page]:
        """In the order of ids; pages of up to a hundred, smaller where the points are large."""
        return self._reading.scan(chunk, after, page_rows)

    def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncIterator[Page]:
        """As `KeyReader.scan_keys`. Fields are read with the vectors beside them."""
        return self._reading.scan(chunk, after, page_rows, keys_only=True, fields=fields)

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """As `KeyReader.present`."""
        return await self._reading.present(collection, ids)

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """The points that exist. An id that no record can have is absent."""
        return await self._reading.fetch(collection, ids)

    async def count(self, collection: str) -> int | None:
        """None: what the service counts lags what was written, by an unknown time."""
        del collection
        return None

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """See `Foresight`."""
        return await self._collections.foresee(wanted, self._sparse(wanted.name))

    async def ensure(self, wanted: CollectionSchema) -> None:
        """See StoreWriter. Raises Refused for an index that cannot hold the vectors."""
        await self._collections.ensure(wanted, self._sparse(wanted.name))

    async def mark(self, collection: str, mark: Mark) -> None:
        """There is no place for one."""
        del collection, mark

    async def wipe(self, collection: str) -> None:
        """Delete every record; the namespace stays."""
        await self._index.delete(collection, None)

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Write a batch. Of a refused batch some requests may have been carried out."""
        sparse = self._sparse(batch.collection)
        schema = await self._collections.schema(batch.collection, sparse)
        return await self._writing.apply(batch, schema)

    async def finish_bulk(self, collection: str) -> None:
        """There is no index to wait for."""

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """The nearest points, best first. Raises Refused("unsupported") for what Pinecone
        cannot be asked.
        """
        if query.exact:
            raise Refused("unsupported", "Pinecone is searched by its index")
        schema = await self._collections.schema(collection, self._sparse(collection))
        if query.using not in (schema.vectors or {}):
            raise Refused("unsupported", f"the index has no vector {query.using!r}")
        if query.using:
            raise Refused("unsupported", "a sparse vector is not searched without a dense one")
        asked = translated(query.filter)
        limit = min(query.limit + len(asked.without), _TOP_K)
        found = await self._index.query(
            collection, limit, filter=asked.filter, **_asked_by(query)
        )
        if not found.matches:
            await self._reading.check(collection)
        shape = await self._collections.shape()
        # The square of a distance: less is nearer.
        sign = -1.0 if shape.distance is Distance.EUCLID else 1.0
        hits = [Hit(each.id, sign * each.score) for each in found.matches]
        return [hit for hit in hits if hit.id not in asked.without][: query.limit]

    async def check(self) -> list[CheckFinding]:
        """Whether the service answers, and the index can be used."""
        try:
            await self._collections.shape()
            await self._index.ids("", "", None, 1)
        except ReplicatorError as exc:
            return [CheckFinding(Severity.BLOCKS, exc.code, self._place, exc.message)]
        return []

    async def check_writing(self, collections: Sequence[str]) -> list[CheckFinding]:
        """As `WriteCheck`: whether the plan has room for the namespaces."""
        most = _NAMESPACES_MAX.get(self._settings.plan)
        try:
            there = set(await self._index.namespaces())
        except ReplicatorError as exc:
            return [CheckFinding(Severity.BLOCKS, exc.code, self._place, exc.message)]
        wanted = len(there | set(collections))
        if most is None or wanted <= most:
            return []
        message = (
            f"{wanted} namespaces would be in the index, and the plan {self._settings.plan!r}"
            f" has {most} of them"
        )
        return [CheckFinding(Severity.BLOCKS, "quota-exceeded", self._place, message)]

    async def close(self) -> None:
        """Disconnect. Writes in flight are not waited for."""
        await self._index.close()

    @property
    def _place(self) -> str:
        return f"{PINECONE.name} {self._settings.address()}"

    def _sparse(self, collection: str) -> str:
        return self._options.get(collection, _DEFAULTS).sparse


def _asked_by(query: Query) -> dict[str, Any]:
    parts = parts_of(query.vector) if isinstance(query.vector, bytes | SparseVector) else {}
    if not parts:
        raise Refused("unsupported", "Pinecone is searched by a dense or a sparse vector")
    if "values" in parts:
        return {"vector": parts["values"]}
    return {"sparse_vector": parts["sparse_values"]}
