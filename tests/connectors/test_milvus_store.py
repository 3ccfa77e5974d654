"""What Milvus does otherwise than one would think, on a real milvus-lite."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pymilvus import DataType, MilvusClient

from replicator.connectors.milvus.channel import Channel
from replicator.connectors.milvus.kind import MILVUS, MilvusOptions, MilvusSettings
from replicator.connectors.milvus.layouts import Layouts
from replicator.connectors.milvus.reading import Reading
from replicator.connectors.milvus.store import MilvusStore
from replicator.connectors.milvus.wire import wire
from replicator.errors import Refused, Unavailable
from replicator.model.configuration import (
    configuration_differences,
    lost_settings,
    settings_of,
)
from replicator.model.finding import Severity
from replicator.model.point import Point, PointId, SparseVector
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IndexKind,
    Mark,
    VectorIndex,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Query
from replicator.model.write import Delete, Receipt, Upsert, WriteBatch
from replicator.settings.units import Secret, Size
from replicator.testing.store_conformance import floats, fresh_name, scanned
from tests.plugins.milvus import MilvusServer

TRICKY = ['a"b', "a'b", "back\\slash", "line\nbreak", "tab\t", "a\rb", "\0", "\x1b", "🦀", "%"]
"""Keys that the vendor's client puts into a condition as they are, and breaks it with."""


@pytest.fixture
async def store(milvus_uri: str) -> AsyncIterator[MilvusStore]:
    store = MilvusStore(MilvusSettings(uri=milvus_uri, json_bytes_max=Size(1000)))
    yield store
    await store.close()


@pytest.fixture
def client(milvus_uri: str) -> Iterator[MilvusClient]:
    client = MilvusClient(milvus_uri)
    yield client
    client.close()


@pytest.fixture
def name() -> str:
    return fresh_name().replace("-", "_")


def schema(name: str, ids: IdKinds = IdKinds.UINT64, **given: Any) -> CollectionSchema:
    vectors = {"": VectorSchema(size=2, distance=Distance.DOT)}
    told: dict[str, Any] = {"vectors": vectors, "ids": ids} | given
    return CollectionSchema(name=name, **told)


def point(point_id: PointId, **payload: Any) -> Point:
    return Point(point_id, {"": floats(1, 2)}, payload)


async def write(store: MilvusStore, name: str, *points: Point) -> Receipt:
    return await store.apply(WriteBatch(name, tuple(map(Upsert, points))))


async def held(store: MilvusStore, name: str, point_id: PointId) -> Point:
    return (await store.fetch(name, [point_id]))[point_id]


def codes(receipt: Receipt) -> dict[PointId, tuple[str, str]]:
    return {point_id: (error.code, error.path) for point_id, error in receipt.rejected}


def make(client: MilvusClient, name: str, *, dynamic: bool = False, **fields: Any) -> None:
    """A collection as a person makes one: `nr`, these fields, and `embedding`."""
    made = client.create_schema(enable_dynamic_field=dynamic)
    made.add_field("nr", DataType.INT64, is_primary=True, auto_id=fields.pop("auto", False))
    for field, told in fields.items():
        made.add_field(field, **told)
    made.add_field("embedding", DataType.FLOAT_VECTOR, dim=2)
    indexes = client.prepare_index_params()
    indexes.add_index("embedding", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=made, index_params=indexes)


# -- keys -------------------------------------------------------------------------------------


async def test_keys_with_quotes_and_line_breaks_are_found_scanned_past_and_deleted(
    store: MilvusStore, name: str
) -> None:
    await store.ensure(schema(name, IdKinds.STRING))
    await write(store, name, *map(point, TRICKY))
    assert (await store.fetch(name, TRICKY)).keys() == set(TRICKY)
    [chunk] = await store.split(name, 1)
    assert await scanned(store, [chunk], 1) == sorted(TRICKY)
    await store.apply(WriteBatch(name, tuple(map(Delete, TRICKY[::2]))))
    assert (await store.fetch(name, TRICKY)).keys() == set(TRICKY[1::2])


async def test_a_scan_skips_no_row_of_those_that_came_in_no_order(
    store: MilvusStore, name: str
) -> None:
    await store.ensure(schema(name))
    ids = random.Random(1).sample(range(10_000), 400)
    for begin in range(0, 400, 80):
        await write(store, name, *map(point, ids[begin : begin + 80]))
    assert await scanned(store, [Chunk(0, name, "{}")], 30) == sorted(ids)


