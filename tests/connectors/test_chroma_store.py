"""What Chroma does otherwise than one would think, on the real server and in a folder."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from replicator.connectors.chroma.kind import CHROMA, ChromaOptions, ChromaSettings
from replicator.connectors.chroma.store import ChromaStore
from replicator.errors import Refused, Rejected
from replicator.model.configuration import lost_settings
from replicator.model.finding import Severity
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IndexKind,
    Mark,
    VectorIndex,
    VectorSchema,
)
from replicator.model.search import Query
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch
from replicator.settings.units import Secret
from replicator.testing.store_conformance import floats, fresh_name, scanned

DATABASE = "/api/v2/tenants/default_tenant/databases/default_database"


class Rest:
    """The server's own interface, as somebody else uses it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._root = f"{url}{DATABASE}"
        self._session = session

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, self._root + path, json=body) as reply:
            assert reply.status < 300, await reply.text()
            return await reply.json()

    async def make(self, name: str, space: str = "l2") -> str:
        """A collection that we did not make; its id."""
        asked = {"name": name, "configuration": {"hnsw": {"space": space}}}
        return str((await self.call("POST", "/collections", asked))["id"])

    async def upsert(self, collection: str, *ids: str, **columns: list[Any]) -> None:
        vectors = {"embeddings": [[1.0, 2.0]] * len(ids)}
        await self.call(
            "POST", f"/collections/{collection}/upsert", {"ids": ids} | vectors | columns
        )

    async def held(self, collection: str, point_id: str) -> Any:
        """Document, URI and metadata of a record."""
        asked = {"ids": [point_id], "include": ["metadatas", "documents", "uris"]}
        found = await self.call("POST", f"/collections/{collection}/get", asked)
        return tuple(found[part][0] for part in ("documents", "uris", "metadatas"))


@pytest.fixture
async def rest(chroma_url: str) -> AsyncIterator[Rest]:
    async with aiohttp.ClientSession() as session:
        yield Rest(chroma_url, session)


@pytest.fixture
async def store(chroma_url: str) -> AsyncIterator[ChromaStore]:
    store = ChromaStore(ChromaSettings(url=chroma_url))
    yield store
    await store.close()


@pytest.fixture(params=["server", "folder"])
async def either(
    request: pytest.FixtureRequest, chroma_url: str, tmp_path: Path
) -> AsyncIterator[ChromaStore]:
    """What must not depend on where Chroma runs."""
    settings = {
        "server": ChromaSettings(url=chroma_url),
        "folder": ChromaSettings(path=str(tmp_path / "chroma")),
    }
    store = ChromaStore(settings[request.param])
    yield store
    await store.close()


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[ChromaStore]:
    store = ChromaStore(ChromaSettings(path=str(tmp_path / "chroma")))
    yield store
    await store.close()


def schema(name: str, distance: Distance = Distance.EUCLID, size: int = 2) -> CollectionSchema:
    vectors = {"": VectorSchema(size=size, distance=distance)}
    return CollectionSchema(name=name, vectors=vectors, ids=IdKinds.STRING)


async def made(store: ChromaStore, **given: Any) -> str:
    wanted = schema(fresh_name(), **given)
    await store.ensure(wanted)
    return wanted.name


def point(point_id: str, **payload: Any) -> Point:
    return Point(point_id, {"": floats(1, 2)}, payload)


async def write(store: ChromaStore, collection: str, *writes: Write) -> Receipt:
    return await store.apply(WriteBatch(collection, writes))


async def held(store: ChromaStore, collection: str, point_id: str) -> Any:
    found = await store.fetch(collection, [point_id])
    return found[point_id].payload


# -- what there is ---------------------------------------------------------------------------


