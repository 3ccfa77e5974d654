"""
A client of the store in memory: what implements the store port.

A request travels, and from the moment it is sent its fate is the server's: it is applied at
once, late, in part or never, and the reply comes or does not. Nothing that happens to the
caller changes that any more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from zlib import crc32

import msgspec

from replicator.errors import OutcomeUnknown, Refused, Rejected, Retryable, Unavailable
from replicator.model.filter import Filter
from replicator.model.point import Point, PointId, Vector, id_order, scope_of
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Patch, Receipt, WriteBatch
from replicator.ports.store import Page
from replicator.stream.filter import Passing, compiled
from replicator.testing.faults import Fault

if TYPE_CHECKING:
    from replicator.testing.memory_store import MemoryStore

R = TypeVar("R")

_cursor = msgspec.json.Decoder(PointId).decode


_SLOW_S = 12.0
"""How long a slow write takes at most: longer than a drain waits in tests."""


class AttachedStore:
    """One incarnation's client of a MemoryStore: the store port."""

    def __init__(self, store: MemoryStore, careful: AttachedStore | None = None) -> None:
        """`careful`: the client of which this is the consistent reading."""
        self._store = store
        self._attached = True
        self._line = careful or self
        self._careful = careful is not None
        self._sent: dict[_Request[Any], None] = {} if careful is None else careful._sent

    @property
    def staleness_s(self) -> float:
        """As the server was made; a careful reader meets none."""
        return 0.0 if self._careful else self._store.staleness_s

    @property
    def traits(self) -> Traits:
        """As the store was made."""
        return self._store.traits

    @property
    def late_write_bound_s(self) -> float:
        """As the server was made."""
        return self._store.late_write_bound_s

    @property
    def in_flight(self) -> int:
        """Writes that were sent and may still take effect."""
        return len(self._sent)

    def detach(self) -> None:
        """
        The process behind this client is dead: calls have no effect any more. What was sent and
        has not landed lands within the late-write bound, or never.
        """
        self._attached = False
        for request in list(self._sent):
            request.orphan(self._fate())
        self._sent.clear()

    def _fate(self) -> float | None:
        """When an orphaned write lands, in seconds from now; None: never."""
        faults = self._store.faults
        if faults.random.random() < 0.5:
            return None
        return faults.within(self.late_write_bound_s)

    async def close(self) -> None:
        """Nothing to let go of."""

    # -- StoreReader ------------------------------------------------------------------------
    async def collections(self) -> list[str]:
        """Their names."""
        await self._travel()
        return sorted(self._store.collections)

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema as it was created, with today's number of points."""
        await self._travel()
        held = self._store.collections.get(collection)
        if held is None:
            return None
        points = len(held.points) if self._store.traits.counts else None
        return msgspec.structs.replace(held.schema, points=points)

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """Chunks by hash of the id."""
        await self._travel()
        if collection not in self._store.collections:
            raise Refused("source-missing", f"there is no collection {collection!r}")
        return [
            Chunk(number=part, collection=collection, spec=f"{part}/{parts}")
            for part in range(parts)
        ]

    async def split_scopes(
        self, collection: str, parts: int, scopes: Collection[str]
    ) -> list[Chunk]:
        """As `ScopeReader.split_scopes`."""
        named = msgspec.json.encode(sorted(scopes)).decode()
        return [
            msgspec.structs.replace(chunk, spec=f"{chunk.spec} {named}")
            for chunk in await self.split(collection, parts)
        ]

    async def count_scopes(self, collection: str, scopes: Collection[str]) -> int | None:
        """As `ScopeReader.count_scopes`."""
        await self._travel()
        held = self._store.collections.get(collection)
        if held is None or not self._store.traits.counts:
            return None
        return sum(scope_of(point_id) in scopes for point_id in held.points)

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncIterator[Page]:
        """In id order; the cursor is the last id returned."""
        place = None if after is None else id_order(_cursor(after))
        while True:
            await self._travel()
            points = self._store.page(chunk, place, page_rows, careful=self._careful)
            last = len(points) < page_rows
            cursor = None if last else msgspec.json.encode(points[-1].id).decode()
            yield Page(points=points, cursor=cursor)
            if last:
                return
            place = id_order(points[-1].id)

    async def scan_where(
        self, chunk: Chunk, after: str | None, page_rows: int, where: Filter
    ) -> AsyncIterator[Page]:
        """As `scan`, without most of what does not match: a store may give more."""
        passes = partial(_may_match, compiled(where))
        place = None if after is None else id_order(_cursor(after))
        while True:
            await self._travel()
            points = self._store.page(
                chunk, place, page_rows, passes=passes, careful=self._careful
            )
            last = len(points) < page_rows
            cursor = None if last else msgspec.json.encode(points[-1].id).decode()
            yield Page(points=points, cursor=cursor)
            if last:
                return
            place = id_order(points[-1].id)

    async def count_where(self, collection: str, where: Filter) -> int | None:
        """As `count`, of what `scan_where` gives."""
        await self._travel()
        held = self._store.collections.get(collection)
        if held is None or not self._store.traits.counts:
            return None
        passes = partial(_may_match, compiled(where))
        return sum(map(passes, held.points.values()))

    async def fetch_fields(
        self, collection: str, ids: Sequence[PointId], fields: Sequence[str]
    ) -> dict[PointId, Point]:
        """As `fetch`, of these fields alone."""
        return {
            point_id: Point(
                point.id, {}, {name: v for name, v in point.payload.items() if name in fields}
            )
            for point_id, point in (await self.fetch(collection, ids)).items()
        }

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """Each id as it was at its own moment within the staleness bound."""
        await self._travel()
        return {
            point_id: point
            for point_id in ids
            if (point := self._store.seen(collection, point_id, careful=self._careful))
            is not None
        }

    async def count(self, collection: str) -> int | None:
        """The true count."""
        await self._travel()
        held = self._store.collections.get(collection)
        return len(held.points) if held is not None and self._store.traits.counts else None

    # -- StoreWriter ------------------------------------------------------------------------
    async def ensure(self, wanted: CollectionSchema) -> None:
        """Create, or mark."""
        await self._request(lambda _: [partial(self._store.create, wanted)])

    async def mark(self, collection: str, mark: Mark) -> None:
        """See StoreWriter."""
        await self._request(lambda _: [partial(self._store.mark, collection, mark)])

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """What `ensure` would make, or what is there."""
        await self._travel()
        held = self._store.collections.get(wanted.name)
        return held.schema if held is not None else self._store.made_of(wanted)

    async def wipe(self, collection: str) -> None:
        """Drop every point and the mark, in one effect."""
        await self._request(lambda _: [partial(self._store.clear, collection)])

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Send the batch; its fate is drawn on the way."""
        ids = [write.id for write in batch.writes]
        assert len(set(ids)) == len(ids), "a batch holds one write per id"
        if not self._store.traits.patches:
            patches = [write for write in batch.writes if isinstance(write, Patch)]
            assert not patches, "it is given whole points only"
        if len(ids) > 1 and self._store.faults.strikes(Fault.PARTIAL):
            cut = self._store.faults.random.randrange(1, len(ids))
            halves = [
                WriteBatch(collection=batch.collection, writes=writes)
                for writes in (batch.writes[:cut], batch.writes[cut:])
            ]
            return await self._request(
                lambda n: [partial(self._store.land, h, n) for h in halves]
            )
        return await self._request(lambda n: [partial(self._store.land, batch, n)])

    async def finish_bulk(self, collection: str) -> None:
        """There is no indexing to wait for."""
        await self._travel()

    # -- StoreSearcher ----------------------------------------------------------------------
    async def search(self, collection: str, query: Query) -> list[Hit]:
        """Every point compared, by the vector's own distance."""
        await self._travel()
        if query.filter is not None:
            raise Refused("unsupported", "the store in memory searches without a filter")
        if query.exact and not self._store.traits.exact_search:
            raise Refused("unsupported", "this store in memory searches by its index only")
        if not isinstance(query.vector, bytes):
            raise Refused("unsupported", "the store in memory searches by dense vectors only")
        held = self._store.collections.get(collection)
        if held is None:
            raise Refused("target-missing", f"there is no collection {collection!r}")
        kind = (held.schema.vectors or {}).get(query.using)
        distance = (kind and kind.distance) or Distance.COSINE
        hits = [
            Hit(id=point.id, score=_score(distance, query.vector, vector))
            for point in held.points.values()
            if isinstance(vector := point.vectors.get(query.using), bytes)
        ]
        hits.sort(key=lambda hit: (-hit.score, id_order(hit.id)))
        return hits[: query.limit]

    # -- the way there and back -------------------------------------------------------------
    def _alive(self) -> None:
        if not self._line._attached:
            # What a dead process does next: nothing.
            raise asyncio.CancelledError

    async def _travel(self) -> None:
        """The way to the server, where it may be away or too busy."""
        self._alive()
        store, faults = self._store, self._store.faults
        latency = faults.latency()
        if faults.strikes(Fault.SLOW):
            latency += 1.0
        await asyncio.sleep(latency)
        self._alive()
        if store.away or faults.strikes(Fault.UNAVAILABLE):
            raise Unavailable("store-unavailable", f"{store.name} does not answer")
        if faults.strikes(Fault.THROTTLED):
            raise Retryable(
                "store-throttled", f"{store.name} is busy", retry_after_s=faults.within(0.5)
            )

    async def _request(self, making: Callable[[int], list[Callable[[], R]]]) -> R:
        """
        Send a write. From the moment it is sent and has its number, its effects no longer
        depend on us. Two effects are a batch that is cut in the middle.
        """
        await self._travel()
        effects = making(next(self._store.sent))
        faults, bound_s = self._store.faults, self._store.late_write_bound_s
        request = _Request(effects, self._sent)
        if self._store.on_send is not None:
            self._store.on_send()
        there = faults.latency()
        if faults.strikes(Fault.SLOW):
            there += faults.within(_SLOW_S)
        late = there + faults.within(bound_s)
        if len(effects) > 1:
            request.land(there)
            request.answer(there, _lost())
            if faults.random.random() < 0.5:
                request.land(late)
            else:
                request.forget(1)
        elif faults.strikes(Fault.NEVER_ARRIVED):
            request.answer(there, _lost())
            request.forget(1)
        elif faults.strikes(Fault.LATE_WRITE):
            request.answer(there, _lost())
            request.land(late)
        elif faults.strikes(Fault.ACKNOWLEDGED):
            request.answer(there, Reply(completed=False))
            request.land(late)
        elif faults.strikes(Fault.REPLY_LOST):
            request.answer(there, _lost())
            request.land(there)
        else:
            request.land(there)
        try:
            reply = await request.reply
        except asyncio.CancelledError:
            # The client gives up, which stops nothing: what has not landed does so from now on
            # within the bound, or never.
            request.orphan(self._fate())
            raise
        self._alive()
        return read_reply(reply)


