"""Pinecone's traps, each as it shows at the connector."""

from __future__ import annotations

import gc
import logging
import struct
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from replicator.connectors.pinecone import reading
from replicator.connectors.pinecone.index import Pace
from replicator.connectors.pinecone.kind import PINECONE, PineconeOptions, PineconeSettings
from replicator.connectors.pinecone.reading import Place, read_cursor, write_cursor
from replicator.connectors.pinecone.store import PineconeStore
from replicator.errors import Refused, Rejected
from replicator.model.finding import Severity
from replicator.model.point import Point, SparseVector, Vectors
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Query
from replicator.model.write import Delete, Upsert, WriteBatch
from replicator.settings.units import Duration, Secret
from replicator.testing.pinecone.limits import Limits
from replicator.testing.pinecone.service import PineconeService
from replicator.testing.store_conformance import floats

ONE: Vectors = {"": floats(1, 0)}


def settings(service: PineconeService, name: str = "articles", **more: Any) -> PineconeSettings:
    return PineconeSettings(
        index=name,
        control=service.url,
        **{
            "api_key": Secret(service.api_key),
            "plan": "dedicated",
            "staleness": Duration(0),
            **more,
        },
    )


@pytest.fixture
async def service() -> AsyncIterator[PineconeService]:
    async with PineconeService() as found:
        await found.create("articles", dimension=2, metric="dotproduct")
        yield found


@pytest.fixture
async def store(service: PineconeService) -> AsyncIterator[PineconeStore]:
    found = PineconeStore(settings(service), 1 << 20)
    yield found
    await found.close()


async def write(store: PineconeStore, *points: Point, into: str = "") -> None:
    for begin in range(0, len(points), 1000):
        some = points[begin : begin + 1000]
        receipt = await store.apply(WriteBatch(into, tuple(map(Upsert, some))))
        assert receipt.rejected == ()


async def read(store: PineconeStore, name: str, parts: int, rows: int = 1000) -> list[Point]:
    return [
        point
        for chunk in await store.split(name, parts)
        async for page in store.scan(chunk, None, rows)
        for point in page.points
    ]


# -- records -----------------------------------------------------------------------------


async def test_whole_numbers_come_back_as_integers_and_others_as_they_are(
    store: PineconeStore,
) -> None:
    written = {"n": 5, "x": 2.5, "big": 2**53, "on": True, "low": -3, "tags": ["5"]}
    await write(store, Point("a", ONE, {**written, "whole": 7.0, "huge": 1e300, "no": None}))
    payload = (await store.fetch("", ["a"]))["a"].payload
    assert payload == {**written, "whole": 7, "huge": 1e300}
    kinds = {key: type(value) for key, value in payload.items()}
    assert kinds["n"] is kinds["whole"] is int
    assert (kinds["huge"], kinds["on"]) == (float, bool)


async def test_a_hybrid_record_needs_a_name_for_its_sparse_vector(
    store: PineconeStore,
) -> None:
    sparse = SparseVector(struct.pack("<2I", 3, 70), floats(0.5, -1))
    hybrid = Point("h", {**ONE, "words": sparse}, {})
    store.choose("named", PineconeOptions(sparse="words"))
    await write(store, hybrid, Point("d", ONE, {}), into="named")
    described = await store.describe("named")
    assert described is not None
    assert described.vectors == {
        "": VectorSchema(size=2, distance=Distance.DOT, required=True),
        "words": VectorSchema(kind=VectorKind.SPARSE),
    }
    assert await store.fetch("named", ["h", "d"]) == {"h": hybrid, "d": Point("d", ONE, {})}
    # Without a name it is not carried, and not lost in silence either.
    store.choose("named", PineconeOptions())
    [chunk] = await store.split("named", 1)
    [page] = [page async for page in store.scan(chunk, None, 10)]
    assert [point.id for point in page.points] == ["d"]
    [row] = page.rejected
    assert (row.id, row.error.code) == ("h", "vector-unknown")
    with pytest.raises(Rejected, match="option `sparse`"):
        await store.fetch("named", ["h"])