async def test_what_there_is_is_listed_to_the_last_page(
    either: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replicator.connectors.chroma.collection._NAMES_AT_ONCE", 2)
    names = [await made(either) for _ in range(5)]
    assert sorted(names) == [each for each in await either.collections() if each in names]


async def test_a_folder_that_is_not_there_lists_nothing(folder: ChromaStore) -> None:
    assert await folder.collections() == []


# -- documents and URIs ----------------------------------------------------------------------


async def test_a_document_is_a_field_of_the_payload(store: ChromaStore, rest: Rest) -> None:
    name = fresh_name()
    collection = await rest.make(name)
    await rest.upsert(
        collection, "a", documents=["text"], uris=["s3://a"], metadatas=[{"n": 1}]
    )
    assert await held(store, name, "a") == {"document": "text", "_uri": "s3://a", "n": 1}
    await write(store, name, Upsert(point("b", document="words", _uri="s3://b", m=2)))
    assert await rest.held(collection, "b") == ("words", "s3://b", {"m": 2})


async def test_the_field_of_the_document_is_an_option_of_the_collection(
    store: ChromaStore, rest: Rest
) -> None:
    name = fresh_name()
    collection = await rest.make(name)
    store.choose(name, ChromaOptions(document_field="body"))
    await write(store, name, Upsert(point("a", body="text", document="a field")))
    assert await rest.held(collection, "a") == ("text", None, {"document": "a field"})
    assert await held(store, name, "a") == {"body": "text", "document": "a field"}
    await write(store, name, Patch(id="a", set={"body": "other"}))
    assert await held(store, name, "a") == {"body": "other", "document": "a field"}


async def test_a_record_with_a_document_and_a_field_of_its_name_is_no_point(
    store: ChromaStore, rest: Rest
) -> None:
    name = fresh_name()
    collection = await rest.make(name)
    both, one = {"document": "field"}, {"n": 1}
    await rest.upsert(collection, "a", "b", documents=["text"] * 2, metadatas=[both, one])
    [page] = [page async for page in store.scan(Chunk(0, name, ""), None, 10)]
    assert [point.id for point in page.points] == ["b"]
    [row] = page.rejected
    assert (row.id, row.error.code, row.error.path) == (
        "a", "field-invalid", "payload.document",
    )  # fmt: skip
    assert b"text" in row.raw
    with pytest.raises(Rejected):
        await store.fetch(name, ["a", "b"])
    assert await store.present(name, ["a", "b"]) == {"a", "b"}


@pytest.mark.parametrize("value", [5, True, ["a", "b"]])
async def test_a_document_field_that_is_no_text_stays_in_the_metadata(
    store: ChromaStore, value: Any
) -> None:
    name = await made(store)
    await write(store, name, Upsert(point("a", document="text", _uri="u")))
    await write(store, name, Patch(id="a", set={"document": value, "_uri": value}))
    assert await held(store, name, "a") == {"document": value, "_uri": value}
    await write(store, name, Patch(id="a", set={"document": "again", "_uri": "v"}))
    assert await held(store, name, "a") == {"document": "again", "_uri": "v"}
    await write(store, name, Upsert(point("a", document=value)))
    assert await held(store, name, "a") == {"document": value}


async def test_an_empty_document_is_kept(store: ChromaStore) -> None:
    name = await made(store)
    await write(store, name, Upsert(point("a", document="")))
    assert await held(store, name, "a") == {"document": ""}


# -- replacing -------------------------------------------------------------------------------


async def test_an_upsert_leaves_nothing_of_an_older_record(
    either: ChromaStore,
) -> None:
    store = either
    name = await made(store)
    rich = point("a", document="d", _uri="u", n=1, tags=["x"], both=1)
    for after in (
        point("a", both=2),
        point("a"),
        point("a", document="e"),
        point("a", _uri="v"),
    ):
        await write(store, name, Upsert(rich), Upsert(point("b", n=1)))
        await write(store, name, Upsert(after), Upsert(point("b", n=1)))
        assert await store.fetch(name, ["a", "b"]) == {"a": after, "b": point("b", n=1)}


async def test_a_patch_takes_away_a_document_or_a_uri(
    either: ChromaStore,
) -> None:
    store = either
    name = await made(store)
    for patch in (
        Patch(id="a", unset=("document",), set={"m": 1}),
        Patch(id="a", set={"document": None, "m": 1}),
    ):
        await write(store, name, Upsert(point("a", document="d", _uri="u", n=1)))
        for _ in range(2):
            assert await write(store, name, patch) == Receipt()
            assert await held(store, name, "a") == {"_uri": "u", "n": 1, "m": 1}
    moved = Patch(id="a", vectors={"": floats(7, 7)}, unset=("_uri", "n"))
    await write(store, name, moved)
    found = await store.fetch(name, ["a"])
    assert found == {"a": Point("a", {"": floats(7, 7)}, {"m": 1})}
    absent = Patch(id="zz", unset=("document",))
    assert await write(store, name, absent) == Receipt(absent=("zz",))


async def test_lists_of_a_collection_that_was_deleted_do_not_come_back(
    store: ChromaStore, rest: Rest
) -> None:
    # The youngest places of a collection that is deleted are given to new records, and lists in
    # the metadata of the old ones are still there.
    ids = [f"id {n}" for n in range(50)]
    lists = [{"tags": ["left", "behind"]}] * len(ids)
    name = await made(store)
    for _ in range(2):
        leaving = await rest.make("leaving-lists")
        await rest.upsert(leaving, *ids)
        inherited = (await rest.held(leaving, ids[0]))[2]
        await rest.upsert(leaving, *ids, metadatas=lists)
        await rest.call("DELETE", "/collections/leaving-lists")
    assert inherited == lists[0], "the server does what it is to be guarded against"
    await write(store, name, *(Upsert(point(each, n=1)) for each in ids))
    assert await store.fetch(name, ids) == {each: point(each, n=1) for each in ids}


# -- what is dropped or changed without a word -----------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        {"chroma:document": "sneaks in"},
        {"chroma:x": 1},
        {"#a": 1},
        {"$a": 1},
        {"": 1},
        {"n": 2**63},
        {"list": []},
        {"list": [1, "a"]},
        {"list": [1, 2.5]},
        {"map": {"a": 1}},
    ],
    ids=str,
)
async def test_what_would_be_dropped_or_changed_is_rejected_alone(
    either: ChromaStore,
    payload: dict[str, Any],
) -> None:
    store = either
    name = await made(store)
    await write(store, name, Upsert(point("p")))
    receipt = await write(
        store,
        name,
        Upsert(point("a", **payload)),
        Upsert(point("b", n=1)),
        Patch(id="p", set=payload),
    )
    assert [point_id for point_id, _ in receipt.rejected] == ["a", "p"]
    found = await store.fetch(name, ["a", "b", "p"])
    assert found == {"b": point("b", n=1), "p": point("p")}


