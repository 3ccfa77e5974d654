"""Scopes: tenants, partitions, shard keys, within which alone an id is unique."""

from __future__ import annotations

import pytest

from replicator.model.point import ScopedId, scope_of
from replicator.model.record import Chunk
from replicator.model.write import Delete, Patch, Upsert
from replicator.ports.store import ScopeReader, Store
from replicator.testing.store_conformance.suite import Suite, scanned, write


class Scopes(Suite):
    """What a store does that can have them, and that one that cannot makes none."""

    def pair(self, number: int) -> tuple[ScopedId, ScopedId]:
        """One id in two scopes."""
        point_id = self.bare_id(number)
        return ScopedId("a", point_id), ScopedId("b", point_id)

    async def test_a_collection_has_scopes_where_it_is_asked_for_and_can(
        self, store: Store
    ) -> None:
        assert isinstance(store, ScopeReader) or not self.traits.scopes
        for scoped in (True, False):
            collection = await self.made(store, scoped=scoped)
            schema = await self.described(store, collection)
            assert schema.scoped is (scoped and self.traits.scopes)
            assert schema.holds(self.pair(1)[0]) is schema.scoped
            assert schema.holds(self.bare_id(1)) is not schema.scoped

    async def test_equal_ids_of_two_scopes_are_two_points(self, store: Store) -> None:
        if not self.traits.scopes:
            return
        collection = await self.made(store, scoped=True)
        ids = [*(ScopedId("a", self.bare_id(n)) for n in range(20))]
        ids += [ScopedId("b", self.bare_id(n)) for n in range(5)]
        points = [self.at(each, place=repr(each)) for each in ids]
        await write(store, collection, *map(Upsert, points))
        found = await store.fetch(collection, ids)
        assert found.keys() == set(ids)
        assert all(found[each].payload == {"place": repr(each)} for each in ids)
        assert all(found[each].id == each for each in ids)
        chunks = await store.split(collection, 3)
        assert sorted(await scanned(store, chunks), key=repr) == sorted(ids, key=repr)
        assert await self.counted(store, collection) == 25

    async def test_a_write_concerns_its_scope_alone(self, store: Store) -> None:
        if not self.traits.scopes:
            return
        collection = await self.made(store, scoped=True)
        (one, one_b), (two, two_b), (three, three_b) = (self.pair(n) for n in (1, 2, 3))
        everything = (one, one_b, two, two_b, three, three_b)
        await write(store, collection, *(Upsert(self.at(each, n=1)) for each in everything))
        other = self.at(three, 9.0).vectors
        receipt = await write(
            store,
            collection,
            Delete(one),
            Upsert(self.at(two, n=2)),
            Patch(id=three, set={"n": 3}, vectors=other),
            Patch(id=ScopedId("b", self.bare_id(4)), set={"n": 4}),
        )
        assert receipt.absent == (ScopedId("b", self.bare_id(4)),)
        found = await store.fetch(collection, everything)
        assert {each: point.payload["n"] for each, point in found.items()} == {
            one_b: 1,
            two: 2,
            two_b: 1,
            three: 3,
            three_b: 1,
        }
        assert found[three_b].vectors == self.at(three_b).vectors
        assert found[three].vectors == other

    async def test_a_scope_that_is_not_there_holds_nothing(self, store: Store) -> None:
        if not self.traits.scopes:
            return
        collection = await self.made(store, scoped=True)
        there, nowhere = self.pair(1)
        unscoped = self.bare_id(1)
        await write(store, collection, Upsert(self.at(there)))
        receipt = await write(
            store, collection, Delete(nowhere), Patch(id=ScopedId("c", unscoped), set={"n": 1})
        )
        assert receipt.absent == (ScopedId("c", unscoped),)
        assert receipt.rejected == ()
        assert set(await store.fetch(collection, [nowhere, there, unscoped])) == {there}
        assert await scanned(store, await store.split(collection, 2)) == [there]

    async def test_chunks_cover_scopes_that_come_later(self, store: Store) -> None:
        if not self.traits.scopes:
            return
        collection = await self.made(store, scoped=True)
        early, late = self.pair(1)
        later = [ScopedId(scope, self.bare_id(n)) for scope in ("c", "d") for n in range(9)]
        await write(store, collection, Upsert(self.at(early)))
        chunks = await store.split(collection, 2)
        await write(store, collection, *(Upsert(self.at(each)) for each in (late, *later)))
        expected = {early, late, *later}
        found = await scanned(store, chunks, page_rows=4)
        assert len(found) == len(expected)
        assert set(found) == expected
        # From every cursor on, as after a crash.
        for chunk in chunks:
            pages = [page async for page in store.scan(chunk, None, 4)]
            for number, page in enumerate(pages[:-1], 1):
                assert page.cursor is not None
                rest = [point.id for later in pages[number:] for point in later.points]
                assert await scanned(store, [chunk], 4, page.cursor) == rest

    @pytest.mark.parametrize("parts", [1, 5])
    async def test_some_scopes_are_read_without_the_others(
        self, store: Store, parts: int
    ) -> None:
        if not isinstance(store, ScopeReader) or not self.traits.scopes:
            return
        collection = await self.made(store, scoped=True)
        ids = [ScopedId(scope, self.bare_id(n)) for scope in "abc" for n in range(40)]
        await write(store, collection, *(Upsert(self.at(each)) for each in ids))
        wanted = {"a", "c", "not there"}
        chunks: list[Chunk] = await store.split_scopes(collection, parts, wanted)
        found = await scanned(store, chunks)
        assert sorted(found, key=repr) == sorted(
            (each for each in ids if scope_of(each) in wanted), key=repr
        )
        counted = await store.count_scopes(collection, wanted)
        assert counted == (80 if self.traits.counts else None)
