"""Rows of files that other programs wrote: what is read, and what is named instead."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.jsonl.store import JsonlStore
from replicator.errors import Rejected
from replicator.model.point import Point, PointId, SparseVector
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.write import Upsert, WriteBatch
from replicator.testing.store_conformance import floats


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JsonlStore]:
    made = JsonlStore(JsonlSettings(path=str(tmp_path)))
    yield made
    await made.close()


def put(folder: Path, *rows: dict[str, Any] | bytes, bom: bool = False) -> None:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    head = b"\xef\xbb\xbf" if bom else b""
    (folder / "a.jsonl").write_bytes(head + b"".join(line + b"\n" for line in lines))


async def read(
    store: JsonlStore,
) -> tuple[dict[PointId, Point], dict[PointId | None, tuple[str, str]]]:
    points, rejected = {}, {}
    [chunk] = await store.split("a", 1)
    async for page in store.scan(chunk, None, 100):
        points.update({point.id: point for point in page.points})
        rejected.update({row.id: (row.error.code, row.error.path) for row in page.rejected})
    return points, rejected


@pytest.mark.parametrize(
    ("row", "vectors", "payload"),
    [
        ({"vectors": {"v": [1, 2]}, "payload": {"n": 1}}, {"v": floats(1, 2)}, {"n": 1}),
        ({"vector": [1, 2], "payload": {"n": 1}}, {"": floats(1, 2)}, {"n": 1}),
        ({"vector": [1, 2], "metadata": {"n": 1}}, {"": floats(1, 2)}, {"n": 1}),
        (
            {"vector": {"indices": [3], "values": [1.0]}, "payload": {}},
            {"": SparseVector(b"\x03\0\0\0", floats(1))},
            {},
        ),
        (
            {"vector": [1, 2], "metadata": {"n": 1}, "document": "text"},
            {"": floats(1, 2)},
            {"n": 1, "document": "text"},
        ),
        (
            {"vector": [1, 2], "year": 1999, "document": "text", "tags": {"a": [1]}},
            {"": floats(1, 2)},
            {"year": 1999, "document": "text", "tags": {"a": [1]}},
        ),
        ({"vector": [1, 2]}, {"": floats(1, 2)}, {}),
    ],
)
async def test_rows_are_read_in_the_forms_in_use(
    store: JsonlStore,
    tmp_path: Path,
    row: dict[str, Any],
    vectors: dict[str, Any],
    payload: dict[str, Any],
) -> None:
    put(tmp_path, {"id": 1, **row})
    assert await read(store) == ({1: Point(1, vectors, payload)}, {})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"vector": [1], "vectors": {}, "payload": {}}, ("field-invalid", "vector")),
        ({"vector": {"": [1, 2]}, "payload": {}}, ("field-missing", "vector.rows")),
        ({"payload": {}, "metadata": {}}, ("field-invalid", "metadata")),
        ({"embedding": [1, 2], "payload": {}}, ("field-invalid", "embedding")),
        ({"vector": [1], "payload": {}, "year": 1}, ("field-invalid", "year")),
        ({"payload": {"document": "a"}, "document": "b"}, ("field-invalid", "document")),
    ],
)
async def test_what_is_not_understood_is_named_and_never_dropped(
    store: JsonlStore, tmp_path: Path, row: dict[str, Any], reason: tuple[str, str]
) -> None:
    put(tmp_path, {"id": 1, **row})
    assert await read(store) == ({}, {1: reason})


async def test_one_payload_in_a_file_makes_every_other_column_an_error(
    store: JsonlStore, tmp_path: Path
) -> None:
    put(tmp_path, {"id": 1, "vector": [1], "year": 1}, {"id": 2, "vector": [1], "payload": {}})
    points, rejected = await read(store)
    assert list(points) == [2]
    assert rejected == {1: ("field-invalid", "year")}


async def test_the_right_name_is_offered(store: JsonlStore, tmp_path: Path) -> None:
    put(tmp_path, {"id": 1, "embedding": [1, 2], "payload": {}})
    with pytest.raises(Rejected, match="did you mean 'vector'"):
        await store.fetch("a", [1])


async def test_a_byte_order_mark_is_no_part_of_the_first_row(
    store: JsonlStore, tmp_path: Path
) -> None:
    put(tmp_path, {"id": 1, "vector": [1]}, {"id": 2, "vector": [1]}, bom=True)
    points, rejected = await read(store)
    assert (points.keys(), rejected) == ({1, 2}, {})
    assert set(await store.fetch("a", [1, 2])) == {1, 2}


async def test_a_file_that_was_mended_is_read_anew(store: JsonlStore, tmp_path: Path) -> None:
    put(tmp_path, {"id": 1, "vector": "x", "payload": {}})
    assert (await read(store))[1] == {1: ("field-invalid", "vector")}
    (tmp_path / "a.jsonl").unlink()
    put(tmp_path, {"id": 1, "vector": [1.0, 2.0, 3.0], "payload": {}})
    assert await read(store) == ({1: Point(1, {"": floats(1, 2, 3)}, {})}, {})


async def test_flat_rows_stay_what_they_were_when_we_write_beside_them_and_compact(
    store: JsonlStore, tmp_path: Path
) -> None:
    put(tmp_path, {"id": 1, "vector": [1], "year": 1}, {"id": 2, "vector": [1]}, bom=True)
    await store.ensure(CollectionSchema(name="a", vectors=None, ids=IdKinds.UINT64))
    ours = Point(2, {"": floats(5)}, {"n": 2})
    await store.apply(WriteBatch("a", (Upsert(ours),)))
    wanted = {1: Point(1, {"": floats(1)}, {"year": 1}), 2: ours}
    assert await read(store) == (wanted, {})
    await store.finish_bulk("a")
    assert await read(store) == (wanted, {})