async def test_a_replaced_hybrid_record_has_no_sparse_vector_left(store: PineconeStore) -> None:
    store.choose("", PineconeOptions(sparse="words"))
    sparse = SparseVector(struct.pack("<I", 3), floats(0.5))
    await write(store, Point("a", {**ONE, "words": sparse}, {"k": 1}))
    await write(store, Point("a", ONE, {}))
    assert await store.fetch("", ["a"]) == {"a": Point("a", ONE, {})}


@pytest.mark.parametrize(
    ("point", "code"),
    [
        (Point("a", {"": floats(0, 0)}, {}), "vector-zero"),
        (Point("a", ONE, {"k": "ä" * 30_000}), "value-too-large"),
        (Point("a", ONE, {"$k": 1}), "field-invalid"),
        (Point("a", ONE, {"k": [1, 2]}), "field-type"),
        (Point("a", ONE, {"k": {"a": 1}}), "field-type"),
        (Point("a", ONE, {"k": 2**53 + 1}), "field-invalid"),
        (Point("a", ONE, {"k": "\ud800"}), "field-invalid"),
        (Point("ä", ONE, {}), "id-invalid"),
        (Point("a\0", ONE, {}), "id-invalid"),
        (Point("a" * 513, ONE, {}), "id-invalid"),
        (Point("", ONE, {}), "id-invalid"),
        (Point(5, ONE, {}), "id-invalid"),
    ],
)
async def test_what_no_record_can_hold_is_rejected_alone(
    store: PineconeStore, point: Point, code: str
) -> None:
    batch = WriteBatch("", (Upsert(Point("good", ONE, {})), Upsert(point)))
    [(rejected, error)] = (await store.apply(batch)).rejected
    assert (rejected, error.code) == (point.id, code)
    assert await store.present("", ["good", "a"]) == {"good"}


# -- requests ----------------------------------------------------------------------------


async def test_a_batch_is_cut_to_the_bytes_that_travel() -> None:
    # Each component takes 20 characters, so that twenty records are more than a request holds.
    async with PineconeService() as service:
        await service.create("articles", dimension=8_000)
        store = PineconeStore(settings(service), 1 << 20)
        vector = floats(*[1 / 3 + n / 7e4 for n in range(8_000)])
        await write(store, *(Point(f"{n}", {"": vector}, {}) for n in range(20)))
        assert len(await store.present("", [f"{n}" for n in range(20)])) == 20
        await store.close()


async def test_a_record_that_is_larger_than_a_request_is_rejected() -> None:
    async with PineconeService() as service:
        await service.create("articles", dimension=20_000)
        store = PineconeStore(settings(service), 1 << 20)
        sparse = SparseVector(struct.pack("<90000I", *range(90_000)), floats(*[1 / 3] * 90_000))
        store.choose("", PineconeOptions(sparse="words"))
        vector = floats(*[1 / 3] * 20_000)
        batch = WriteBatch("", (Upsert(Point("a", {"": vector, "words": sparse}, {})),))
        [(_, error)] = (await store.apply(batch)).rejected
        assert error.code == "value-too-large"
        await store.close()


async def test_ids_travel_in_addresses_that_are_not_too_long(store: PineconeStore) -> None:
    # A percent-encoded space is three bytes.
    ids = [f"{number:04}" + " " * 400 for number in range(300)]
    await write(store, *(Point(each, ONE, {}) for each in ids))
    assert (await store.fetch("", ids)).keys() == set(ids)
    assert {point.id for point in await read(store, "", 1)} == set(ids)


