"""Collections: how they are made, described, marked and emptied."""

from __future__ import annotations

import pytest

from replicator.errors import Refused, Rejected
from replicator.migration.equality.compare import compare_vector
from replicator.model.point import Point
from replicator.model.schema import Distance, VectorSchema
from replicator.model.write import Delete, Upsert
from replicator.ports.store import Store
from replicator.testing.store_conformance.examples import example, floats, fresh_name
from replicator.testing.store_conformance.suite import Suite, scanned, settle, write

_INDEXES = {"year": "integer", "t": "keyword"}


class Schemas(Suite):
    """What a collection is, beside its points."""

    async def test_store_and_collections_say_what_the_traits_say(self, store: Store) -> None:
        assert store.traits == self.traits
        described = await self.described(store, await self.made(store))
        facts = {**self.traits.facts(), "ids": self.id_kinds()[0]}
        assert {name: getattr(described, name) for name in facts} == facts

    async def test_what_there_is_is_listed_and_nothing_else(self, store: Store) -> None:
        made = [await self.made(store) for _ in range(3)]
        await write(store, made[0], Upsert(self.point(1)))
        await settle(store)
        listed = await store.collections()
        assert listed == sorted(set(listed))
        assert set(made) <= set(listed)
        assert fresh_name() not in listed
        await store.wipe(made[0])
        await settle(store)
        # Empty it is one still.
        assert set(made) <= set(await store.collections())

    async def test_a_collection_is_described_as_it_was_asked_for(self, store: Store) -> None:
        vectors = self.plain
        if self.traits.vectors.several:
            vectors = {
                f"v_{kind.value}": example(kind, self.traits.vectors)[0]
                for kind in sorted(self.traits.vectors.kinds, key=lambda kind: kind.value)
            }
        wanted = self.wanted(fresh_name(), vectors, indexes=_INDEXES)
        await store.ensure(wanted)
        described = await self.described(store, wanted.name)
        assert described.name == wanted.name
        if self.traits.vectors.schema or described.vectors is not None:
            assert described.vectors is not None
            assert {name: _plain(each) for name, each in described.vectors.items()} == vectors
            demanded = self.traits.vectors.demanded(len(vectors))
            assert {each.required for each in described.vectors.values()} == {demanded}
        # A file may keep indexes that it has no use for.
        assert described.indexes == _INDEXES or (
            not self.traits.indexes and described.indexes == {}
        )
        assert described.points == (0 if self.traits.counts else None)
        assert described.capture_id is None

    async def test_a_vector_is_kept_in_each_precision_that_there_is(self, store: Store) -> None:
        numbers = [1.0, 2.0, 3.0, 250.0, 5.0, 6.0, 7.0, 8.0]
        for precision in sorted(self.traits.vectors.precisions, key=lambda each: each.value):
            wanted = VectorSchema(size=8, distance=Distance.DOT, precision=precision)
            collection = await self.made(store, {self.vector: wanted})
            described = await self.described(store, collection)
            if described.vectors is not None:
                assert described.vectors[self.vector].precision is precision
            written = Point(self.id(1), {self.vector: floats(*numbers)}, {})
            await write(store, collection, Upsert(written))
            found = await store.fetch(collection, [written.id])
            unlike = compare_vector(
                written.vectors[self.vector],
                found[written.id].vectors[self.vector],
                by_direction=False,
                tolerance=0.0,
                precision=precision,
            )
            assert unlike is None, precision

    async def test_a_vector_that_is_too_long_for_the_store_is_refused(
        self, store: Store
    ) -> None:
        most = self.traits.vectors.dimensions_max
        if most is not None:
            await self.made(
                store, {self.vector: VectorSchema(size=most, distance=Distance.DOT)}
            )
            wanted = VectorSchema(size=most + 1, distance=Distance.DOT)
            with pytest.raises((Refused, Rejected)):
                await self.made(store, {self.vector: wanted})

    async def test_ensure_keeps_the_points_of_a_collection_that_exists(
        self, store: Store
    ) -> None:
        collection = await self.made(store, capture_id="one")
        await write(store, collection, Upsert(self.point(1)))
        await store.ensure(self.wanted(collection, capture_id="one"))
        assert await store.fetch(collection, [self.id(1)]) == {self.id(1): self.point(1)}

    async def test_the_mark_stays_with_the_collection(self, store: Store) -> None:
        collection = await self.made(store)
        expected = "capture-ä" if self.traits.marks else None
        for capture_id in ("capture-ä", None):
            await store.ensure(self.wanted(collection, capture_id=capture_id))
            assert (await self.described(store, collection)).capture_id == expected

    async def test_wiping_removes_the_points_and_the_mark_but_not_the_collection(
        self, store: Store
    ) -> None:
        collection = await self.made(store, capture_id="one", indexes={"year": "integer"})
        before = await self.described(store, collection)
        await write(store, collection, *(Upsert(self.point(n, old=n)) for n in range(20)))
        await store.wipe(collection)
        await settle(store)
        after = await self.described(store, collection)
        assert after.points == (0 if self.traits.counts else None)
        assert after.capture_id is None
        assert (after.vectors, after.indexes) == (before.vectors, before.indexes)
        assert await scanned(store, await store.split(collection, 2)) == []
        await store.ensure(self.wanted(collection, capture_id="two"))
        again = await self.described(store, collection)
        assert again.capture_id == ("two" if self.traits.marks else None)
        await write(store, collection, Upsert(self.point(1)))
        assert await self.counted(store, collection) == 1
        assert await store.fetch(collection, [self.id(1)]) == {self.id(1): self.point(1)}

    async def test_the_end_of_a_bulk_load_may_be_repeated_and_changes_no_point(
        self, store: Store
    ) -> None:
        collection = await self.made(store, capture_id="one")
        ids = self.ids(range(50))
        await write(store, collection, *(Upsert(self.point(n, n=n)) for n in range(50)))
        before = await store.fetch(collection, ids)
        for _ in range(2):
            await store.finish_bulk(collection)
            assert await store.fetch(collection, ids) == before
        described = await self.described(store, collection)
        assert described.capture_id == ("one" if self.traits.marks else None)
        await write(store, collection, Delete(self.id(0)))
        assert await self.counted(store, collection) == 49


def _plain(vector: VectorSchema) -> VectorSchema:
    """Without what only its store says of it."""
    return VectorSchema(
        kind=vector.kind,
        size=vector.size,
        distance=vector.distance,
        precision=vector.precision,
    )
