"""What is special about shards in a folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import qdrant_edge as edge

from replicator.codecs.vectors import multi, sparse
from replicator.connectors.qdrant_embedded.kind import QdrantEmbeddedSettings
from replicator.connectors.qdrant_embedded.store import QdrantEmbeddedStore
from replicator.errors import Refused, Unavailable
from replicator.model.point import Point, Vectors
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IndexKind,
    Mark,
    Precision,
    Quantization,
    VectorIndex,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Query
from replicator.model.write import Delete, Upsert, WriteBatch
from replicator.testing.store_conformance import floats

RICH = CollectionSchema(
    name="articles",
    vectors={
        "": VectorSchema(
            size=4,
            distance=Distance.COSINE,
            precision=Precision.FLOAT16,
            native={
                "hnsw_config": {"m": 8, "on_disk": True},
                "quantization_config": {"scalar": {"type": "int8", "quantile": 0.5}},
                "memory": "cold",
            },
        ),
        "rows": VectorSchema(VectorKind.MULTI, 2, Distance.DOT),
        "words": VectorSchema(VectorKind.SPARSE, native={"modifier": "idf"}),
    },
    ids=IdKinds.UINT64 | IdKinds.UUID,
    indexes={"lang": "keyword", "body": "text", "year": "integer", "when": "datetime"},
    index_options={
        "lang": {"is_tenant": True},
        "body": {
            "tokenizer": "Word",
            "lowercase": True,
            "stopwords": {"languages": ["English"], "custom": ["foo"]},
            "stemmer": {"snowball": "English"},
        },
        "year": {"lookup": False, "range": True},
    },
    native_kind="qdrant-embedded",
    native={"optimizers": {"indexing_threshold": 20}, "on_disk_payload": False},
)
PLAIN = CollectionSchema(
    name="articles",
    vectors={"": VectorSchema(size=2, distance=Distance.DOT)},
    ids=IdKinds.UINT64,
    capture_id="one",
)


def points(*numbers: int) -> WriteBatch:
    return WriteBatch(
        "articles", tuple(Upsert(Point(n, {"": floats(n, 1)}, {"n": n})) for n in numbers)
    )


def opened(folder: Path) -> QdrantEmbeddedStore:
    return QdrantEmbeddedStore(QdrantEmbeddedSettings(path=str(folder)))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[QdrantEmbeddedStore]:
    store = opened(tmp_path)
    yield store
    await store.close()


async def described(store: QdrantEmbeddedStore) -> CollectionSchema:
    found = await store.describe("articles")
    assert found is not None
    return found


async def test_a_collection_is_made_exactly_as_planned(store: QdrantEmbeddedStore) -> None:
    planned = store.plan(RICH)
    assert planned.vectors is not None
    assert planned.vectors[""].native["hnsw_config"]["ef_construct"] == 100
    assert planned.index_options == RICH.index_options
    await store.ensure(RICH)
    found = await described(store)
    for field in ("vectors", "native", "native_kind", "restated", "indexes", "index_options"):
        assert getattr(found, field) == getattr(planned, field), field
    assert found.made
    assert store.plan(found).vectors == found.vectors
    assert await store.foresee(RICH) == found


async def test_a_collection_goes_on_as_it_was_when_its_folder_is_opened_anew(
    store: QdrantEmbeddedStore, tmp_path: Path
) -> None:
    await store.ensure(msgspec.structs.replace(RICH, capture_id="one"))
    await store.mark("articles", Mark("one", 3, 4))
    before = await described(store)
    await store.finish_bulk("articles")
    await store.close()
    again = opened(tmp_path)
    found = await described(again)
    await again.close()
    assert msgspec.structs.replace(found, details={}) == msgspec.structs.replace(
        before, details={}
    )
    assert found.mark == Mark("one", 3, 4)


async def test_a_shard_is_opened_by_the_engine_alone(
    store: QdrantEmbeddedStore, tmp_path: Path
) -> None:
    await store.ensure(PLAIN)
    await store.apply(points(1, 2, 3))
    await store.close()
    shard = edge.EdgeShard.load(str(tmp_path / "articles"))
    [record] = shard.retrieve([2], True, True)
    assert (record.payload, record.vector) == ({"n": 2}, [2.0, 1.0])
    shard.close()


async def test_a_shard_that_an_application_made_is_a_collection(
    store: QdrantEmbeddedStore, tmp_path: Path
) -> None:
    params = edge.EdgeVectorParams(2, edge.Distance.Euclid)
    shard = edge.EdgeShard.create(
        str(tmp_path / "articles"), edge.EdgeConfig(vectors={"": params})
    )
    vector = memoryview(floats(1, 2)).cast("f")
    shard.update(
        edge.UpdateOperation.upsert_points([edge.Point(7, {"": list(vector)}, {"text": "ä"})])
    )
    shard.close()
    # As of an engine before it kept a document of its own, or of a snapshot.
    (tmp_path / "articles" / "edge_config.json").unlink()
    (tmp_path / "no shard").mkdir()
    assert await store.collections() == ["articles"]
    found = await described(store)
    assert found.vectors is not None
    assert found.vectors[""].distance is Distance.EUCLID
    assert (found.points, found.made, found.mark) == (1, False, None)
    [chunk] = await store.split("articles", 4)
    [page] = [page async for page in store.scan(chunk, None, 10)]
    assert page.points == [Point(7, {"": floats(1, 2)}, {"text": "ä"})]


async def test_a_page_goes_on_behind_its_last_point_also_where_that_is_gone(
    store: QdrantEmbeddedStore,
) -> None:
    await store.ensure(PLAIN)
    await store.apply(points(*range(1, 8)))
    [chunk] = await store.split("articles", 1)
    first = await anext(store.scan(chunk, None, 3))
    assert [point.id for point in first.points] == [1, 2, 3]
    for gone, expected in (((), [4, 5, 6]), ((3,), [4, 5, 6]), ((3, 4, 5, 6), [7])):
        await store.apply(WriteBatch("articles", tuple(map(Delete, gone))))
        page = await anext(store.scan(chunk, first.cursor, 3))
        assert [point.id for point in page.points] == expected
    assert page.cursor is None


async def test_a_wipe_leaves_an_empty_collection_of_the_same_configuration(
    store: QdrantEmbeddedStore, tmp_path: Path
) -> None:
    await store.ensure(msgspec.structs.replace(RICH, capture_id="one"))
    await store.apply(WriteBatch("articles", (Upsert(Point(1, {}, {"lang": "de"})),)))
    before = await described(store)
    await store.wipe("articles")
    after = await described(store)
    assert (after.points, after.mark) == (0, None)
    assert msgspec.structs.replace(after, details={}) == msgspec.structs.replace(
        before, points=0, capture_id=None, details={}
    )
    assert [each.name for each in tmp_path.iterdir()] == ["articles"]


async def test_what_a_crash_left_of_a_collection_that_was_made_is_no_collection(
    store: QdrantEmbeddedStore, tmp_path: Path
) -> None:
    for what in ("new", "old"):
        (tmp_path / f".articles.{what}" / "segments").mkdir(parents=True)
    assert await store.collections() == []
    assert await store.describe("articles") is None
    await store.ensure(PLAIN)
    assert [each.name for each in tmp_path.iterdir()] == ["articles"]


async def test_a_collection_of_another_capture_that_holds_points_is_refused(
    store: QdrantEmbeddedStore,
) -> None:
    await store.ensure(PLAIN)
    await store.ensure(msgspec.structs.replace(PLAIN, capture_id="two"))
    assert (await described(store)).capture_id == "two"
    await store.apply(points(1))
    with pytest.raises(Refused) as caught:
        await store.ensure(PLAIN)
    assert caught.value.code == "target-not-empty"


async def test_a_collection_with_other_vectors_is_refused(store: QdrantEmbeddedStore) -> None:
    await store.ensure(PLAIN)
    other = VectorSchema(size=3, distance=Distance.DOT)
    for vectors in ({"": other}, {"x": other}, {"": VectorSchema(VectorKind.SPARSE)}):
        for ask in (store.foresee, store.ensure):
            with pytest.raises(Refused) as caught:
                await ask(msgspec.structs.replace(PLAIN, vectors=vectors))
            assert caught.value.code == "target-incompatible"


async def test_a_collection_whose_vectors_nobody_knows_is_refused(
    store: QdrantEmbeddedStore,
) -> None:
    for vectors in (None, {"": VectorSchema()}):
        with pytest.raises(Refused) as caught:
            await store.ensure(msgspec.structs.replace(PLAIN, vectors=vectors))
        assert caught.value.code == "target-incompatible"
    assert await store.collections() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"native": {"on_disk_payloads": True}},
        {"vectors": {"": VectorSchema(size=2, distance=Distance.DOT, native={"hnsw": {}})}},
        {"index_options": {"lang": {"tenant": True}}, "indexes": {"lang": "keyword"}},
        {"index_options": {"t": {"tokenizer": "None"}}, "indexes": {"t": "text"}},
    ],
    ids=["collection", "vector", "index", "value"],
)
def test_a_setting_that_the_engine_would_drop_is_refused(
    store: QdrantEmbeddedStore, changes: dict[str, Any]
) -> None:
    wanted = msgspec.structs.replace(PLAIN, native_kind="qdrant-embedded", **changes)
    with pytest.raises(Refused) as caught:
        store.plan(wanted)
    assert caught.value.code == "config-invalid"


async def test_neutral_words_of_another_kind_become_the_engines_own(
    store: QdrantEmbeddedStore,
) -> None:
    index = VectorIndex(
        kind=IndexKind.HNSW,
        m=24,
        ef_construction=200,
        quantization=Quantization.PRODUCT,
        quantization_bits=2,
        on_disk=True,
    )
    vectors = {
        "a": VectorSchema(size=4, distance=Distance.DOT, index=index, native={"x": 1}),
        "b": VectorSchema(
            size=4, distance=Distance.DOT, index=VectorIndex(kind=IndexKind.FLAT)
        ),
        "c": VectorSchema(VectorKind.SPARSE, native={"modifier": "Idf"}),
    }
    wanted = CollectionSchema(
        name="articles", vectors=vectors, ids=IdKinds.UUID, native={"shards": 3}
    )
    await store.ensure(wanted)
    found = (await described(store)).vectors
    assert found is not None
    assert found["a"].index == index
    assert found["a"].native["quantization_config"] == {"product": {"compression": "x16"}}
    assert found["b"].index.kind is IndexKind.FLAT
    assert found["c"].native == {}
    chosen = msgspec.structs.replace(
        wanted,
        vectors={"c": VectorSchema(VectorKind.SPARSE, native={"modifier": "idf", "y": 2})},
        chosen=(("vectors", "c", "modifier"),),
    )
    planned = store.plan(chosen)
    assert planned.vectors == {"c": VectorSchema(VectorKind.SPARSE, native={"modifier": "idf"})}
    assert planned.native == {}


async def test_searches_are_answered_by_each_kind_of_vector(store: QdrantEmbeddedStore) -> None:
    await store.ensure(RICH)
    several = [
        Point(
            n,
            {
                "": floats(1, n, 0, 0),
                "rows": multi([[n, 1], [0, 1]]),
                "words": sparse([1, n], [1.0, 2.0]),
            },
            {},
        )
        for n in (2, 3, 4)
    ]
    await store.apply(WriteBatch("articles", tuple(map(Upsert, several))))
    asked: Vectors = {
        "": floats(1, 4, 0, 0),
        "rows": multi([[1, 0]]),
        "words": sparse([4], [1.0]),
    }
    for name, vector in asked.items():
        hits = await store.search("articles", Query(vector, limit=2, using=name, exact=True))
        assert hits[0].id == 4
        assert len(hits) == (1 if name == "words" else 2)
    with pytest.raises(Refused):
        await store.search("articles", Query(floats(1, 2, 3, 4), limit=1, filter={"must": []}))


async def test_a_shard_that_another_process_has_open_is_unavailable_until_it_lets_go(
    store: QdrantEmbeddedStore, tmp_path: Path
) -> None:
    await store.ensure(PLAIN)
    await store.apply(points(1))
    await store.close()
    program = (
        "import sys, qdrant_edge; shard = qdrant_edge.EdgeShard.load(sys.argv[1]);"
        " print('open', flush=True); sys.stdin.readline(); shard.close()"
    )
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path / "articles")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert await other.stdout.readline() == b"open\n"
    again = opened(tmp_path)
    with pytest.raises(Unavailable, match="open in another process"):
        await again.describe("articles")
    other.stdin.write(b"\n")
    await other.communicate()
    assert (await described(again)).points == 1
    await again.close()


async def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from tests.connectors.test_qdrant_embedded_store import PLAIN, opened, points
from pathlib import Path
async def main():
    store = opened(Path({str(tmp_path)!r}))
    await store.ensure(PLAIN)
    for n in range(1, 1000):
        await store.apply(points(n))
        print(n, flush=True)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    told = [int(await process.stdout.readline()) for _ in range(20)]
    process.kill()
    rest = await process.stdout.read()
    await process.wait()
    told += [int(line) for line in rest.split()]
    store = opened(tmp_path)
    assert await store.present("articles", told) == set(told)
    await store.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda root: (root / "segments").mkdir(parents=True), "is a shard itself"),
        (
            lambda root: (
                (root / "collection").mkdir(parents=True),
                (root / "meta.json").write_text("{}"),
            ),
            "local mode",
        ),
        (lambda root: (root.mkdir(), (root / "registry.json").touch()), "the local store"),
        (lambda root: root.touch(), "is no directory"),
    ],
    ids=["shard", "client", "local-store", "file"],
)
async def test_a_folder_of_another_sort_is_told_with_what_to_do(
    tmp_path: Path, make: Any, why: str
) -> None:
    store = opened(tmp_path / "root")
    assert await store.check() == []
    make(tmp_path / "root")
    [finding] = await store.check()
    assert why in finding.message
    await store.close()


async def test_a_folder_that_may_not_be_written_is_neither_written_nor_read(
    store: QdrantEmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.ensure(PLAIN)
    await store.close()
    # Who runs the tests may be allowed everything, whatever the folder's mode is.
    monkeypatch.setattr(os, "access", lambda *_: False)
    again = opened(tmp_path)
    [finding] = await again.check_writing(["articles"])
    assert finding.code == "permission-denied"
    for call in (again.describe("articles"), again.apply(points(1))):
        with pytest.raises(Refused) as caught:
            await call
        assert caught.value.code == "permission-denied"
    await again.close()


async def test_where_there_is_no_room_check_says_so_and_nothing_is_made(
    store: QdrantEmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    [finding] = await store.check_writing(["articles"])
    assert "1 MiB left" in finding.message
    with pytest.raises(Unavailable):
        await store.ensure(PLAIN)
    assert await store.collections() == []


async def test_a_shard_that_cannot_be_loaded_is_told_by_its_place(
    store: QdrantEmbeddedStore, tmp_path: Path
) -> None:
    (tmp_path / "articles" / "segments").mkdir(parents=True)
    with pytest.raises(Refused) as caught:
        await store.describe("articles")
    assert caught.value.code == "file-damaged"
    assert str(tmp_path / "articles") in caught.value.message


async def test_a_folder_that_was_put_in_the_place_of_another_is_the_one_that_is_read(
    store: QdrantEmbeddedStore, tmp_path: Path
) -> None:
    await store.ensure(PLAIN)
    await store.apply(points(1))
    other = opened(tmp_path / "beside")
    await other.ensure(PLAIN)
    await other.apply(points(2, 3))
    await other.close()
    shutil.rmtree(tmp_path / "articles")
    (tmp_path / "beside" / "articles").rename(tmp_path / "articles")
    assert await store.present("articles", [1, 2, 3]) == {2, 3}


def test_names_that_no_folder_can_have_are_refused() -> None:
    settings = QdrantEmbeddedSettings(path="x")
    for name in ("", ".hidden", "a/b", "ä" * 121):
        assert settings.unfit(name)
    assert settings.unfit("my shard") is None
    assert [key for key, _ in QdrantEmbeddedSettings(path="s3://x").problems()] == ["path"]


async def test_vectors_of_1536_floats_come_back_bit_by_bit(store: QdrantEmbeddedStore) -> None:
    vectors = {"": VectorSchema(size=1536, distance=Distance.EUCLID)}
    await store.ensure(msgspec.structs.replace(PLAIN, vectors=vectors))
    vector = struct.pack("<1536f", *(n / 7 for n in range(1536)))
    await store.apply(WriteBatch("articles", (Upsert(Point(1, {"": vector}, {})),)))
    assert (await store.fetch("articles", [1]))[1].vectors == {"": vector}
