"""Patches: parts of a point that is there."""

from __future__ import annotations

from typing import Any

import pytest

from replicator.model.point import Point
from replicator.model.write import Delete, Patch, Receipt, Upsert
from replicator.ports.store import Store
from replicator.testing.store_conformance.examples import PAYLOAD, floats
from replicator.testing.store_conformance.suite import Suite, write


class Patches(Suite):
    """What a patch changes, and what it leaves."""

    async def test_a_patch_changes_what_it_names_and_nothing_else(self, store: Store) -> None:
        collection = await self.made(store)
        before = self.fitting(PAYLOAD)
        await write(store, collection, Upsert(self.point(1, **before)))
        changes = {"zero": {"now": [None]}, "new.dot": 2, "nested": {"new": True}, "text": "b"}
        patch = Patch(
            id=self.id(1),
            vectors={self.vector: floats(5, 5)},
            set=self.fitting(changes),
            unset=("dotted.key", "brackets[0]", "key with spaces", "ключ", "float", "never"),
        )
        for _ in range(2):
            assert await write(store, collection, patch) == Receipt()
        point = (await store.fetch(collection, [patch.id]))[patch.id]
        assert point.vectors == patch.vectors
        left = {key: value for key, value in before.items() if key not in patch.unset}
        assert self.same(self.kept(left | patch.set), point.payload)

    async def test_a_patch_of_one_vector_leaves_the_others(self, store: Store) -> None:
        rules, [shape] = self.traits.vectors, self.plain.values()
        names = ["a", "b", "c"] if rules.several else [self.vector]
        collection = await self.made(store, dict.fromkeys(names, shape))
        point = Point(self.id(1), {name: floats(1, 1) for name in names}, {"n": 1})
        await write(store, collection, Upsert(point))
        gone = names[1:2] if rules.partial else []
        patch = Patch(id=point.id, vectors={names[0]: floats(5, 5)}, unset_vectors=tuple(gone))
        for _ in range(2):
            assert await write(store, collection, patch) == Receipt()
        left = {name: each for name, each in point.vectors.items() if name not in gone}
        held = await store.fetch(collection, [point.id])
        assert held == {point.id: Point(point.id, left | patch.vectors, {"n": 1})}

    async def test_the_last_vector_of_a_point_goes_only_where_there_may_be_none(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(self.point(1, n=1)))
        patch = Patch(id=self.id(1), unset_vectors=(self.vector,))
        receipt = await write(store, collection, patch)
        held = self.point(1, n=1)
        if self.traits.vectors.none:
            held = Point(held.id, {}, held.payload)
            assert receipt == Receipt()
        else:
            assert [point_id for point_id, _ in receipt.rejected] == [held.id]
        assert await store.fetch(collection, [held.id]) == {held.id: held}

    async def test_a_null_that_a_patch_sets_removes_the_field(self, store: Store) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(self.point(1, a=1, c=3)))
        patch = Patch(id=self.id(1), set={"a": None, "never_there": None})
        for _ in range(2):
            assert await write(store, collection, patch) == Receipt()
        held = await store.fetch(collection, [patch.id])
        assert held == {patch.id: self.point(1, c=3)}

    async def test_a_null_within_a_value_that_a_patch_sets_is_kept(self, store: Store) -> None:
        collection = await self.made(store)
        before = self.point(1, **self.fitting({"a": 1, "b": {"x": 1, "y": 2}}))
        await write(store, collection, Upsert(before))
        patch = Patch(id=before.id, set={"b": {"x": None}})
        receipt = await write(store, collection, patch)
        held = before.payload
        if self.fits(patch.set):
            held = held | patch.set
        else:
            assert [point_id for point_id, _ in receipt.rejected] == [before.id]
        found = await store.fetch(collection, [before.id])
        assert found == {before.id: Point(before.id, before.vectors, held)}

    async def test_a_null_in_an_image_is_kept_unless_the_store_cannot_tell_it_from_absence(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        payload = self.fitting({"a": None, "b": {"x": None}, "c": 1})
        await write(store, collection, Upsert(self.point(1, **payload)))
        held = (await store.fetch(collection, [self.id(1)]))[self.id(1)].payload
        assert held == self.kept(payload)
        assert ("a" in held) is not self.traits.payload.null_is_absence

    @pytest.mark.parametrize("part", ["set", "unset", "vectors", "unset_vectors", "empty"])
    async def test_a_patch_of_an_absent_point_writes_nothing_and_is_reported(
        self, store: Store, part: str
    ) -> None:
        parts: dict[str, dict[str, Any]] = {
            "set": {"set": {"a": 1}},
            "unset": {"unset": ("a",)},
            "vectors": {"vectors": {self.vector: floats(1, 1)}},
            "unset_vectors": {"unset_vectors": (self.vector,)},
            "empty": {},
        }
        collection = await self.made(store)
        await write(store, collection, Upsert(self.point(1)))
        receipt = await write(store, collection, Patch(id=self.id(9), **parts[part]))
        if part == "unset_vectors" and not self.traits.vectors.none:
            # No point can be without it, so that the store may reject it unseen.
            told = (*receipt.absent, *(point_id for point_id, _ in receipt.rejected))
            assert told == (self.id(9),)
        else:
            assert receipt == Receipt(absent=(self.id(9),))
        assert await store.fetch(collection, self.ids([1, 9])) == {self.id(1): self.point(1)}
        assert await self.counted(store, collection) == 1

    async def test_an_absent_point_does_not_stop_the_rest_of_its_batch(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, *(Upsert(self.point(n, n=n)) for n in range(6)))
        receipt = await write(
            store,
            collection,
            Patch(id=self.id(1), set={"p": 1}),
            Patch(id=self.id(91), set={"p": 1}),
            Upsert(self.point(2, replaced=True)),
            Delete(self.id(3)),
            Patch(id=self.id(92), vectors={self.vector: floats(9, 9)}),
            Patch(id=self.id(4), unset=("n",), vectors={self.vector: floats(9, 9)}),
            Delete(self.id(93)),
        )
        assert receipt.rejected == ()
        assert sorted(receipt.absent, key=str) == self.ids([91, 92])
        assert await store.fetch(collection, self.ids([0, 1, 2, 3, 4, 91, 92, 93])) == {
            self.id(0): self.point(0, n=0),
            self.id(1): self.point(1, n=1, p=1),
            self.id(2): self.point(2, replaced=True),
            self.id(4): Point(self.id(4), {self.vector: floats(9, 9)}, {}),
        }