async def test_requests_come_at_the_pace_that_the_service_allows(
    service: PineconeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []

    async def turn(self: Pace) -> None:
        turns.append(self._apart_s)

    monkeypatch.setattr(Pace, "turn", turn)
    for plan in ("standard", "dedicated"):
        store = PineconeStore(settings(service, plan=plan), 1 << 20)
        await write(store, Point("a", ONE, {}))
        await store.fetch("", ["a"])
        await read(store, "", 1)
        await store.close()
    # upsert, fetch, list, fetch; and, without a budget of reads, upsert alone.
    assert [round(1 / each) for each in turns] == [90, 90, 180, 90, 90]


async def test_a_pace_lets_one_wait_for_the_other() -> None:
    import asyncio

    pace, loop = Pace(50), asyncio.get_running_loop()
    begin = loop.time()
    await asyncio.gather(*(pace.turn() for _ in range(4)))
    assert loop.time() - begin >= 3 / 50


# -- reading -----------------------------------------------------------------------------


async def test_a_large_namespace_is_cut_and_read_whole(
    store: PineconeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_IDS_A_LOOK", 1)
    ids = [f"doc-{number:04}" for number in range(600)] + [
        "doc-",
        "x\x01y",
        "\x7f",
        "doc-00001",
    ]
    await write(store, *(Point(each, ONE, {}) for each in ids))
    chunks = await store.split("", 4)
    assert 3 <= len(chunks) <= 6
    late = [Point("doc-0", ONE, {}), Point("zzz", ONE, {}), Point("\x02", ONE, {})]
    await write(store, *late)
    found = [
        point.id
        for chunk in chunks
        async for page in store.scan(chunk, None, 1000)
        for point in page.points
    ]
    assert sorted(map(str, found)) == sorted([*ids, *(str(each.id) for each in late)])


async def test_rows_that_vanish_between_list_and_fetch_are_left_out(
    store: PineconeStore, service: PineconeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(store, *(Point(each, ONE, {}) for each in "abc"))
    listed = store._index.ids

    async def and_deleted(*asked: Any) -> Any:
        page = await listed(*asked)
        await store.apply(WriteBatch("", (Delete("b"),)))
        return page

    monkeypatch.setattr(store._index, "ids", and_deleted)
    assert [point.id for point in await read(store, "", 1)] == ["a", "c"]


async def test_a_token_that_the_service_lets_go_of_costs_no_row(store: PineconeStore) -> None:
    ids = [f"{number:04}" for number in range(250)]
    await write(store, *(Point(each, ONE, {}) for each in ids))
    [chunk] = await store.split("", 1)
    pages = [page async for page in store.scan(chunk, None, 1000)]
    assert len(pages) > 2
    cursor = pages[1].cursor
    assert cursor is not None
    place = read_cursor(cursor)
    stale = write_cursor(Place(place.step, "bm8gdG9rZW4=", place.last))
    rest = [p.id async for page in store.scan(chunk, stale, 1000) for p in page.points]
    assert rest == [point.id for page in pages[2:] for point in page.points]


async def test_a_namespace_that_goes_while_it_is_read_is_no_end(
    store: PineconeStore, service: PineconeService
) -> None:
    await write(store, *(Point(f"{n:03}", ONE, {}) for n in range(30)), into="going")
    [chunk] = await store.split("going", 1)
    pages = store.scan(chunk, None, 5)
    assert len((await anext(pages)).points) == 5
    del service.indexes["articles"].namespaces["going"]
    with pytest.raises(Refused) as refused:
        _ = [page async for page in pages]
    assert refused.value.code == "source-missing"


async def test_keys_alone_are_listed_without_a_fetch(
    store: PineconeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(store, *(Point(each, ONE, {"k": each, "l": 1}) for each in "ab"))
    [chunk] = await store.split("", 1)
    [page] = [page async for page in store.scan_keys(chunk, None, 10, ["k"])]
    assert page.points == [Point(each, {}, {"k": each}) for each in "ab"]

    async def fetch(*_: Any) -> Any:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(store._index, "fetch", fetch)
    [page] = [page async for page in store.scan_keys(chunk, None, 10)]
    assert page.points == [Point(each, {}, {}) for each in "ab"]


async def test_pages_shrink_with_the_size_of_records() -> None:
    async with PineconeService() as service:
        await service.create("articles", dimension=1_000)
        store = PineconeStore(settings(service), 200_000)
        vector = floats(*range(1, 1_001))
        await write(store, *(Point(f"{n:03}", {"": vector}, {}) for n in range(60)))
        sizes = [
            len(page.points)
            for chunk in await store.split("", 1)
            async for page in store.scan(chunk, None, 1000)
        ]
        assert sum(sizes) == 60
        # 32 bytes for each component, while it is a number of Python's.
        assert max(sizes[1:]) <= 6
        await store.close()


# -- namespaces and the index ------------------------------------------------------------


async def test_namespaces_are_listed_to_the_last_page(store: PineconeStore) -> None:
    names = [f"n{number:03}" for number in range(230)]
    for name in names:
        await store._index.make(name)
    assert await store.collections() == names
    await write(store, Point("a", ONE, {}))
    assert await store.collections() == ["", *names]


async def test_equal_ids_of_two_namespaces_are_two_points(store: PineconeStore) -> None:
    await write(store, Point("a", ONE, {"of": "x"}), into="x")
    await write(store, Point("a", ONE, {"of": ""}))
    assert (await store.fetch("x", ["a"]))["a"].payload == {"of": "x"}
    assert (await store.fetch("", ["a"]))["a"].payload == {"of": ""}
    await store.wipe("x")
    assert await store.fetch("x", ["a"]) == {}
    assert len(await store.fetch("", ["a"])) == 1


async def test_a_delete_or_a_wipe_where_nothing_is_does_nothing(
    store: PineconeStore, service: PineconeService
) -> None:
    assert (await store.apply(WriteBatch("nowhere", (Delete("a"),)))).rejected == ()
    await store.wipe("nowhere")
    assert service.indexes["articles"].namespaces == {}
    assert await store.describe("nowhere") is None
    # To whoever reads it, all that was there would be deleted.
    with pytest.raises(Refused, match="no namespace 'nowhere'"):
        await store.fetch("nowhere", ["a"])


async def test_a_namespace_is_made_before_its_first_record(store: PineconeStore) -> None:
    wanted = CollectionSchema(
        name="new",
        vectors={"": VectorSchema(size=2, distance=Distance.DOT)},
        ids=IdKinds.STRING,
    )
    foreseen = await store.foresee(wanted)
    assert await store.describe("new") is None
    for _ in range(2):
        await store.ensure(wanted)
    assert await store.describe("new") == foreseen


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (VectorSchema(size=3, distance=Distance.DOT), "have 2 components.*dimension=3"),
        (VectorSchema(size=2, distance=Distance.COSINE), 'by dotproduct.*metric="cosine"'),
        (VectorSchema(kind=VectorKind.SPARSE), 'are dense.*vector_type="sparse"'),
    ],
)
async def test_an_index_of_another_shape_is_refused_with_the_call_that_makes_one(
    store: PineconeStore, vector: VectorSchema, says: str
) -> None:
    wanted = CollectionSchema(name="x", vectors={"": vector}, ids=IdKinds.STRING)
    with pytest.raises(Refused, match=says) as refused:
        await store.ensure(wanted)
    assert refused.value.code == "target-incompatible"
    assert await store.describe("x") is None


async def test_an_index_is_found_by_its_host_without_the_control_plane(
    service: PineconeService,
) -> None:
    await service.create("words", dimension=None, metric="dotproduct")
    for name, kind in (("articles", VectorKind.DENSE), ("words", VectorKind.SPARSE)):
        by_host = PineconeSettings(
            host=service.hosts[name],
            control="http://localhost:1",
            api_key=Secret(service.api_key),
            plan="dedicated",
        )
        store = PineconeStore(by_host)
        described = await store.describe("")
        assert described is not None
        assert described.vectors is not None
        assert described.vectors[""].kind is kind
        assert await store.check() == []
        await store.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {
                "deployment": {
                    "deployment_type": "pod",
                    "environment": "e",
                    "pod_type": "p1.x1",
                    "replicas": 1,
                    "shards": 1,
                }
            },
            "lies on pods",
        ),
        (
            {"schema": {"fields": {"body": {"type": "string", "filterable": True}}}},
            "holds documents",
        ),
        (
            {"schema": {"fields": {"text": {"type": "semantic_text", "model": "m"}}}},
            "embeds texts",
        ),
    ],
    ids=["pods", "documents", "integrated"],
)
async def test_an_index_that_is_not_used_by_its_vectors_is_a_finding(
    service: PineconeService,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    says: str,
) -> None:
    described = PineconeService._described
    monkeypatch.setattr(
        PineconeService, "_described", lambda self, index: described(self, index) | change
    )
    store = PineconeStore(settings(service))
    [finding] = await store.check()
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "unsupported")
    assert says in finding.message
    await store.close()


