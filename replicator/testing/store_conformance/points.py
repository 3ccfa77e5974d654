"""Points come back as they were written."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from replicator.model.point import Point
from replicator.model.schema import Distance, VectorKind, VectorSchema
from replicator.model.write import Delete, Patch, Upsert
from replicator.ports.store import Store
from replicator.testing.store_conformance.examples import (
    PAYLOAD,
    example,
    floats,
    ids_beyond,
    ids_of,
)
from replicator.testing.store_conformance.suite import Suite, scanned, write


class Points(Suite):
    """Vectors, payloads and ids."""

    @pytest.mark.parametrize("kind", list(VectorKind))
    @pytest.mark.parametrize("name", ["", "named"])
    async def test_a_vector_comes_back_as_it_was_written(
        self, store: Store, kind: VectorKind, name: str
    ) -> None:
        schema, vector = example(kind, self.traits.vectors)
        if kind is VectorKind.SPARSE and self.traits.vectors.several:
            name = "words"  # no store of several has an unnamed sparse vector
        point = Point(self.id(1), {name: vector}, {})
        if not self.has(kind, name):
            assert await self.is_refused(store, {name: schema}, point)
            return
        collection = await self.made(store, {name: schema})
        await write(store, collection, Upsert(point))
        assert await store.fetch(collection, [point.id]) == {point.id: point}

    async def test_several_vectors_of_a_point_may_be_there_or_not(self, store: Store) -> None:
        rules = self.traits.vectors
        examples = {f"v_{kind.value}": example(kind, rules) for kind in rules.kinds}
        examples["v_more"] = example(VectorKind.DENSE, rules)
        schemas = {name: schema for name, (schema, _) in examples.items()}
        vectors = {name: vector for name, (_, vector) in examples.items()}
        if not rules.several:
            assert await self.is_refused(store, schemas, Point(self.id(1), vectors, {}))
            return
        collection = await self.made(store, schemas)
        whole = Point(self.id(1), vectors, {})
        bare = Point(self.id(2), {}, {"none": True})
        parts = [
            Point(self.id(number), {name: vector}, {})
            for number, (name, vector) in enumerate(vectors.items(), 3)
        ]
        receipt = await write(store, collection, *map(Upsert, (whole, bare, *parts)))
        held = [whole, *([bare] if rules.none else []), *(parts if rules.partial else [])]
        lost = {point.id for point in (bare, *parts) if point not in held}
        assert {point_id for point_id, _ in receipt.rejected} == lost
        found = await store.fetch(collection, [point.id for point in (whole, bare, *parts)])
        assert found == {point.id: point for point in held}

    async def test_a_point_without_a_vector_is_kept_or_rejected(self, store: Store) -> None:
        collection = await self.made(store)
        bare = Point(self.id(1), {}, {"n": 1})
        receipt = await write(store, collection, Upsert(bare), Upsert(self.point(2)))
        held = {self.id(2): self.point(2)}
        if self.traits.vectors.none:
            held[bare.id] = bare
        assert await store.fetch(collection, self.ids([1, 2])) == held
        rejected = [point_id for point_id, _ in receipt.rejected]
        assert rejected == ([] if self.traits.vectors.none else [bare.id])

    async def test_a_vector_of_zeros_is_kept_or_rejected_alone(self, store: Store) -> None:
        collection = await self.made(store)
        zeros = Point(self.id(1), {self.vector: floats(0, 0)}, {})
        receipt = await write(store, collection, Upsert(zeros), Upsert(self.point(2)))
        held = {self.id(2): self.point(2)}
        if self.traits.vectors.zero:
            held[zeros.id] = zeros
        assert [error.code for _, error in receipt.rejected] == (
            [] if self.traits.vectors.zero else ["vector-zero"]
        )
        assert await store.fetch(collection, self.ids([1, 2])) == held

    async def test_a_payload_of_every_json_type_comes_back(self, store: Store) -> None:
        collection = await self.made(store)
        payload = self.fitting(PAYLOAD)
        await write(store, collection, Upsert(self.point(1, **payload)))
        found = (await store.fetch(collection, [self.id(1)]))[self.id(1)].payload
        expected = self.kept(payload)
        assert found.keys() == expected.keys()
        assert [key for key in expected if not self.same(expected[key], found[key])] == []

    async def test_a_value_that_the_store_cannot_hold_is_rejected_alone(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        values = list(PAYLOAD.items())
        unfit = [n for n, (name, value) in enumerate(values) if not self.fits({name: value})]
        points = [self.point(n, **dict([pair])) for n, pair in enumerate(values)]
        receipt = await write(store, collection, *map(Upsert, points))
        assert [point_id for point_id, _ in receipt.rejected] == self.ids(unfit)
        held = await store.fetch(collection, self.ids(range(len(values))))
        assert held.keys() == set(self.ids(range(len(values)))) - set(self.ids(unfit))
        await write(store, collection, *(Upsert(self.point(n)) for n in unfit))
        patches = [Patch(id=self.id(n), set=dict([values[n]])) for n in unfit]
        receipt = await write(store, collection, *patches)
        assert [point_id for point_id, _ in receipt.rejected] == self.ids(unfit)

    async def test_an_integer_is_kept_exactly_or_rejected(self, store: Store) -> None:
        collection = await self.made(store)
        largest = self.traits.payload.integer_max
        beyond = 2**64 if largest is None else largest + 1
        receipt = await write(
            store, collection, Upsert(self.point(1, n=beyond)), Upsert(self.point(2, n=5))
        )
        found = await store.fetch(collection, self.ids([1, 2]))
        if largest is None:
            assert found[self.id(1)].payload == {"n": beyond}
        else:
            assert [point_id for point_id, _ in receipt.rejected] == [self.id(1)]
            assert self.id(1) not in found
        assert found[self.id(2)].payload == {"n": 5}, "the others of the batch are written"

    async def test_cosine_vectors_come_back_normalised_or_rounded_if_the_store_says_so(
        self, store: Store
    ) -> None:
        schema = {self.vector: VectorSchema(size=3, distance=Distance.COSINE)}
        collection = await self.made(store, schema)
        point = Point(self.id(1), {self.vector: floats(3, 4, 0.1)}, {})
        await write(store, collection, Upsert(point))
        vector = (await store.fetch(collection, [point.id]))[point.id].vectors[self.vector]
        assert isinstance(vector, bytes)
        rules = self.traits.vectors
        if not rules.normalises and not rules.rounds:
            assert vector == point.vectors[self.vector]
            return
        length = math.hypot(3, 4, 0.1) if rules.normalises else 1.0
        expected = [component / length for component in (3, 4, 0.1)]
        assert struct.unpack("<3f", vector) == pytest.approx(expected, rel=1e-6)

    async def test_every_id_that_the_store_holds_comes_back(self, store: Store) -> None:
        for kinds in self.id_kinds():
            collection = await self.made(store, ids=kinds)
            ids = self.placed(ids_of(kinds, self.traits.ids.limits))
            await write(store, collection, *(Upsert(self.at(each)) for each in ids))
            assert (await store.fetch(collection, ids)).keys() == set(ids)
            assert sorted(map(str, await scanned(store, await store.split(collection, 1)))) == (
                sorted(map(str, ids))
            )
            described = await self.described(store, collection)
            assert described.ids == kinds
            assert all(described.holds(each) for each in ids)

    async def test_an_id_that_the_store_cannot_hold_is_rejected_alone(
        self, store: Store
    ) -> None:
        for kinds in self.id_kinds():
            collection = await self.made(store, ids=kinds)
            described = await self.described(store, collection)
            bad = self.placed(ids_beyond(kinds, self.traits.ids.limits))
            good = self.placed(ids_of(kinds, self.traits.ids.limits))[0]
            assert not any(described.holds(each) for each in bad)
            for batch in (
                [*(Upsert(self.at(each)) for each in bad), Upsert(self.at(good))],
                [*map(Delete, bad), Patch(id=good, set={"a": 1})],
            ):
                receipt = await write(store, collection, *batch)
                assert [point_id for point_id, _ in receipt.rejected] == bad
            held: dict[Any, Point] = {good: self.at(good, a=1)}
            assert await store.fetch(collection, [*bad, good]) == held
