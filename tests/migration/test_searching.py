"""Search quality: what is asked of whom, what counts as a hit, and what a refusal costs."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from replicator.errors import Refused, Rejected, Retryable
from replicator.migration.equality.quality import expected, wilson
from replicator.migration.equality.searching import assign, below
from replicator.model.command import Verify
from replicator.model.point import Point, SparseVector, Vectors
from replicator.model.report import Report
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Hit, Query
from replicator.model.write import Upsert
from replicator.settings.transform import TransformSettings
from tests.migration.rig import World
from tests.stream.rig import virtual


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def hits(*pairs: tuple[int, float]) -> list[Hit]:
    return [Hit(point_id, score) for point_id, score in pairs]


def spread(world: World, count: int) -> None:
    for number in range(count):
        point = Point(number, {"v": floats(number, count - number)}, {})
        world.source.write("books", Upsert(point))


async def asked(world: World, *queries: Query) -> Report:
    return await world.migration.do(Verify(queries=list(queries)))


def test_a_hit_as_near_as_the_last_expected_one_is_as_good() -> None:
    wanted = hits((1, 0.9), (2, 0.5), (3, 0.5), (4, 0.4))
    assert expected(wanted, hits((1, 9.0), (3, 5.0)), 2) == 2
    assert expected(wanted, hits((1, 9.0), (4, 5.0)), 2) == 1


def test_where_ties_have_no_end_the_other_store_says_which_are_as_near() -> None:
    wanted = hits((1, 0.9), *((n, 0.5) for n in range(2, 8)))
    assert expected(wanted, hits((1, 9.0), (2, 5.0), (99, 5.0)), 3) == 3
    assert expected(wanted, hits((1, 9.0), (2, 5.0), (99, 4.0)), 3) == 2


def test_nothing_is_hit_twice() -> None:
    assert expected(hits((1, 1.0)), hits((1, 1.0), (2, 1.0)), 10) == 1


@pytest.mark.parametrize(
    ("share", "low", "high"),
    [((95, 100), 0.888, 0.978), ((0, 10), 0.0, 0.278), ((10, 10), 0.722, 1.0)],
)
def test_the_interval_is_wilsons(share: tuple[int, int], low: float, high: float) -> None:
    assert wilson(*share) == pytest.approx((low, high), abs=0.001)


def test_nothing_tried_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_only_an_interval_wholly_below_the_threshold_falls_short() -> None:
    figures = {"k": 10, "recall": 0.9, "recall_low": 0.85, "recall_high": 0.94}
    assert "recall@10 is 0.900, at most 0.940" in below({"a": figures}, 0.95)[0]
    assert below({"a": figures | {"recall_high": 0.951}, "b": {"not_compared": {}}}, 0.95) == []


def test_a_query_goes_to_the_collections_that_it_is_for() -> None:
    sources = {
        name: CollectionSchema(
            name=name,
            vectors={"": VectorSchema(size=size, distance=Distance.DOT)},
            ids=IdKinds.UINT64,
        )
        for name, size in (("two", 2), ("three", 3))
    }
    named = Query(vector=floats(1, 2, 3), collection="two")
    fitting, stray = Query(vector=floats(1, 2, 3)), Query(vector=floats(1), collection=None)
    lost = Query(vector=floats(1, 2), collection="four")
    chosen, nobodys = assign([named, fitting, stray, lost], sources)
    assert chosen == {"two": [named], "three": [fitting]}
    assert [line.partition(":")[0] for line in nobodys] == ["query 3", "query 4"]
    assert "'four'" in nobodys[1]


@virtual
async def test_equal_stores_answer_alike() -> None:
    world = World(verify={"queries": 20})
    spread(world, 40)
    async with world.running() as migration:
        report = await world.verify()
        figures = report.search["books"]
        assert (figures["recall"], figures["method"]) == (1.0, "exact")
        assert report.below == []
        verify = (await migration.status()).verify
        assert (verify.recall, verify.recall_below) == (1.0, [])
        assert verify.recall_upper == 1.0


@virtual
async def test_a_target_that_finds_others_falls_short_and_says_so() -> None:
    world = World(verify={"queries": 20})
    spread(world, 200)
    async with world.running() as migration:

        async def search(collection: str, query: Query) -> list[Hit]:
            return hits(*((10_000 + n, 1.0) for n in range(query.limit)))

        world.door.search = search  # type: ignore[attr-defined]
        report = await world.verify()
        assert report.equal
        [sentence] = report.below
        assert sentence.startswith("books: recall@10 is 0.000")
        assert (await migration.status()).verify.recall_below == report.below


@pytest.mark.parametrize(
    "error",
    [Refused("unsupported", "no search"), Rejected("vector-unknown", "no such vector")],
)
@virtual
async def test_a_search_that_is_refused_is_not_compared_and_ends_nothing(
    error: Exception,
) -> None:
    world = World(verify={"queries": 5, "interval": 10})
    spread(world, 20)
    async with world.running() as migration:

        async def search(collection: str, query: Query) -> list[Hit]:
            raise error

        world.door.search = search  # type: ignore[attr-defined]
        report = await world.verify()
        assert str(error) in report.search["books"]["not_compared"]["v"]
        assert any("search by v is not compared" in line for line in report.warnings)
        await asyncio.sleep(60)  # two more, begun by themselves
        status = await migration.status()
        assert status.verify.generation > 1
        assert status.verify.recall is None


@virtual
async def test_an_unknown_vector_spoils_only_its_own_query() -> None:
    world = World()
    spread(world, 40)
    async with world.running():
        good = Query(vector=floats(1, 1), using="v", group="easy")
        bad = Query(vector=floats(1, 1), using="nope", collection="books")
        by_id = Query(id=7, using="v", group="stored")
        absent = Query(id=777, using="v")
        report = await asked(world, bad, good, by_id, absent)
        figures: dict[str, Any] = report.search["books"]
        assert (figures["queries"], figures["recall"]) == (2, 1.0)
        assert figures["classes"] == {"easy": 1.0, "stored": 1.0}
        assert set(figures["not_compared"]) == {"nope", "v"}


@virtual
async def test_both_stores_look_among_the_same_points() -> None:
    passing = {"must": [{"key": "year", "range": {"gte": 0}}]}
    theirs = {"must": [{"key": "n", "match": {"value": 1}}]}
    world = World(transform=TransformSettings(filter=passing, rename={"n": "count"}))
    seen: dict[str, Any] = {}
    async with world.running():

        def heard(where: str) -> Any:
            async def search(collection: str, query: Query) -> list[Hit]:
                seen[where] = query.filter
                return hits((1, 1.0))

            return search

        world.images.search = heard("source")  # type: ignore[attr-defined]
        world.door.search = heard("target")  # type: ignore[attr-defined]
        await asked(world, Query(vector=floats(1, 1), using="v", filter=theirs))
        assert seen == {
            "source": {"must": [passing, theirs]},
            "target": {"must": [{"key": "count", "match": {"value": 1}}]},
        }


@virtual
async def test_a_query_whose_filter_the_target_cannot_be_asked_is_not_compared() -> None:
    world = World(transform=TransformSettings(drop=["gone"]))
    spread(world, 20)
    async with world.running():
        gone = {"must": [{"key": "gone", "match": {"value": 1}}]}
        report = await asked(world, Query(vector=floats(1, 1), using="v", filter=gone))
        [reason] = report.search["books"]["not_compared"].values()
        assert "'gone' does not travel" in reason


@virtual
async def test_a_store_that_may_not_look_at_every_point_is_asked_by_its_index() -> None:
    world = World(verify={"queries": 5})
    spread(world, 40)
    async with world.running():
        plain = world.door.search

        async def search(collection: str, query: Query) -> list[Hit]:
            if query.exact:
                raise Retryable("store-unavailable", "it took too long")
            found: list[Hit] = await plain(collection, query)
            return found

        world.door.search = search  # type: ignore[attr-defined]
        report = await world.verify()
        assert (report.search["books"]["method"], report.search["books"]["recall"]) == (
            "index",
            1.0,
        )


@virtual
async def test_a_store_that_allows_no_more_hits_than_count_is_asked_for_those() -> None:
    world = World(verify={"queries": 5})
    spread(world, 40)
    async with world.running():
        plain = world.images.search

        async def search(collection: str, query: Query) -> list[Hit]:
            if query.limit > 10:
                raise Refused("store-refused", 'Limit exceeded 20 > 10 for "limit"')
            found: list[Hit] = await plain(collection, query)
            return found

        world.images.search = search  # type: ignore[attr-defined]
        report = await world.verify()
        assert (report.search["books"]["method"], report.search["books"]["recall"]) == (
            "exact",
            1.0,
        )


def together(store: Any, error: Exception | None = None) -> tuple[list[int], list[Query]]:
    """Let a store answer several at once; how many it was asked so, and what it was alone."""
    plain = store.search
    at_once: list[int] = []
    alone: list[Query] = []

    async def search(collection: str, query: Query) -> list[Hit]:
        alone.append(query)
        answer: list[Hit] = await plain(collection, query)
        return answer

    async def search_many(collection: str, queries: Sequence[Query]) -> list[list[Hit]]:
        at_once.append(len(queries))
        if error is not None:
            raise error
        return [await plain(collection, query) for query in queries]

    store.search, store.search_many = search, search_many
    return at_once, alone


@virtual
async def test_searches_are_asked_together_where_a_store_answers_several() -> None:
    one_by_one, at_once = World(verify={"queries": 40}), World(verify={"queries": 40})
    source, target = together(at_once.images), together(at_once.door)
    figures = []
    for world in (one_by_one, at_once):
        spread(world, 60)
        async with world.running():
            figures.append((await world.verify()).search["books"])
            del figures[-1]["latency_ms"]
    assert source == target == ([16, 16, 8], [])
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    "error",
    [
        Refused("unsupported", "no batches"),
        Rejected("vector-unknown", "one of them"),
        Retryable("store-unavailable", "too many"),
    ],
)
@virtual
async def test_where_several_are_not_answered_each_is_asked_alone(error: Exception) -> None:
    world = World(verify={"queries": 40})
    spread(world, 60)
    source, (at_once, alone) = together(world.images), together(world.door, error)
    async with world.running():
        figures = (await world.verify()).search["books"]
        assert at_once == [16]  # and not again: it may have taken as long as a store allows
        assert len(alone) == figures["queries"] == 40
        assert (figures["recall"], figures["method"]) == (1.0, "exact")
        # Nor the source: its answers of before would be compared with later ones.
        assert len(source[1]) == 40


@virtual
async def test_both_stores_are_asked_one_by_one_where_one_of_them_must_be() -> None:
    for several in ("images", "door"):
        world = World(verify={"queries": 40})
        spread(world, 60)
        at_once, alone = together(getattr(world, several))
        async with world.running():
            figures = (await world.verify()).search["books"]
        assert len(alone) == figures["queries"] == 40, several
        assert at_once == ([16] if several == "images" else [])


@virtual
async def test_sparse_vectors_are_asked_for_like_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(verify={"queries": 8})
    held = world.source.collections["books"]
    kinds = {"v": VectorSchema(size=2), "words": VectorSchema(kind=VectorKind.SPARSE)}
    held.schema = msgspec.structs.replace(held.schema, vectors=kinds)
    for number in range(20):
        words = SparseVector(struct.pack("<I", number), floats(1.0))
        vectors: Vectors = {"v": floats(number, 20 - number), "words": words}
        world.source.write("books", Upsert(Point(number, vectors, {})))
    async with world.running():
        asked: list[Query] = []

        async def search(collection: str, query: Query) -> list[Hit]:
            asked.append(query)
            return hits((1, 1.0))

        for store in (world.images, world.door):
            monkeypatch.setattr(store, "search", search, raising=False)
        report = await world.verify()
        assert report.search["books"]["queries"] == 8
        assert {(query.using, type(query.vector)) for query in asked} == {
            ("v", bytes),
            ("words", SparseVector),
        }


@virtual
async def test_counts_that_differ_are_a_warning() -> None:
    world = World()
    spread(world, 3)
    async with world.running():
        world.target.write("books_v2", Upsert(Point(99, {"v": floats(1, 1)}, {})))
        report = await world.verify("counts")
        assert report.warnings == ["books: the source counts 3 points, the target 4"]


@virtual
async def test_a_search_that_never_ends_is_given_up_and_the_verification_is_not() -> None:
    world = World(verify={"queries": 20})
    spread(world, 40)
    async with world.running():
        asked_for = 0

        async def search(collection: str, query: Query) -> list[Hit]:
            nonlocal asked_for
            asked_for += 1
            await asyncio.sleep(30)
            raise Retryable("store-unavailable", "deadline exceeded")

        world.door.search = search  # type: ignore[attr-defined]
        async with asyncio.timeout(3600):
            report = await world.verify()
        assert "deadline exceeded" in report.search["books"]["not_compared"]["v"]
        assert asked_for < 40


@virtual
async def test_a_golden_query_says_what_the_target_must_find() -> None:
    world = World(verify={"queries": 0})
    spread(world, 20)
    async with world.running():
        source, (_, alone) = together(world.images), together(world.door)
        golden = [
            Query(floats(1, 0), using="v", limit=2, expect=(19, 18)),
            Query(floats(0, 1), using="v", limit=2, expect=(0, 19)),
            Query(id=3, using="v", limit=1, expect=(0,)),
        ]
        report = await asked(world, *golden)
    figures = report.search["books"]
    assert source == ([], []), "the source is not asked"
    assert len(alone) == 3
    assert (figures["queries"], figures["golden"]) == (3, 3)
    assert figures["recall"] == pytest.approx(4 / 5)
    assert figures["latency_ms"]["source"] is None
    assert report.search["books"].get("not_compared") is None


@virtual
async def test_what_a_golden_query_cannot_be_asked_for_is_said() -> None:
    world = World(verify={"queries": 0})
    spread(world, 20)
    async with world.running():
        report = await asked(world, Query(using="v", text="a book", expect=(1,)))
    [reason] = report.search["books"]["not_compared"].values()
    assert "no `transform.embed` makes vectors for 'v'" in reason


@virtual
async def test_a_query_is_truncated_as_the_vectors_are_that_it_is_compared_with() -> None:
    world = World(
        transform=TransformSettings(truncate={"v": 1}), cutover={"way_back_lossy": True}
    )
    spread(world, 20)
    async with world.running():
        _, (at_once, alone) = together(world.images), together(world.door)
        report = await asked(world, Query(floats(3, 4), using="v", limit=2))
    assert at_once == []
    assert [query.vector for query in alone] == [floats(1)]
    assert "not_compared" not in report.search["books"]
