"""What goes wrong between the connector and a server, and what each means."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from replicator.connectors.chroma.kind import ChromaSettings
from replicator.connectors.chroma.store import ChromaStore
from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)
from replicator.model.point import Point
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.write import Delete, Upsert, WriteBatch
from replicator.settings.units import Duration, Secret
from replicator.testing.store_conformance import floats, fresh_name
from tests.plugins.chroma import ChromaServer

BATCH = WriteBatch("articles", (Upsert(Point("a", {"": floats(1, 2)}, {})),))
COLLECTION = {
    "id": "0764aee3-389a-4bb8-b604-2712d891e36c",
    "name": "articles",
    "dimension": 2,
    "metadata": None,
    "configuration_json": {"hnsw": {"space": "l2"}},
}


class Double:
    """A server that has one collection, and fails as it is told where records are asked for."""

    def __init__(self) -> None:
        self.status = 200
        self.body = ""
        self.headers: list[dict[str, str]] = []
        self.asked: list[tuple[str, int]] = []
        """Of each request about records: what it was, and how many ids it held."""
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        match request.path.rpartition("/")[2]:
            case "articles":
                return web.json_response(COLLECTION)
            case "pre-flight-checks":
                return web.json_response({"max_batch_size": 100})
            case _:
                pass
        body = await request.json() if request.can_read_body else {}
        self.asked.append((request.path.rpartition("/")[2], len(body.get("ids", ()))))
        return web.Response(status=self.status, text=self.body, headers={"Retry-After": "7"})


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    found = Double()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest.fixture
async def store(double: Double) -> AsyncIterator[ChromaStore]:
    store = ChromaStore(ChromaSettings(url=double.url, timeout=Duration(5)))
    yield store
    await store.close()


def told(message: str) -> str:
    return f'{{"error":"ChromaError","message":"{message}"}}'


@pytest.mark.parametrize(
    ("status", "body", "read", "write", "code"),
    [
        (400, told("Inconsistent dimensions"), Refused, Rejected, "vector-dimension"),
        (422, told("no variant"), Refused, Rejected, "target-rejected"),
        (401, told("who"), Refused, Refused, "permission-denied"),
        (403, told("no"), Refused, Refused, "permission-denied"),
        (404, told("Collection [x] does not exist."), Refused, Refused, "target-missing"),
        (404, told("Database [x] not found."), Refused, Refused, "store-refused"),
        (413, "too large", Rejected, Rejected, "value-too-large"),
        (429, told("slow"), Retryable, Retryable, "store-throttled"),
        (501, told("cloud only"), Refused, Refused, "unsupported"),
        (301, "", Refused, Refused, "store-refused"),
        (500, told("sqlite"), Unavailable, OutcomeUnknown, "outcome-unknown"),
        (502, "<html>", Unavailable, OutcomeUnknown, "outcome-unknown"),
        (503, "", Unavailable, OutcomeUnknown, "outcome-unknown"),
        (200, "<html>", Unavailable, OutcomeUnknown, "outcome-unknown"),
    ],
)
async def test_an_answer_that_is_none_says_whether_the_write_may_have_landed(
    double: Double,
    store: ChromaStore,
    status: int,
    body: str,
    read: type[ReplicatorError],
    write: type[ReplicatorError],
    code: str,
) -> None:
    double.status, double.body = status, body
    with pytest.raises(write) as caught:
        await store.apply(BATCH)
    assert (type(caught.value), caught.value.code) == (write, code)
    with pytest.raises(read) as caught:
        await store.fetch("articles", ["a"])
    assert type(caught.value) is read


@pytest.mark.parametrize(
    ("plan", "header", "value"),
    [("local", "Authorization", "Bearer secret"), ("cloud", "X-Chroma-Token", "secret")],
)
async def test_the_token_is_sent_as_the_plan_wants_it(
    double: Double, plan: Any, header: str, value: str
) -> None:
    settings = ChromaSettings(url=double.url, token=Secret("secret"), plan=plan)
    store = ChromaStore(settings)
    await store.present("nope", [])
    double.body = '{"ids": [], "include": []}'
    await store.present("articles", ["a"])
    assert {headers[header] for headers in double.headers} == {value}
    await store.close()


async def test_a_request_holds_no_more_records_than_the_server_says(
    double: Double, store: ChromaStore
) -> None:
    double.body = '{"ids": [], "include": []}'
    points = [Point(f"{n}", {"": floats(1, 2)}, {}) for n in range(250)]
    await store.apply(WriteBatch("articles", tuple(map(Upsert, points))))
    await store.apply(WriteBatch("articles", tuple(Delete(point.id) for point in points)))
    sizes = [count for what, count in double.asked if what == "upsert"]
    assert sizes == [100, 100, 50]
    assert [count for what, count in double.asked if what == "delete"] == sizes


async def test_a_folder_without_the_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "chromadb", None)
    store = ChromaStore(ChromaSettings(path=str(tmp_path)))
    [finding] = await store.check()
    assert finding.code == "extra-missing"
    assert "vector-replicator[chroma]" in finding.message
    with pytest.raises(Refused) as caught:
        await store.apply(BATCH)
    assert caught.value.code == "extra-missing"
    await store.close()


async def test_what_was_answered_is_there_after_the_server_was_killed(tmp_path: Path) -> None:
    server = ChromaServer(tmp_path)
    name = fresh_name()
    # More than the index keeps in memory before it is written to the disk, and then some.
    ids = [f"{n:04}" for n in range(1300)]
    try:
        store = ChromaStore(ChromaSettings(url=server.start()))
        vectors = {"": VectorSchema(size=2, distance=Distance.DOT)}
        await store.ensure(CollectionSchema(name=name, vectors=vectors, ids=IdKinds.STRING))
        for begin in range(0, len(ids), 100):
            await store.apply(
                WriteBatch(
                    name,
                    tuple(
                        Upsert(Point(each, {"": floats(int(each), 1)}, {"n": int(each)}))
                        for each in ids[begin : begin + 100]
                    ),
                )
            )
        server.kill()
        await store.close()
        store = ChromaStore(ChromaSettings(url=server.start()))
        pages = [page async for page in store.scan(Chunk(0, name, ""), None, 500)]
        found = {point.id: point for page in pages for point in page.points}
        assert found == {
            each: Point(each, {"": floats(int(each), 1)}, {"n": int(each)}) for each in ids
        }
        await store.close()
    finally:
        server.stop()
