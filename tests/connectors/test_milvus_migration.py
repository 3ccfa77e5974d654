"""Plain copies into Milvus and out of it, as a configuration says them."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path
from typing import Any

from replicator.kinds import open_store, variants
from replicator.model.finding import Severity
from replicator.model.phase import Phase
from replicator.model.point import Point, PointId, SparseVector
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
from replicator.testing.store_conformance import floats, fresh_name
from replicator.wiring import build, preflight

SHAPES = {
    "dense": VectorSchema(size=2, distance=Distance.DOT),
    "words": VectorSchema(kind=VectorKind.SPARSE),
}
POINTS = [
    Point(
        str(uuid.UUID(int=n)),
        {
            "dense": floats(n + 1, 1),
            "words": SparseVector(struct.pack("<2I", n, n + 7), floats(1, n + 1)),
        },
        {"n": n, "tags": ["a", "ä"], "deep": {"x": [None, 1.0]}, "nothing": None, "f": 5.0},
    )
    for n in range(200)
]


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


async def test_a_collection_of_qdrant_goes_to_milvus_and_back_unchanged(
    milvus_uri: str, qdrant_url: str, tmp_path: Path
) -> None:
    qdrant = {"kind": "qdrant", "url": qdrant_url}
    milvus = {"kind": "milvus", "uri": milvus_uri, "late_write_bound": "0s"}
    name, again = fresh_name().replace("-", "_"), fresh_name()
    there = settings(tmp_path, qdrant, milvus, source=name, target=name)
    source = open_store(there.source, 1 << 20)
    await source.ensure(CollectionSchema(name=name, vectors=SHAPES, ids=IdKinds.UUID))
    await source.apply(WriteBatch(name, tuple(map(Upsert, POINTS))))
    await source.close()
    blocking = [each for each in await preflight(there) if each.severity is Severity.BLOCKS]
    assert blocking == []
    assert await migrate(there) is Phase.COMPLETE
    assert await content(there.target, name) == {point.id: point for point in POINTS}
    back = settings(tmp_path, milvus, qdrant, source=name, target=again)
    assert await migrate(back) is Phase.COMPLETE
    assert await content(back.target, again) == {point.id: point for point in POINTS}
