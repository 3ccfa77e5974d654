"""
What a store can do. A connector implements capabilities, not "source" or "target": after the
switch the roles are exchanged. What reads is called by `stream.reading.Reader` and by nobody
else.

All methods are called from one event loop and may run concurrently with each other. Errors come
translated into the tree of `errors`; nothing here retries, times or logs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from replicator.errors import Rejected
from replicator.model.filter import Filter
from replicator.model.finding import CheckFinding
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Receipt, WriteBatch


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True):
    """
    A row that the store holds and that cannot be read as a point: NaN, malformed, a wrong type.
    `id` is None when even that could not be read; `place` says where the row lies.
    """

    id: PointId | None
    place: str
    error: Rejected
    raw: bytes


class Page(msgspec.Struct, frozen=True):
    """
    Some points of a scan. `cursor` resumes after the last of them; None when the chunk is at
    its end. `rejected` are rows met on the way that are no points: the caller keeps them as
    dead letters before it goes past the cursor.
    """

    points: list[Point]
    cursor: str | None
    rejected: tuple[RejectedRow, ...] = ()


class StoreReader(Protocol):
    """Read points back. Vectors come as bytes."""

    @property
    def traits(self) -> Traits:
        """What the store is: that of its kind, where this one is no less."""
        ...

    @property
    def staleness_s(self) -> float:
        """How long a read may lag a write that returned; 0 where reads see their own writes."""
        ...

    async def collections(self) -> list[str]:
        """
        Every collection that the store lists to these credentials, each once, sorted; an alias
        is no collection. What comes or goes meanwhile may be in it. Raises as `describe` does.
        """
        ...

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The collection's schema, or None when there is no such collection."""
        ...

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """
        Cut the collection into about `parts` disjoint chunks that together cover every key,
        present and future. Called once for a copy: the chunks are persisted and never
        recomputed.
        """
        ...

    def scan(self, chunk: Chunk, after: str | None, page_rows: int) -> AsyncIterator[Page]:
        """
        Read a chunk from its beginning, or after the cursor of an earlier page. A page has at
        most `page_rows` rows, and fewer where they are large: it is bounded in bytes as well,
        and what the scan has given it does not hold any more. Every key that
        is present throughout the scan is returned, in a stable order; keys that come and go may
        be. A scan of a collection that vanishes raises Refused. However it ends, `aclose` is
        called where the iterator has it: what is open at the server ends there.
        """
        ...

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """The points that exist, by id as given. An id that is not in the answer is absent."""
        ...

    async def count(self, collection: str) -> int | None:
        """Points in the collection, exact where the store can say; None where it cannot say at
        all.
        """
        ...


class StoreWriter(Protocol):
    """Write points. Idempotent: the same batch twice leaves what it left once."""

    @property
    def traits(self) -> Traits:
        """As in StoreReader."""
        ...

    @property
    def late_write_bound_s(self) -> float:
        """How long after an unknown outcome a write may still land."""
        ...

    async def ensure(self, wanted: CollectionSchema) -> None:
        """
        Create the collection if it is absent, with `wanted` vectors and payload indexes, and
        leave the mark `wanted.capture_id` where the store has collection metadata. An existing
        collection keeps its points.
        """
        ...

    async def mark(self, collection: str, mark: Mark) -> None:
        """Replace the mark of a collection that exists, whatever it holds. Idempotent."""
        ...

    async def wipe(self, collection: str) -> None:
        """Remove every point, and the mark. Only ever called on a person's word that names the
        collection.
        """
        ...

    async def apply(self, batch: WriteBatch) -> Receipt:
        """
        Write a batch; returns only when the effect is durable and visible to a read
        `staleness_s` later.

        Raises Retryable when nothing was written, OutcomeUnknown when that cannot be known,
        Rejected when the store refuses the batch as a whole because of some point in it (the
        caller bisects).
        """
        ...

    async def finish_bulk(self, collection: str) -> None:
        """End the deferral of indexing that `ensure` may have begun, and wait until it is done.
        Idempotent.
        """
        ...


class StoreSearcher(Protocol):
    """Search, for quality checks."""

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """The nearest points, best first."""
        ...


@runtime_checkable
class KeyReader(Protocol):
    """A store that tells which keys there are without reading what they hold."""

    def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncIterator[Page]:
        """As `StoreReader.scan`, of points that need have nothing but their ids and `fields` of
        the payload.
        """
        ...

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """Which of these ids exist."""
        ...