async def test_a_vector_that_is_not_finite_or_of_another_dimension_is_rejected_alone(
    either: ChromaStore,
) -> None:
    store = either
    name = await made(store)
    receipt = await write(
        store,
        name,
        Upsert(Point("a", {"": floats(math.nan, 1)}, {})),
        Upsert(Point("b", {"": floats(1, 2, 3)}, {})),
        Upsert(point("c")),
    )
    assert [(point_id, error.code) for point_id, error in receipt.rejected] == [
        ("a", "vector-not-finite"),
        ("b", "vector-dimension"),
    ]
    assert (await store.fetch(name, ["a", "b", "c"])).keys() == {"c"}


async def test_the_first_vector_does_not_decide_the_dimension(store: ChromaStore) -> None:
    name = await made(store, size=3)
    receipt = await write(store, name, Upsert(point("a")))
    assert [error.code for _, error in receipt.rejected] == ["vector-dimension"]
    described = await store.describe(name)
    assert described is not None
    assert described.vectors is not None
    [vector] = described.vectors.values()
    assert (vector.size, vector.distance, vector.required) == (3, Distance.EUCLID, True)


@pytest.mark.parametrize("distance", [Distance.EUCLID, Distance.DOT])
async def test_vectors_come_back_bit_for_bit_but_under_cosine(
    either: ChromaStore,
    distance: Distance,
) -> None:
    store = either
    vector = struct.pack("<5f", 0.1, -3e-30, 1e30, 0.0, 1 / 3)
    written = Point("a", {"": vector}, {})
    name = await made(store, distance=distance, size=5)
    await write(store, name, Upsert(written))
    assert await store.fetch(name, ["a"]) == {"a": written}


