"""The Qdrant connector."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

from replicator.connectors.qdrant import foresight, ranges
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.collection import Collections
from replicator.connectors.qdrant.configuration import plan
from replicator.connectors.qdrant.filters import write_filter
from replicator.connectors.qdrant.kind import QDRANT, QdrantSettings
from replicator.connectors.qdrant.points import read_id, write_vector
from replicator.connectors.qdrant.ranges import IdRange
from replicator.connectors.qdrant.reading import SCOPES_AT_ONCE, Reading
from replicator.connectors.qdrant.scopes import (
    ShardKeys,
    all_of,
    can_be,
    read_scope,
    select,
    shared,
    some,
)
from replicator.connectors.qdrant.wire import Message, wire
from replicator.connectors.qdrant.writing import Writing
from replicator.errors import Refused, ReplicatorError
from replicator.model.filter import Filter, parse_search_filter
from replicator.model.finding import CheckFinding, Severity
from replicator.model.pages import PAGE_BYTES
from replicator.model.point import Point, PointId, scope_of, within
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Receipt, WriteBatch
from replicator.ports.store import Page

SAMPLES_PER_PART = 64
"""Ids sampled for one chunk. Half of it makes chunks of visibly uneven size; twice only
costs."""

SAMPLES_MAX = 10_000
"""Ids sampled at most: about 300 KB of reply."""

_METADATA_SINCE = (1, 16)
_WRITE_TIMEOUT_SINCE = (1, 17)


class QdrantStore:
    """
    A Qdrant server, or the local store server, as source or target.

    Reads always ask for the payload and all vectors; writes always wait until they are applied.
    Connects with the first call, so it may be made without a running loop.
    """

    def __init__(self, settings: QdrantSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: what a reply with points may hold, about."""
        self._settings = settings
        self._page_bytes = page_bytes
        self._channel = Channel(settings)
        self._collections = Collections(self._channel, settings)
        self._keys = ShardKeys(self._channel)
        self._reading = Reading(self._channel, self._keys, page_bytes)
        self._writing = Writing(self._channel, self._keys, self._reading)

    @property
    def traits(self) -> Traits:
        """Those of its kind."""
        return QDRANT.traits

    @property
    def staleness_s(self) -> float:
        """How long a read may lag a write that returned."""
        return float(self._settings.staleness)

    @property
    def late_write_bound_s(self) -> float:
        """How long after an unknown outcome a write may still land."""
        return float(self._settings.late_write_bound)

    async def collections(self) -> list[str]:
        """Those that the key may see, all in one reply. Aliases have a list of their own."""
        return await self._collections.names()

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema, with an exact count of points; None when there is no such collection."""
        return await self._collections.describe(collection)

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """
        Ranges of ids of about equal shares, by a random sample; they cover every id. Where
        there are scopes, ranges of each, and those to come.
        """
        if not await self._collections.is_scoped(collection):
            return _chunks(collection, await self._cut(collection, parts, None))
        scopes = await self._keys.list(collection)
        parted = [
            part
            for scope in scopes
            for part in await self._cut(collection, shared(parts, scopes), scope)
        ]
        return _chunks(collection, [*parted, IdRange(besides=tuple(scopes))])

    async def split_scopes(
        self, collection: str, parts: int, scopes: Collection[str]
    ) -> list[Chunk]:
        """As `ScopeReader.split_scopes`."""
        parted = [
            part
            for scope in sorted(scopes)
            if can_be(scope)
            for part in await self._cut(collection, shared(parts, scopes), scope)
        ]
        return _chunks(collection, parted)

    async def _cut(self, collection: str, parts: int, scope: str | None) -> list[IdRange]:
        if scope is not None and parts == 1:
            return [IdRange(scope=scope)]
        wanted = min(SAMPLES_MAX, SAMPLES_PER_PART * max(1, parts))
        return ranges.cut(await self._reading.sample(collection, wanted, scope), parts, scope)

    def scan(self, chunk: Chunk, after: str | None, page_rows: int) -> AsyncIterator[Page]:
        """Pages of points in the order of ids, smaller where the points are large."""
        return self._reading.scan(chunk, after, page_rows)

    def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncIterator[Page]:
        """As `KeyReader.scan_keys`."""
        return self._reading.scan(chunk, after, page_rows, keys_only=True, fields=fields)

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """As `KeyReader.present`."""
        return set(await self._reading.glance(collection, ids))

    def scan_where(
        self, chunk: Chunk, after: str | None, page_rows: int, where: Filter
    ) -> AsyncIterator[Page]:
        """As `Narrower.scan_where`."""
        return self._reading.scan(chunk, after, page_rows, where=where)

    async def count_where(self, collection: str, where: Filter) -> int:
        """As `Narrower.count_where`."""
        narrowed = await self._reading.narrowed(collection, where)
        try:
            return await self._collections.count(collection, where=narrowed)
        except Refused:
            # As a scan does: it is then not narrowed.
            return await self._collections.count(collection)

    async def fetch_fields(
        self, collection: str, ids: Sequence[PointId], fields: Sequence[str]
    ) -> dict[PointId, Point]:
        """As `Narrower.fetch_fields`."""
        return await self._reading.glance(collection, ids, fields)

    def consistent(self) -> QdrantStore:
        """As `ConsistentReader.consistent`: by a quorum of the replicas."""
        careful = copy.copy(self)
        careful._reading = Reading(self._channel, self._keys, self._page_bytes, consistent=True)
        return careful

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """The points that exist. An id that Qdrant cannot hold is absent."""
        return await self._reading.fetch(collection, ids)

    async def count(self, collection: str) -> int:
        """Exact."""
        return await self._collections.count(collection)

    async def count_scopes(self, collection: str, scopes: Collection[str]) -> int:
        """As `ScopeReader.count_scopes`, exact."""
        there = set(scopes).intersection(await self._keys.list(collection))
        return await self._collections.count(collection, sorted(there)) if there else 0

    async def ensure(self, wanted: CollectionSchema) -> None:
        """
        Create what is missing, leave the mark, and defer indexing where the settings say so.
        Raises Refused for a collection that cannot hold the vectors, or holds points under
        another mark.
        """
        await self._collections.ensure(wanted)

    async def mark(self, collection: str, mark: Mark) -> None:
        """See StoreWriter. Raises Refused("unsupported") by servers before 1.16."""
        await self._collections.mark(collection, mark)

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """The collection as `ensure` and `configure` would make it, and nothing else."""
        return plan(wanted, self._settings)

    async def configure(self, planned: CollectionSchema) -> None:
        """Put in force what waited for the end of the bulk load."""
        await self._collections.configure(planned)

    async def wipe(self, collection: str) -> None:
        """Delete the collection and create it anew, the same but for the points and the
        mark.
        """
        await self._collections.wipe(collection)

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Write a batch. Of a refused batch, operations before the refused one stay applied."""
        return await self._writing.apply(batch)

    async def finish_bulk(self, collection: str) -> None:
        """Switch indexing on again and wait until the index is built; the caller bounds it."""
        await self._collections.finish_bulk(collection)

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """The nearest points, best first: by the server's own index, or `exact`."""
        request = self._query(collection, query)
        reply = await self._channel.read("Points", "Query", request)
        hits = _hits(reply.result)
        if _are_scoped(hits):
            [hits] = await self._search_scopes(collection, [request])
        return hits

    async def search_many(self, collection: str, queries: Sequence[Query]) -> list[list[Hit]]:
        """As `BatchSearcher.search_many`."""
        requests = [self._query(collection, query) for query in queries]
        found = await self._search_at_once(collection, requests)
        if any(map(_are_scoped, found)):
            return await self._search_scopes(collection, requests)
        return found

    async def _search_at_once(
        self, collection: str, requests: Sequence[Message]
    ) -> list[list[Hit]]:
        request = wire().QueryBatchPoints(
            collection_name=collection, timeout=self._channel.timeout_s
        )
        request.query_points.extend(requests)
        reply = await self._channel.read("Points", "QueryBatch", request)
        return [_hits(answer.result) for answer in reply.result]

    async def _search_scopes(
        self, collection: str, requests: Sequence[Message]
    ) -> list[list[Hit]]:
        """Each scope by itself: an answer over several has one point for equal ids."""
        found: list[list[Hit]] = [[] for _ in requests]
        for scopes in some(await self._keys.list(collection), SCOPES_AT_ONCE):
            asked = [[_of_scope(each, scope) for each in requests] for scope in scopes]
            for answers in await all_of(
                [self._search_at_once(collection, each) for each in asked]
            ):
                for number, hits in enumerate(answers):
                    found[number] += hits
        return [
            await self._nearest(collection, request, hits)
            for request, hits in zip(requests, found, strict=True)
        ]

    async def _nearest(
        self, collection: str, request: Message, hits: Sequence[Hit]
    ) -> list[Hit]:
        larger = await self._collections.larger_is_nearer(collection, request.using)
        nearer = -1 if larger else 1
        return sorted(hits, key=lambda hit: nearer * hit.score)[: request.limit]

    def _query(self, collection: str, query: Query) -> Message:
        request = wire().QueryPoints(
            collection_name=collection, limit=query.limit, timeout=self._channel.timeout_s
        )
        if query.using:
            request.using = query.using
        write_vector(request.query.nearest, query.vector, query.using)
        if query.exact:
            request.params.exact = True
        if query.filter:
            write_filter(request.filter, parse_search_filter(query.filter))
        return request

    async def point_alias(self, alias: str, collection: str) -> None:
        """Move the alias in one request."""
        await self._collections.point_alias(alias, collection)

    async def physical(self, collection: str) -> str | None:
        """The collection behind a name, which may be an alias; None where it is not told."""
        return await self._collections.physical(collection)

    async def read_alias(self, alias: str) -> str | None:
        """The collection behind the alias."""
        return (await self._collections.aliases()).get(alias)

    async def check(self) -> list[CheckFinding]:
        """Whether the server answers, is new enough, and lets this key read."""
        try:
            health = await self._channel.read(
                "Qdrant", "HealthCheck", wire().HealthCheckRequest()
            )
            findings = self._check_version(health.version)
            await self._channel.read("Collections", "List", wire().ListCollectionsRequest())
        except ReplicatorError as exc:
            return [self._finding(Severity.BLOCKS, exc.code, exc.message)]
        return findings

    async def check_writing(self, collections: Sequence[str]) -> list[CheckFinding]:
        """Whether it lets this key write; see `WriteCheck`."""
        told = await foresight.check_writing(self._channel, collections)
        return [self._finding(severity, code, message) for severity, code, message in told]

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """See `Foresight`."""
        return await foresight.foresee(self._channel, wanted)

    async def close(self) -> None:
        """Disconnect. Writes in flight are not waited for."""
        await self._channel.close()

    def _check_version(self, version: str) -> list[CheckFinding]:
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if len(numbers) < 2:
            return []  # A development build says "dev" or nothing.
        if numbers < _METADATA_SINCE:
            return [
                self._finding(
                    Severity.WARNS,
                    "unsupported",
                    f"Qdrant {version} keeps no collection metadata: it can be a source, but a"
                    " target needs 1.16 or newer",
                )
            ]
        if numbers < _WRITE_TIMEOUT_SINCE:
            return [
                self._finding(
                    Severity.WARNS,
                    "unsupported",
                    f"Qdrant {version} knows no timeout of writes: a slow write has an unknown"
                    " outcome; 1.17 or newer says more",
                )
            ]
        return []

    def _finding(self, severity: Severity, code: str, message: str) -> CheckFinding:
        return CheckFinding(severity, code, f"qdrant {self._channel.address}", message)


def _chunks(collection: str, parts: Sequence[IdRange]) -> list[Chunk]:
    return [
        Chunk(number, collection, ranges.write_spec(part)) for number, part in enumerate(parts)
    ]


def _of_scope(request: Message, scope: str) -> Message:
    """The same search, within a scope."""
    within_scope = wire().QueryPoints()
    within_scope.CopyFrom(request)
    select(within_scope, scope)
    return within_scope


def _are_scoped(hits: Iterable[Hit]) -> bool:
    return any(scope_of(hit.id) is not None for hit in hits)


def _hits(points: Iterable[Message]) -> list[Hit]:
    return [
        Hit(
            within(
                read_scope(point.shard_key) if point.HasField("shard_key") else None,
                read_id(point.id),
            ),
            point.score,
        )
        for point in points
    ]