@runtime_checkable
class ScopeReader(Protocol):
    """
    A store whose collections can have scopes: tenants, partitions, shard keys. Where one has
    (`CollectionSchema.scoped`), every id that is read from it or written to it is a `ScopedId`.

    A scope is made by the first point that is written to it. What is in no scope that there is,
    and an id without one, is absent: it is not found; to delete or to patch it does nothing.
    `split` covers scopes that are made later, and that one vanishes is no error of a scan.
    """

    async def split_scopes(
        self, collection: str, parts: int, scopes: Collection[str]
    ) -> list[Chunk]:
        """As `StoreReader.split`, of these scopes alone, whether they are there or not."""
        ...

    async def count_scopes(self, collection: str, scopes: Collection[str]) -> int | None:
        """As `StoreReader.count`, of these scopes alone."""
        ...


@runtime_checkable
class Narrower(Protocol):
    """
    A store that leaves out of a reading what a filter excludes, so that a part of a collection
    costs no reading of the whole.

    It leaves out only what is sure not to match (`model.narrowing`), and may give more: whoever
    reads decides by the whole filter. A store that cannot tell, or is not allowed to look,
    gives everything.
    """

    def scan_where(
        self, chunk: Chunk, after: str | None, page_rows: int, where: Filter
    ) -> AsyncIterator[Page]:
        """As `StoreReader.scan`, of the points that may match; a cursor of the one goes on in
        the other.
        """
        ...

    async def count_where(self, collection: str, where: Filter) -> int | None:
        """As `StoreReader.count`, of the points that `scan_where` gives."""
        ...

    async def fetch_fields(
        self, collection: str, ids: Sequence[PointId], fields: Sequence[str]
    ) -> dict[PointId, Point]:
        """As `StoreReader.fetch`, of points that need have nothing but these fields of the
        payload; whether the rest of a row could be read does not matter.
        """
        ...


@runtime_checkable
class ConsistentReader(Protocol):
    """A store that can be read with more care than it takes by itself."""

    def consistent(self) -> Store:
        """
        The same store, whose reads by id and scans ask for as much agreement as it can give (a
        quorum of replicas, the leader, a strong level), at its price. Its `staleness_s` says
        how much they may lag still. It shares the connections of this one, which is closed
        alone.
        """
        ...


@runtime_checkable
class BatchSearcher(Protocol):
    """A store that answers several searches in one request."""

    async def search_many(self, collection: str, queries: Sequence[Query]) -> list[list[Hit]]:
        """As `StoreSearcher.search` for each, in their order. Raises what one of them would."""
        ...


@runtime_checkable
class AliasKeeper(Protocol):
    """A store whose aliases move atomically from one collection to another."""

    async def point_alias(self, alias: str, collection: str) -> None:
        """Move the alias in one request."""
        ...

    async def read_alias(self, alias: str) -> str | None:
        """The collection behind the alias; None when there is no such alias."""
        ...


@runtime_checkable
class Planner(Protocol):
    """A store that makes collections with settings of its own, beyond vectors and indexes."""

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """
        What `ensure` and `configure` would make of `wanted`, without asking anybody: what it
        lacks of `wanted` would be lost. A plan of a plan is the same. Raises
        Refused("config-invalid") for a setting that the store does not have.
        """
        ...

    async def configure(self, planned: CollectionSchema) -> None:
        """
        Put in force the settings that `ensure` kept back for the bulk load, in a collection
        that it made. Called after the copy and before `finish_bulk`; idempotent. Derives what
        is left to do from the plan and what is there, never from memory.
        """
        ...


@runtime_checkable
class Optioned(Protocol):
    """A store of a kind whose collections have options (`StoreSettings.options`)."""

    def choose(self, collection: str, options: Any) -> None:
        """How a collection is kept. Called before the collection is asked for; one that is
        never told of has every option at its default.
        """
        ...


@runtime_checkable
class SelfCheck(Protocol):
    """A part that can tell, in preflight, what stands in its way."""

    async def check(self) -> list[CheckFinding]:
        """Findings; an unreachable peer is a finding too, not an exception."""
        ...


@runtime_checkable
class WriteCheck(Protocol):
    """A store that can tell, in preflight, whether it lets us write. Asked where we shall."""

    async def check_writing(self, collections: Sequence[str]) -> list[CheckFinding]:
        """
        As `SelfCheck.check`, of a store whose collections of these names are going to be
        written, those that are not there yet included.
        """
        ...


@runtime_checkable
class Foresight(Protocol):
    """A store that can tell what `ensure` would do, without doing it."""

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """
        What `describe` would show after `ensure(wanted)`: of an absent collection, the one that
        would be made. Changes nothing. Raises Refused where `ensure` would, but for the mark.
        """
        ...


class Store(StoreReader, StoreWriter, StoreSearcher, Protocol):
    """A whole connector."""

    async def close(self) -> None:
        """Let go of connections. Writes in flight are not waited for."""
        ...