async def test_cosine_vectors_come_back_with_their_length_but_rounded(
    either: ChromaStore,
) -> None:
    store = either
    name = await made(store, distance=Distance.COSINE, size=4)
    await write(store, name, Upsert(Point("a", {"": floats(3, 4, 0.1, 0)}, {})))
    [found] = (await store.fetch(name, ["a"])).values()
    vector = found.vectors[""]
    assert isinstance(vector, bytes)
    numbers = struct.unpack("<4f", vector)
    assert numbers == pytest.approx((3, 4, 0.1, 0), abs=4 * 1.2e-7)


async def test_integers_and_floats_keep_their_types(store: ChromaStore) -> None:
    name = await made(store)
    payload = {"i": 5, "f": 5.0, "is": [1, 2], "fs": [1.0, 2.0], "b": True, "bs": [True]}
    await write(store, name, Upsert(point("a", **payload)))
    found = await held(store, name, "a")
    assert found == payload
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in payload.items()
    }
    assert [type(each) for each in found["fs"]] == [float, float]
    await write(store, name, Patch(id="a", set={"i": [1], "is": 1}))
    assert (await held(store, name, "a"))["i"] == [1]
    assert (await held(store, name, "a"))["is"] == 1


async def test_more_records_than_one_request_may_hold_are_written_and_read(
    chroma_url: str,
) -> None:
    store = ChromaStore(ChromaSettings(url=chroma_url, plan="cloud"))
    asked: list[tuple[str, int]] = []
    _watch(store, asked)
    name = await made(store)
    ids = [f"id {n}" for n in range(700)]
    await write(store, name, *(Upsert(point(each)) for each in ids))
    await write(store, name, *(Patch(id=each, set={"n": 1}) for each in ids))
    assert len(await store.fetch(name, ids)) == 700
    assert set(await scanned(store, await store.split(name, 1), 500)) == set(ids)
    await write(store, name, *map(Delete, ids[:650]))
    await store.wipe(name)
    assert await store.count(name) == 0
    assert {what for what, _ in asked} >= {"upsert", "update", "delete", "get"}
    assert max(count for _, count in asked) <= 300
    await store.close()


def _watch(store: ChromaStore, asked: list[tuple[str, int]]) -> None:
    """Note how many records each request is of."""
    api: Any = store._api
    exchange = api._exchange

    async def watched(method: str, path: str, body: Any, **rest: Any) -> Any:
        if isinstance(body, dict):
            count = body.get("limit") or len(body.get("ids", ()))
            asked.append((path.rpartition("/")[2], count))
        return await exchange(method, path, body, **rest)

    api._exchange = watched


def test_the_cloud_takes_less_than_a_server() -> None:
    cloud = ChromaSettings(url="https://api.trychroma.com", plan="cloud").traits()
    assert cloud.limits.records_max == 300
    assert cloud.ids.limits.text_bytes_max == 128
    assert not cloud.ids.limits.hold(IdKinds.STRING, "x" * 129)
    assert cloud.live
    assert not ChromaSettings(path="folder").traits().live
    assert ChromaSettings(url="http://localhost:8000").traits() == CHROMA.traits


# -- scans -----------------------------------------------------------------------------------