class StrongStore(AttachedStore):
    """A client that can be asked for reads of what is true now, whatever the staleness."""

    def consistent(self) -> StrongStore:
        """As `ConsistentReader.consistent`."""
        return StrongStore(self._store, self._line)


class Reply(msgspec.Struct, Generic[R]):
    """What the server says of a write: completed with a result, or only acknowledged."""

    completed: bool
    result: R | None = None
    error: Exception | None = None


def _lost() -> Reply[Any]:
    error = OutcomeUnknown("outcome-unknown", "the store did not reply")
    return Reply(completed=False, error=error)


def read_reply(reply: Reply[R]) -> R:
    """Translate a reply. Only `completed` is done; `acknowledged` says nothing."""
    if reply.error is not None:
        raise reply.error
    if not reply.completed:
        raise OutcomeUnknown("outcome-unknown", "the write is acknowledged, not completed")
    return cast("R", reply.result)


class _Request(Generic[R]):
    """
    A write on its way. Its effects take place one after the other, each at its own time. The
    outcome of the last is the reply, unless an answer was fixed before.
    """

    def __init__(self, effects: list[Callable[[], R]], sent: dict[_Request[Any], None]) -> None:
        self.reply: asyncio.Future[Reply[R]] = asyncio.get_running_loop().create_future()
        self._effects = effects
        self._timers: list[asyncio.TimerHandle] = []
        self._fixed = False
        self._sent = sent
        sent[self] = None

    def land(self, delay_s: float) -> None:
        """Let the next effect take place after a delay."""
        self._later(delay_s, self._land)

    def answer(self, delay_s: float, reply: Reply[R]) -> None:
        """Answer after a delay, whatever takes place."""
        self._fixed = True
        self._later(delay_s, partial(self._answer, reply))

    def forget(self, effects: int) -> None:
        """The last effects never take place."""
        del self._effects[-effects:]
        if not self._effects:
            self._sent.pop(self, None)

    def orphan(self, delay_s: float | None) -> None:
        """
        The client is dead: what has not taken place does so after the delay, or never. What was
        answered keeps its time: the bound runs from the answer.
        """
        if self.reply.done() and not self.reply.cancelled():
            return
        for timer in self._timers:
            timer.cancel()
        if delay_s is None:
            self._effects.clear()
            self._sent.pop(self, None)
        for _ in self._effects:
            self.land(delay_s or 0.0)

    def _later(self, delay_s: float, callback: Callable[[], None]) -> None:
        # A context of its own: what the server does is not done by the client that asked.
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(delay_s, callback, context=Context()))

    def _land(self) -> None:
        effect = self._effects.pop(0)
        if not self._effects:
            self._sent.pop(self, None)
        try:
            reply = Reply(completed=True, result=effect())
        except (Rejected, Refused) as error:
            reply = Reply(completed=False, error=error)
        if not self._effects and not self._fixed:
            self._answer(reply)

    def _answer(self, reply: Reply[R]) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)


def _may_match(passing: Passing, point: Point) -> bool:
    return passing(point.id, point.payload) or crc32(str(point.id).encode()) % 4 == 0


def _score(distance: Distance, one: Vector, other: Vector) -> float:
    """Larger is nearer."""
    assert isinstance(one, bytes)
    assert isinstance(other, bytes)
    a, b = memoryview(one).cast("f"), memoryview(other).cast("f")
    if distance in {Distance.COSINE, Distance.DOT}:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        if distance is Distance.DOT:
            return dot
        lengths = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
        return dot / lengths if lengths else 0.0
    if distance is Distance.EUCLID:
        return -math.dist(a, b)
    return -math.fsum(abs(x - y) for x, y in zip(a, b, strict=True))
