from __future__ import annotations

import asyncio
import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.jsonl.store import JsonlStore
from replicator.errors import Refused, Rejected, Unavailable
from replicator.model.phase import Direction
from replicator.model.point import BareId, MultiVector, Point, PointId, SparseVector, bare
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Query
from replicator.model.write import Delete, Patch, Upsert, WriteBatch
from replicator.ports.store import RejectedRow
from replicator.settings.settings import StreamSettings
from replicator.settings.units import Size
from replicator.stream.ownership import Ownership, Purpose
from replicator.stream.reading import Reader
from replicator.stream.writing import Writer, Written
from tests.stream.rig import METRICS

Make = Callable[..., JsonlStore]
"""Opens the store once more, with other settings if some are given."""


def dense(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def point(point_id: int | str, *values: float, **payload: object) -> Point:
    return Point(point_id, {"": dense(*(values or (1.0, 2.0)))}, payload)


def wanted(capture_id: str | None = "c1", **vectors: VectorSchema) -> CollectionSchema:
    return CollectionSchema(
        name="a",
        vectors=vectors or {"": VectorSchema(size=2, distance=Distance.COSINE)},
        ids=IdKinds.STRING,
        capture_id=capture_id,
    )


async def description_of(store: JsonlStore) -> CollectionSchema:
    schema = await store.describe("a")
    assert schema is not None
    return schema


def batch(*writes: Upsert | Delete) -> WriteBatch:
    return WriteBatch("a", writes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "stores" / "a.jsonl"


@pytest.fixture
async def make(file: Path) -> AsyncIterator[Make]:
    made: list[JsonlStore] = []

    def make(**changes: Any) -> JsonlStore:
        made.append(JsonlStore(JsonlSettings(path=str(file.parent), **changes)))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
async def store(make: Make) -> JsonlStore:
    store = make()
    await store.ensure(wanted())
    return store


async def everything(
    store: JsonlStore, parts: int = 1, page_rows: int = 3
) -> tuple[dict[PointId, Point], list[RejectedRow]]:
    points: dict[PointId, Point] = {}
    rejected: list[RejectedRow] = []
    for chunk in await store.split("a", parts):
        async for page in store.scan(chunk, None, page_rows):
            assert len(page.points) + len(page.rejected) <= page_rows
            for found in page.points:
                assert found.id not in points, "no key is in two chunks"
                points[found.id] = found
            rejected += page.rejected
    return points, rejected


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


# -- writing --------------------------------------------------------------------------------
async def test_the_last_line_of_an_id_wins(store: JsonlStore, file: Path) -> None:
    await store.apply(batch(Upsert(point(1, n=1)), Upsert(point("1", n=2)), Upsert(point(2))))
    await store.apply(batch(Upsert(point(1, n=3)), Delete(2), Delete("never")))
    assert await everything(store) == ({1: point(1, n=3), "1": point("1", n=2)}, [])
    assert await store.count("a") == 2
    assert [line.get("id", "header") for line in lines(file)] == ["header", 1, "1", 2, 1, 2]
    assert lines(file)[-1] == {"id": 2, "deleted": True}


async def test_every_kind_of_vector_comes_back_bit_by_bit(make: Make) -> None:
    store = make()
    kept = Point(
        (1 << 64) - 1,
        {
            "d": dense(0.1, -3.4e38),
            "s": SparseVector(struct.pack("<2I", 1, 1 << 31), dense(0.1, 2.0)),
            "m": MultiVector(2, dense(1, 2, 3, 4)),
        },
        {"ä/\n": [None, True, 1, 1.0, 1 << 60, {"x": "\u2028"}]},
    )
    await store.ensure(CollectionSchema(name="a", vectors=None, ids=IdKinds.STRING))
    await store.apply(batch(Upsert(kept)))
    assert await store.fetch("a", [kept.id, 7]) == {kept.id: kept}


async def test_patches_come_as_the_whole_points_that_they_make(
    store: JsonlStore, file: Path
) -> None:
    settings = StreamSettings()
    writer = Writer(
        store, connector="jsonl", settings=settings, metrics=METRICS, reads=Reader(store)
    )
    lease = Ownership().lease(Direction.FORWARD, Purpose.STREAM, 0)
    await writer.write(lease, "a", [Upsert(point(1, a=1, b=2, c=3)), Upsert(point(2))])
    patches = [
        Patch(id=1, vectors={"": dense(5, 6)}, set={"b": 5, "a": None}, unset=("c",)),
        Patch(id=2, unset_vectors=("",), set={"n": 1}),
    ]
    assert await writer.write(lease, "a", patches) == Written()
    assert await store.fetch("a", [1, 2]) == {
        1: point(1, 5.0, 6.0, b=5),
        2: Point(2, {}, {"n": 1}),
    }
    before = file.read_bytes()
    written = await writer.write(lease, "a", [Delete(3), Patch(id=3, set={"b": 6})])
    assert (written.absent, file.read_bytes()) == (1, before)


async def test_what_the_collection_cannot_hold_is_rejected_alone(store: JsonlStore) -> None:
    receipt = await store.apply(
        batch(
            Upsert(point(1)),
            Upsert(point(2, 1.0, 2.0, 3.0)),
            Upsert(point(3, math.nan, 1.0)),
            Upsert(point(4, x=math.inf)),
            Upsert(point("")),
            Upsert(Point(6, {"other": dense(1.0)}, {})),
        )
    )
    assert [(at, error.code) for at, error in receipt.rejected] == [
        (2, "vector-dimension"),
        (3, "vector-not-finite"),
        (4, "payload-not-finite"),
        ("", "id-invalid"),
        (6, "vector-unknown"),
    ]
    assert set((await everything(store))[0]) == {1}


async def test_a_uuid_is_one_point_in_every_spelling(store: JsonlStore) -> None:
    upper = "0E4E1C2A-0000-4000-8000-00000000ABCD"
    await store.apply(batch(Upsert(point(upper))))
    assert set(await store.fetch("a", [upper, upper.lower()])) == {upper, upper.lower()}
    await store.apply(batch(Delete(upper.lower())))
    assert await store.count("a") == 0


async def test_writing_to_a_collection_that_was_never_made_is_refused(make: Make) -> None:
    with pytest.raises(Refused) as refused:
        await make().apply(batch(Upsert(point(1))))
    assert refused.value.code == "target-missing"


# -- the collection -------------------------------------------------------------------------
async def test_names_of_collections_are_percent_encoded(make: Make, file: Path) -> None:
    store = make()
    for name in ("", "..", "a/b", "ä"):
        await store.ensure(CollectionSchema(name=name, vectors=None, ids=IdKinds.STRING))
    assert sorted(path.name for path in file.parent.iterdir()) == sorted(
        ["=.jsonl", "...jsonl", "a%2Fb.jsonl", "%C3%A4.jsonl"]
    )


async def test_a_collection_describes_itself_after_reopening(
    store: JsonlStore, make: Make
) -> None:
    await store.apply(batch(Upsert(point(1))))
    described = await make().describe("a")
    assert described is not None
    assert (described.capture_id, described.points) == ("c1", 1)
    assert described.vectors == wanted().vectors
    assert await make().describe("b") is None


async def test_ensuring_again_moves_the_mark_and_keeps_points_and_schema(
    store: JsonlStore, file: Path
) -> None:
    await store.apply(batch(Upsert(point(1))))
    await store.ensure(wanted())
    assert len(lines(file)) == 2, "nothing to say, nothing said"
    await store.ensure(wanted("c2", other=VectorSchema(size=9)))
    described = await store.describe("a")
    assert described is not None
    assert (described.capture_id, described.points) == ("c2", 1)
    assert described.vectors == wanted().vectors
    await store.ensure(wanted(None))
    assert (await description_of(store)).capture_id == "c2"


async def test_ensuring_another_programs_points_does_not_vouch_for_them(
    make: Make, file: Path
) -> None:
    file.parent.mkdir()
    file.write_text('{"id": 1, "vectors": {"": [1, 2, 3]}}')  # no end of line
    store = make()
    await store.ensure(wanted())
    described = await description_of(store)
    assert (described.vectors, described.capture_id, described.points) == (None, "c1", 1)
    await store.apply(batch(Upsert(point(2))))
    assert set((await everything(store))[0]) == {1, 2}


async def test_two_that_create_a_collection_at_once_lose_nothing(make: Make) -> None:
    stores = [make() for _ in range(4)]
    await asyncio.gather(*(store.ensure(wanted()) for store in stores))
    await asyncio.gather(
        *(store.apply(batch(Upsert(point(n)))) for n, store in enumerate(stores))
    )
    assert await stores[0].count("a") == 4


async def test_wiping_removes_points_and_mark(store: JsonlStore, make: Make) -> None:
    await store.apply(batch(Upsert(point(1))))
    reader = make()
    assert await reader.count("a") == 1
    await store.wipe("a")
    await store.wipe("never made")
    assert (await description_of(store)).capture_id is None
    assert await reader.count("a") == 0
    assert await everything(store) == ({}, [])


async def test_compaction_leaves_one_line_a_point_and_loses_nothing(
    store: JsonlStore, file: Path, make: Make
) -> None:
    reader = make()
    for n in range(5):
        await store.apply(batch(*(Upsert(point(k, n=n)) for k in range(4)), Delete("x")))
    await store.apply(batch(Delete(3)))
    with file.open("ab") as other:
        other.write(b"no point\n")
    before = await everything(reader)
    await store.finish_bulk("a")
    for either in (store, reader):
        points, rejected = await everything(either)
        assert points == before[0]
        assert [row.raw for row in rejected] == [b"no point"]
    assert len(file.read_bytes().splitlines()) == 1 + 3 + 1
    inode = file.stat().st_ino
    await store.finish_bulk("a")
    assert file.stat().st_ino == inode, "nothing to compact, nothing rewritten"
    assert list(file.parent.iterdir()) == [file]
    await store.apply(batch(Upsert(point(9))))
    assert await reader.count("a") == 4


# -- scanning -------------------------------------------------------------------------------
async def test_chunks_cover_every_key_once_and_are_no_smaller_than_a_segment(
    make: Make,
) -> None:
    store = make(segment_bytes=Size(200))
    await store.ensure(wanted())
    await store.apply(batch(*(Upsert(point(n)) for n in range(50)), Upsert(point("x"))))
    assert len(await store.split("a", 7)) == 7
    assert set((await everything(store, parts=7))[0]) == {*range(50), "x"}
    assert len(await make().split("a", 7)) == 1


async def test_a_point_changed_during_the_scan_is_not_missed(make: Make) -> None:
    """By byte ranges it would be: its line moves behind a range that was already read."""
    store = make(segment_bytes=Size(1))
    await store.ensure(wanted())
    await store.apply(batch(*(Upsert(point(n, v=0)) for n in range(30))))
    seen: dict[PointId, Any] = {}
    for chunk in await store.split("a", 5):
        async for page in store.scan(chunk, None, 4):
            seen |= {found.id: found.payload["v"] for found in page.points}
            await store.apply(batch(*(Upsert(point(n, v=1)) for n in range(30))))
            await store.finish_bulk("a")
    assert set(seen) == set(range(30))
    assert 1 in seen.values()


async def test_a_scan_resumes_after_a_cursor(make: Make) -> None:
    store = make()
    await store.ensure(wanted())
    ids: list[BareId] = [0, 5, 10, 1 << 60, "", "10", "a"]
    await store.apply(batch(*(Upsert(point(n)) for n in ids)))
    [chunk] = await store.split("a", 1)
    pages = [page async for page in store.scan(chunk, None, 2)]
    flat = [found.id for page in pages for found in page.points]
    assert flat == [0, 5, 10, 1 << 60, "10", "a"], "the empty id was rejected"
    assert [page.cursor is None for page in pages] == [False, False, True]
    for number, page in enumerate(pages[:-1]):
        rest = [page async for page in store.scan(chunk, page.cursor, 2)]
        assert rest == pages[number + 1 :]


async def test_an_empty_collection_has_an_empty_chunk(store: JsonlStore) -> None:
    [chunk] = await store.split("a", 4)
    assert [page.cursor async for page in store.scan(chunk, None, 4)] == [None]


@pytest.mark.parametrize("verb", ["split", "scan", "fetch", "count"])
async def test_reading_a_collection_that_vanished_is_refused(
    store: JsonlStore, file: Path, verb: str
) -> None:
    """An empty answer would say that every point was deleted."""
    await store.apply(batch(Upsert(point(1))))
    [chunk] = await store.split("a", 1)
    file.unlink()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "split": lambda: store.split("a", 1),
        "scan": lambda: anext(aiter(store.scan(chunk, None, 4))),
        "fetch": lambda: store.fetch("a", [1]),
        "count": lambda: store.count("a"),
    }
    with pytest.raises(Refused) as refused:
        await calls[verb]()
    assert refused.value.code == "source-missing"


# -- lines that are no points ---------------------------------------------------------------
FOREIGN = b"""{"id": 1, "vectors": {"": [1, 2]}, "payload": {"ok": true}}
{"id": 2, "vectors": {"": [1, NaN]}}

{"id": 3, "payload": {"x": Infinity}}
{"id": 4, "vectors": {"": [1, "two"]}}
{"vectors": {}}
this is no JSON
{"id": [5]}
\xff\xfe
{"id": 6, "vectors": {}}\r
{"id": 8, "vectors": {"": "f32:AADAfw=="}}
{"id": 7, "payl"""


async def test_no_line_is_lost_silently(make: Make, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(FOREIGN)
    store = make()
    points, rejected = await everything(store)
    assert set(points) == {1, 6}
    assert points[1] == point(1, ok=True)
    assert {row.id: row.error.code for row in rejected if row.id is not None} == {
        2: "value-malformed",
        3: "payload-not-finite",
        4: "field-type",
        8: "vector-not-finite",
    }
    unknown = [(row.raw, row.error.code) for row in rejected if row.id is None]
    assert unknown == [
        (b'{"vectors": {}}', "field-missing"),
        (b"this is no JSON", "value-malformed"),
        (b'{"id": [5]}', "field-type"),
        (b"\xff\xfe", "value-malformed"),
        (b'{"id": 7, "payl', "value-malformed"),
    ]
    for row in rejected:
        at = int(row.place.removeprefix("a.jsonl, byte "))
        assert FOREIGN[at:].startswith(row.raw)
    assert (await description_of(store)).details == {"unreadable_lines": 5}
    assert file.read_bytes() == FOREIGN, "reading changes nothing"


async def test_lines_that_are_no_points_are_in_one_chunk_and_resumable(
    make: Make, file: Path
) -> None:
    file.parent.mkdir()
    file.write_bytes(FOREIGN)
    store = make(segment_bytes=Size(1))
    chunks = await store.split("a", 3)
    seen: dict[int, list[str]] = {}
    for chunk in chunks:
        cursor, places = None, []
        while True:
            page = await anext(aiter(store.scan(chunk, cursor, 1)))
            places += [row.place for row in page.rejected]
            cursor = page.cursor
            if cursor is None:
                break
        seen[chunk.number] = places
    every = [place for places in seen.values() for place in places]
    assert len(every) == len(set(every)) == 9


async def test_a_newer_line_that_is_no_point_hides_the_older_one(
    make: Make, file: Path
) -> None:
    """To copy the older image would bring back what was replaced."""
    file.parent.mkdir()
    file.write_bytes(b'{"id": 1, "vectors": {}}\n{"id": 1, "vectors": {"": [NaN]}}\n')
    store = make()
    points, rejected = await everything(store)
    assert points == {}
    assert [row.id for row in rejected] == [1]
    with pytest.raises(Rejected, match="id 1"):
        await store.fetch("a", [1])


async def test_a_line_longer_than_any_point_is_stepped_over(
    make: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replicator.connectors.jsonl.log.LINE_BYTES_MAX", 100)
    file.parent.mkdir()
    long = b'{"id": 1, "payload": {"x": "' + b"y" * 1_000_000 + b'"}}\n'
    file.write_bytes(b'{"id": 0}\n' + long + b'{"id": 2}\n')
    points, rejected = await everything(make())
    assert set(points) == {0, 2}
    assert [(row.error.code, row.raw) for row in rejected] == [("value-too-large", long[:4096])]


async def test_a_point_too_long_to_be_read_back_is_rejected(
    store: JsonlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("log", "change"):
        monkeypatch.setattr(f"replicator.connectors.jsonl.{module}.LINE_BYTES_MAX", 100)
    sizes = {n: Upsert(point(n, x="y" * n)) for n in range(30, 60)}
    receipt = await store.apply(batch(*sizes.values()))
    assert {error.code for _, error in receipt.rejected} == {"value-too-large"}
    refused = {bare(point_id) for point_id, _ in receipt.rejected}
    assert refused == set(range(min(map(int, refused)), 60))
    points, rejected = await everything(store, page_rows=100)
    assert set(points) == set(sizes) - refused
    assert rejected == []


async def test_the_file_of_a_newer_release_is_refused(make: Make, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b'{"replicator": 2}\n')
    with pytest.raises(Refused) as refused:
        await make().describe("a")
    assert refused.value.code == "unsupported"


# -- crashes and company --------------------------------------------------------------------
async def test_a_torn_line_is_cut_off_before_the_next_write(
    store: JsonlStore, file: Path, make: Make
) -> None:
    await store.apply(batch(Upsert(point(1))))
    whole = file.read_bytes()
    with file.open("ab") as dying:
        dying.write(b'{"id":2,"vectors":{"":"f32:AAAAAA')
    for reader in (store, make()):
        assert await everything(reader) == ({1: point(1)}, [])
    await make().apply(batch(Upsert(point(3))))
    assert file.read_bytes().startswith(whole + b'{"id":3,')
    assert set((await everything(store))[0]) == {1, 3}


async def test_a_last_line_without_its_end_is_kept(store: JsonlStore, file: Path) -> None:
    await store.apply(batch(Upsert(point(1))))
    os.truncate(file, file.stat().st_size - 1)
    await store.apply(batch(Upsert(point(2))))
    assert set((await everything(store))[0]) == {1, 2}


CHILD = """
import asyncio, struct, sys
from replicator.connectors.jsonl.store import JsonlStore
from replicator.model.point import Point
from replicator.model.write import Delete, Upsert, WriteBatch
from replicator.connectors.jsonl.kind import JsonlSettings

async def main(path):
    store = JsonlStore(JsonlSettings(path=path))
    n = await store.count("a")
    while True:
        n += 1
        point = Point(n, {"": struct.pack("<2f", n, n)}, {})
        await store.apply(WriteBatch("a", (Upsert(point),)))
        print(n, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.crash
async def test_every_write_that_returned_survives_kill_9(store: JsonlStore, file: Path) -> None:
    for reports in (1, 20, 50):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(file.parent)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(reports)]
        process.kill()
        reported += map(int, process.communicate()[0].split("\n")[:-1])
        assert await store.count("a") in (reported[-1], reported[-1] + 1)
        points, rejected = await everything(store, page_rows=100)
        assert set(reported) <= set(points)
        assert rejected == []


async def test_a_reader_sees_what_another_process_appends_and_replaces(
    store: JsonlStore, make: Make, file: Path
) -> None:
    reader = make()
    for n in range(3):
        await store.apply(batch(Upsert(point(n))))
        assert await reader.count("a") == n + 1
    fresh = file.with_name("fresh")
    fresh.write_bytes(b'{"id": "x"}\n')
    fresh.replace(file)
    assert list((await everything(reader))[0]) == ["x"]


async def test_two_writers_of_one_file_lose_nothing(make: Make) -> None:
    one, two = make(fsync=False), make(fsync=False)
    await one.ensure(wanted())

    async def count(store: JsonlStore, name: str) -> None:
        for n in range(25):
            await store.apply(batch(Upsert(point(name, n=n)), Upsert(point(f"{name}{n}"))))
            if n % 10 == 5:
                await store.finish_bulk("a")

    await asyncio.gather(count(one, "one"), count(two, "two"))
    last = {name: point(name, n=24) for name in ("one", "two")}
    assert await one.fetch("a", list(last)) == last
    assert await two.count("a") == 52


async def test_a_cancelled_write_lands_before_any_later_one(store: JsonlStore) -> None:
    """Why the late-write bound is zero."""
    for n in range(50):
        late = asyncio.create_task(store.apply(batch(Upsert(point(1, n=n)))))
        await asyncio.sleep(0)
        late.cancel()
        await store.apply(batch(Delete(1)))
        assert await store.fetch("a", [1]) == {}
    assert await store.fetch("a", [1]) == {}


async def test_a_full_disk_leaves_no_half_line(
    store: JsonlStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.apply(batch(Upsert(point(1))))
    before = file.read_bytes()
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:40])

    with monkeypatch.context() as patched:
        patched.setattr("os.write", short)
        with pytest.raises(Unavailable, match="No space left") as unavailable:
            await store.apply(batch(Upsert(point(2)), Upsert(point(3))))
    assert unavailable.value.code == "store-unavailable"
    assert file.read_bytes() == before
    await store.apply(batch(Upsert(point(4))))
    assert set((await everything(store))[0]) == {1, 4}


async def test_a_directory_that_is_a_file_is_refused_and_found_in_preflight(
    make: Make, file: Path
) -> None:
    file.parent.write_text("")
    store = make()
    with pytest.raises(Refused) as refused:
        await store.ensure(wanted())
    assert refused.value.code == "config-invalid"
    assert [finding.code for finding in await store.check()] == ["config-invalid"]


# -- search ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("distance", "best"),
    [
        (Distance.COSINE, [("far", 1.0), ("near", 0.9486833), ("off", 0.0)]),
        (Distance.DOT, [("far", 10.0), ("near", 3.0), ("off", 0.0)]),
        (Distance.EUCLID, [("off", math.sqrt(2)), ("near", math.sqrt(5)), ("far", 9.0)]),
        (Distance.MANHATTAN, [("off", 2.0), ("near", 3.0), ("far", 9.0)]),
    ],
)
async def test_search_finds_the_nearest_under_every_distance(
    make: Make, distance: Distance, best: list[tuple[str, float]]
) -> None:
    store = make()
    await store.ensure(wanted(v=VectorSchema(size=2, distance=distance)))
    vectors = {"far": (10, 0), "near": (3, 1), "off": (0, 1), "worst": (-50, -50)}
    await store.apply(
        batch(*(Upsert(Point(name, {"v": dense(*v)}, {})) for name, v in vectors.items()))
    )
    hits = await store.search("a", Query(dense(1, 0), using="v", limit=3))
    assert [hit.id for hit in hits] == [name for name, _ in best]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in best])


async def test_search_looks_at_every_block_and_at_sparse_vectors(make: Make) -> None:
    store = make(fsync=False)
    vectors = {
        "": VectorSchema(size=2, distance=Distance.DOT),
        "s": VectorSchema(kind=VectorKind.SPARSE),
    }
    await store.ensure(wanted("c1", **vectors))

    def sparse(index: int, value: float) -> SparseVector:
        return SparseVector(struct.pack("<2I", index, index + 9000), dense(value, 1.0))

    await store.apply(
        batch(
            *(
                Upsert(Point(n, {"": dense(1, n), "s": sparse(n % 7, n)}, {}))
                for n in range(2500)
            )
        )
    )
    hits = await store.search("a", Query(dense(0, 1), limit=2))
    assert [hit.id for hit in hits] == [2499, 2498]
    hits = await store.search("a", Query(sparse(3, 1.0), using="s", limit=2))
    assert [hit.id for hit in hits] == [2495, 2488]
    with pytest.raises(Refused):
        await store.search("a", Query(dense(0, 1), filter={"must": []}))