async def test_a_plan_without_room_for_the_namespaces_is_a_finding(
    service: PineconeService,
) -> None:
    store = PineconeStore(settings(service, plan="starter"))
    for number in range(99):
        service.indexes["articles"].upsert(f"n{number}", [])
    assert await store.check_writing(["n1", "new"]) == []
    [finding] = await store.check_writing(["new", "newer"])
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "quota-exceeded")
    await store.close()


# -- searching ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"must": [{"key": "lang", "match": {"value": "de"}}]}, ["a", "c"]),
        ({"must": [{"key": "n", "match": {"any": [2, 3]}}]}, ["b", "c"]),
        ({"should": [{"key": "n", "range": {"lt": 2}}, {"key": "n", "match": {"value": 3}}]}, ["a", "c"]),  # noqa: E501
        ({"must": [{"key": "tags", "match": {"value": "x"}}]}, ["b"]),
        ({"must": [{"key": "n", "range": {"gte": 2, "lte": 3}}], "must_not": [{"has_id": ["c"]}]}, ["b"]),  # noqa: E501
    ],
)  # fmt: skip
async def test_a_search_is_narrowed_by_a_filter(
    store: PineconeStore, where: dict[str, Any], found: list[str]
) -> None:
    rows = {
        "a": {"n": 1, "lang": "de"},
        "b": {"n": 2, "lang": "en", "tags": ["x", "y"]},
        "c": {"n": 3, "lang": "de"},
    }
    await write(store, *(Point(each, ONE, payload) for each, payload in rows.items()))
    hits = await store.search("", Query(floats(1, 0), limit=5, filter=where))
    assert [hit.id for hit in hits] == found