@pytest.mark.parametrize("ids", [IdKinds.UINT64, IdKinds.STRING])
async def test_a_large_collection_is_cut_and_every_key_is_in_one_chunk(
    milvus_uri: str, store: MilvusStore, name: str, ids: IdKinds
) -> None:
    await store.ensure(schema(name, ids))
    keys = [n if ids is IdKinds.UINT64 else f"doc-{n:04}" for n in range(120)]
    await write(store, name, *map(point, keys))
    channel = Channel(MilvusSettings(uri=milvus_uri))
    reading = Reading(Layouts(channel), 1 << 20, rows_a_chunk=30)
    chunks = await reading.split(name, 9)
    assert len(chunks) == 4, "no more than are worth it"
    shares = [len(await scanned(store, [chunk])) for chunk in chunks]
    assert sum(shares) == 120
    assert min(shares) > 15
    assert await scanned(store, chunks) == keys
    await channel.close()


async def test_keys_that_the_server_makes_are_read_and_not_written(
    store: MilvusStore, client: MilvusClient, name: str
) -> None:
    make(client, name, auto=True)
    client.insert(name, [{"embedding": [1, 2]}])
    found = await scanned(store, await store.split(name, 1))
    assert len(found) == 1
    for call in (write(store, name, point(1)), store.ensure(schema(name))):
        with pytest.raises(Refused, match="autoID") as caught:
            await call
        assert caught.value.code == "unsupported"
    store.choose(name, MilvusOptions())
    [finding] = await store.check()
    assert (finding.severity, "autoID" in finding.message) == (Severity.WARNS, True)


# -- which field is what ----------------------------------------------------------------------


async def test_declared_fields_are_the_payload_and_hold_what_fits_them(
    store: MilvusStore, client: MilvusClient, name: str
) -> None:
    make(
        client,
        name,
        title={"datatype": DataType.VARCHAR, "max_length": 5},
        year={"datatype": DataType.INT16, "nullable": True},
        score={"datatype": DataType.FLOAT, "nullable": True},
        tags={
            "datatype": DataType.ARRAY,
            "element_type": DataType.FLOAT,
            "max_capacity": 2,
            "nullable": True,
        },
        more={"datatype": DataType.JSON, "nullable": True},
        rank={"datatype": DataType.INT64, "default_value": 7},
    )
    whole = point(1, title="żó", year=-5, score=0.5, tags=[1.5], more={"a": [1]}, rank=1)
    least = point(2, title="", rank=2)
    assert await write(store, name, whole, least) == Receipt()
    assert await held(store, name, 1) == whole
    assert await held(store, name, 2) == least
    # Nothing of the old row is left.
    await write(store, name, point(1, title="x", rank=3))
    assert await held(store, name, 1) == point(1, title="x", rank=3)

    good = {"title": "x", "rank": 1}
    unfit: dict[str, Any] = {
        "title": "żółć",
        "year": 1 << 15,
        "score": 0.1,
        "tags": [1, 2, 3],
        "other": 1,
    }
    points = [point(n, **(good | {k: v})) for n, (k, v) in enumerate(unfit.items(), 10)]
    points += [point(20, rank=1), point(21, title="x"), point(22, **good)]
    assert codes(await write(store, name, *points)) == {
        10: ("field-invalid", "payload.title"),
        11: ("field-invalid", "payload.year"),
        12: ("field-invalid", "payload.score"),
        13: ("field-invalid", "payload.tags"),
        14: ("field-unknown", "payload.other"),
        20: ("field-missing", "payload.title"),
        21: ("field-missing", "payload.rank"),
    }
    assert await held(store, name, 22) == point(22, **good)
    described = await store.describe(name)
    assert described is not None
    assert described.null_is_absence
    assert described.vectors is not None
    [(vector, found)] = described.vectors.items()
    assert (vector, found.size, found.distance) == ("", 2, Distance.EUCLID)
    assert (found.required, found.index) == (True, VectorIndex(kind=IndexKind.FLAT))


async def test_an_upsert_leaves_nothing_of_an_old_dynamic_field(
    store: MilvusStore, client: MilvusClient, name: str
) -> None:
    make(client, name, dynamic=True, title={"datatype": DataType.VARCHAR, "max_length": 9})
    await write(store, name, point(1, title="a", x=1, deep={"y": [None]}, z=2.0))
    assert await held(store, name, 1) == point(1, title="a", x=1, deep={"y": [None]}, z=2.0)
    # An upsert of milvus-lite merges.
    await write(store, name, point(1, title="b", w=1))
    assert await held(store, name, 1) == point(1, title="b", w=1)
    keys = [page async for page in store.scan_keys(Chunk(0, name, "{}"), None, 9, ["w"])]
    assert [each for page in keys for each in page.points] == [Point(1, {}, {"w": 1})]


