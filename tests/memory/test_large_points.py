"""
Points of a megabyte, and late-interaction multi-vectors: what a process holds of them is
bounded by its budget, not by their number.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.jsonl.store import JsonlStore
from replicator.connectors.qdrant import failures
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.store import QdrantStore
from replicator.errors import Rejected
from replicator.local_store import LocalStoreServer
from replicator.model.point import MultiVector, Point
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.write import Upsert, WriteBatch
from replicator.settings.units import Duration

MB = 1 << 20
WITHIN_S = 120.0
"""Each takes about twenty seconds on an idle machine."""
PEAK_MB = 320
"""What a process may have held. The program with its drivers takes 130 of it."""

DENSE = {"": VectorSchema(size=2, distance=Distance.DOT)}
MULTI = {"": VectorSchema(kind=VectorKind.MULTI, size=128, distance=Distance.DOT)}


def texts(number: int) -> Point:
    return Point(number, {"": b"\0\0\x80?" * 2}, {"t": f"{number:06}" * (1_000_000 // 6)})


def matrices(number: int) -> Point:
    return Point(number, {"": MultiVector(1030, b"\0\0\x80?" * (1030 * 128))}, {})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalStoreServer]:
    async with LocalStoreServer(tmp_path / "store") as running:
        yield running


async def fill(store: QdrantStore | JsonlStore, vectors: dict[str, VectorSchema], made, count):  # type: ignore[no-untyped-def]
    await store.ensure(CollectionSchema(name="a", vectors=vectors, ids=IdKinds.UINT64))
    for begin in range(0, count, 8):
        points = [made(n) for n in range(begin, min(begin + 8, count))]
        await store.apply(WriteBatch("a", tuple(map(Upsert, points))))


def peak_mb(arguments: list[str], log: Path) -> int:
    """Run a command to its good end; the most that it held."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "replicator", *arguments], stdout=out, stderr=out
        )
    process, peak = psutil.Process(child.pid), 0
    deadline = time.monotonic() + WITHIN_S
    while child.poll() is None:
        if time.monotonic() > deadline:
            child.kill()
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        try:
            child.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    assert child.wait(60) == 0, log.read_text()[-4000:]
    return peak // MB


@pytest.mark.parametrize(
    ("vectors", "made", "count"),
    [(DENSE, texts, 120), (MULTI, matrices, 160)],
    ids=["texts", "matrices"],
)
async def test_a_copy_and_its_verification_hold_no_more_than_their_budget(
    server: LocalStoreServer, tmp_path: Path, vectors: object, made: object, count: int
) -> None:
    store = QdrantStore(QdrantSettings(url=server.url, timeout=Duration(30)))
    await fill(store, vectors, made, count)  # type: ignore[arg-type]
    # An index of a quarter of a million vectors, and a search without one, take minutes.
    extra = ", defer_indexing = false" if vectors is MULTI else ""
    config = tmp_path / "copy.toml"
    config.write_text(
        f"""
name = "large"
source = {{kind = "qdrant", url = "{server.url}", late_write_bound = "1s"}}
target = {{kind = "qdrant", url = "{server.url}", late_write_bound = "1s"{extra}}}
collections = [{{source = "a", target = "b"}}]
feed = {{kind = "none"}}
state = {{path = "{tmp_path}/state.db"}}
http = {{listen = "127.0.0.1:0"}}
verify = {{queries = {8 if vectors is DENSE else 0}}}
"""
    )
    peak = await asyncio.to_thread(peak_mb, ["run", "-c", str(config)], tmp_path / "log")
    assert await store.count("b") == count
    assert peak < PEAK_MB
    await store.close()


@pytest.mark.parametrize("kind", ["qdrant", "jsonl"])
async def test_no_page_of_a_scan_is_larger_than_it_may_be(
    server: LocalStoreServer, tmp_path: Path, kind: str
) -> None:
    store: QdrantStore | JsonlStore = (
        QdrantStore(QdrantSettings(url=server.url), page_bytes=4 * MB)
        if kind == "qdrant"
        else JsonlStore(JsonlSettings(path=str(tmp_path)), page_bytes=4 * MB)
    )
    await fill(store, DENSE, texts, 20)
    [chunk] = await store.split("a", 1)
    pages = [page async for page in store.scan(chunk, None, 256)]
    seen = [[point.id for point in page.points] for page in pages]
    assert [point_id for ids in seen for point_id in ids] == list(range(20))
    assert max(map(len, seen[1:])) <= 4
    if kind == "jsonl":
        assert len(seen[0]) <= 4  # a file tells before it is read
    await store.close()


async def test_a_reply_above_the_largest_is_asked_for_in_parts_and_a_point_is_named(
    server: LocalStoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = QdrantStore(QdrantSettings(url=server.url))
    await fill(writer, DENSE, texts, 8)
    huge = Point(3, {"": b"\0" * 8}, {"t": "x" * (4 * MB)})
    await writer.apply(WriteBatch("a", (Upsert(huge),)))
    await writer.close()
    monkeypatch.setattr(failures, "LARGEST_REPLY", 3 * MB)
    store = QdrantStore(QdrantSettings(url=server.url))
    [chunk] = await store.split("a", 1)
    pages = [page async for page in store.scan(chunk, None, 256)]
    assert [p.id for page in pages for p in page.points] == [0, 1, 2, 4, 5, 6, 7]
    [row] = [row for page in pages for row in page.rejected]
    assert (row.id, row.error.code) == (3, "value-too-large")
    assert set(await store.fetch("a", [0, 1, 2, 4, 5])) == {0, 1, 2, 4, 5}
    with pytest.raises(Rejected) as caught:
        await store.fetch("a", [1, 2, 3])
    assert caught.value.code == "value-too-large"
    assert "id 3" in caught.value.message
    await store.close()


async def test_keys_are_read_without_what_they_hold(server: LocalStoreServer) -> None:
    store = QdrantStore(QdrantSettings(url=server.url))
    await fill(store, DENSE, texts, 20)
    [chunk] = await store.split("a", 1)
    [page] = [page async for page in store.scan_keys(chunk, None, 500)]
    assert [point.id for point in page.points] == list(range(20))
    assert all(not point.payload and not point.vectors for point in page.points)
    assert await store.present("a", [1, 2, 99]) == {1, 2}
    await store.close()
