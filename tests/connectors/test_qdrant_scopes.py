"""Shard keys as scopes: how they are spelled, made, and missed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.scopes import can_be, read_scope, write_scope
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.wire import wire
from replicator.errors import Refused, Rejected, Retryable
from replicator.local_store import LocalStoreServer
from replicator.model.filter import parse_filter
from replicator.model.point import Point, PointId, ScopedId
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.search import Query
from replicator.model.write import Delete, Upsert, Write, WriteBatch
from replicator.testing.store_conformance import floats, fresh_name
from tests.connectors.test_qdrant_writing import Watch

STANDALONE = (grpc.StatusCode.INVALID_ARGUMENT, "Qdrant is running in standalone mode")


def key_of(**given: Any) -> Any:
    return wire().ShardKey(**given)


keys = st.builds(lambda n: key_of(number=n), st.integers(0, (1 << 64) - 1)) | st.builds(
    lambda text: key_of(keyword=text),
    st.text(st.sampled_from('0123"ab'), min_size=1, max_size=4) | st.text(min_size=1),
)


@given(keys)
def test_every_shard_key_is_the_scope_of_no_other(key: Any) -> None:
    back = wire().ShardKey()
    write_scope(back, read_scope(key))
    assert back == key


@given(st.text(st.sampled_from('0123"ab'), min_size=1, max_size=4))
def test_every_scope_that_a_shard_key_stands_for_is_read_back(scope: str) -> None:
    key = wire().ShardKey()
    if can_be(scope):
        write_scope(key, scope)
        assert read_scope(key) == scope
    else:
        with pytest.raises(Rejected) as caught:
            write_scope(key, scope)
        assert caught.value.code == "id-invalid"


@pytest.mark.parametrize(
    ("key", "scope"),
    [
        (key_of(number=5), "5"),
        (key_of(keyword="5"), '"5"'),
        (key_of(keyword="acme"), "acme"),
        (key_of(keyword="05"), "05"),
        (key_of(keyword='"5"'), '""5""'),
        (key_of(keyword=str(1 << 64)), str(1 << 64)),
    ],
)
def test_a_text_that_reads_as_a_number_stands_in_quotes(key: Any, scope: str) -> None:
    assert read_scope(key) == scope


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def server(tmp_path: Path, watch: Watch) -> AsyncIterator[LocalStoreServer]:
    async with LocalStoreServer(tmp_path / "watched", interceptors=[watch]) as running:
        yield running


@pytest.fixture
async def store(server: LocalStoreServer) -> AsyncIterator[QdrantStore]:
    connected = QdrantStore(QdrantSettings(url=server.url))
    yield connected
    await connected.close()


def wanted(**given: Any) -> CollectionSchema:
    vectors = {"": VectorSchema(size=2, distance=given.pop("distance", Distance.DOT))}
    ids = IdKinds.UINT64 | IdKinds.UUID
    return CollectionSchema(name=fresh_name(), vectors=vectors, ids=ids, scoped=True, **given)


def at(scope: str, number: int, x: float = 1.0) -> Point:
    return Point(ScopedId(scope, number), {"": floats(x, 2)}, {})


async def write(store: QdrantStore, collection: str, *writes: Write) -> None:
    receipt = await store.apply(WriteBatch(collection, writes))
    assert receipt.rejected == ()


async def drop(server: LocalStoreServer, collection: str, scope: str) -> None:
    """Somebody else removes a shard key."""
    channel = Channel(QdrantSettings(url=server.url))
    request = wire().DeleteShardKeyRequest(collection_name=collection)
    write_scope(request.request.shard_key, scope)
    await channel.change("DeleteShardKey", request)
    await channel.close()


async def test_a_shard_key_is_made_once_by_its_first_point(
    store: QdrantStore, watch: Watch
) -> None:
    collection = wanted()
    await store.ensure(collection)
    await write(store, collection.name, Delete(ScopedId("a", 1)))
    assert watch.calls["CreateShardKey"] == 0
    for number in range(3):
        await write(store, collection.name, Upsert(at("a", number)), Upsert(at("b", number)))
    assert watch.calls["CreateShardKey"] == 2
    assert watch.calls["ListShardKeys"] == 2
    assert await store.count(collection.name) == 6


async def test_two_that_make_one_shard_key_at_once_both_write(
    server: LocalStoreServer, store: QdrantStore
) -> None:
    other = QdrantStore(QdrantSettings(url=server.url))
    collection = wanted()
    await store.ensure(collection)
    await write(other, collection.name, Delete(ScopedId("a", 9)))
    await write(store, collection.name, Upsert(at("a", 1)))
    # It saw that there is none before the other made it.
    other._keys.missing = _none_seen  # type: ignore[method-assign]
    await write(other, collection.name, Upsert(at("a", 2)))
    assert await store.count(collection.name) == 2
    await other.close()


async def _none_seen(collection: str, scopes: Collection[str]) -> set[str]:
    return set(scopes)


async def test_a_shard_key_that_went_is_made_anew_for_points_and_missed_by_nothing_else(
    server: LocalStoreServer, store: QdrantStore
) -> None:
    collection = wanted()
    await store.ensure(collection)
    await write(store, collection.name, Upsert(at("a", 1)), Upsert(at("b", 1)))
    await drop(server, collection.name, "a")
    assert await store.fetch(collection.name, [ScopedId("a", 1)]) == {}
    assert await store.present(collection.name, [ScopedId("a", 1)]) == set()
    await write(store, collection.name, Delete(ScopedId("a", 1)), Upsert(at("b", 2)))
    await write(store, collection.name, Upsert(at("a", 3)))
    assert await store.count(collection.name) == 3
    for _ in range(2):
        await drop(server, collection.name, "a")
        await write(store, collection.name, Upsert(at("a", 4)), Delete(ScopedId("b", 1)))
        assert (await store.fetch(collection.name, [ScopedId("a", 4)])).keys() == {
            ScopedId("a", 4)
        }


async def test_a_shard_key_that_goes_again_and_again_is_tried_later(
    store: QdrantStore, watch: Watch
) -> None:
    collection = wanted()
    await store.ensure(collection)
    await write(store, collection.name, Upsert(at("a", 1)))
    words = 'Wrong input: Shard key "a" not found'
    watch.look["UpdateBatch"] = lambda _: (grpc.StatusCode.INVALID_ARGUMENT, words)
    with pytest.raises(Retryable):
        await write(store, collection.name, Upsert(at("a", 2)))


async def test_a_scan_ends_where_its_shard_key_went(
    server: LocalStoreServer, store: QdrantStore
) -> None:
    collection = wanted()
    await store.ensure(collection)
    points = [Upsert(at(scope, n)) for scope in "ab" for n in range(10)]
    await write(store, collection.name, *points)
    chunks = await store.split(collection.name, 2)
    found = []
    for chunk in chunks:
        async for page in store.scan(chunk, None, 3):
            found += [point.id for point in page.points]
            if [point.id for point in page.points][-1:] == [ScopedId("a", 2)]:
                await drop(server, collection.name, "a")
    left = [*(ScopedId("a", n) for n in range(3)), *(ScopedId("b", n) for n in range(10))]
    assert found == left


async def test_a_server_that_runs_alone_is_refused_before_anything_is_made(
    store: QdrantStore, watch: Watch
) -> None:
    collection = wanted()
    assert (await store.foresee(collection)).scoped, "the server is one of a cluster"
    watch.look["CreateShardKey"] = lambda _: STANDALONE
    with pytest.raises(Refused, match="cluster mode") as caught:
        await store.foresee(collection)
    assert caught.value.code == "unsupported"
    await store.ensure(collection)
    with pytest.raises(Refused, match="cluster mode"):
        await write(store, collection.name, Upsert(at("a", 1)))


@pytest.mark.parametrize("distance", [Distance.DOT, Distance.EUCLID])
async def test_a_search_finds_equal_ids_of_every_shard_key(
    store: QdrantStore, distance: Distance
) -> None:
    collection = wanted(distance=distance)
    await store.ensure(collection)
    points = [
        Upsert(at(scope, n, x))
        for scope, n, x in (("a", 1, 1.0), ("b", 1, 1.5), ("a", 2, 9.0), ("b", 2, 9.5))
    ]
    await write(store, collection.name, *points)
    hits = await store.search(collection.name, Query(floats(1.0, 2), limit=2))
    nearest = {Distance.DOT: [("b", 2), ("a", 2)], Distance.EUCLID: [("a", 1), ("b", 1)]}
    assert [hit.id for hit in hits] == [ScopedId(*each) for each in nearest[distance]]
    several = [Query(floats(1.0, 2), limit=2), Query(floats(-1.0, 2), limit=1)]
    found = await store.search_many(collection.name, several)
    assert found == [hits, await store.search(collection.name, several[1])]


async def test_a_narrowed_and_a_careful_reading_keep_to_shard_keys(store: QdrantStore) -> None:
    collection = wanted()
    await store.ensure(collection)
    for number in range(6):
        await write(
            store,
            collection.name,
            Upsert(Point(ScopedId("a", number), {"": floats(number, 2)}, {"tag": number % 2})),
            Upsert(Point(ScopedId("b", number), {"": floats(number, 2)}, {"tag": number % 3})),
        )
    where = parse_filter({"must": [{"key": "tag", "range": {"lte": 0}}, {"has_id": [2, 3]}]})
    wide = {ScopedId("a", 2), ScopedId("b", 3)}
    for reading in (store, store.consistent()):
        shown = [
            point.id
            for chunk in await reading.split(collection.name, 2)
            async for page in reading.scan_where(chunk, None, 1, where)
            for point in page.points
        ]
        assert (set(shown), len(shown)) == (wide, 2)
        asked: list[PointId] = [ScopedId("a", 1), ScopedId("b", 1), ScopedId("c", 1), 1]
        found = await reading.fetch_fields(collection.name, asked, ["tag"])
        assert found == {each: Point(each, {}, {"tag": 1}) for each in asked[:2]}
        assert (await reading.fetch(collection.name, asked)).keys() == found.keys()
    assert await store.count_where(collection.name, where) == 2
    [one] = await store.split_scopes(collection.name, 1, ["b"])
    pages = [page async for page in store.scan_where(one, None, 9, where)]
    assert [point.id for page in pages for point in page.points] == [ScopedId("b", 3)]


async def test_a_wipe_leaves_shard_keys_to_be_made_anew(store: QdrantStore) -> None:
    collection = wanted(indexes={"year": "integer"})
    await store.ensure(collection)
    await write(store, collection.name, Upsert(at("a", 1)))
    await store.wipe(collection.name)
    described = await store.describe(collection.name)
    assert described is not None
    assert (described.scoped, described.points) == (True, 0)
    assert described.indexes == {"year": "integer"}
    await write(store, collection.name, Upsert(at("a", 2)))
    assert await store.count(collection.name) == 1


async def test_a_shard_key_that_is_made_after_the_cut_is_read_all_the_same(
    store: QdrantStore,
) -> None:
    collection = wanted()
    await store.ensure(collection)
    await write(store, collection.name, Upsert(at("a", 1)))
    chunks = await store.split(collection.name, 2)
    await write(store, collection.name, Upsert(at("b", 1)))
    found = [
        point.id
        for chunk in chunks
        async for page in store.scan(chunk, None, 3)
        for point in page.points
    ]
    assert found == [ScopedId("a", 1), ScopedId("b", 1)]


async def test_an_id_without_a_scope_is_that_of_no_shard_key(store: QdrantStore) -> None:
    collection = wanted()
    await store.ensure(collection)
    await write(store, collection.name, Upsert(at("a", 1)))
    assert await store.fetch(collection.name, [1]) == {}
    assert await store.present(collection.name, [1]) == set()
    with pytest.raises(Rejected):
        await store.apply(WriteBatch(collection.name, (Upsert(Point(1, {}, {})),)))