async def test_a_payload_field_that_is_named_is_all_of_it_and_the_rest_stays_behind(
    store: MilvusStore, client: MilvusClient, name: str
) -> None:
    make(
        client,
        name,
        dynamic=True,
        meta={"datatype": DataType.JSON},
        note={"datatype": DataType.VARCHAR, "max_length": 9, "nullable": True},
    )
    store.choose(name, MilvusOptions(payload_field="meta"))
    await write(store, name, point(1, x=None, y="\0"))
    assert await held(store, name, 1) == point(1, x=None, y="\0")
    [finding] = await store.check()
    assert finding.severity is Severity.INFORMS
    assert "note, $meta" in finding.message


async def test_a_payload_beyond_what_a_json_field_holds_is_rejected_alone(
    store: MilvusStore, name: str
) -> None:
    await store.ensure(schema(name))
    receipt = await write(store, name, point(1, text="x" * 1000), point(2, text="x"))
    assert codes(receipt) == {1: ("value-too-large", "payload")}
    assert (await store.fetch(name, [1, 2])).keys() == {2}


async def test_of_a_partition_that_is_named_nothing_else_is_seen_or_written(
    store: MilvusStore, client: MilvusClient, name: str
) -> None:
    make(client, name)
    client.create_partition(name, "eu")
    client.insert(name, [{"nr": 1, "embedding": [1, 2]}])
    with pytest.raises(Refused, match="partition"):
        await store.describe(name)
    store.choose(name, MilvusOptions(partition="eu"))
    assert await store.count(name) == 0
    await write(store, name, point(2))
    assert await store.count(name) == 1
    assert await scanned(store, await store.split(name, 1)) == [2]
    assert await store.fetch(name, [1]) == {}
    assert [hit.id for hit in await store.search(name, Query(floats(1, 0)))] == [2]
    await store.wipe(name)
    assert await store.count(name) == 0
    assert client.query(name, ids=[1], output_fields=["nr"]) == [{"nr": 1}]


async def test_vectors_have_the_names_that_they_were_asked_for_with(
    store: MilvusStore, client: MilvusClient, name: str
) -> None:
    vectors = {
        "": VectorSchema(size=2, distance=Distance.COSINE),
        "title-v2": VectorSchema(size=3, distance=Distance.EUCLID),
        "payload": VectorSchema(size=2, distance=Distance.DOT),
        "words": VectorSchema(kind=VectorKind.SPARSE),
    }
    await store.ensure(schema(name, vectors=vectors))
    described = await store.describe(name)
    assert described is not None
    assert described.vectors is not None
    assert list(described.vectors) == list(vectors)
    fields = {field["name"] for field in client.describe_collection(name)["fields"]}
    assert fields == {"id", "vector", "vector_1", "vector_2", "words", "payload"}
    words = SparseVector(struct.pack("<2I", 1, 9), floats(0.5, 2))
    dense = {"": floats(1, 2), "title-v2": floats(1, 2, 3), "payload": floats(0, 1)}
    both = Point(1, {**dense, "words": words}, {})
    minus = Point(2, {**dense, "words": SparseVector(words.indices, floats(1, -1))}, {})
    empty = Point(3, {**dense, "words": SparseVector(b"", b"")}, {})
    assert codes(await write(store, name, both, minus, empty)) == {
        2: ("field-invalid", "vectors.words"),
        3: ("field-invalid", "vectors.words"),
    }
    assert await held(store, name, 1) == both
    for query in (Query(floats(1, 1, 1), using="title-v2"), Query(words, using="words")):
        assert [hit.id for hit in await store.search(name, query)] == [1]


# -- collections ------------------------------------------------------------------------------


async def test_what_a_crash_left_half_made_is_finished(
    store: MilvusStore, client: MilvusClient, name: str, milvus_uri: str
) -> None:
    await store.ensure(schema(name))
    client.release_collection(name)
    client.drop_index(name, "vector")
    await store.ensure(schema(name, capture_id="one"))
    [index] = client.list_indexes(name)
    assert client.describe_index(name, index)["metric_type"] == "IP"
    described = await store.describe(name)
    assert described is not None
    assert (described.made, described.capture_id) == (True, "one")


