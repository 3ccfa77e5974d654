"""Weaviate's traps, each as it shows at the connector, on a real server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from replicator.connectors.weaviate.kind import WeaviateOptions, WeaviateSettings
from replicator.connectors.weaviate.ranges import NIL
from replicator.connectors.weaviate.store import WeaviateStore
from replicator.errors import Refused, Retryable
from replicator.model.finding import Severity
from replicator.model.point import Point, PointId, ScopedId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.write import Delete, Upsert, WriteBatch
from replicator.testing.store_conformance import floats, fresh_name
from tests.plugins.weaviate import VERSION, WeaviatePlace

PLAIN = {"": VectorSchema(size=2, distance=Distance.DOT)}
NONE = {"vectorizer": {"none": {}}, "vectorIndexType": "hnsw"}


class Server:
    """The server, as somebody else uses it."""

    def __init__(self, place: WeaviatePlace) -> None:
        self._root = f"http://{place.rest}/v1"

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        async with aiohttp.request(method, f"{self._root}{path}", json=body) as reply:
            assert reply.status < 300, await reply.text()
            return await reply.json() if await reply.read() else None

    async def make(self, **document: Any) -> str:
        name = fresh_name()
        await self.ask("POST", "/schema", {"class": name, **document})
        return name

    async def write(self, name: str, *objects: dict[str, Any]) -> None:
        given = [{"class": name, **each} for each in objects]
        for told in await self.ask("POST", "/batch/objects", {"objects": given}):
            assert told["result"]["status"] == "SUCCESS", told


@pytest.fixture
def server(weaviate_place: WeaviatePlace) -> Server:
    return Server(weaviate_place)


@pytest.fixture
async def store(weaviate_place: WeaviatePlace) -> AsyncIterator[WeaviateStore]:
    url, grpc_url = f"http://{weaviate_place.rest}", f"http://{weaviate_place.grpc}"
    store = WeaviateStore(WeaviateSettings(url=url, grpc_url=grpc_url))
    yield store
    await store.close()


async def made(store: WeaviateStore, **given: Any) -> str:
    wanted = CollectionSchema(
        name=fresh_name(), ids=IdKinds.UUID, **{"vectors": PLAIN, **given}
    )
    await store.ensure(wanted)
    return wanted.name


async def content(store: WeaviateStore, name: str, rows: int = 3) -> dict[PointId, Point]:
    chunks = await store.split(name, 3)
    pages = [page for chunk in chunks async for page in store.scan(chunk, None, rows)]
    assert [row for page in pages for row in page.rejected] == []
    points = [point for page in pages for point in page.points]
    assert len({point.id for point in points}) == len(points)
    return {point.id: point for point in points}


def uuid_of(number: int) -> str:
    return str(uuid.UUID(int=number))


def point(point_id: PointId, **payload: Any) -> Point:
    return Point(point_id, {"": floats(1, 2)}, payload)


# -- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 9])
async def test_the_object_of_the_nil_uuid_is_scanned_though_no_cursor_is_before_it(
    store: WeaviateStore, rows: int
) -> None:
    name = await made(store)
    points = [point(each) for each in (NIL, uuid_of(1), uuid_of((1 << 128) - 1))]
    await store.apply(WriteBatch(name, tuple(map(Upsert, points))))
    assert await content(store, name, rows) == {each.id: each for each in points}


async def test_ids_that_count_up_are_cut_into_equal_shares(store: WeaviateStore) -> None:
    name = await made(store)
    # As UUIDs of version 7 do: all of them in one corner.
    ids = [uuid_of((0x0190_0000_0000 + n) << 80) for n in range(200)]
    await store.apply(WriteBatch(name, tuple(Upsert(point(each)) for each in ids)))
    chunks = await store.split(name, 4)
    shares = []
    for chunk in chunks:
        pages = [page async for page in store.scan(chunk, None, 1000)]
        shares.append(sum(len(page.points) for page in pages))
    assert sum(shares) == 200
    assert min(shares) >= 40, shares


async def test_a_page_asks_for_no_more_than_the_server_gives(store: WeaviateStore) -> None:
    name = await made(store)
    await store.apply(WriteBatch(name, (Upsert(point(uuid_of(1))),)))
    # More than 10,000 at once would be refused (QUERY_MAXIMUM_RESULTS).
    for scan in (store.scan, store.scan_keys):
        for _ in range(9):
            pages = [page async for page in scan(Chunk(0, name, "{}"), None, 100_000)]
            assert [each.id for page in pages for each in page.points] == [uuid_of(1)]
    many = [uuid_of(n) for n in range(25_000)]
    assert await store.present(name, many) == {uuid_of(1)}


async def test_every_type_of_property_of_a_foreign_class_is_read_and_written_back(
    store: WeaviateStore, server: Server
) -> None:
    nested = [{"name": "a", "dataType": ["int"]}, {"name": "l", "dataType": ["text[]"]}]
    types = {
        **{kind: kind for kind in ("text", "int", "number", "boolean", "date", "uuid", "blob")},
        "geo": "geoCoordinates",
        **{f"{kind}s": f"{kind}[]" for kind in ("text", "int", "number", "boolean", "date")},
    }
    properties: list[Any] = [
        {"name": f"p_{name}", "dataType": [kind]} for name, kind in types.items()
    ]
    properties += [
        {"name": "p_object", "dataType": ["object"], "nestedProperties": nested},
        {"name": "p_objects", "dataType": ["object[]"], "nestedProperties": nested},
    ]
    name = await server.make(properties=properties, vectorConfig={"default": NONE})
    payload = {
        "p_text": "a\u0000ä",
        "p_int": 1 << 53,
        "p_number": 0.1,
        "p_boolean": False,
        "p_date": "2020-01-02T03:04:05.12+02:00",
        "p_uuid": uuid_of(5),
        "p_blob": "aGFsbG8=",
        "p_geo": {"latitude": 52.5, "longitude": 13.25},
        "p_texts": ["a", "b"],
        "p_ints": [1, -(1 << 53)],
        "p_numbers": [0.1, 2.0],
        "p_booleans": [True, False],
        "p_dates": [],
        "p_object": {"a": 3, "l": []},
        "p_objects": [{"a": 1}, {}, {"l": ["x"]}],
    }
    written = Point(uuid_of(1), {"": floats(1, 2)}, payload)
    assert (await store.apply(WriteBatch(name, (Upsert(written),)))).rejected == ()
    assert await content(store, name) == {written.id: written}
    assert await store.fetch(name, [written.id]) == {written.id: written}
    told = await server.ask("GET", f"/objects/{name}/{written.id}")
    assert told["properties"]["p_int"] == 1 << 53
    # No property was made of anything.
    schema = await server.ask("GET", f"/schema/{name}")
    assert len(schema["properties"]) == len(properties)


async def test_a_class_of_before_named_vectors_is_read_and_written(
    store: WeaviateStore, server: Server
) -> None:
    index = {"distance": "cosine"}
    name = await server.make(vectorizer="none", vectorIndexConfig=index)
    await server.write(name, {"id": uuid_of(1), "vector": [3, 4]})
    described = await store.describe(name)
    assert described is not None
    assert described.vectors is not None
    assert (described.vectors[""].size, described.vectors[""].distance) == (2, Distance.COSINE)
    await store.apply(WriteBatch(name, (Upsert(Point(uuid_of(2), {"": floats(6, 8)}, {})),)))
    # As they were written, and not of length one.
    assert {each: p.vectors for each, p in (await content(store, name)).items()} == {
        uuid_of(1): {"": floats(3, 4)},
        uuid_of(2): {"": floats(6, 8)},
    }


async def test_keys_are_scanned_with_fields_wherever_they_stand(store: WeaviateStore) -> None:
    name = await made(store, indexes={"n": "integer"})
    whole = point(uuid_of(1), n=5, rest={"x": 1}, other="o")
    await store.apply(WriteBatch(name, (Upsert(whole),)))
    chunk = Chunk(0, name, "{}")
    for fields, payload in (
        ((), {}),
        (("n", "rest"), {"n": 5, "rest": {"x": 1}}),
        (("other",), {"other": "o"}),
    ):
        [page] = [page async for page in store.scan_keys(chunk, None, 9, fields)]
        [found] = page.points
        assert (found.id, found.vectors) == (whole.id, {})
        assert payload.items() <= found.payload.items()
    assert await store.present(name, [uuid_of(1), uuid_of(2)]) == {uuid_of(1)}


# -- writing -------------------------------------------------------------------------------


async def test_a_shard_that_takes_no_writes_keeps_nothing_of_a_batch_and_says_so(
    store: WeaviateStore, server: Server
) -> None:
    name = await made(store)
    await store.apply(WriteBatch(name, (Upsert(point(uuid_of(1))),)))
    [shard] = await server.ask("GET", f"/schema/{name}/shards")
    path = f"/schema/{name}/shards/{shard['name']}"
    await server.ask("PUT", path, {"status": "READONLY"})
    # The server answers for the first of them alone, as if it had kept the others.
    batch = WriteBatch(name, tuple(Upsert(point(uuid_of(n))) for n in range(2, 9)))
    for writes in (batch, WriteBatch(name, (Delete(uuid_of(1)),))):
        with pytest.raises(Refused, match=r"READY") as caught:
            await store.apply(writes)
        assert caught.value.code == "permission-denied"
    [finding] = [e for e in await store.check_writing([name]) if e.severity is Severity.BLOCKS]
    assert shard["name"] in finding.message
    assert (await content(store, name)).keys() == {uuid_of(1)}
    await server.ask("PUT", path, {"status": "READY"})
    await store.apply(batch)
    assert len(await content(store, name)) == 8
    assert await store.check_writing([name]) == []


async def test_a_class_that_went_is_not_made_anew_by_a_write(
    store: WeaviateStore, server: Server
) -> None:
    name = await made(store)
    await store.apply(WriteBatch(name, (Upsert(point(uuid_of(1))),)))
    await server.ask("DELETE", f"/schema/{name}")
    for write in (Upsert(point(uuid_of(1))), Delete(uuid_of(1))):
        with pytest.raises(Refused) as caught:
            await store.apply(WriteBatch(name, (write,)))
        assert caught.value.code == "target-missing"
    assert name not in await store.collections()


async def test_a_vector_of_another_dimension_is_rejected_in_a_new_tenant_too(
    store: WeaviateStore,
) -> None:
    # A tenant has an index of its own, which would take its first vector as it comes.
    name = await made(store, scoped=True)
    bad = Point(ScopedId("fresh", uuid_of(1)), {"": floats(1, 2, 3)}, {})
    [(_, error)] = (await store.apply(WriteBatch(name, (Upsert(bad),)))).rejected
    assert error.code == "vector-dimension"


async def test_a_scope_that_no_tenant_can_be_is_rejected_alone(store: WeaviateStore) -> None:
    name = await made(store, scoped=True)
    good, bad = ScopedId("a", uuid_of(1)), ScopedId("ä/ one", uuid_of(1))
    receipt = await store.apply(WriteBatch(name, (Upsert(point(good)), Upsert(point(bad)))))
    assert [(each, error.path) for each, error in receipt.rejected] == [(bad, "scope")]
    assert (await content(store, name)).keys() == {good}


# -- tenants -------------------------------------------------------------------------------


async def test_an_inactive_tenant_is_named_and_read_only_where_that_is_wanted(
    store: WeaviateStore, server: Server
) -> None:
    name = await made(store, scoped=True)
    ids = [ScopedId(scope, uuid_of(1)) for scope in ("awake", "asleep")]
    await store.apply(WriteBatch(name, tuple(Upsert(point(each)) for each in ids)))
    asleep = [{"name": "asleep", "activityStatus": "COLD"}]
    await server.ask("PUT", f"/schema/{name}/tenants", asleep)

    store.choose(name, WeaviateOptions())
    [finding] = await store.check()
    assert (finding.severity, "asleep" in finding.message) == (Severity.WARNS, True)
    assert await store.count(name) is None
    with pytest.raises(Refused, match="activate"):
        await content(store, name)
    with pytest.raises(Refused, match="activate"):
        await store.fetch(name, ids)
    with pytest.raises(Refused, match="activate"):
        await store.apply(WriteBatch(name, (Upsert(point(ids[1])),)))
    [chunk] = await store.split_scopes(name, 1, ["awake"])
    [page] = [page async for page in store.scan(chunk, None, 9)]
    assert [each.id for each in page.points] == ids[:1]

    store.choose(name, WeaviateOptions(activate=True))
    assert [each.severity for each in await store.check()] == [Severity.INFORMS]
    assert (await content(store, name)).keys() == set(ids)
    assert (await store.fetch(name, ids)).keys() == set(ids)
    # It rests again.
    assert await store.count(name) is None


async def test_a_tenant_that_went_holds_nothing_and_is_made_anew_by_a_point(
    store: WeaviateStore, server: Server
) -> None:
    name = await made(store, scoped=True)
    one = point(ScopedId("a", uuid_of(1)))
    await store.apply(WriteBatch(name, (Upsert(one),)))
    await server.ask("DELETE", f"/schema/{name}/tenants", ["a"])
    assert await store.fetch(name, [one.id]) == {}
    await store.apply(WriteBatch(name, (Delete(one.id),)))
    with pytest.raises(Retryable):  # it was seen, and is forgotten now
        await store.apply(WriteBatch(name, (Upsert(one),)))
    await store.apply(WriteBatch(name, (Upsert(one),)))
    assert await store.fetch(name, [one.id]) == {one.id: one}


# -- classes -------------------------------------------------------------------------------


async def test_a_class_is_carried_to_another_one_as_it_is(
    store: WeaviateStore, server: Server
) -> None:
    source = await server.make(
        description="Articles of ours.",
        properties=[{"name": "title", "dataType": ["text"], "tokenization": "field"}],
        vectorConfig={
            "a": {**NONE, "vectorIndexConfig": {"distance": "dot", "maxConnections": 9}},
            "b": {**NONE, "vectorIndexType": "flat"},
        },
        invertedIndexConfig={"bm25": {"b": 0.5, "k1": 1.5}},
    )
    described = await store.describe(source)
    assert described is not None
    wanted = CollectionSchema(**{
        name: getattr(described, name) for name in described.__struct_fields__
    } | {"name": fresh_name()})  # fmt: skip
    planned = store.plan(wanted)
    foreseen = await store.foresee(planned)
    await store.ensure(planned)
    target = await store.describe(wanted.name)
    assert target is not None
    assert (target.native, target.vectors) == (described.native, described.vectors)
    assert target.made
    assert {name: each.kind for name, each in (foreseen.vectors or {}).items()} == {
        name: each.kind for name, each in (target.vectors or {}).items()
    }


async def test_a_mark_leaves_the_words_of_others_and_goes_with_a_wipe(
    store: WeaviateStore, server: Server
) -> None:
    name = await server.make(description="Ours.", vectorConfig={"default": NONE})
    wanted = CollectionSchema(
        name=name, vectors={"": VectorSchema(size=2)}, ids=IdKinds.UUID, capture_id="one"
    )
    await store.ensure(wanted)
    described = await store.describe(name)
    assert described is not None
    assert (described.capture_id, described.made) == ("one", False)
    assert (await server.ask("GET", f"/schema/{name}"))["description"].startswith("Ours.\n")
    await store.wipe(name)
    described = await store.describe(name)
    assert described is not None
    assert described.capture_id is None
    assert described.native["description"] == "Ours."


async def test_what_stays_behind_and_what_expires_is_told_beforehand(
    store: WeaviateStore, server: Server
) -> None:
    expiry = {"enabled": True, "deleteOn": "_creationTimeUnix", "defaultTtl": 3600}
    name = await server.make(
        vectorConfig={"default": NONE},
        objectTtlConfig=expiry,
        invertedIndexConfig={"indexTimestamps": True},
    )
    reference = {"name": "author", "dataType": [name]}
    await server.ask("POST", f"/schema/{name}/properties", reference)
    store.choose(name, WeaviateOptions())
    told = " ".join(finding.message for finding in await store.check())
    assert "author" in told
    assert "expire" in told


async def test_a_class_by_another_first_letter_is_none(store: WeaviateStore) -> None:
    name = await made(store)
    assert await store.describe(name[0].lower() + name[1:]) is None


def test_the_server_that_make_builds_is_the_one_that_the_tests_look_for() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert f"WEAVIATE_VERSION := {VERSION}\n" in makefile
