"""The folder of a collection: what is written, what a crash leaves, and what is damaged."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replicator.connectors.parquet.kind import ParquetOptions, ParquetSettings
from replicator.connectors.parquet.store import ParquetStore
from replicator.errors import Refused, Rejected, Unavailable
from replicator.model.finding import Severity
from replicator.model.point import MultiVector, Point, SparseVector
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Query
from replicator.model.write import Delete, Upsert, WriteBatch
from replicator.settings.units import Size
from replicator.testing.store_conformance import floats

DENSE = {"": VectorSchema(size=2, distance=Distance.DOT)}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ParquetStore]:
    store = ParquetStore(ParquetSettings(path=str(tmp_path)))
    yield store
    await store.close()


def point(number: int, **payload: Any) -> Point:
    return Point(number, {"": floats(number, 0.1)}, {"n": number, **payload})


async def make(
    store: ParquetStore, vectors: dict[str, VectorSchema] | None = None, **given: Any
) -> None:
    kinds = IdKinds.UINT64 | IdKinds.STRING
    await store.ensure(CollectionSchema(name="a", vectors=vectors, ids=kinds, **given))


async def upsert(store: ParquetStore, *points: Point) -> None:
    receipt = await store.apply(WriteBatch("a", tuple(map(Upsert, points))))
    assert receipt.rejected == ()


async def content(store: ParquetStore) -> dict[Any, Point]:
    pages = [
        page
        for chunk in await store.split("a", 3)
        async for page in store.scan(chunk, None, 10)
    ]
    points = [point for page in pages for point in page.points]
    assert len({point.id for point in points}) == len(points)
    return {point.id: point for point in points}


def manifest(folder: Path) -> Any:
    return json.loads((folder / "a" / "_manifest.json").read_bytes())


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "a").glob("*.parquet*"))


async def test_a_finished_folder_is_read_by_any_program_and_checked_by_its_manifest(
    store: ParquetStore, tmp_path: Path
) -> None:
    await make(store, DENSE)
    for number in range(30):
        await upsert(store, point(number))
    assert len(parts(tmp_path)) == 30, "a receipt is a promise: each batch is a part"
    await store.apply(WriteBatch("a", (Delete(3), Upsert(point(4, late=True)))))
    await store.finish_bulk("a")
    told = manifest(tmp_path)
    assert [part["name"] for part in told["parts"]] == parts(tmp_path)
    assert len(parts(tmp_path)) == 1
    for part in told["parts"]:
        data = (tmp_path / "a" / part["name"]).read_bytes()
        assert part["sha256"] == sha256(data).hexdigest()
        assert part["bytes"] == len(data)
    assert told["finished"] is True
    assert sum(part["rows"] for part in told["parts"]) == 29
    table = pq.read_table(tmp_path / "a")
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 2)
    assert sorted(table["id"].to_pylist()) == [n for n in range(30) if n != 3]
    by_id = dict(zip(table["id"].to_pylist(), table["payload"].to_pylist(), strict=True))
    assert json.loads(by_id[4]) == {"n": 4, "late": True}


async def test_vectors_are_compressed_by_their_bytes_and_have_no_dictionary(
    store: ParquetStore, tmp_path: Path
) -> None:
    vectors = {
        "text": VectorSchema(size=2),
        "v.1": VectorSchema(kind=VectorKind.MULTI, size=2),
        "words": VectorSchema(kind=VectorKind.SPARSE),
    }
    await make(store, vectors)
    whole = Point(
        "a",
        {
            "text": floats(1, 2),
            "v.1": MultiVector(1, floats(1, 2)),
            "words": SparseVector(b"\1\0\0\0", floats(1)),
        },
        {},
    )
    await upsert(store, whole)
    group = pq.ParquetFile(tmp_path / "a" / parts(tmp_path)[0]).metadata.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert not any(column.has_dictionary_page for column in columns)
    floating = [column for column in columns if column.physical_type == "FLOAT"]
    assert len(floating) == 3
    assert all("BYTE_STREAM_SPLIT" in column.encodings for column in floating)


async def test_points_of_unlike_shapes_lie_in_parts_of_their_own(
    store: ParquetStore, tmp_path: Path
) -> None:
    await make(store)
    points = [
        Point(1, {"": floats(1)}, {}),
        Point("1", {"": floats(1)}, {}),
        Point(2**64 - 1, {"": floats(1)}, {}),
        Point(-1, {"": floats(1, 2)}, {}),
        Point(2, {"": SparseVector(b"", b"")}, {}),
        Point(3, {}, {}),
    ]
    await upsert(store, *points)
    await store.finish_bulk("a")
    assert len(parts(tmp_path)) == 6
    assert await content(store) == {each.id: each for each in points}


async def test_small_parts_are_gathered_while_a_copy_goes_on(tmp_path: Path) -> None:
    store = ParquetStore(ParquetSettings(path=str(tmp_path), part_bytes=Size(20_000)))
    await make(store, DENSE)
    written = {}
    for number in range(60):
        written[number] = point(number, text=os.urandom(300).hex())
        await upsert(store, written[number])
    assert len(parts(tmp_path)) < 30
    assert await content(store) == written
    await store.finish_bulk("a")
    assert len(parts(tmp_path)) <= 6
    assert await content(store) == written
    await store.close()


async def test_a_finished_folder_holds_each_point_once_after_a_repair_too(
    store: ParquetStore, tmp_path: Path
) -> None:
    await make(store, DENSE)
    await upsert(store, *(point(n) for n in range(20)))
    await store.finish_bulk("a")
    await store.apply(WriteBatch("a", (Upsert(point(1, repaired=True)), Delete(2))))
    table = pq.read_table(tmp_path / "a")
    assert sorted(table["id"].to_pylist()) == [0, 1, *range(3, 20)]
    assert manifest(tmp_path)["finished"]


async def test_another_store_sees_what_was_written_and_takes_away_what_a_crash_left(
    store: ParquetStore, tmp_path: Path
) -> None:
    await make(store, DENSE)
    await upsert(store, point(1))
    other = ParquetStore(ParquetSettings(path=str(tmp_path)))
    assert await content(other) == {1: point(1)}
    left = ["part-00000007.parquet", "part-00000008.parquet.tmp", "_manifest.json.tmp"]
    for name in left:
        (tmp_path / "a" / name).write_bytes(b"PAR1 and no end")
    assert await content(other) == {1: point(1)}, "what is not listed is no part"
    await upsert(other, point(2))
    assert not any((tmp_path / "a" / name).exists() for name in left)
    assert await content(store) == {1: point(1), 2: point(2)}
    await other.close()


@pytest.mark.parametrize("step", ["part", "manifest"])
async def test_a_change_that_fails_half_way_is_no_change(
    store: ParquetStore, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(store, DENSE)
    await upsert(store, point(1), point(2))
    before = manifest(tmp_path)
    files = store._files("a")
    put = files._place.put

    def failing(path: str, write: Any) -> Any:
        if path.endswith("_manifest.json") is (step == "manifest"):
            raise OSError(28, "No space left on device")
        return put(path, write)

    monkeypatch.setattr(files._place, "put", failing)
    with pytest.raises(Unavailable, match="No space left"):
        await store.apply(WriteBatch("a", (Upsert(point(1, new=True)), Delete(2))))
    monkeypatch.undo()
    assert manifest(tmp_path) == before
    assert await content(store) == {1: point(1), 2: point(2)}
    await upsert(store, point(3))
    assert await content(store) == {n: point(n) for n in (1, 2, 3)}
    assert len(parts(tmp_path)) == len(manifest(tmp_path)["parts"])


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """As on a disk that is full, for this process."""
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.SIG_IGN
    handler = signal.signal(signal.SIGXFSZ, ignored)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_full_disk_leaves_no_half_part(store: ParquetStore, tmp_path: Path) -> None:
    await make(store, DENSE)
    await upsert(store, point(1))
    large = point(2, text=os.urandom(200_000).hex())
    with files_up_to(4096), pytest.raises(Unavailable):
        await store.apply(WriteBatch("a", (Upsert(large),)))
    assert len(parts(tmp_path)) == 1
    assert await content(store) == {1: point(1)}
    await upsert(store, large)
    assert await content(store) == {1: point(1), 2: large}


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
async def test_a_file_that_was_cut_is_named_and_nothing_of_it_is_read(
    store: ParquetStore, tmp_path: Path, cut: int
) -> None:
    pq.write_table(pa.table({"id": range(1000)}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:cut])
    with pytest.raises(Refused, match=r"a\.parquet.*footer") as caught:
        await store.describe("a")
    assert caught.value.code == "file-damaged"


async def test_a_part_that_is_not_what_was_written_is_named(
    store: ParquetStore, tmp_path: Path
) -> None:
    await make(store, DENSE)
    await upsert(store, *(point(n) for n in range(100)))
    await store.finish_bulk("a")
    [name] = parts(tmp_path)
    table = pq.read_table(tmp_path / "a" / name)
    other_texts = pa.array(['{"n": 0}'] * 100)
    pq.write_table(table.set_column(2, "payload", other_texts), tmp_path / "a" / name)
    other = ParquetStore(ParquetSettings(path=str(tmp_path)))
    assert await other.count("a") == 100
    with pytest.raises(Refused, match="SHA-256") as caught:
        await content(other)
    assert caught.value.code == "file-damaged"
    await other.close()


@pytest.mark.parametrize("change", ["gone", "rows", "json", "newer"])
async def test_a_manifest_that_is_not_true_is_named(
    store: ParquetStore, tmp_path: Path, change: str
) -> None:
    await make(store, DENSE)
    await upsert(store, point(1))
    told = manifest(tmp_path)
    path = tmp_path / "a" / "_manifest.json"
    if change == "gone":
        (tmp_path / "a" / told["parts"][0]["name"]).unlink()
    elif change == "rows":
        told["parts"][0]["rows"] = 2
        path.write_text(json.dumps(told))
    elif change == "json":
        path.write_text("{")
    else:
        path.write_text(json.dumps({"replicator": 2}))
    other = ParquetStore(ParquetSettings(path=str(tmp_path)))
    with pytest.raises(Refused) as caught:
        await content(other)
    assert caught.value.code == ("unsupported" if change == "newer" else "file-damaged")
    await other.close()


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("name", ["rows.csv", "year=2024", "other.parquet.gz", "x.parquet"])
async def test_a_file_that_is_no_part_is_named_and_not_passed_over(
    store: ParquetStore, tmp_path: Path, name: str, ours: bool
) -> None:
    if ours:
        await make(store, DENSE)
    else:
        (tmp_path / "a").mkdir()
        pq.write_table(pa.table({"id": [1]}), tmp_path / "a" / "1.parquet")
    if name == "year=2024":
        (tmp_path / "a" / name).mkdir()
    else:
        pq.write_table(pa.table({"id": [2]}), tmp_path / "a" / name)
    for hidden in ("_SUCCESS", ".part.crc"):
        (tmp_path / "a" / hidden).write_text("")
    other = ParquetStore(ParquetSettings(path=str(tmp_path)))
    if name == "x.parquet" and not ours:
        assert await other.count("a") == 2
    else:
        with pytest.raises(Refused, match=name) as caught:
            await other.count("a")
        assert caught.value.code == "config-invalid"
    await other.close()


async def test_a_file_and_a_folder_of_one_name_are_refused(
    store: ParquetStore, tmp_path: Path
) -> None:
    await make(store, DENSE)
    (tmp_path / "a" / "_manifest.json").unlink()
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(Refused, match="as a file and as a folder"):
        await store.describe("a")


@pytest.mark.parametrize("folder", [True, False])
async def test_files_of_another_program_are_only_read_until_they_are_wiped(
    store: ParquetStore, tmp_path: Path, folder: bool
) -> None:
    place = tmp_path / "a" / "1.parquet" if folder else tmp_path / "a.parquet"
    place.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": [1]}), place)
    before = place.read_bytes()
    with pytest.raises(Refused, match="another program"):
        await make(store, DENSE)
    with pytest.raises(Refused, match="another program"):
        await store.apply(WriteBatch("a", (Delete(1),)))
    assert place.read_bytes() == before
    await store.wipe("a")
    assert not place.exists()
    await make(store, DENSE)
    await upsert(store, point(5))
    assert await content(store) == {5: point(5)}


async def test_options_are_for_files_that_do_not_say_it_themselves(
    store: ParquetStore, tmp_path: Path
) -> None:
    await make(store, DENSE)
    other = ParquetStore(ParquetSettings(path=str(tmp_path)))
    for name in ("a", "new"):
        other.choose(name, ParquetOptions(id="key"))
    with pytest.raises(Refused, match="no options"):
        await other.describe("a")
    wanted = CollectionSchema(name="new", vectors=None, ids=IdKinds.UINT64)
    with pytest.raises(Refused, match="not written"):
        await other.ensure(wanted)
    await other.close()


async def test_a_search_looks_at_every_point(store: ParquetStore) -> None:
    await make(store, DENSE)
    await upsert(store, *(point(n) for n in range(1, 600)))
    await store.apply(WriteBatch("a", (Delete(599),)))
    hits = await store.search("a", Query(floats(1, 0), limit=2))
    assert [hit.id for hit in hits] == [598, 597]


async def test_a_folder_that_may_not_be_written_is_found(
    store: ParquetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await store.check_writing(["a"]) == []
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    [finding] = await store.check_writing(["a", "b"])
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "permission-denied")


async def test_what_cannot_be_written_is_told_by_its_code(
    store: ParquetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(store, DENSE)

    def denied(path: str, write: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(store._files("a")._place, "put", denied)
    with pytest.raises(Refused, match="Permission denied") as caught:
        await store.apply(WriteBatch("a", (Upsert(point(1)),)))
    assert caught.value.code == "permission-denied"


async def test_a_directory_that_is_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ParquetStore(ParquetSettings(path=str(tmp_path / "file")))
    [finding] = await store.check()
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "config-invalid")
    await store.close()


async def test_a_point_that_cannot_be_written_leaves_the_rest_of_its_batch(
    store: ParquetStore,
) -> None:
    await make(store, DENSE)
    bad = [
        Point(2, {"": floats(float("nan"), 1)}, {}),
        Point(3, {"": floats(1, 2)}, {"x": float("inf")}),
    ]
    receipt = await store.apply(WriteBatch("a", tuple(map(Upsert, [point(1), *bad]))))
    assert [point_id for point_id, _ in receipt.rejected] == [2, 3]
    assert all(isinstance(error, Rejected) for _, error in receipt.rejected)
    assert await content(store) == {1: point(1)}


WRITER = """
import asyncio, sys
from replicator.connectors.parquet.kind import ParquetSettings
from replicator.connectors.parquet.store import ParquetStore
from replicator.model.point import Point
from replicator.model.write import Upsert, WriteBatch
from replicator.settings.units import Size
from replicator.testing.store_conformance import floats