async def test_a_collection_that_was_released_is_loaded_by_whoever_reads_it(
    store: MilvusStore, client: MilvusClient, name: str
) -> None:
    await store.ensure(schema(name))
    await write(store, name, point(1))
    client.release_collection(name)
    assert await held(store, name, 1) == point(1)


@pytest.mark.crash
async def test_what_a_killed_server_acknowledged_is_there_when_it_is_back(
    tmp_path: Path, name: str
) -> None:
    server = MilvusServer(tmp_path)
    store = MilvusStore(MilvusSettings(uri=server.start()))
    await store.ensure(schema(name, capture_id="one"))
    await write(store, name, *map(point, range(50)))
    server.kill()
    with pytest.raises(Unavailable):
        await store.count(name)
    server.start()
    async with asyncio.timeout(15):
        while not await is_back(store):
            await asyncio.sleep(0.1)
    # It has forgotten that the collection was loaded.
    assert await scanned(store, [Chunk(0, name, "{}")]) == list(range(50))
    described = await store.describe(name)
    assert described is not None
    assert (described.capture_id, described.points) == ("one", 50)
    await store.close()
    server.stop()


async def is_back(store: MilvusStore) -> bool:
    try:
        await store.collections()
    except Unavailable:
        return False
    return True


async def test_a_mark_of_points_of_another_capture_is_not_replaced(
    store: MilvusStore, name: str
) -> None:
    await store.ensure(schema(name, capture_id="one"))
    await store.mark(name, Mark("one", 4, 5))
    await store.ensure(schema(name, capture_id="one"))
    described = await store.describe(name)
    assert described is not None
    assert described.mark == Mark("one", 4, 5)
    await write(store, name, point(1))
    with pytest.raises(Refused, match="'one', not 'two'") as caught:
        await store.ensure(schema(name, capture_id="two"))
    assert caught.value.code == "target-not-empty"


async def test_what_does_not_fit_is_refused_before_anything_is_made(
    store: MilvusStore, name: str
) -> None:
    await store.ensure(schema(name))
    for vector in (
        VectorSchema(size=3, distance=Distance.DOT),
        VectorSchema(size=2, distance=Distance.COSINE),
        VectorSchema(kind=VectorKind.SPARSE),
    ):
        for call in (store.foresee, store.ensure):
            with pytest.raises(Refused) as caught:
                await call(schema(name, vectors={"": vector}))
            assert caught.value.code == "target-incompatible"
    other = f"{name}_other"
    for vector in (
        VectorSchema(size=2, distance=Distance.MANHATTAN),
        VectorSchema(distance=Distance.DOT),
    ):
        with pytest.raises(Refused) as caught:
            await store.ensure(schema(other, vectors={"": vector}))
        assert caught.value.code == "unsupported"
    assert await store.describe(other) is None


async def test_an_index_is_planned_in_words_that_other_stores_have(
    store: MilvusStore, name: str
) -> None:
    given = VectorIndex(kind=IndexKind.HNSW, m=24, ef_construction=99)
    vector = VectorSchema(size=2, distance=Distance.COSINE, index=given)
    wanted = schema(name, vectors={"": vector})
    planned = store.plan(wanted)
    assert planned.vectors is not None
    assert planned.vectors[""].index == given
    assert store.plan(planned) == planned
    assert [each.code for each in lost_settings(wanted, planned)] == []
    await store.ensure(wanted)
    described = await store.describe(name)
    assert described is not None
    assert described.vectors is not None
    assert described.vectors[""].index == given
    assert await store.foresee(wanted) == await store.foresee(planned)


async def test_a_search_is_asked_what_means_the_same_there_and_nothing_else(
    store: MilvusStore, name: str
) -> None:
    await store.ensure(schema(name))
    tagged = [point(n, n=n, tags=["a"] if n % 2 else ["b", 'q"'], ok=n > 2) for n in range(6)]
    await write(store, name, *tagged)

    async def ask(**spec: Any) -> list[PointId]:
        query = Query(floats(1, 1), filter=spec, limit=9)
        return sorted(hit.id for hit in await store.search(name, query))  # type: ignore[type-var]

    assert await ask(must=[{"key": "n", "range": {"gte": 2, "lt": 4}}]) == [2, 3]
    assert await ask(must=[{"key": "tags", "match": {"value": "a"}}]) == [1, 3, 5]
    assert await ask(must=[{"key": "tags", "match": {"value": 'q"'}}]) == [0, 2, 4]
    assert await ask(must=[{"key": "ok", "match": {"value": True}}, {"has_id": [3, 9]}]) == [3]
    ones = [{"key": "n", "match": {"any": [0, 5]}}, {"key": "n", "match": {"value": 1}}]
    assert await ask(should=ones, must_not=[{"has_id": [1]}]) == [0, 5]
    for unsure in (
        {"must_not": [{"key": "n", "match": {"value": 1}}]},
        {"must": [{"key": "a.b", "match": {"value": 1}}]},
        {"must": [{"is_empty": {"key": "n"}}]},
    ):
        with pytest.raises(Refused) as caught:
            await ask(**unsure)
        assert caught.value.code == "unsupported"


