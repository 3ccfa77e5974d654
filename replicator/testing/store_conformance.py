"""
What every store must do. Subclass it in a test module, give the fixture `store`, and declare
what the store lacks: a lack is tested for as well, so that nothing is skipped in silence.

Every test makes collections of its own, named by `fresh_name`; a store that outlives the test
can find and remove them by their prefix.
"""

from __future__ import annotations

import asyncio
import math
import struct
import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec
import pytest

from replicator.errors import Refused, Rejected
from replicator.model.finding import Severity
from replicator.model.point import MultiVector, Payload, Point, PointId, SparseVector, Vector
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Query
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch
from replicator.ports.store import AliasSwitch, SelfCheck, Store

PREFIX = "conformance-"
"""Every collection's name begins with it."""

UUIDS = (
    "00000000-0000-0000-0000-000000000000",
    "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
)

PAYLOAD: Payload = {
    "text": "plain",
    "unicode": "żółć 漢字 🦀 \u0000 \n",
    "zero": 0,
    "big": 2**63 - 1,
    "small": -(2**63),
    "beyond_double": 2**53 + 1,
    "float": 0.25,
    "integral_float": 5.0,
    "true": True,
    "false": False,
    "null": None,
    "empty_text": "",
    "empty_list": [],
    "empty_map": {},
    "list": [1, 2.5, "three", None, True, [], {}],
    "nested": {"a": {"b": [{"c": None}, {"d": [2**62]}]}},
    "key with spaces": 1,
    "dotted.key": {"inner.dot": 2},
    "brackets[0]": 3,
    "ключ": 4,
}
"""JSON of every kind."""


def floats(*components: float) -> bytes:
    """A dense vector."""
    return struct.pack(f"<{len(components)}f", *components)


def sparse(**components: float) -> SparseVector:
    """A sparse vector, as `sparse(i3=0.5)`."""
    pairs = sorted((int(name[1:]), value) for name, value in components.items())
    return SparseVector(
        struct.pack(f"<{len(pairs)}I", *(index for index, _ in pairs)),
        floats(*(value for _, value in pairs)),
    )


EXAMPLES: dict[VectorKind, tuple[VectorSchema, Vector, Vector]] = {
    VectorKind.DENSE: (
        VectorSchema(size=4, distance=Distance.DOT),
        floats(1, -2, 0.1, 3e-30),
        floats(0, 0, 0, 1),
    ),
    VectorKind.SPARSE: (
        VectorSchema(kind=VectorKind.SPARSE),
        sparse(i1=0.5, i7=-1.25, i4294967295=3.0),
        sparse(i2=1.0),
    ),
    VectorKind.MULTI: (
        VectorSchema(kind=VectorKind.MULTI, size=2, distance=Distance.DOT),
        MultiVector(3, floats(1, 2, 3, 4, 5, 6)),
        MultiVector(1, floats(7, 8)),
    ),
}
"""Of every kind: how it is declared, one vector, and another."""

PLAIN = {"": VectorSchema(size=2, distance=Distance.DOT)}
"""One unnamed vector that comes back as it was written."""


def fresh_name() -> str:
    """The name of a collection that nobody else uses."""
    return f"{PREFIX}{uuid.uuid4().hex[:12]}"


def simple(point_id: PointId, x: float = 1.0, **payload: Any) -> Point:
    """A point of a PLAIN collection."""
    return Point(point_id, {"": floats(x, 2)}, payload)


async def write(store: Store, collection: str, *writes: Write) -> Receipt:
    """Apply one batch, and wait until reads show it."""
    receipt = await store.apply(WriteBatch(collection, writes))
    await settle(store)
    return receipt


async def refusals(store: Store, collection: str, *writes: Write) -> list[str]:
    """The codes with which a store rejects points: by name, or as a batch."""
    try:
        receipt = await write(store, collection, *writes)
    except Rejected as error:
        return [error.code]
    return [error.code for _, error in receipt.rejected]


