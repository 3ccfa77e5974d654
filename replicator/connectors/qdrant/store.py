"""The Qdrant connector."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

from replicator.connectors.qdrant import ranges
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.collection import Collections
from replicator.connectors.qdrant.configuration import plan
from replicator.connectors.qdrant.filters import write_filter
from replicator.connectors.qdrant.points import (
    can_hold,
    read_id,
    read_point,
    write_id,
    write_vector,
)
from replicator.connectors.qdrant.wire import wire
from replicator.connectors.qdrant.writing import Writing
from replicator.errors import ReplicatorError
from replicator.model.finding import CheckFinding, Severity
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Mark
from replicator.model.search import Hit, Query
from replicator.model.write import Receipt, WriteBatch
from replicator.ports.store import Page
from replicator.settings.stores import QdrantSettings

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

    def __init__(self, settings: QdrantSettings) -> None:
        self._settings = settings
        self._channel = Channel(settings)
        self._collections = Collections(self._channel, settings)
        self._writing = Writing(self._channel)

    @property
    def staleness_s(self) -> float:
        """How long a read may lag a write that returned."""
        return float(self._settings.staleness)

    @property
    def late_write_bound_s(self) -> float:
        """How long after an unknown outcome a write may still land."""
        return float(self._settings.late_write_bound)

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema, with an exact count of points; None when there is no such collection."""
        return await self._collections.describe(collection)

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """Ranges of ids of about equal shares, by a random sample; they cover every id."""
        request = wire().QueryPoints(
            collection_name=collection,
            limit=min(SAMPLES_MAX, SAMPLES_PER_PART * max(1, parts)),
            timeout=self._channel.timeout_s,
        )
        request.query.sample = wire().enum("Sample")["Random"]
        reply = await self._channel.read("Points", "Query", request)
        parted = ranges.cut((read_id(point.id) for point in reply.result), parts)
        return [
            Chunk(number, collection, ranges.write_spec(part))
            for number, part in enumerate(parted)
        ]

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncIterator[Page]:
        """Pages of points in the order of ids."""
        part = ranges.read_spec(chunk.spec)
        start = ranges.successor(ranges.read_cursor(after)) if after is not None else part.start
        if after is not None and start is None:
            return
        while True:
            request = wire().ScrollPoints(
                collection_name=chunk.collection,
                limit=page_rows,
                timeout=self._channel.timeout_s,
            )
            request.with_payload.enable = True
            request.with_vectors.enable = True
            if start is not None:
                write_id(request.offset, start)
            reply = await self._channel.read("Points", "Scroll", request)
            points = [
                read_point(point) for point in reply.result if part.holds(read_id(point.id))
            ]
            following = (
                read_id(reply.next_page_offset) if reply.HasField("next_page_offset") else None
            )
            if following is None or not part.holds(following):
                yield Page(points, None)
                return
            # Not what the server offers to go on from: that point may be deleted, and one may
            # be written before it, ere this cursor is used.
            yield Page(points, ranges.write_cursor(points[-1].id))
            start = following

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """The points that exist. An id that Qdrant cannot hold is absent."""
        request = wire().GetPoints(collection_name=collection, timeout=self._channel.timeout_s)
        request.with_payload.enable = True
        request.with_vectors.enable = True
        for point_id in ids:
            if can_hold(point_id):
                write_id(request.ids.add(), point_id)
        reply = await self._channel.read("Points", "Get", request)
        points = [read_point(point) for point in reply.result]
        return {point.id: point for point in points}

    async def count(self, collection: str) -> int:
        """Exact."""
        return await self._collections.count(collection)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """
        Create what is missing, leave the mark, and defer indexing where the settings say so.
        Raises Refused for a collection that cannot hold the vectors, or holds points under
        another mark.
        """
        await self._collections.ensure(wanted)

    @property
    def marks(self) -> bool:
        """In the collection's metadata."""
        return True

    @property
    def creates_on_write(self) -> bool:
        """A write to a collection that is not there is refused."""
        return False

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
        """The nearest points by the server's own index, best first."""
        request = wire().QueryPoints(
            collection_name=collection, limit=query.limit, timeout=self._channel.timeout_s
        )
        if query.using:
            request.using = query.using
        write_vector(request.query.nearest, query.vector, query.using)
        if query.filter:
            write_filter(request.filter, query.filter)
        reply = await self._channel.read("Points", "Query", request)
        return [Hit(read_id(point.id), point.score) for point in reply.result]

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
        """Whether the server answers, is new enough, and lets this key read and write."""
        try:
            health = await self._channel.read(
                "Qdrant", "HealthCheck", wire().HealthCheckRequest()
            )
            findings = self._check_version(health.version)
            await self._channel.read("Collections", "List", wire().ListCollectionsRequest())
        except ReplicatorError as exc:
            return [self._finding(Severity.BLOCKS, exc.code, exc.message)]
        return findings + await self._check_writing()

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

    async def _check_writing(self) -> list[CheckFinding]:
        """Try a change that changes nothing: delete an alias that nobody has."""
        request = wire().ChangeAliases(timeout=self._channel.timeout_s)
        request.actions.add().delete_alias.alias_name = f"replicator-check-{uuid.uuid4()}"
        try:
            await self._channel.change("UpdateAliases", request)
        except ReplicatorError as exc:
            if exc.code == "permission-denied":
                message = (
                    "this key may not create collections or move aliases; as a target, and for"
                    f" the way back, it must be able to write its collections: {exc.message}"
                )
                return [self._finding(Severity.WARNS, exc.code, message)]
            return [self._finding(Severity.WARNS, exc.code, exc.message)]
        return []

    def _finding(self, severity: Severity, code: str, message: str) -> CheckFinding:
        return CheckFinding(severity, code, f"qdrant {self._settings.url}", message)