async def test_a_scan_misses_nothing_while_records_are_deleted_before_it(
    store: ChromaStore,
) -> None:
    name = await made(store)
    ids = [f"{n:04}" for n in range(200)]
    await write(store, name, *(Upsert(point(each)) for each in ids))
    lasting = set(ids[1::2])
    doomed = [each for each in ids if each not in lasting]
    found: list[PointId] = []
    cursor: str | None = None
    while True:
        page = await anext(aiter(store.scan(Chunk(0, name, ""), cursor, 20)))
        found += [point.id for point in page.points]
        # The oldest, so that everything that is still to be read moves.
        gone, doomed = doomed[:7], doomed[7:]
        if gone:
            await write(store, name, *map(Delete, gone))
        # And something younger than everything.
        await write(store, name, Upsert(point(f"young {len(found)}")))
        cursor = page.cursor
        if cursor is None:
            break
    assert lasting <= set(found)
    assert len(found) == len(set(found))


async def test_a_scan_misses_nothing_where_others_move_back_up(store: ChromaStore) -> None:
    # As a server does that puts a record which is written again into its old place.
    name = await made(store)
    ids = [f"{n:03}" for n in range(40)]
    await write(store, name, *(Upsert(point(each)) for each in ids))
    pages = store.scan(Chunk(0, name, ""), None, 10)
    first = await anext(aiter(pages))
    assert first.cursor is not None
    # Three less below: the place that was reached is three too high for what is there later.
    cursor = msgspec.json.decode(first.cursor)
    assert cursor["at"] == 32 or cursor["at"] == 30
    shifted = msgspec.json.encode(cursor | {"at": cursor["at"] - 3}).decode()
    rest = await scanned(store, [Chunk(0, name, "")], 10, shifted)
    assert sorted([*(point.id for point in first.points), *rest], key=str) == ids


async def test_the_page_is_bounded_in_bytes(chroma_url: str) -> None:
    store = ChromaStore(ChromaSettings(url=chroma_url), page_bytes=100_000)
    name = await made(store)
    ids = [f"{n:03}" for n in range(60)]
    await write(store, name, *(Upsert(point(each, text="x" * 10_000)) for each in ids))
    pages = [page async for page in store.scan(Chunk(0, name, ""), None, 1000)]
    assert max(len(page.points) for page in pages) <= 12
    assert sorted(str(point.id) for page in pages for point in page.points) == ids
    await store.close()


# -- collections -----------------------------------------------------------------------------


async def test_what_others_left_beside_a_collection_stays(
    store: ChromaStore, rest: Rest
) -> None:
    name = fresh_name()
    collection = await rest.make(name)
    await rest.call("PUT", f"/collections/{collection}", {"new_metadata": {"theirs": "ä"}})
    await store.ensure(msgspec.structs.replace(schema(name), capture_id="one"))
    await store.mark(name, Mark("one", 3, 4))
    described = await store.describe(name)
    assert described is not None
    assert described.mark == Mark("one", 3, 4)
    await store.wipe(name)
    left = (await rest.call("GET", f"/collections/{name}"))["metadata"]
    assert left == {"theirs": "ä", "replicator_dimension": 2}


async def test_a_mark_goes_from_a_collection_that_has_nothing_else(
    store: ChromaStore, rest: Rest
) -> None:
    name = fresh_name()
    await rest.make(name)
    await store.mark(name, Mark("one"))
    await store.wipe(name)
    described = await store.describe(name)
    assert described is not None
    assert described.mark is None


async def test_another_dimension_or_distance_is_refused_beforehand(store: ChromaStore) -> None:
    name = await made(store)
    for wanted in (schema(name, size=3), schema(name, distance=Distance.COSINE)):
        for ask in (store.foresee, store.ensure):
            with pytest.raises(Refused) as caught:
                await ask(wanted)
            assert caught.value.code == "target-incompatible"
    for ask in (store.foresee, store.ensure):
        with pytest.raises(Refused) as caught:
            await ask(schema(fresh_name(), distance=Distance.MANHATTAN))
        assert caught.value.code == "unsupported"


