"""
What the parts of the suite share: a store's traits, and collections, ids and points that fit
them.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from replicator.codecs.rules import check_payload_rules
from replicator.errors import Refused, Rejected
from replicator.model.point import BareId, Payload, Point, PointId, ScopedId
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.traits import Traits
from replicator.model.write import Patch, Receipt, Upsert, Write, WriteBatch, apply_patch
from replicator.ports.store import Store
from replicator.testing.store_conformance.examples import floats, fresh_name, ids_of

SCOPES = ("ä/ one", "2")
"""One needs escapes in a key; the other could be taken for a number."""


async def write(store: Store, collection: str, *writes: Write) -> Receipt:
    """
    Apply one batch, or as many as the store's limits make of it, and wait until reads show it.
    A store that cannot patch is never given a Patch: there the points are changed as the core
    changes them.
    """
    absent: list[PointId] = []
    if not store.traits.patches:
        writes, absent = await _whole(store, collection, writes)
    most = store.traits.limits.records_max or max(len(writes), 1)
    receipts = [
        await store.apply(WriteBatch(collection, writes[begin : begin + most]))
        for begin in range(0, max(len(writes), 1), most)
    ]
    await settle(store)
    return Receipt(
        rejected=tuple(each for receipt in receipts for each in receipt.rejected),
        absent=(*absent, *(each for receipt in receipts for each in receipt.absent)),
    )


async def _whole(
    store: Store, collection: str, writes: Sequence[Write]
) -> tuple[tuple[Write, ...], list[PointId]]:
    """The writes with the images that their patches make, and the ids of those of no point."""
    patches = [write for write in writes if isinstance(write, Patch)]
    held = await store.fetch(collection, [patch.id for patch in patches])
    made = {
        patch.id: Upsert(apply_patch(held[patch.id], patch))
        for patch in patches
        if patch.id in held
    }
    whole = [made.get(write.id) if isinstance(write, Patch) else write for write in writes]
    absent = [patch.id for patch in patches if patch.id not in held]
    return tuple(write for write in whole if write is not None), absent


async def refusals(store: Store, collection: str, *writes: Write) -> list[str]:
    """The codes with which a store rejects points: by name, or as a batch."""
    try:
        receipt = await write(store, collection, *writes)
    except Rejected as error:
        return [error.code]
    return [error.code for _, error in receipt.rejected]


async def settle(store: Store) -> None:
    """Wait out the staleness of reads; most stores have none."""
    if store.staleness_s:
        await asyncio.sleep(store.staleness_s)


async def scanned(
    store: Store, chunks: Iterable[Chunk], page_rows: int = 7, after: str | None = None
) -> list[PointId]:
    """The ids of all chunks, in the order in which they came."""
    return [
        point.id
        for chunk in chunks
        async for page in store.scan(chunk, after, page_rows)
        for point in page.points
    ]


class Suite:
    """What a part of the suite is made of."""

    traits: ClassVar[Traits]
    scoped: ClassVar[bool] = False
    """Collections have two scopes, with the same ids in both."""
    scopes: ClassVar[tuple[str, str]] = SCOPES
    """What they are called, where a store does not take every text."""

    @property
    def vector(self) -> str:
        """The name of the vector of a collection that has one."""
        return "" if self.traits.vectors.unnamed else "v"

    @property
    def plain(self) -> dict[str, VectorSchema]:
        """One vector that comes back as it was written."""
        return {self.vector: VectorSchema(size=2, distance=Distance.DOT)}

    def has(self, kind: VectorKind, name: str) -> bool:
        """Whether a collection can have a vector of this kind and name alone."""
        rules = self.traits.vectors
        return kind in rules.kinds and (rules.several if name else rules.unnamed)

    async def made(
        self, store: Store, vectors: dict[str, VectorSchema] | None = None, **given: Any
    ) -> str:
        """A new collection."""
        wanted = self.wanted(fresh_name(), vectors, **given)
        await store.ensure(wanted)
        return wanted.name

    def wanted(
        self, name: str, vectors: dict[str, VectorSchema] | None = None, **given: Any
    ) -> CollectionSchema:
        """The schema that a test asks for."""
        ids = given.pop("ids", self.id_kinds()[0])
        given = {"scoped": self.scoped, **given}
        return CollectionSchema(name=name, vectors=vectors or self.plain, ids=ids, **given)

    def id_kinds(self) -> list[IdKinds]:
        """Which kinds of ids a collection may hold: all at once, or each on its own."""
        rules = self.traits.ids
        return [rules.kinds] if rules.mixed else list(rules.kinds)

    def id(self, number: int) -> PointId:
        """An id that the collections hold; another one for each number from 0 to 9999."""
        if self.scoped:
            return ScopedId(self.scopes[number % 2], self.bare_id(number // 2))
        return self.bare_id(number)

    def bare_id(self, number: int) -> BareId:
        """An id without a scope."""
        kinds, limits = self.id_kinds()[0], self.traits.ids.limits
        candidates: tuple[BareId, ...] = (number, str(number), str(uuid.UUID(int=number)))
        return next(each for each in candidates if limits.hold(kinds, each))

    def placed(self, ids: Iterable[BareId]) -> list[PointId]:
        """These ids, in one scope where there are scopes."""
        return [ScopedId(self.scopes[0], each) if self.scoped else each for each in ids]

    def ids(self, numbers: Iterable[int]) -> list[PointId]:
        """The ids of numbers."""
        return [self.id(number) for number in numbers]

    def some_ids(self) -> list[PointId]:
        """Ids of every kind that a collection holds, in no order."""
        ids = ids_of(self.id_kinds()[0], self.traits.ids.limits)
        if self.scoped:
            return [ScopedId(scope, each) for each in ids for scope in self.scopes]
        return list(ids)

    def point(self, number: int, x: float = 1.0, **payload: Any) -> Point:
        """A point of a plain collection."""
        return self.at(self.id(number), x, **payload)

    def at(self, point_id: PointId, x: float = 1.0, **payload: Any) -> Point:
        """A point of a plain collection, by its id."""
        return Point(point_id, {self.vector: floats(x, 2)}, payload)

    def fits(self, payload: Payload) -> bool:
        """Whether the store can hold a payload."""
        try:
            check_payload_rules(payload, self.traits.payload)
        except Rejected:
            return False
        return True

    def fitting(self, payload: Payload) -> Payload:
        """The fields that the store can hold."""
        return {name: value for name, value in payload.items() if self.fits({name: value})}

    def kept(self, payload: Payload) -> Payload:
        """What comes back of a payload: all, but for nulls where the store cannot tell them."""
        if not self.traits.payload.null_is_absence:
            return payload
        return {name: value for name, value in payload.items() if value is not None}

    def same(self, one: Any, other: Any) -> bool:
        """
        Whether two JSON values are the same, in their types too where the store tells them
        apart. Floats may differ in the last place: Qdrant gives some of them back so.
        """
        match one, other:
            case dict(), dict():
                return one.keys() == other.keys() and all(
                    self.same(one[key], other[key]) for key in one
                )
            case list(), list():
                return len(one) == len(other) and all(map(self.same, one, other))
            case float(), float():
                return math.isclose(one, other, rel_tol=1e-15)
            case (int(), float()) | (float(), int()) if (
                bool not in (type(one), type(other)) and not self.traits.payload.integers_apart
            ):
                return bool(one == other)
            case _:
                return type(one) is type(other) and bool(one == other)

    async def counted(self, store: Store, collection: str) -> int:
        """How many points there are, by the store's word or by reading them."""
        if self.traits.counts:
            count = await store.count(collection)
            assert count is not None
            return count
        return len(await scanned(store, await store.split(collection, 2)))

    async def described(self, store: Store, collection: str) -> CollectionSchema:
        """What the store says of a collection that is there."""
        schema = await store.describe(collection)
        assert schema is not None
        return schema

    async def is_refused(
        self, store: Store, vectors: dict[str, VectorSchema], *points: Point
    ) -> bool:
        """Whether the store has no such collection, or rejects each of the points in it."""
        try:
            collection = await self.made(store, vectors)
        except (Refused, Rejected):
            return True
        codes = await refusals(store, collection, *map(Upsert, points))
        return bool(codes) and await store.fetch(collection, [p.id for p in points]) == {}