async def main():
    store = ParquetStore(ParquetSettings(path=sys.argv[1], part_bytes=Size(6000)))
    for number in range(100_000):
        await store.apply(WriteBatch("a", (Upsert(Point(number, {"": floats(number, 0.1)}, {"n": number})),)))
        print(number, flush=True)
asyncio.run(main())
"""  # noqa: E501


@pytest.mark.parametrize("answered", [1, 7, 12])
async def test_whoever_dies_loses_nothing_that_was_answered(
    store: ParquetStore, tmp_path: Path, answered: int
) -> None:
    await make(store, DENSE)
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    lines = [int(await writer.stdout.readline()) for _ in range(answered)]
    writer.kill()
    rest = (await writer.stdout.read()).splitlines(keepends=True)
    await writer.wait()
    lines += [int(line) for line in rest if line.endswith(b"\n")]
    found = await content(store)
    assert {*lines} <= found.keys() <= {*range(lines[-1] + 2)}
    assert all(found[n] == point(n) for n in found)
    await upsert(store, point(5000))
    await store.finish_bulk("a")
    assert await content(store) == {**found, 5000: point(5000)}
    assert parts(tmp_path) == [part["name"] for part in manifest(tmp_path)["parts"]]


async def test_collections_are_folders_with_parts_or_a_manifest_and_files(
    store: ParquetStore, tmp_path: Path
) -> None:
    assert await store.collections() == []
    long = "新闻" * 60
    for name in ("a", "", "a/b", long):
        await store.ensure(CollectionSchema(name=name, vectors=None, ids=IdKinds.UINT64))
    (tmp_path / "theirs").mkdir()
    for place in ("theirs/1.parquet", "single.parquet", "not=ours.parquet"):
        pq.write_table(pa.table({"id": [1]}), tmp_path / place)
    for place in ("empty", "logs", ".hidden"):
        (tmp_path / place).mkdir()
    (tmp_path / "logs" / "x.txt").write_text("")
    (tmp_path / "export.json").write_text("{}")
    expected = sorted(["", "a", "a/b", long, "single", "theirs"])
    assert await store.collections() == expected
    for name in expected:
        assert await store.describe(name) is not None
    away = ParquetStore(ParquetSettings(path=str(tmp_path / "away")))
    assert await away.collections() == []
    await away.close()


async def test_keys_are_read_page_by_page_and_go_on_from_every_cursor(
    store: ParquetStore,
) -> None:
    await make(store, DENSE)
    await upsert(store, *(point(n) for n in range(20)))
    await upsert(store, *(point(n) for n in range(10, 30)))
    await store.apply(WriteBatch("a", (Delete(29),)))
    [chunk] = await store.split("a", 1)
    pages = [page async for page in store.scan_keys(chunk, None, 4)]
    assert all(len(page.points) <= 4 for page in pages)
    assert [page.cursor is None for page in pages] == [False] * (len(pages) - 1) + [True]
    ids = [[one.id for one in page.points] for page in pages]
    assert sorted(str(each) for page in ids for each in page) == sorted(map(str, range(29)))
    for number, page in enumerate(pages[:-1], 1):
        rest = [each async for each in store.scan_keys(chunk, page.cursor, 4)]
        assert [[one.id for one in each.points] for each in rest] == ids[number:]
    fields = [page async for page in store.scan_keys(chunk, None, 100, fields=["n"])]
    assert all(one.payload["n"] == one.id for page in fields for one in page.points)
    assert await store.present("a", [0, 28, 29, "", "x"]) == {0, 28}


async def test_a_row_is_found_in_the_row_group_that_it_lies_in(
    store: ParquetStore, tmp_path: Path
) -> None:
    with pq.ParquetWriter(tmp_path / "a.parquet", pa.schema([("id", pa.int64())])) as writer:
        for ids in ([0, 1, 2], [], [3], [4, 5]):
            writer.write_table(pa.table({"id": pa.array(ids, pa.int64())}))
    assert (await store.fetch("a", [*range(7)])).keys() == {*range(6)}