async def test_settings_are_carried_to_another_chroma_and_to_nobody_else(
    either: ChromaStore, rest: Rest
) -> None:
    name, function = fresh_name(), {"type": "known", "name": "default", "config": {}}
    asked = {
        "name": name,
        "metadata": {"theirs": "ä", "hnsw:space": "ip"},
        "configuration": {
            "hnsw": {"space": "ip", "max_neighbors": 32, "ef_search": 100},
            "embedding_function": function,
        },
    }
    await rest.call("POST", "/collections", asked)
    source = ChromaStore(ChromaSettings(url=rest.url))
    described = await source.describe(name)
    await source.close()
    assert described is not None
    settings = {
        "hnsw": {"max_neighbors": 32},
        "embedding_function": function,
        "metadata": {"theirs": "ä"},
    }
    assert (described.native_kind, described.native) == ("chroma", settings)
    planned = either.plan(msgspec.structs.replace(described, name=fresh_name()))
    if not either.traits.live:  # the package for folders takes no description of a function
        del settings["embedding_function"]
    assert planned.native == settings
    assert either.plan(planned) == planned
    await either.ensure(planned)
    made = await either.describe(planned.name)
    assert made is not None
    assert made.native == settings
    foreign = msgspec.structs.replace(described, native_kind="other", indexes={"n": "integer"})
    kept = either.plan(foreign)
    assert (kept.native, kept.indexes) == ({"hnsw": {"max_neighbors": 32}}, {})


async def test_the_index_comes_and_goes_in_neutral_words(either: ChromaStore) -> None:
    asked = VectorIndex(kind=IndexKind.HNSW, m=24, ef_construction=100, on_disk=True)
    vector = VectorSchema(size=2, distance=Distance.DOT, index=asked)
    wanted = msgspec.structs.replace(
        schema(fresh_name()), vectors={"": vector}, native_kind="other"
    )
    planned = either.plan(wanted)
    assert planned.native == {"hnsw": {"max_neighbors": 24}}  # the other is Chroma's own
    assert {each.code for each in lost_settings(wanted, planned)} == {"loss-on-disk"}
    await either.ensure(planned)
    made = await either.describe(planned.name)
    assert made is not None
    assert made.vectors is not None
    assert made.vectors[""].index == VectorIndex(kind=IndexKind.HNSW, m=24, ef_construction=100)
    assert made.restated == ("hnsw.max_neighbors",)


async def test_what_is_foreseen_is_what_is_made(store: ChromaStore) -> None:
    wanted = msgspec.structs.replace(
        schema(fresh_name(), distance=Distance.COSINE, size=5),
        native_kind="chroma",
        native={"hnsw": {"ef_search": 50}, "metadata": {"theirs": 1}},
    )
    foreseen = await store.foresee(wanted)
    assert await store.describe(wanted.name) is None
    await store.ensure(wanted)
    assert await store.describe(wanted.name) == foreseen


async def test_points_under_another_mark_are_left_alone(store: ChromaStore) -> None:
    name = await made(store)
    await write(store, name, Upsert(point("a")))
    with pytest.raises(Refused) as caught:
        await store.ensure(msgspec.structs.replace(schema(name), capture_id="ours"))
    assert caught.value.code == "target-not-empty"


async def test_a_collection_that_is_made_anew_is_found_again(
    store: ChromaStore, rest: Rest
) -> None:
    name = await made(store)
    for _ in range(2):  # by then its id is remembered
        await write(store, name, Upsert(point("a")))
    await rest.call("DELETE", f"/collections/{name}")
    with pytest.raises(Refused) as caught:
        await write(store, name, Upsert(point("a")))
    assert caught.value.code == "target-missing"
    await rest.make(name)  # by somebody else, under another id
    await write(store, name, Upsert(point("b")))
    assert await store.count(name) == 1
    await rest.call("DELETE", f"/collections/{name}")
    with pytest.raises(Refused) as caught:
        await scanned(store, [Chunk(0, name, "")])
    assert caught.value.code == "source-missing"
    assert await store.describe(name) is None


