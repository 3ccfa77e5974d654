"""What the server acknowledged is there again, however it ended."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import qdrant_edge as edge

from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.store import QdrantStore
from replicator.errors import Fatal, Refused
from replicator.local_store import LocalStoreServer
from replicator.local_store.registry import Contents, Registry, StoredCollection
from replicator.local_store.shard import Shard
from replicator.model.point import PointId
from replicator.model.schema import (
    CollectionSchema,
    IdKinds,
    VectorIndex,
    VectorKind,
    VectorSchema,
)
from replicator.model.write import Delete, Patch, Upsert, WriteBatch
from replicator.testing.store_conformance import PLAIN, scanned, simple

BOOKS = CollectionSchema(
    name="books",
    vectors={**PLAIN, "words": VectorSchema(kind=VectorKind.SPARSE)},
    ids=IdKinds.UINT64,
    indexes={"year": "integer"},
    capture_id="capture",
)


@contextlib.asynccontextmanager
async def process(path: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The server in a process of its own, and its address; killed if it still runs."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "replicator.local_store",
        str(path),
        "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield running, (await running.stdout.readline()).decode().strip()
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


def store_at(address: str) -> QdrantStore:
    return QdrantStore(QdrantSettings(url=f"http://{address}"))


@pytest.mark.crash
async def test_everything_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    acknowledged: set[PointId] = set()
    async with process(tmp_path) as (server, address):
        store = store_at(address)
        await store.ensure(BOOKS)
        await store.ensure(CollectionSchema(name="gone", vectors=PLAIN, ids=IdKinds.UINT64))
        await store.wipe("gone")
        await store.point_alias("live", "books")
        await store.apply(WriteBatch("books", (Upsert(simple(0)), Upsert(simple(1)))))
        await store.apply(WriteBatch("books", (Delete(0), Patch(id=1, set={"year": 1999}))))

        async def write_on(worker: int) -> None:
            for number in range(10, 100_000):
                ids = [number * 40 + worker * 10 + n for n in range(10)]
                batch = WriteBatch("books", tuple(Upsert(simple(n, n=n)) for n in ids))
                await store.apply(batch)
                acknowledged.update(ids)
                if len(acknowledged) > 2000 and server.returncode is None:
                    server.kill()

        outcomes = await asyncio.gather(*map(write_on, range(4)), return_exceptions=True)
        assert all(isinstance(outcome, Exception) for outcome in outcomes)
        await store.close()
    async with process(tmp_path) as (server, address):
        store = store_at(address)
        described = await store.describe("live")
        assert described is not None
        assert described.vectors is not None
        plain = {
            name: msgspec.structs.replace(vector, index=VectorIndex())
            for name, vector in described.vectors.items()
        }
        assert (plain, described.indexes) == (BOOKS.vectors, BOOKS.indexes)
        assert described.capture_id == "capture"
        found = set(await scanned(store, await store.split("books", 1), 500))
        assert acknowledged | {1} <= found
        assert 0 not in found
        assert (await store.fetch("books", [1]))[1].payload == {"year": 1999}
        sample = sorted(acknowledged, key=str)[::50]
        assert await store.fetch("books", sample) == {n: simple(n, n=n) for n in sample}
        assert await store.count("gone") == 0
        await store.close()


@pytest.mark.crash
async def test_sigterm_ends_it_with_success_and_without_loss(tmp_path: Path) -> None:
    async with process(tmp_path) as (server, address):
        store = store_at(address)
        await store.ensure(BOOKS)
        batch = WriteBatch("books", tuple(Upsert(simple(n)) for n in range(500)))
        await store.apply(batch)
        server.send_signal(signal.SIGTERM)
        _, errors = await server.communicate()
        assert (server.returncode, errors) == (0, b"")
        await store.close()
    async with LocalStoreServer(tmp_path) as again:
        store = store_at(again.address)
        assert await store.count("books") == 500
        await store.close()


@pytest.mark.crash
async def test_a_second_server_on_the_same_path_says_so_and_fails(tmp_path: Path) -> None:
    async with LocalStoreServer(tmp_path) as first, process(tmp_path) as (second, address):
        assert address == ""
        _, errors = await second.communicate()
        assert second.returncode == 2
        assert b"another server" in errors
        assert first.url.startswith("http://127.0.0.1:")


async def test_a_port_that_is_taken_is_refused_and_the_path_left_free(tmp_path: Path) -> None:
    async with LocalStoreServer(tmp_path / "one") as first:
        with pytest.raises(Refused):
            await LocalStoreServer(tmp_path / "two", first.address).start()
    async with LocalStoreServer(tmp_path / "two") as second:
        assert second.address


async def test_a_collection_that_cannot_be_loaded_is_named_and_the_path_left_free(
    tmp_path: Path,
) -> None:
    async with LocalStoreServer(tmp_path) as server:
        store = store_at(server.address)
        await store.ensure(BOOKS)
        await store.close()
    (shard,) = tmp_path.glob("shard-*")
    shutil.move(shard, tmp_path / "elsewhere")
    with pytest.raises(Fatal, match=shard.name):
        await LocalStoreServer(tmp_path).start()
    shutil.move(tmp_path / "elsewhere", shard)
    async with LocalStoreServer(tmp_path) as server:
        store = store_at(server.address)
        assert await store.count("books") == 0
        await store.close()


async def test_a_server_may_be_stopped_twice_and_started_again(tmp_path: Path) -> None:
    server = LocalStoreServer(tmp_path)
    await server.start()
    store = store_at(server.address)
    await store.ensure(BOOKS)
    await store.close()
    await server.stop()
    await server.stop()
    await server.start()
    store = store_at(server.address)
    assert await store.count("books") == 0
    await store.close()
    await server.stop()


async def test_what_a_crash_left_of_a_collection_never_registered_is_swept(
    tmp_path: Path,
) -> None:
    (tmp_path / "shard-left" / "segments").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    async with LocalStoreServer(tmp_path):
        assert not (tmp_path / "shard-left").exists()
        assert (tmp_path / "kept").exists()


async def test_a_deleted_collection_leaves_nothing_on_disk(tmp_path: Path) -> None:
    async with LocalStoreServer(tmp_path) as server:
        store = store_at(server.address)
        await store.ensure(BOOKS)
        before = {path.name for path in tmp_path.glob("shard-*")}
        await store.wipe("books")
        after = {path.name for path in tmp_path.glob("shard-*")}
        assert (len(before), len(after)) == (1, 1)
        assert before != after
        await store.close()


# -- parts ------------------------------------------------------------------------------------


def test_the_registry_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    registry = Registry(path)
    contents = Contents({"a": StoredCollection("shard-1", b"\x00\xff")}, {"alias": "a"})
    registry.save(contents)
    # A crash while the next one is written leaves a torn file beside it.
    path.with_suffix(".new").write_bytes(b'{"collections": {"b"')
    assert Registry(path).contents == contents
    path.write_bytes(b"{}}")
    with pytest.raises(Fatal):
        Registry(path)


@pytest.fixture
def readers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def opened(path: Path, readers: ThreadPoolExecutor) -> Shard:
    params = edge.EdgeVectorParams(2, edge.Distance.Dot)
    return await Shard.open(path, edge.EdgeConfig(vectors=params), readers)


def upsert(number: int) -> edge.UpdateOperation:
    vector: Any = memoryview(simple(number).vectors[""]).cast("f")  # type: ignore[arg-type]
    return edge.UpdateOperation.upsert_points([edge.Point(number, vector, {})])


async def test_a_write_whose_client_hung_up_lands_all_the_same(
    tmp_path: Path, readers: ThreadPoolExecutor
) -> None:
    shard = await opened(tmp_path / "shard", readers)
    begun, go_on = threading.Event(), threading.Event()

    def held(engine: edge.EdgeShard) -> None:
        begun.set()
        assert go_on.wait(60)
        engine.update(upsert(1))

    running = asyncio.create_task(shard.write(held), name="running")
    waiting = asyncio.create_task(
        shard.write(lambda engine: engine.update(upsert(2))), name="waiting"
    )
    await asyncio.to_thread(begun.wait, 60)
    for task in (running, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    go_on.set()
    assert await shard.write(lambda engine: engine.info().points_count) == 2
    await shard.close()


def _put(number: int, engine: edge.EdgeShard) -> None:
    engine.update(upsert(number))


async def test_closing_carries_out_what_was_handed_over(
    tmp_path: Path, readers: ThreadPoolExecutor
) -> None:
    shard = await opened(tmp_path / "shard", readers)
    for number in range(50):
        task = asyncio.create_task(shard.write(partial(_put, number)), name="write")
        await asyncio.sleep(0)
        task.cancel()
    await shard.close()
    again = await Shard.open(tmp_path / "shard", None, readers)
    assert await again.read(lambda engine: engine.info().points_count) == 50
    await again.close()


async def test_the_registry_names_every_directory_it_claims(tmp_path: Path) -> None:
    async with LocalStoreServer(tmp_path) as server:
        store = store_at(server.address)
        await store.ensure(BOOKS)
        await store.close()
    stored = msgspec.json.decode((tmp_path / "registry.json").read_bytes(), type=Contents)
    assert [each.directory for each in stored.collections.values()] == [
        path.name for path in tmp_path.glob("shard-*")
    ]
