"""Plain copies into shards in a folder and out of them, and what is refused there."""

from __future__ import annotations

import struct
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

from replicator.kinds import open_store, variants
from replicator.model.finding import Severity
from replicator.model.phase import Phase
from replicator.model.point import Point, PointId
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.write import Upsert, WriteBatch
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings
from replicator.testing.store_conformance import fresh_name
from replicator.wiring import build, preflight

IDS: list[PointId] = [*range(150), *(str(uuid.UUID(int=n)) for n in range(150))]
POINTS = {
    each: Point(
        each,
        {"": struct.pack("<2f", n / 7, 1)},
        {"n": n, "tags": ["a", "ä"], "deep": {"x": [1, None, {"y": 0.5}]}},
    )
    for n, each in enumerate(IDS)
}


def settings(
    folder: Path, source: dict[str, Any], target: dict[str, Any], **more: Any
) -> Settings:
    return from_toml(
        {
            "name": "docs",
            "source": source,
            "target": target,
            "collections": [{"source": "docs", "target": "docs"}],
            "feed": {"kind": "none"},
            "state": {"path": str(folder / f"{target['kind']}.{fresh_name()}.state")},
            **more,
        },
        {},
        variants(),
    )


def shards(folder: Path, name: str = "shards") -> dict[str, Any]:
    return {"kind": "qdrant-embedded", "path": str(folder / name)}


def files(folder: Path, kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "path": str(folder / name)}


async def fill(section: StoreSettings, **more: Any) -> None:
    store = open_store(section, 1 << 20)
    vectors = {"": VectorSchema(size=2, distance=Distance.DOT)}
    await store.ensure(
        CollectionSchema(
            name="docs", vectors=vectors, ids=IdKinds.UINT64 | IdKinds.UUID, **more
        )
    )
    await store.apply(WriteBatch("docs", tuple(map(Upsert, POINTS.values()))))
    await store.close()


async def content(section: StoreSettings) -> dict[PointId, Point]:
    store = open_store(section, 1 << 20)
    chunks = await store.split("docs", 3)
    pages = [page for chunk in chunks async for page in store.scan(chunk, None, 100)]
    await store.close()
    return {point.id: point for page in pages for point in page.points}


async def migrate(told: Settings) -> Phase:
    """Where a migration ends, which verifies what it copied; after a look at what stands in its
    way, as `check` has it.
    """
    assert [each for each in await preflight(told) if each.severity is Severity.BLOCKS] == []
    async with build(told) as assembly:
        await assembly.service.run()
        return (await assembly.service.status()).phase


async def test_a_collection_goes_through_every_kind_of_file_and_comes_back(
    tmp_path: Path,
) -> None:
    ways = [
        shards(tmp_path, "first"),
        files(tmp_path, "jsonl", "lines"),
        shards(tmp_path, "second"),
        files(tmp_path, "parquet", "parts"),
        shards(tmp_path, "third"),
    ]
    await fill(settings(tmp_path, ways[0], ways[1]).source)
    for source, target in pairwise(ways):
        assert await migrate(settings(tmp_path, source, target)) is Phase.COMPLETE
    assert await content(settings(tmp_path, ways[-1], ways[0]).source) == POINTS


async def test_a_collection_of_a_server_becomes_a_shard_and_one_of_a_server_again(
    qdrant_url: str, tmp_path: Path
) -> None:
    server = {"kind": "qdrant", "url": qdrant_url}
    name, back = fresh_name(), fresh_name()
    vectors = {
        "": VectorSchema(size=2, distance=Distance.DOT, native={"hnsw_config": {"m": 24}}),
        "words": VectorSchema(VectorKind.SPARSE),
    }
    there = settings(
        tmp_path, server, shards(tmp_path), collections=[{"source": name, "target": "docs"}]
    )
    source = open_store(there.source, 1 << 20)
    await source.ensure(
        CollectionSchema(
            name=name,
            vectors=vectors,
            ids=IdKinds.UINT64 | IdKinds.UUID,
            indexes={"n": "integer"},
            native_kind="qdrant",
        )
    )
    await source.apply(WriteBatch(name, tuple(map(Upsert, POINTS.values()))))
    await source.close()
    assert await migrate(there) is Phase.COMPLETE
    assert await content(there.target) == POINTS
    made = open_store(there.target, 1 << 20)
    shown = await made.describe("docs")
    await made.close()
    assert shown is not None
    assert shown.vectors is not None
    assert (shown.vectors[""].index.m, shown.indexes) == (24, {"n": "integer"})
    again = settings(
        tmp_path, shards(tmp_path), server, collections=[{"source": "docs", "target": back}]
    )
    assert await migrate(again) is Phase.COMPLETE


async def test_settings_of_the_engine_travel_between_two_folders(tmp_path: Path) -> None:
    told = settings(tmp_path, shards(tmp_path, "in"), shards(tmp_path, "out"))
    await fill(
        told.source,
        native_kind="qdrant-embedded",
        native={"optimizers": {"indexing_threshold": 33}},
        indexes={"tags": "keyword"},
        index_options={"tags": {"prefix": True}},
    )
    assert await migrate(told) is Phase.COMPLETE
    shown = []
    for section in (told.source, told.target):
        store = open_store(section, 1 << 20)
        found = await store.describe("docs")
        await store.close()
        assert found is not None
        shown.append((found.vectors, found.native, found.indexes, found.index_options))
    assert shown[0] == shown[1]
    assert shown[0][1]["optimizers"] == {"indexing_threshold": 33}


async def test_a_migration_with_events_is_refused_on_either_side(tmp_path: Path) -> None:
    lines = files(tmp_path, "jsonl", "lines")
    feed = {"kind": "changelog", "path": str(tmp_path / "changes.db"), "settle": "0s"}
    for source, target, role in (
        (shards(tmp_path), lines, "source"),
        (lines, shards(tmp_path), "target"),
    ):
        told = settings(tmp_path, source, target, feed=feed)
        await fill(told.source)
        blocking = [f for f in await preflight(told) if f.code == "unsupported"]
        assert [(each.severity, each.subject) for each in blocking] == [(Severity.BLOCKS, role)]
