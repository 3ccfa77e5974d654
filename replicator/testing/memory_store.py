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
import itertools
import math
from array import array
from collections.abc import Callable
from typing import TypeVar
from zlib import crc32

import msgspec

from replicator.codecs.rules import check_collection, check_write
from replicator.errors import Refused, Rejected
from replicator.model.point import (
    BareId,
    Point,
    PointId,
    Vector,
    Vectors,
    bare,
    id_order,
    scope_of,
)
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    Mark,
    Precision,
    VectorKind,
)
from replicator.model.scopes import Scopes
from replicator.model.traits import IdRules, PayloadRules, Traits, VectorRules
from replicator.model.write import (
    Delete,
    Patch,
    Receipt,
    Upsert,
    Write,
    WriteBatch,
    apply_patch,
)
from replicator.testing.faults import Fault, Faults
from replicator.testing.memory_client import AttachedStore, StrongStore

R = TypeVar("R")

MEMORY = Traits(
    ids=IdRules(kinds=IdKinds.UINT64 | IdKinds.UUID),
    vectors=VectorRules(
        kinds=frozenset(VectorKind),
        several=True,
        none=True,
        precisions=frozenset(Precision),
        normalises=True,
        checks_dimensions=False,
    ),
    payload=PayloadRules(integer_max=None),
    marks=True,
    scopes=True,
    indexes=True,
    filters=False,
    exact_search=True,
)
"""A store in memory takes nearly everything, unless a test wants a poorer one."""

Refusal = Callable[[str, Write], tuple[Fault, Rejected] | None]
"""Whether a collection refuses a write: alone (POINT_REJECTED) or with its batch."""


class _Collection:
    """The points of one collection, and what each key was not long ago."""

    def __init__(self, schema: CollectionSchema) -> None:
        self.schema = schema
        self.points: dict[PointId, Point] = {}
        self.landed: dict[PointId, int] = {}
        """Per key: the number of the last request that wrote it."""
        self.past: dict[PointId, list[tuple[float, Point | None]]] = {}
        """Per key: (until when, what it was until then), oldest first."""