@pytest.mark.parametrize(
    "where",
    [
        {"must": [{"key": "on", "match": {"value": True}}]},
        {"must": [{"key": "a.b", "match": {"value": 1}}]},
        {"must": [{"key": "$a", "match": {"value": 1}}]},
        {"must": [{"is_empty": {"key": "a"}}]},
        {"must": [{"has_id": ["a"]}]},
        {"must_not": [{"key": "a", "match": {"value": 1}}]},
        {"must": [{"key": "a", "match": {"except": [1]}}]},
        {"must": [{"key": "a", "match": {"value": 2**53 + 1}}]},
    ],
)
async def test_a_filter_that_may_mean_another_thing_there_is_refused(
    store: PineconeStore, where: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refused:
        await store.search("", Query(floats(1, 0), filter=where))
    assert refused.value.code == "unsupported"


async def test_less_is_nearer_under_the_euclidean_metric(service: PineconeService) -> None:
    await service.create("flat", dimension=2, metric="euclidean")
    store = PineconeStore(settings(service, "flat"))
    await write(store, Point("far", {"": floats(9, 9)}, {}), Point("near", ONE, {}))
    hits = await store.search("", Query(floats(1, 0), limit=2))
    assert [hit.id for hit in hits] == ["near", "far"]
    assert hits[0].score > hits[1].score
    await store.close()


async def test_sparse_vectors_are_searched_by_sparse_ones(service: PineconeService) -> None:
    await service.create("words", dimension=None, metric="dotproduct")
    store = PineconeStore(settings(service, "words"))
    one, other = (SparseVector(struct.pack("<I", n), floats(n)) for n in (3, 7))
    await write(store, Point("a", {"": one}, {}), Point("b", {"": other}, {}))
    assert [hit.id for hit in await store.search("", Query(other, limit=5))] == ["b"]
    await store.close()


# -- settings, secrets, closing ----------------------------------------------------------


def test_the_kind_is_known_without_its_driver() -> None:
    script = (
        "import sys, replicator.kinds as k; k.kinds();"
        "assert 'pinecone' in k.kinds(); assert 'pinecone' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"index": "a", "host": "h"}, "host"),
        ({}, "index"),
        ({"index": "a", "api_key": Secret("")}, "api_key"),
        ({"index": "a", "api_key": Secret("k\n")}, "api_key"),
        ({"index": "a", "control": "x"}, "control"),
        ({"index": "a", "timeout": Duration(0)}, "timeout"),
    ],
)
def test_settings_that_do_not_fit_are_named(given: dict[str, Any], key: str) -> None:
    told = PineconeSettings(**{"api_key": Secret("k"), **given})
    assert [name for name, _ in told.problems()] == [key]


