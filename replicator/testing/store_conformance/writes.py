"""Upserts and deletes: whole points, in batches that may be repeated."""

from __future__ import annotations

import asyncio

import pytest

from replicator.errors import Refused
from replicator.model.point import Point
from replicator.model.write import Delete, Patch, Receipt, Upsert, WriteBatch
from replicator.ports.store import Store
from replicator.testing.store_conformance.examples import PAYLOAD, floats, fresh_name
from replicator.testing.store_conformance.suite import (
    Suite,
    refusals,
    scanned,
    settle,
    write,
)

_SIZABLE = 1000
"""Writes of a batch where the store sets no limit: as many as a lane's batch has by default."""


class Writes(Suite):
    """What a batch leaves behind."""

    async def test_an_upsert_replaces_the_whole_point(self, store: Store) -> None:
        collection = await self.made(store)
        before = self.point(1, **self.fitting(PAYLOAD))
        for after in (self.point(1, 3.0, other=1), self.point(1, 4.0)):
            await write(store, collection, Upsert(before))
            await write(store, collection, Upsert(after))
            assert await store.fetch(collection, [after.id]) == {after.id: after}
            pages = [
                page
                for chunk in await store.split(collection, 1)
                async for page in store.scan(chunk, None, 10)
            ]
            assert [point for page in pages for point in page.points] == [after]

    async def test_an_upsert_replaces_every_vector_of_a_point(self, store: Store) -> None:
        rules, [shape] = self.traits.vectors, self.plain.values()
        names = ["a", "b"] if rules.several else [self.vector]
        collection = await self.made(store, dict.fromkeys(names, shape))
        before = Point(self.id(1), {name: floats(1, 1) for name in names}, {"x": 1, "y": 1})
        left = names[-1:] if rules.partial else names
        after = Point(self.id(1), {name: floats(3, 3) for name in left}, {"y": 2})
        await write(store, collection, Upsert(before))
        await write(store, collection, Upsert(after))
        assert await store.fetch(collection, [after.id]) == {after.id: after}

    async def test_a_delete_removes_the_point_and_is_idempotent(self, store: Store) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(self.point(1)), Upsert(self.point(2)))
        for _ in range(2):
            receipt = await write(store, collection, Delete(self.id(1)), Delete(self.id(99)))
            assert receipt == Receipt()
        assert (await store.fetch(collection, self.ids([1, 2]))).keys() == {self.id(2)}
        assert await self.counted(store, collection) == 1

    async def test_a_delete_of_an_absent_point_is_no_error_and_writes_nothing(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        assert await write(store, collection, Delete(self.id(1))) == Receipt()
        assert await self.counted(store, collection) == 0
        assert await store.fetch(collection, [self.id(1)]) == {}

    async def test_a_point_that_is_written_again_after_its_delete_has_nothing_of_the_old_one(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(self.point(1, old=1, both=1)))
        await write(store, collection, Delete(self.id(1)))
        await write(store, collection, Upsert(self.point(1, 5.0, both=2)))
        held = await store.fetch(collection, [self.id(1)])
        assert held == {self.id(1): self.point(1, 5.0, both=2)}

    async def test_the_same_batch_twice_leaves_what_it_left_once(self, store: Store) -> None:
        collection = await self.made(store)
        await write(store, collection, *(Upsert(self.point(n, n=n)) for n in range(4)))
        batch = (
            Upsert(self.point(0, again=True)),
            Patch(id=self.id(1), set={"p": 1}, unset=("n",)),
            Delete(self.id(2)),
            Upsert(self.point(10)),
        )
        await write(store, collection, *batch)
        once = await store.fetch(collection, self.ids(range(11)))
        assert await write(store, collection, *batch) == Receipt()
        assert await store.fetch(collection, self.ids(range(11))) == once

    async def test_a_point_of_a_wrong_dimension_is_rejected_and_leaves_the_old_one(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(self.point(1)))
        bad = Point(self.id(1), {self.vector: floats(1, 2, 3)}, {})
        if not self.traits.vectors.checks_dimensions:
            await write(store, collection, Upsert(bad))
            assert await store.fetch(collection, [bad.id]) == {bad.id: bad}
            return
        assert await refusals(store, collection, Upsert(bad)) == ["vector-dimension"]
        assert await store.fetch(collection, [bad.id]) == {bad.id: self.point(1)}

    async def test_an_empty_batch_is_written(self, store: Store) -> None:
        assert await write(store, await self.made(store)) == Receipt()

    async def test_a_batch_as_large_as_the_store_takes_is_written(self, store: Store) -> None:
        collection = await self.made(store)
        numbers = range(self.traits.limits.records_max or _SIZABLE)
        batch = WriteBatch(collection, tuple(Upsert(self.point(n, n=n)) for n in numbers))
        assert await store.apply(batch) == Receipt()
        await settle(store)
        assert await self.counted(store, collection) == len(numbers)

    async def test_a_write_to_a_missing_collection_is_refused_unless_it_creates_it(
        self, store: Store
    ) -> None:
        name = fresh_name()
        if not self.traits.creates_on_write:
            with pytest.raises(Refused):
                await write(store, name, Upsert(self.point(1)))
            return
        try:
            receipt = await write(store, name, Upsert(self.point(1)))
        except Refused:
            # It would, but for a connector that looks first.
            assert await store.describe(name) is None
            return
        assert receipt == Receipt()
        assert await scanned(store, await store.split(name, 1)) == [self.id(1)]

    async def test_batches_of_other_keys_may_be_in_flight_together(self, store: Store) -> None:
        collection = await self.made(store)

        async def one(number: int) -> None:
            ids = range(number * 10, number * 10 + 10)
            await write(store, collection, *(Upsert(self.point(n, by=number)) for n in ids))
            last = (Delete(self.id(ids[0])), Patch(id=self.id(ids[1])))
            await write(store, collection, *last)

        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(one(number), name=f"batch {number}")
        await settle(store)
        assert await self.counted(store, collection) == 16 * 9
        found = await store.fetch(collection, self.ids(range(160)))
        assert {point_id: point.payload for point_id, point in found.items()} == {
            self.id(n): {"by": n // 10} for n in range(160) if n % 10
        }