# -- settings of a collection -----------------------------------------------------------------


async def test_between_two_milvus_what_can_be_carried_is_and_the_rest_blocks_by_name(
    store: MilvusStore, client: MilvusClient, name: str, milvus_uri: str
) -> None:
    made = client.create_schema(enable_dynamic_field=True)
    made.add_field("nr", DataType.INT64, is_primary=True)
    made.add_field("title", DataType.VARCHAR, max_length=9, nullable=True)
    made.add_field("v", DataType.FLOAT_VECTOR, dim=2)
    told = {"collection.ttl.seconds": "3600", "somebody's": "own"}
    client.create_collection(name, schema=made, properties=told)
    # What the vendor's client sends of an index, milvus-lite does not keep whole.
    params = {"M": 24, "efConstruction": 99}
    request = wire().CreateIndexRequest(collection_name=name, field_name="v")
    index = {"index_type": "HNSW", "metric_type": "L2", "params": json.dumps(params)}
    for key, value in index.items():
        request.extra_params.add(key=key, value=value)
    channel = Channel(MilvusSettings(uri=milvus_uri))
    await channel.change("CreateIndex", request)
    await channel.close()
    source = await store.describe(name)
    assert source is not None
    assert source.native["properties"] == {"collection.ttl.seconds": "3600"}
    planned = store.plan(msgspec.structs.replace(source, name=f"{name}_copy"))
    assert store.plan(planned) == planned
    lost = {each.setting: each for each in lost_settings(source, planned)}
    assert lost.keys() == {"fields.title", "dynamic"}
    assert all(each.blocks and each.code == "loss-setting" for each in lost.values())
    assert lost["fields.title"].wanted == "VARCHAR (9), nullable"
    await store.ensure(planned)
    copy = await store.describe(planned.name)
    assert copy is not None
    assert configuration_differences(planned, copy) == []
    assert copy.vectors is not None
    assert copy.vectors[""].native == {"index": {"index_type": "HNSW", "params": params}}
    assert copy.native["properties"] == source.native["properties"]


async def test_to_another_kind_an_index_travels_in_neutral_words_and_is_not_named_twice(
    store: MilvusStore, client: MilvusClient, name: str
) -> None:
    make(client, name)
    source = await store.describe(name)
    assert source is not None
    told = settings_of(source, abroad=True)
    assert told["vectors", "", "vector_index"] == "flat"
    assert not [path for path in told if "index_type" in path]


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "key"),
    [
        ({"uri": "localhost:19530"}, "uri"),
        ({"uri": "http://root:word@localhost"}, "uri"),
        ({"uri": "http://localhost/docs"}, "uri"),
        ({"database": "a-b"}, "database"),
        ({"token": Secret("line\nbreak")}, "token"),
        ({"timeout": 0.0}, "timeout"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(told: dict[str, Any], key: str) -> None:
    assert [name for name, _ in MilvusSettings(**told).problems()] == [key]


def test_a_name_that_milvus_refuses_is_refused_with_one_that_it_takes() -> None:
    settings = MilvusSettings()
    assert list(settings.problems()) == []
    assert settings.unfit("docs_2") is None
    assert "'my_docs_v2' would be one" in str(settings.unfit("my-docs.v2"))
    assert settings.unfit("2docs") is not None
    assert settings.unfit("x" * 256) is not None
    assert settings.unfit("") == "is empty"


def test_two_spellings_of_one_place_are_one() -> None:
    one = MilvusSettings(uri="http://127.0.0.1")
    assert one.address() == MilvusSettings(uri="http://localhost:19530/").address()
    assert one.address() != MilvusSettings(database="other").address()
    assert MilvusSettings(uri="https://a.cloud").address() == "a.cloud:443/default"


def test_the_example_is_a_configuration() -> None:
    assert 'kind = "milvus"' in MILVUS.example.format(side="SOURCE", port=1, folder="x")
    assert wire().QueryRequest(expr="x").expr == "x"
