"""
A store in memory that keeps the port's contract and otherwise misbehaves as real ones do.

`MemoryStore` is the server: its data outlive every client. `attach()` gives a client, which
implements the port. A write that a client has sent is the server's from then on: cancelling the
call, or killing the client with `detach()`, no longer stops it; it lands when its fate says. So
stores behave behind a client deadline, and most defects of replication need it to show.

Reads show every key as it was at some moment of the last `staleness_s` seconds, each key and
each read at a moment of its own. Scans go page by page over the live collection, in id order.
"""

from __future__ import annotations

import asyncio
import json
import math
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Generic, TypeVar, cast
from zlib import crc32

import msgspec

from replicator.errors import OutcomeUnknown, Refused, Rejected, Retryable, Unavailable
from replicator.model.point import Point, PointId, Vector, Vectors
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorKind
from replicator.model.search import Hit, Query
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch
from replicator.ports.store import Page
from replicator.testing.faults import Fault, Faults

R = TypeVar("R")

Refusal = Callable[[str, Write], tuple[Fault, Rejected] | None]
"""Whether a collection refuses a write: alone (POINT_REJECTED) or with its batch."""


class _Collection:
    """The points of one collection, and what each key was not long ago."""

    def __init__(self, schema: CollectionSchema) -> None:
        self.schema = schema
        self.points: dict[PointId, Point] = {}
        self.past: dict[PointId, list[tuple[float, Point | None]]] = {}
        """Per key: (until when, what it was until then), oldest first."""


