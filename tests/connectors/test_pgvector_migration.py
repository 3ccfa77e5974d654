"""Plain copies into PostgreSQL and out of it, as a configuration says them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from replicator.errors import ReplicatorError
from replicator.kinds import open_store, variants
from replicator.model.finding import Severity
from replicator.model.letter import LetterState
from replicator.model.phase import Phase
from replicator.model.point import Point, PointId, SparseVector
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IndexKind,
    VectorKind,
    VectorSchema,
)
from replicator.model.write import Upsert, WriteBatch
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings
from replicator.testing.store_conformance import floats, fresh_name
from replicator.wiring import build, preflight
from tests.plugins.postgres import Database

SHAPES = {
    "dense": VectorSchema(size=2, distance=Distance.COSINE),
    "words": VectorSchema(kind=VectorKind.SPARSE),
}
POINTS = [
    Point(
        n,
        {
            "dense": floats(n + 1, 1),
            "words": SparseVector(struct.pack("<2I", n, n + 7), floats(1, -n - 1)),
        },
        {"n": n, "tags": ["a", "ä"], "deep": {"x": [None, 1.0]}, "nothing": None},
    )
    for n in range(300)
]


@pytest.fixture
def pgvector(database: Database) -> dict[str, Any]:
    place = {"dsn": database.dsn, "schema": database.schema}
    return {"kind": "pgvector", "late_write_bound": "0s", **place}


def settings(
    folder: Path, source: dict[str, Any], target: dict[str, Any], /, **collection: Any
) -> Settings:
    return from_toml(
        {
            "name": "docs",
            "source": source,
            "target": target,
            "collections": [collection],
            "feed": {"kind": "none"},
            "state": {"path": str(folder / f"{source['kind']}-{target['kind']}.state")},
        },
        {},
        variants(),
    )


async def fill(section: StoreSettings, name: str, points: list[Point]) -> None:
    store = open_store(section, 1 << 20)
    await store.ensure(CollectionSchema(name=name, vectors=SHAPES, ids=IdKinds.UINT64))
    await store.apply(WriteBatch(name, tuple(map(Upsert, points))))
    await store.close()


async def content(section: StoreSettings, name: str) -> dict[PointId, Point]:
    store = open_store(section, 1 << 20)
    chunks = await store.split(name, 3)
    pages = [page for chunk in chunks async for page in store.scan(chunk, None, 100)]
    await store.close()
    return {point.id: point for page in pages for point in page.points}


async def migrate(told: Settings) -> Phase:
    """Where a migration ends, which verifies what it copied."""
    async with build(told) as assembly:
        await assembly.service.run()
        return (await assembly.service.status()).phase


async def test_a_collection_goes_from_qdrant_to_a_table_and_back_unchanged(
    pgvector: dict[str, Any], database: Database, qdrant_url: str, tmp_path: Path
) -> None:
    qdrant = {"kind": "qdrant", "url": qdrant_url}
    name, again = fresh_name(), fresh_name()
    there = settings(tmp_path, qdrant, pgvector, source=name, target=name)
    await fill(there.source, name, POINTS)
    # Qdrant holds ids of two kinds and a key one: a table that is there says which. Without it
    # they would be texts, and integers among them be mapped.
    await fill(there.target, name, [])
    blocking = [each for each in await preflight(there) if each.severity is Severity.BLOCKS]
    assert blocking == []
    assert await migrate(there) is Phase.COMPLETE
    assert await content(there.target, name) == await content(there.source, name)

    store = open_store(there.target, 1 << 20)
    found = await store.describe(name)
    assert found is not None
    assert (found.made, found.unfinished) == (True, False)
    assert found.vectors is not None
    assert found.vectors["dense"].index.kind is IndexKind.HNSW, "built after the copy"
    await store.close()

    back = settings(tmp_path, pgvector, qdrant, source=name, target=again)
    assert await migrate(back) is Phase.COMPLETE
    assert await content(back.target, again) == await content(there.source, name)


async def test_a_table_that_a_person_made_takes_what_fits_its_columns(
    pgvector: dict[str, Any], database: Database, tmp_path: Path
) -> None:
    await database.do(
        "CREATE TABLE docs (nr int PRIMARY KEY, n int, tags text[], vec vector(2),"
        " seen timestamptz DEFAULT now())"
    )
    files = {"kind": "jsonl", "path": str(tmp_path / "in")}
    told = settings(
        tmp_path, files, pgvector,
        source="docs", target="docs",
        target_options={"vectors": {"vec": "dense"}, "distance": "cosine"},
        transform={"keep": ["n", "tags"]},
        accept=["loss-vector-index"],
    )  # fmt: skip
    store = open_store(told.source, 1 << 20)
    vectors = {"dense": SHAPES["dense"]}
    await store.ensure(CollectionSchema(name="docs", vectors=vectors, ids=IdKinds.UINT64))
    points = [Point(each.id, {"dense": each.vectors["dense"]}, each.payload) for each in POINTS]
    points.append(Point(500, points[0].vectors, {"n": "five"}))
    await store.apply(WriteBatch("docs", tuple(map(Upsert, points))))
    await store.close()
    async with build(told) as assembly:
        with pytest.raises(ReplicatorError, match="1 keys are missing"):
            await assembly.service.run()
        [letter] = await assembly.service.letters(LetterState.OPEN, 9, 0)
        assert letter.event_key is not None
        assert (letter.event_key.id, letter.code) == (500, "target-rejected")
    assert await database.rows("SELECT count(*), sum(n), count(seen) FROM docs") == [
        (300, sum(range(300)), 0)
    ]