class MemoryStore:
    """
    The server side: data, faults, and what the application does.

    `traits` say what it is; where it checks dimensions it looks at all else that a write brings
    as well. `on_land` hears of every write that takes effect through a client, `on_send` of
    every write that a client sends, and `on_overtaken` of
    one that takes effect after a write of its key that was sent later.
    """

    def __init__(
        self,
        name: str = "memory",
        *,
        faults: Faults | None = None,
        staleness_s: float = 0.0,
        late_write_bound_s: float = 0.0,
        strong: bool = False,
        traits: Traits = MEMORY,
        refuses: Refusal | None = None,
        on_land: Callable[[str, Write], None] | None = None,
        on_send: Callable[[], None] | None = None,
        on_overtaken: Callable[[str, Write], None] | None = None,
    ) -> None:
        self.name = name
        self.faults = faults or Faults()
        self.staleness_s = staleness_s
        self.late_write_bound_s = late_write_bound_s
        self.strong = strong
        """It can be asked for reads that show every write, whatever its staleness."""
        self.away = False
        """The store answers nobody."""
        self.refuses = refuses
        self.on_land = on_land
        self.on_send = on_send
        self.on_overtaken = on_overtaken
        self.sent = itertools.count(1)
        """Numbers of the requests, in the order in which they are sent."""
        self.collections: dict[str, _Collection] = {}
        self.traits = traits

    def attach(self) -> AttachedStore:
        """A client of its own, for one incarnation of the program."""
        return StrongStore(self) if self.strong else AttachedStore(self)

    # -- what the application and the tests do: at once, and without faults -----------------
    def create(self, wanted: CollectionSchema) -> None:
        """Create a collection, or mark one that exists."""
        mark = wanted.capture_id if self.traits.marks else None
        held = self.collections.get(wanted.name)
        if held is not None:
            if mark is not None and held.schema.capture_id != mark:
                held.schema = msgspec.structs.replace(
                    held.schema, capture_id=mark, mark_epoch=0, mark_incarnation=0
                )
            return
        self.collections[wanted.name] = _Collection(self.made_of(wanted))

    def made_of(self, wanted: CollectionSchema) -> CollectionSchema:
        """The schema of a collection that is made as wanted."""
        traits = self.traits
        check_collection(wanted, traits.vectors)
        vectors = wanted.vectors and {
            name: msgspec.structs.replace(
                vector, precision=traits.vectors.kept(vector.precision)
            )
            for name, vector in wanted.vectors.items()
        }
        if vectors is not None and traits.vectors.demanded(len(vectors)):
            vectors = {
                name: msgspec.structs.replace(vector, required=True)
                for name, vector in vectors.items()
            }
        facts = {**traits.facts(), "ids": traits.ids.of_collection(wanted.ids)}
        return msgspec.structs.replace(
            wanted,
            vectors=vectors,
            indexes=wanted.indexes if traits.indexes else {},
            capture_id=wanted.capture_id if traits.marks else None,
            points=None,
            scoped=wanted.scoped and traits.scopes,
            **facts,
        )

    def mark(self, collection: str, mark: Mark) -> None:
        """Replace the mark of a collection."""
        held = self._collection(collection)
        if self.traits.marks:
            held.schema = msgspec.structs.replace(
                held.schema,
                capture_id=mark.capture_id,
                mark_epoch=mark.epoch,
                mark_incarnation=mark.incarnation,
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
                    payload={
                        name: value
                        for name, value in point.payload.items()
                        if value is not None or not self.traits.payload.null_is_absence
                    },
                )
            case Delete():
                new = None
            case Patch():
                if old is None:
                    return False
                vectors = self._stored(held.schema, write.vectors)
                new = apply_patch(old, msgspec.structs.replace(write, vectors=vectors))
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
            held.schema = msgspec.structs.replace(
                held.schema, capture_id=None, mark_epoch=0, mark_incarnation=0
            )

    # -- what clients ask -------------------------------------------------------------------
    def land(self, batch: WriteBatch, number: int) -> Receipt:
        """The effect of a batch of a request. Raises Rejected when one point spoils it."""
        rejected: list[tuple[PointId, Rejected]] = []
        absent: list[PointId] = []
        if batch.collection not in self.collections and self.traits.creates_on_write:
            ids = self.traits.ids.kinds
            self.create(CollectionSchema(name=batch.collection, vectors=None, ids=ids))
        held = self._collection(batch.collection)
        if len(batch.writes) > (self.traits.limits.records_max or math.inf):
            raise Refused("unsupported", f"a request holds no {len(batch.writes)} writes")
        refusals = [self._refusal(held, write) for write in batch.writes]
        for write, refusal in zip(batch.writes, refusals, strict=True):
            if refusal is None:
                if not self._take_effect(held, write, number):
                    absent.append(write.id)
                continue
            fault, error = refusal
            self.faults.fire(fault)
            if fault is Fault.BATCH_REJECTED:
                # What stands before it in the batch has been applied all the same.
                raise error
            rejected.append((write.id, error))
        return Receipt(rejected=tuple(rejected), absent=tuple(absent))

    def _refusal(self, held: _Collection, write: Write) -> tuple[Fault, Rejected] | None:
        if not held.schema.holds(write.id):
            error = Rejected("id-invalid", f"{self.name} cannot hold this id", "id")
            return Fault.POINT_REJECTED, error
        if self.traits.vectors.checks_dimensions:
            try:
                check_write(write, held.schema, self.traits)
            except Rejected as error:
                return Fault.POINT_REJECTED, error
        return self.refuses(held.schema.name, write) if self.refuses is not None else None

    def _take_effect(self, held: _Collection, write: Write, number: int) -> bool:
        collection = held.schema.name
        if self.on_land is not None:
            self.on_land(collection, write)
        if number < held.landed.get(write.id, 0) and self.on_overtaken is not None:
            self.on_overtaken(collection, write)
        held.landed[write.id] = number
        return self.write(collection, write)

    def seen(
        self, collection: str, point_id: PointId, *, careful: bool = False
    ) -> Point | None:
        """The point as some read of now may show it; a careful one, as it is."""
        held = self._collection(collection)
        current = held.points.get(point_id)
        past = held.past.get(point_id)
        if not past or careful:
            return current
        now = asyncio.get_running_loop().time()
        if past[-1][0] <= now - self.staleness_s or not self.faults.strikes(Fault.STALE_READ):
            return current
        at = now - self.faults.within(self.staleness_s)
        return next((point for until, point in past if until > at), current)

    def page(
        self,
        chunk: Chunk,
        after: tuple[str, bool, BareId] | None,
        rows: int,
        *,
        passes: Callable[[Point], bool] = lambda _: True,
        careful: bool = False,
    ) -> list[Point]:
        """Up to `rows` points of a chunk in id order, those above `after` that pass."""
        held = self.collections.get(chunk.collection)
        if held is None:
            raise Refused("source-missing", f"there is no collection {chunk.collection!r}")
        cut, _, named = chunk.spec.partition(" ")
        part, parts = (int(text) for text in cut.split("/"))
        scopes = Scopes(frozenset(msgspec.json.decode(named)) if named else None)
        ids = held.points if not held.past else held.points.keys() | held.past.keys()
        wanted = sorted(
            (
                point_id
                for point_id in ids
                if (after is None or id_order(point_id) > after)
                and scopes.hold(point_id)
                and crc32(f"{scope_of(point_id) or ''}{bare(point_id)}".encode()) % parts
                == part
            ),
            key=id_order,
        )
        found: list[Point] = []
        for point_id in wanted:
            point = self.seen(chunk.collection, point_id, careful=careful)
            if point is not None and passes(point):
                found.append(point)
                if len(found) == rows:
                    break
        return found

    def _collection(self, name: str) -> _Collection:
        held = self.collections.get(name)
        if held is None:
            raise Refused("target-missing", f"there is no collection {name!r}")
        return held

    def _stored(self, schema: CollectionSchema, vectors: Vectors) -> Vectors:
        if not self.traits.vectors.normalises or schema.vectors is None:
            return dict(vectors)
        return {
            name: _unit(vector)
            if (kind := schema.vectors.get(name)) is not None
            and kind.distance is Distance.COSINE
            and kind.kind is VectorKind.DENSE
            else vector
            for name, vector in vectors.items()
        }


def _unit(vector: Vector) -> Vector:
    """The vector with length one; a zero vector, or one that is not finite, as it is."""
    assert isinstance(vector, bytes)
    components = memoryview(vector).cast("f")
    length = math.sqrt(math.fsum(component * component for component in components))
    if not math.isfinite(length) or length == 0:
        return vector
    return array("f", [component / length for component in components]).tobytes()