def test_settings_that_fit_have_no_problem_and_one_address() -> None:
    key = Secret("k")
    assert list(PineconeSettings(index="a", api_key=key).problems()) == []
    assert list(PineconeSettings(host="a-x.svc.pinecone.io", api_key=key).problems()) == []
    spelled = [
        PineconeSettings(host=host, api_key=key).address()
        for host in ("a.svc.pinecone.io", "https://A.svc.pinecone.io/", "a.svc.pinecone.io:443")
    ]  # fmt: skip
    assert len(set(spelled)) == 1


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("", True),
        ("a b/c", True),
        ("ä", False),
        ("a\0", False),
        ("a" * 513, False),
        ("__default__", False),
    ],
)
def test_a_namespace_has_a_name_of_ascii_or_none(name: str, fits: bool) -> None:
    assert (PineconeSettings(index="a").unfit(name) is None) is fits


async def test_the_key_is_in_no_output(
    service: PineconeService, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "pcsk-very-secret"
    monkeypatch.setenv("PINECONE_DEBUG_CURL", "1")
    caplog.set_level(logging.DEBUG)
    service.api_key = key
    store = PineconeStore(settings(service))
    await write(store, Point("a-secret-id", ONE, {}))
    await store.fetch("", ["a-secret-id"])
    service.api_key = "another"
    other = PineconeStore(settings(service, api_key=Secret(key)))
    [finding] = await other.check()
    await other.close()
    with pytest.raises(Refused) as refused:
        await store.fetch("", ["a-secret-id"])
    await store.close()
    said = [repr(store._settings), repr(refused.value), str(refused.value), finding.message]
    assert not [text for text in [*said, caplog.text] if key in text]
    told = [each.getMessage() for each in caplog.records if each.name == "httpx"]
    assert told == []


async def test_closing_leaves_nothing_open(service: PineconeService) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = PineconeStore(settings(service))
        await write(store, Point("a", ONE, {}))
        for _ in range(2):
            await store.close()
        del store
        unused = PineconeStore(settings(service))
        await unused.close()
        gc.collect()


async def test_the_double_has_the_limits_that_the_connector_keeps() -> None:
    limits, ours = Limits(), PINECONE.traits
    assert ours.limits.records_max == limits.upsert_records
    assert ours.ids.limits.text_bytes_max == limits.id_length
    assert ours.vectors.dimensions_max == limits.dimensions


async def test_a_chunk_of_an_earlier_run_is_read_as_it_was(store: PineconeStore) -> None:
    await write(store, Point("a", ONE, {}), Point("b", ONE, {}))
    chunk = Chunk(0, "", '[["",0,97],["",98,127]]')
    pages = [page async for page in store.scan(chunk, None, 10)]
    assert [point.id for page in pages for point in page.points] == ["a", "b"]