async def held(store: Store, collection: str, payload: Payload) -> Payload:
    """What the store keeps of a payload: all, but for nulls where it cannot tell them."""
    described = await store.describe(collection)
    assert described is not None
    if not described.null_is_absence:
        return payload
    return {name: value for name, value in payload.items() if value is not None}


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


def same(one: Any, other: Any) -> bool:
    """
    Whether two JSON values are the same, in their types too. Floats may differ in the last
    place: Qdrant gives some of them back so.
    """
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
        case float(), float():
            return math.isclose(one, other, rel_tol=1e-15)
        case _:
            return type(one) is type(other) and bool(one == other)


class StoreConformance:
    """The suite. `store` is a store that is up, and may hold other collections."""

    kinds: ClassVar[frozenset[VectorKind]] = frozenset(VectorKind)
    """Vector kinds that the store holds. It refuses the others."""
    ids: ClassVar[IdKinds] = IdKinds.UINT64 | IdKinds.UUID
    """Ids that the store holds. It refuses the others."""
    int_max: ClassVar[int | None] = 2**63 - 1
    """The largest payload integer; a larger one is rejected. None: any."""
    marks: ClassVar[bool] = True
    """Whether a capture's mark stays with the collection. Without it there is never one."""
    normalises: ClassVar[bool] = True
    """Whether dense vectors under cosine come back with length one, or as written."""
    checks_dimensions: ClassVar[bool] = True
    """Whether a vector of a wrong dimension is rejected. Else it is stored as it is."""
    filters: ClassVar[bool] = True
    """Whether searches take filters. Else they are refused."""
    aliases: ClassVar[bool] = False
    """Whether the store is an AliasSwitch."""

    async def made(
        self, store: Store, vectors: dict[str, VectorSchema] | None = None, **given: Any
    ) -> str:
        """A new collection."""
        name = fresh_name()
        await store.ensure(self.wanted(name, vectors, **given))
        return name

    def wanted(
        self, name: str, vectors: dict[str, VectorSchema] | None = None, **given: Any
    ) -> CollectionSchema:
        """The schema that a test asks for."""
        return CollectionSchema(name=name, vectors=vectors or PLAIN, ids=self.ids, **given)

    def some_ids(self) -> list[PointId]:
        """Ids of every kind that the store holds, in no order."""
        found: list[PointId] = []
        if self.ids & IdKinds.UINT64:
            found += [7, 0, 2**64 - 1, 2**53 + 1, *range(100, 140)]
        if self.ids & (IdKinds.UUID | IdKinds.STRING):
            found += [*UUIDS, *(str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))) for n in range(40))]
        if self.ids & IdKinds.STRING:
            found += ["a", "ä/ö ü", "a" * 200, "7", "%2F"]
        return found

    # -- points come back as they were written -------------------------------------------------
    @pytest.mark.parametrize("kind", list(VectorKind))
    @pytest.mark.parametrize("name", ["", "named"])
    async def test_a_vector_comes_back_as_it_was_written(
        self, store: Store, kind: VectorKind, name: str
    ) -> None:
        schema, vector, _ = EXAMPLES[kind]
        if kind is VectorKind.SPARSE and not name:
            name = "words"  # no store has an unnamed sparse vector
        if kind not in self.kinds:
            with pytest.raises((Refused, Rejected)):
                await write(
                    store,
                    await self.made(store, {name: schema}),
                    Upsert(Point(1, {name: vector}, {})),
                )
            return
        collection = await self.made(store, {name: schema})
        await write(store, collection, Upsert(Point(1, {name: vector}, {})))
        assert await store.fetch(collection, [1]) == {1: Point(1, {name: vector}, {})}

    async def test_several_vectors_of_a_point_may_be_there_or_not(self, store: Store) -> None:
        kinds = sorted(self.kinds, key=lambda kind: kind.value)
        schemas = {f"v-{kind.value}": EXAMPLES[kind][0] for kind in kinds}
        everything = {f"v-{kind.value}": EXAMPLES[kind][1] for kind in kinds}
        collection = await self.made(store, schemas)
        points = [Point(1, everything, {}), Point(2, {}, {"none": True})] + [
            Point(number, {name: vector}, {})
            for number, (name, vector) in enumerate(everything.items(), 3)
        ]
        await write(store, collection, *map(Upsert, points))
        found = await store.fetch(collection, [point.id for point in points])
        assert found == {point.id: point for point in points}

    async def test_a_payload_of_every_json_type_comes_back(self, store: Store) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(Point(1, {"": floats(1, 2)}, PAYLOAD)))
        found = (await store.fetch(collection, [1]))[1].payload
        expected = await held(store, collection, PAYLOAD)
        assert found.keys() == expected.keys()
        assert [key for key in expected if not same(expected[key], found[key])] == []

    async def test_an_integer_is_kept_exactly_or_rejected(self, store: Store) -> None:
        collection = await self.made(store)
        beyond = 2**64 if self.int_max is None else self.int_max + 1
        receipt = await write(
            store, collection, Upsert(simple(1, n=beyond)), Upsert(simple(2, n=5))
        )
        found = await store.fetch(collection, [1, 2])
        if self.int_max is None:
            assert found[1].payload == {"n": beyond}
        else:
            assert [point_id for point_id, _ in receipt.rejected] == [1]
            assert 1 not in found
        assert found[2].payload == {"n": 5}, "the others of the batch are written"

    async def test_cosine_vectors_come_back_normalised_if_the_store_says_so(
        self, store: Store
    ) -> None:
        collection = await self.made(
            store, {"": VectorSchema(size=3, distance=Distance.COSINE)}
        )
        await write(store, collection, Upsert(Point(1, {"": floats(3, 4, 0)}, {})))
        vector = (await store.fetch(collection, [1]))[1].vectors[""]
        assert isinstance(vector, bytes)
        expected = (0.6, 0.8, 0) if self.normalises else (3, 4, 0)
        assert struct.unpack("<3f", vector) == pytest.approx(expected, rel=1e-6)
        described = await store.describe(collection)
        assert described is not None
        assert described.normalises is self.normalises

    async def test_every_id_that_the_store_holds_comes_back(self, store: Store) -> None:
        collection = await self.made(store)
        ids = self.some_ids()
        await write(store, collection, *(Upsert(simple(point_id)) for point_id in ids))
        assert (await store.fetch(collection, ids)).keys() == set(ids)
        assert sorted(map(str, await scanned(store, await store.split(collection, 1)))) == (
            sorted(map(str, ids))
        )
        described = await store.describe(collection)
        assert described is not None
        assert all(described.holds(point_id) for point_id in ids)

    async def test_an_id_that_the_store_cannot_hold_is_rejected_alone(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        described = await store.describe(collection)
        assert described is not None
        bad = "not-a-uuid"
        if self.ids & IdKinds.STRING:
            bad = "x" * (described.string_bytes_max + 1)
        assert not described.holds(bad)
        receipt = await write(store, collection, Upsert(simple(bad)), Upsert(simple(5)))
        assert [point_id for point_id, _ in receipt.rejected] == [bad]
        receipt = await write(store, collection, Delete(bad), Patch(id=5, set={"a": 1}))
        assert [point_id for point_id, _ in receipt.rejected] == [bad]
        assert await store.fetch(collection, [bad, 5]) == {5: simple(5, a=1)}

    # -- writes --------------------------------------------------------------------------------
    async def test_an_upsert_replaces_the_whole_point(self, store: Store) -> None:
        two = {"a": PLAIN[""], "b": PLAIN[""]}
        collection = await self.made(store, two)
        before = Point(1, {"a": floats(1, 1), "b": floats(2, 2)}, {"x": 1, "y": {"z": 1}})
        after = Point(1, {"b": floats(3, 3)}, {"y": {"w": 2}})
        await write(store, collection, Upsert(before))
        await write(store, collection, Upsert(after))
        assert await store.fetch(collection, [1]) == {1: after}

    async def test_a_delete_removes_the_point_and_is_idempotent(self, store: Store) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(simple(1)), Upsert(simple(2)))
        for _ in range(2):
            assert await write(store, collection, Delete(1), Delete(99)) == Receipt()
        assert (await store.fetch(collection, [1, 2])).keys() == {2}
        assert await store.count(collection) == 1

    async def test_a_patch_changes_what_it_names_and_nothing_else(self, store: Store) -> None:
        collection = await self.made(store, {"a": PLAIN[""], "b": PLAIN[""], "c": PLAIN[""]})
        vectors: dict[str, Vector] = {name: floats(1, 1) for name in "abc"}
        await write(store, collection, Upsert(Point(1, vectors, dict(PAYLOAD))))
        patch = Patch(
            id=1,
            vectors={"a": floats(5, 5)},
            set={"zero": {"now": [None]}, "new.dot": 2, "nested": {"replaced": True}},
            unset=("dotted.key", "brackets[0]", "key with spaces", "ключ", "never there"),
            unset_vectors=("b",),
        )
        for _ in range(2):
            assert await write(store, collection, patch) == Receipt()
        point = (await store.fetch(collection, [1]))[1]
        assert point.vectors == {"a": floats(5, 5), "c": floats(1, 1)}
        before = await held(store, collection, PAYLOAD)
        expected = {key: before[key] for key in before if key not in patch.unset} | patch.set
        assert same(point.payload, expected)

    async def test_a_null_that_a_patch_sets_removes_the_field_and_a_nested_one_is_kept(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(simple(1, a=1, b={"x": 1, "y": 2}, c=3)))
        patch = Patch(id=1, set={"a": None, "b": {"x": None}, "never there": None})
        for _ in range(2):
            assert await write(store, collection, patch) == Receipt()
        point = (await store.fetch(collection, [1]))[1]
        assert {k: v for k, v in point.payload.items() if k in "abc"} == {
            "b": {"x": None},
            "c": 3,
        }
        assert "never there" not in point.payload

    async def test_a_null_in_an_image_is_kept_unless_the_store_cannot_tell_it_from_absence(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(simple(1, a=None, b={"x": None})))
        described = await store.describe(collection)
        assert described is not None
        payload = (await store.fetch(collection, [1]))[1].payload
        assert payload["b"] == {"x": None}
        assert ("a" in payload) is not described.null_is_absence

    @pytest.mark.parametrize(
        "patch",
        [
            Patch(id=9, set={"a": 1}),
            Patch(id=9, unset=("a",)),
            Patch(id=9, vectors={"": floats(1, 1)}),
            Patch(id=9, unset_vectors=("",)),
            Patch(id=9),
        ],
        ids=["set", "unset", "vectors", "unset_vectors", "empty"],
    )
    async def test_a_patch_of_an_absent_point_writes_nothing_and_is_reported(
        self, store: Store, patch: Patch
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(simple(1)))
        assert await write(store, collection, patch) == Receipt(absent=(9,))
        assert await store.fetch(collection, [9]) == {}
        assert await store.count(collection) == 1

    async def test_an_absent_point_does_not_stop_the_rest_of_its_batch(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, *(Upsert(simple(n, n=n)) for n in range(6)))
        receipt = await write(
            store,
            collection,
            Patch(id=1, set={"p": 1}),
            Patch(id=91, set={"p": 1}),
            Upsert(simple(2, replaced=True)),
            Delete(3),
            Patch(id=92, vectors={"": floats(9, 9)}),
            Patch(id=4, unset=("n",), vectors={"": floats(9, 9)}),
            Delete(93),
        )
        assert receipt.rejected == ()
        assert sorted(receipt.absent, key=str) == [91, 92]
        assert await store.fetch(collection, [0, 1, 2, 3, 4, 91, 92, 93]) == {
            0: simple(0, n=0),
            1: simple(1, n=1, p=1),
            2: simple(2, replaced=True),
            4: Point(4, {"": floats(9, 9)}, {}),
        }

    async def test_the_same_batch_twice_leaves_what_it_left_once(self, store: Store) -> None:
        collection = await self.made(store)
        await write(store, collection, *(Upsert(simple(n, n=n)) for n in range(4)))
        batch = (
            Upsert(simple(0, again=True)),
            Patch(id=1, set={"p": [1]}, unset=("n",)),
            Delete(2),
            Upsert(simple(10)),
        )
        await write(store, collection, *batch)
        once = await store.fetch(collection, range(11))
        assert await write(store, collection, *batch) == Receipt()
        assert await store.fetch(collection, range(11)) == once

    async def test_a_point_of_a_wrong_dimension_is_rejected_and_leaves_the_old_one(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(simple(1)))
        bad = Point(1, {"": floats(1, 2, 3)}, {})
        if not self.checks_dimensions:
            await write(store, collection, Upsert(bad))
            assert await store.fetch(collection, [1]) == {1: bad}
            return
        assert await refusals(store, collection, Upsert(bad)) == ["vector-dimension"]
        assert await store.fetch(collection, [1]) == {1: simple(1)}

    async def test_an_empty_batch_is_written(self, store: Store) -> None:
        assert await write(store, await self.made(store)) == Receipt()

    async def test_a_write_to_a_missing_collection_is_refused(self, store: Store) -> None:
        with pytest.raises(Refused):
            await write(store, fresh_name(), Upsert(simple(1)))

    async def test_batches_of_other_keys_may_be_in_flight_together(self, store: Store) -> None:
        collection = await self.made(store)

        async def one(number: int) -> None:
            ids = range(number * 10, number * 10 + 10)
            batch = WriteBatch(collection, tuple(Upsert(simple(n, by=number)) for n in ids))
            await store.apply(batch)
            await store.apply(WriteBatch(collection, (Delete(ids[0]), Patch(id=ids[1]))))

        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(one(number), name=f"batch {number}")
        await settle(store)
        assert await store.count(collection) == 16 * 9
        found = await store.fetch(collection, range(160))
        assert {n: point.payload for n, point in found.items()} == {
            n: {"by": n // 10} for n in range(160) if n % 10
        }

    # -- reads ---------------------------------------------------------------------------------
    async def test_fetch_leaves_out_what_is_absent(self, store: Store) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(simple(1)), Upsert(simple(3)))
        assert (await store.fetch(collection, [1, 2, 3, 4])).keys() == {1, 3}
        assert await store.fetch(collection, []) == {}

    @pytest.mark.parametrize("parts", [1, 2, 5, 200])
    async def test_chunks_cover_every_key_once_those_included_that_come_later(
        self, store: Store, parts: int
    ) -> None:
        collection = await self.made(store)
        ids = self.some_ids()
        early, late = ids[::2], ids[1::2]
        await write(store, collection, *(Upsert(simple(point_id)) for point_id in early))
        chunks = await store.split(collection, parts)
        assert {chunk.collection for chunk in chunks} == {collection}
        assert len({chunk.number for chunk in chunks}) == len(chunks)
        # Chunks live in a database between a crash and the next run.
        chunks = [
            msgspec.json.decode(msgspec.json.encode(chunk), type=Chunk) for chunk in chunks
        ]
        await write(store, collection, *(Upsert(simple(point_id)) for point_id in late))
        found = await scanned(store, chunks)
        assert len(found) == len(set(found))
        assert set(found) == set(ids)

    async def test_an_empty_collection_is_cut_too(self, store: Store) -> None:
        collection = await self.made(store)
        chunks = await store.split(collection, 4)
        assert await scanned(store, chunks) == []
        await write(store, collection, *(Upsert(simple(n)) for n in self.some_ids()))
        assert set(await scanned(store, chunks)) == set(self.some_ids())

    @pytest.mark.parametrize("page_rows", [1, 3, 1000])
    async def test_a_scan_goes_on_from_every_cursor(self, store: Store, page_rows: int) -> None:
        collection = await self.made(store)
        await write(store, collection, *(Upsert(simple(n)) for n in self.some_ids()))
        for chunk in await store.split(collection, 2):
            pages = [page async for page in store.scan(chunk, None, page_rows)]
            assert all(len(page.points) <= page_rows for page in pages)
            assert [page.cursor is None for page in pages[:-1]] == [False] * (len(pages) - 1)
            assert not pages or pages[-1].cursor is None
            for number, page in enumerate(pages[:-1], 1):
                rest = await scanned(store, [chunk], page_rows, page.cursor)
                assert rest == [point.id for later in pages[number:] for point in later.points]

    async def test_a_scan_keeps_its_place_while_other_keys_come_and_go(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        ids = self.some_ids()
        await write(store, collection, *(Upsert(simple(point_id)) for point_id in ids))
        lasting, victims = (
            set(ids[::3]),
            [point_id for point_id in ids if point_id not in ids[::3]],
        )
        found: list[PointId] = []
        for chunk in await store.split(collection, 2):
            cursor: str | None = None
            while True:
                # A page a scan: the cursor alone carries the place, as after a crash.
                page = await anext(aiter(store.scan(chunk, cursor, 2)), None)
                if page is None:
                    break
                found += [point.id for point in page.points]
                # The key that the cursor stands on, too, and one far away.
                gone = [point.id for point in page.points if point.id in victims][-1:]
                gone += victims[-1:]
                victims = [point_id for point_id in victims if point_id not in gone]
                await write(store, collection, *map(Delete, dict.fromkeys(gone)))
                cursor = page.cursor
                if cursor is None:
                    break
        assert len(found) == len(set(found))
        assert lasting <= set(found) <= set(ids)

    async def test_a_missing_collection_is_described_as_none_and_not_scanned(
        self, store: Store
    ) -> None:
        name = fresh_name()
        assert await store.describe(name) is None
        with pytest.raises(Refused):
            await store.split(name, 2)
        collection = await self.made(store)
        for chunk in await store.split(collection, 1):
            with pytest.raises(Refused):
                await scanned(store, [Chunk(chunk.number, name, chunk.spec)])

    async def test_the_count_is_exact(self, store: Store) -> None:
        collection = await self.made(store)
        assert await store.count(collection) == 0
        await write(store, collection, *(Upsert(simple(n)) for n in range(300)))
        await write(store, collection, *(Delete(n) for n in range(100)))
        await write(store, collection, Upsert(simple(150, again=True)))
        assert await store.count(collection) == 200
        described = await store.describe(collection)
        assert described is not None
        assert described.points == 200

    # -- collections ---------------------------------------------------------------------------
    async def test_a_collection_is_described_as_it_was_asked_for(self, store: Store) -> None:
        vectors = {
            f"v-{kind.value}": EXAMPLES[kind][0]
            for kind in sorted(self.kinds, key=lambda kind: kind.value)
        }
        wanted = self.wanted(fresh_name(), vectors, indexes={"year": "integer", "t": "keyword"})
        await store.ensure(wanted)
        described = await store.describe(wanted.name)
        assert described is not None
        assert described.name == wanted.name
        assert described.vectors is not None
        assert {
            name: msgspec.structs.replace(vector, native={})
            for name, vector in described.vectors.items()
        } == vectors
        assert described.indexes == wanted.indexes
        assert described.ids & self.ids == self.ids
        assert described.points == 0
        assert described.capture_id is None

    async def test_ensure_keeps_the_points_of_a_collection_that_exists(
        self, store: Store
    ) -> None:
        collection = await self.made(store, capture_id="one")
        await write(store, collection, Upsert(simple(1)))
        await store.ensure(self.wanted(collection, capture_id="one"))
        assert await store.fetch(collection, [1]) == {1: simple(1)}

    async def test_the_mark_stays_with_the_collection(self, store: Store) -> None:
        collection = await self.made(store)
        await store.ensure(self.wanted(collection, capture_id="capture-ä"))
        described = await store.describe(collection)
        assert described is not None
        assert described.capture_id == ("capture-ä" if self.marks else None)
        await store.ensure(self.wanted(collection))
        described = await store.describe(collection)
        assert described is not None
        assert described.capture_id == ("capture-ä" if self.marks else None)

    async def test_wiping_removes_the_points_and_the_mark_but_not_the_collection(
        self, store: Store
    ) -> None:
        collection = await self.made(store, capture_id="one", indexes={"year": "integer"})
        before = await store.describe(collection)
        await write(store, collection, *(Upsert(simple(n)) for n in range(20)))
        await store.wipe(collection)
        after = await store.describe(collection)
        assert before is not None
        assert after is not None
        assert (after.points, after.capture_id) == (0, None)
        assert (after.vectors, after.indexes) == (before.vectors, before.indexes)
        assert await scanned(store, await store.split(collection, 2)) == []
        await store.ensure(self.wanted(collection, capture_id="two"))
        again = await store.describe(collection)
        assert again is not None
        assert again.capture_id == ("two" if self.marks else None)
        await write(store, collection, Upsert(simple(1)))
        assert await store.count(collection) == 1

    async def test_the_end_of_a_bulk_load_may_be_repeated_and_changes_no_point(
        self, store: Store
    ) -> None:
        collection = await self.made(store, capture_id="one")
        await write(store, collection, *(Upsert(simple(n, n=n)) for n in range(50)))
        before = await store.fetch(collection, range(50))
        for _ in range(2):
            await store.finish_bulk(collection)
            assert await store.fetch(collection, range(50)) == before
        described = await store.describe(collection)
        assert described is not None
        assert described.capture_id == ("one" if self.marks else None)
        await write(store, collection, Delete(0))
        assert await store.count(collection) == 49

    # -- search and the rest -------------------------------------------------------------------
    async def test_a_search_gives_the_nearest_first(self, store: Store) -> None:
        schema = {"v": VectorSchema(size=2, distance=Distance.COSINE)}
        collection = await self.made(store, schema)
        await write(
            store,
            collection,
            *(
                Upsert(Point(n, {"v": floats(math.cos(n / 10), math.sin(n / 10))}, {"n": n}))
                for n in range(10)
            ),
        )
        hits = await store.search(collection, Query(floats(1, 0), using="v", limit=3))
        assert [hit.id for hit in hits] == [0, 1, 2]
        only = {"must": [{"key": "n", "range": {"gte": 5}}], "must_not": [{"has_id": [6]}]}
        filtered = Query(floats(1, 0), using="v", limit=3, filter=only)
        if self.filters:
            hits = await store.search(collection, filtered)
            assert [hit.id for hit in hits] == [5, 7, 8]
        else:
            with pytest.raises(Refused):
                await store.search(collection, filtered)

    async def test_an_alias_moves_from_one_collection_to_another(self, store: Store) -> None:
        assert isinstance(store, AliasSwitch) is self.aliases
        if isinstance(store, AliasSwitch):
            one, other = await self.made(store), await self.made(store)
            alias = fresh_name()
            assert await store.read_alias(alias) is None
            for collection in (one, other, other, one):
                await store.point_alias(alias, collection)
                assert await store.read_alias(alias) == collection

    async def test_a_store_that_is_up_finds_nothing_in_the_way(self, store: Store) -> None:
        findings = await store.check() if isinstance(store, SelfCheck) else []
        assert [each for each in findings if each.severity is Severity.BLOCKS] == []