async def test_a_search_goes_by_distance(store: ChromaStore) -> None:
    name = await made(store, distance=Distance.EUCLID)
    await write(
        store,
        name,
        *(Upsert(Point(str(n), {"": floats(n, 0)}, {})) for n in range(10)),
    )
    hits = await store.search(name, Query(floats(3.2, 0), limit=3))
    assert [hit.id for hit in hits] == ["3", "4", "2"]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


# -- the server, and the folder --------------------------------------------------------------


async def test_check_names_a_database_that_is_not_there(chroma_url: str) -> None:
    store = ChromaStore(ChromaSettings(url=chroma_url, database="nope-db"))
    [finding] = await store.check()
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "store-refused")
    assert "nope-db" in finding.message
    await store.close()


async def test_check_says_that_nobody_answers() -> None:
    store = ChromaStore(ChromaSettings(url="http://127.0.0.1:9"))
    [finding] = await store.check()
    assert finding.code == "store-unavailable"
    await store.close()


async def test_a_folder_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    store = ChromaStore(ChromaSettings(path=str(tmp_path / "none")))
    assert await store.describe("abc") is None
    assert await store.check() == []
    with pytest.raises(Refused):
        await store.split("abc", 1)
    assert list(tmp_path.iterdir()) == []
    await store.close()


async def test_a_folder_keeps_what_was_written(tmp_path: Path) -> None:
    settings = ChromaSettings(path=str(tmp_path / "chroma"))
    first = ChromaStore(settings)
    name = await made(first)
    await write(first, name, Upsert(point("a", n=1)))
    await first.close()
    second = ChromaStore(settings)
    assert await second.fetch(name, ["a"]) == {"a": point("a", n=1)}
    await second.close()


async def test_a_write_to_a_folder_that_was_cancelled_is_done_before_the_next(
    folder: ChromaStore,
) -> None:
    name = await made(folder)
    assert folder.late_write_bound_s == 0.0
    ids = [f"{n}" for n in range(500)]
    task = asyncio.create_task(
        write(folder, name, *(Upsert(point(each, old=True)) for each in ids))
    )
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await write(folder, name, *(Upsert(point(each, new=True)) for each in ids))
    found = await folder.fetch(name, ids)
    assert {tuple(each.payload) for each in found.values()} == {("new",)}


# -- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (ChromaSettings(url=""), "url"),
        (ChromaSettings(url="http://a", path="b"), "url"),
        (ChromaSettings(url="a:8000"), "url"),
        (ChromaSettings(url="http://u:p@a"), "url"),
        (ChromaSettings(url="http://a?x=1"), "url"),
        (ChromaSettings(url="http://a", token=Secret("a\n")), "token"),
        (ChromaSettings(url="http://a", tenant=""), "tenant"),
        (ChromaSettings(path="a", plan="cloud"), "plan"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_named(settings: ChromaSettings, key: str) -> None:
    assert [found for found, _ in settings.problems()] == [key]


def test_two_spellings_of_one_place_are_one() -> None:
    one = ChromaSettings(url="http://127.0.0.1:80/").address()
    assert one == ChromaSettings(url="http://localhost").address()
    assert one != ChromaSettings(url="http://localhost", database="other").address()


@pytest.mark.parametrize("name", ["ab", "a..b", "10.0.0.1", "-ab", "ab-", "a b c", "ä" * 5])
def test_names_that_chroma_refuses_are_known_beforehand(name: str) -> None:
    assert ChromaSettings(url="http://a").unfit(name)


def test_names_that_chroma_takes_are_taken() -> None:
    assert ChromaSettings(url="http://a").unfit("a_b.c-D1") is None