class MemoryStore:
    """
    The server side: data, faults, and what the application does.

    `normalises`: dense vectors under cosine are stored with length one. `marks`: the store has
    collection metadata, and keeps a capture's mark. `on_land` hears of every write that takes
    effect through a client, `on_send` of every write that a client sends.
    """

    def __init__(
        self,
        name: str = "memory",
        *,
        faults: Faults | None = None,
        staleness_s: float = 0.0,
        late_write_bound_s: float = 0.0,
        ids: IdKinds = IdKinds.UINT64 | IdKinds.UUID,
        normalises: bool = True,
        marks: bool = True,
        refuses: Refusal | None = None,
        on_land: Callable[[str, Write], None] | None = None,
        on_send: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.faults = faults or Faults()
        self.staleness_s = staleness_s
        self.late_write_bound_s = late_write_bound_s
        self.away = False
        """The store answers nobody."""
        self.refuses = refuses
        self.on_land = on_land
        self.on_send = on_send
        self.collections: dict[str, _Collection] = {}
        self._ids = ids
        self._normalises = normalises
        self._marks = marks

    def attach(self) -> AttachedStore:
        """A client of its own, for one incarnation of the program."""
        return AttachedStore(self)

    # -- what the application and the tests do: at once, and without faults -----------------
    def create(self, wanted: CollectionSchema) -> None:
        """Create a collection, or mark one that exists."""
        mark = wanted.capture_id if self._marks else None
        held = self.collections.get(wanted.name)
        if held is not None:
            if mark is not None:
                held.schema = msgspec.structs.replace(held.schema, capture_id=mark)
            return
        self.collections[wanted.name] = _Collection(
            msgspec.structs.replace(
                wanted,
                ids=self._ids,
                capture_id=mark,
                points=None,
                normalises=self._normalises,
            )
        )

    def write(self, collection: str, write: Write) -> bool:
        """Let a write take effect; False for a patch of an absent point."""
        held = self._collection(collection)
        old = held.points.get(write.id)
        match write:
            case Upsert(point=point):
                new: Point | None = Point(
                    id=point.id,
                    vectors=self._stored(held.schema, point.vectors),
                    payload=dict(point.payload),
                )
            case Delete():
                new = None
            case Patch():
                if old is None:
                    return False
                new = self._patched(held.schema, old, write)
        if self.staleness_s:
            now = asyncio.get_running_loop().time()
            past = held.past.setdefault(write.id, [])
            past.append((now, old))
            while past and past[0][0] < now - self.staleness_s:
                past.pop(0)
        if new is None:
            held.points.pop(write.id, None)
        else:
            held.points[write.id] = new
        return True

    def points(self, collection: str) -> dict[PointId, Point]:
        """The true content of a collection, by id. Not a copy."""
        held = self.collections.get(collection)
        return held.points if held is not None else {}

    def clear(self, collection: str) -> None:
        """Drop every point and the mark."""
        held = self.collections.get(collection)
        if held is not None:
            held.points.clear()
            held.past.clear()
            held.schema = msgspec.structs.replace(held.schema, capture_id=None)

    # -- what clients ask -------------------------------------------------------------------
    def land(self, batch: WriteBatch) -> Receipt:
        """The effect of a batch. Raises Rejected when one point spoils it."""
        rejected: list[tuple[PointId, Rejected]] = []
        absent: list[PointId] = []
        refused = {}
        if self.refuses is not None:
            for write in batch.writes:
                if (refusal := self.refuses(batch.collection, write)) is not None:
                    refused[write.id] = refusal
        schema = self._collection(batch.collection).schema
        for write in batch.writes:
            if not schema.holds(write.id):
                error = Rejected("id-invalid", f"{self.name} cannot hold this id", "id")
                rejected.append((write.id, error))
                continue
            if write.id in refused:
                fault, error = refused[write.id]
                self.faults.fire(fault)
                if fault is Fault.BATCH_REJECTED:
                    # What stands before it in the batch has been applied all the same.
                    raise error
                rejected.append((write.id, error))
                continue
            if self.on_land is not None:
                self.on_land(batch.collection, write)
            if not self.write(batch.collection, write):
                absent.append(write.id)
        return Receipt(rejected=tuple(rejected), absent=tuple(absent))

    def seen(self, collection: str, point_id: PointId) -> Point | None:
        """The point as some read of now may show it."""
        held = self._collection(collection)
        current = held.points.get(point_id)
        past = held.past.get(point_id)
        if not past:
            return current
        now = asyncio.get_running_loop().time()
        if past[-1][0] <= now - self.staleness_s or not self.faults.strikes(Fault.STALE_READ):
            return current
        at = now - self.faults.within(self.staleness_s)
        return next((point for until, point in past if until > at), current)

    def page(self, chunk: Chunk, after: tuple[bool, PointId] | None, rows: int) -> list[Point]:
        """Up to `rows` points of a chunk in id order, those above `after`."""
        held = self.collections.get(chunk.collection)
        if held is None:
            raise Refused("source-missing", f"there is no collection {chunk.collection!r}")
        part, parts = (int(text) for text in chunk.spec.split("/"))
        ids = held.points if not held.past else held.points.keys() | held.past.keys()
        orders = sorted(
            order
            for order in map(_order, ids)
            if (after is None or order > after)
            and crc32(str(order[1]).encode()) % parts == part
        )
        found: list[Point] = []
        for _, point_id in orders:
            if (point := self.seen(chunk.collection, point_id)) is not None:
                found.append(point)
                if len(found) == rows:
                    break
        return found

    def _collection(self, name: str) -> _Collection:
        held = self.collections.get(name)
        if held is None:
            raise Refused("target-missing", f"there is no collection {name!r}")
        return held

    def _patched(self, schema: CollectionSchema, old: Point, patch: Patch) -> Point:
        vectors = {**old.vectors, **self._stored(schema, patch.vectors)}
        payload = {**old.payload, **patch.set}
        for name in patch.unset_vectors:
            vectors.pop(name, None)
        for field in patch.unset:
            payload.pop(field, None)
        return Point(id=old.id, vectors=vectors, payload=payload)

    def _stored(self, schema: CollectionSchema, vectors: Vectors) -> Vectors:
        if not self._normalises or schema.vectors is None:
            return dict(vectors)
        return {
            name: _unit(vector)
            if (kind := schema.vectors.get(name)) is not None
            and kind.distance is Distance.COSINE
            and kind.kind is VectorKind.DENSE
            else vector
            for name, vector in vectors.items()
        }


class AttachedStore:
    """One incarnation's client of a MemoryStore: the store port."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._attached = True
        self._sent: dict[_Request[Any], None] = {}

    @property
    def staleness_s(self) -> float:
        """As the server was made."""
        return self._store.staleness_s

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
        faults = self._store.faults
        for request in list(self._sent):
            never = faults.random.random() < 0.5
            request.orphan(None if never else faults.within(self.late_write_bound_s))
        self._sent.clear()

    async def close(self) -> None:
        """Nothing to let go of."""

    # -- StoreReader ------------------------------------------------------------------------
    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema as it was created, with today's number of points."""
        await self._travel()
        held = self._store.collections.get(collection)
        if held is None:
            return None
        return msgspec.structs.replace(held.schema, points=len(held.points))

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """Chunks by hash of the id."""
        await self._travel()
        if collection not in self._store.collections:
            raise Refused("source-missing", f"there is no collection {collection!r}")
        return [
            Chunk(number=part, collection=collection, spec=f"{part}/{parts}")
            for part in range(parts)
        ]

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncIterator[Page]:
        """In id order; the cursor is the last id returned."""
        place = None if after is None else _order(json.loads(after))
        while True:
            await self._travel()
            points = self._store.page(chunk, place, page_rows)
            last = len(points) < page_rows
            cursor = None if last else json.dumps(points[-1].id)
            yield Page(points=points, cursor=cursor)
            if last:
                return
            place = _order(points[-1].id)

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """Each id as it was at its own moment within the staleness bound."""
        await self._travel()
        return {
            point_id: point
            for point_id in ids
            if (point := self._store.seen(collection, point_id)) is not None
        }

    async def count(self, collection: str) -> int | None:
        """The true count."""
        await self._travel()
        held = self._store.collections.get(collection)
        return len(held.points) if held is not None else None

    # -- StoreWriter ------------------------------------------------------------------------
    async def ensure(self, wanted: CollectionSchema) -> None:
        """Create, or mark."""
        await self._request([partial(self._store.create, wanted)])

    async def wipe(self, collection: str) -> None:
        """Drop every point and the mark, in one effect."""
        await self._request([partial(self._store.clear, collection)])

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Send the batch; its fate is drawn on the way."""
        ids = [write.id for write in batch.writes]
        assert len(set(ids)) == len(ids), "a batch holds one write per id"
        if len(ids) > 1 and self._store.faults.strikes(Fault.PARTIAL):
            cut = self._store.faults.random.randrange(1, len(ids))
            halves = [
                WriteBatch(collection=batch.collection, writes=writes)
                for writes in (batch.writes[:cut], batch.writes[cut:])
            ]
            return await self._request([partial(self._store.land, half) for half in halves])
        return await self._request([partial(self._store.land, batch)])

    async def finish_bulk(self, collection: str) -> None:
        """There is no indexing to wait for."""
        await self._travel()

    # -- StoreSearcher ----------------------------------------------------------------------
    async def search(self, collection: str, query: Query) -> list[Hit]:
        """Every point compared, by the vector's own distance."""
        await self._travel()
        if query.filter is not None:
            raise Refused("unsupported", "the store in memory searches without a filter")
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
        hits.sort(key=lambda hit: (-hit.score, _order(hit.id)))
        return hits[: query.limit]

    # -- the way there and back -------------------------------------------------------------
    def _alive(self) -> None:
        if not self._attached:
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

    async def _request(self, effects: list[Callable[[], R]]) -> R:
        """
        Send a write. From the moment it is sent, its effects no longer depend on us. Two
        effects are a batch that is cut in the middle.
        """
        await self._travel()
        faults, bound_s = self._store.faults, self._store.late_write_bound_s
        request = _Request(effects, self._sent)
        if self._store.on_send is not None:
            self._store.on_send()
        there = faults.latency()
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
        reply = await request.reply
        self._alive()
        return read_reply(reply)


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
        """The client is dead: what has not taken place does so after the delay, or never."""
        for timer in self._timers:
            timer.cancel()
        if delay_s is None:
            self._effects.clear()
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


def _order(point_id: PointId) -> tuple[bool, PointId]:
    """Integers before texts; within each their own order."""
    return (isinstance(point_id, str), point_id)


def _unit(vector: Vector) -> Vector:
    """The vector with length one; a zero vector, or one that is not finite, as it is."""
    assert isinstance(vector, bytes)
    components = memoryview(vector).cast("f")
    length = math.sqrt(math.fsum(component * component for component in components))
    if not math.isfinite(length) or length == 0:
        return vector
    return array("f", [component / length for component in components]).tobytes()


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
