"""Plain copies into Chroma and out of it, over a server and over a folder."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path
from typing import Any

import pytest

from replicator.errors import ReplicatorError
from replicator.kinds import open_store, variants
from replicator.model.finding import Severity
from replicator.model.letter import LetterState
from replicator.model.phase import Phase
from replicator.model.point import Point, PointId, Vectors
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.write import Upsert, WriteBatch
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings
from replicator.testing.store_conformance import floats, fresh_name
from replicator.wiring import build, preflight

POINTS = [
    Point(
        f"doc {n}",
        {"": struct.pack("<2f", n / 7, 1)},
        {"n": n, "tags": ["a", "ä"], "x": 0.5, "body": f"text {n}"},
    )
    for n in range(300)
]


@pytest.fixture(params=["server", "folder"])
def chroma(request: pytest.FixtureRequest, chroma_url: str, tmp_path: Path) -> dict[str, Any]:
    """The section of a Chroma."""
    if request.param == "server":
        return {"kind": "chroma", "url": chroma_url}
    return {"kind": "chroma", "path": str(tmp_path / "chroma")}


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
            "state": {"path": str(folder / f"{target['kind']}.state")},
        },
        {},
        variants(),
    )


def files(folder: Path, name: str) -> dict[str, Any]:
    return {"kind": "jsonl", "path": str(folder / name)}


async def fill(section: StoreSettings, distance: Distance, points: list[Point]) -> None:
    vectors = {"": VectorSchema(size=2, distance=distance)}
    store = open_store(section, 1 << 20)
    await store.ensure(CollectionSchema(name="docs", vectors=vectors, ids=IdKinds.STRING))
    await store.apply(WriteBatch("docs", tuple(map(Upsert, points))))
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


async def test_a_collection_goes_there_and_back_unchanged(
    chroma: dict[str, Any], tmp_path: Path
) -> None:
    name, options = fresh_name(), {"document_field": "body"}
    there = settings(
        tmp_path, files(tmp_path, "in"), chroma,
        source="docs", target=name, target_options=options,
    )  # fmt: skip
    back = settings(
        tmp_path, chroma, files(tmp_path, "out"),
        source=name, target="docs", source_options=options,
    )  # fmt: skip
    await fill(there.source, Distance.DOT, POINTS)
    assert await migrate(there) is Phase.COMPLETE
    assert await migrate(back) is Phase.COMPLETE
    assert await content(back.target, "docs") == {point.id: point for point in POINTS}
    kept = await content(back.source, name)  # by default a document is called otherwise
    assert kept["doc 7"].payload["document"] == "text 7"


async def test_cosine_vectors_are_the_same_though_they_are_rounded(
    chroma: dict[str, Any], tmp_path: Path
) -> None:
    name = fresh_name()
    there = settings(tmp_path, files(tmp_path, "in"), chroma, source="docs", target=name)
    await fill(there.source, Distance.COSINE, POINTS)
    assert await migrate(there) is Phase.COMPLETE
    written = {point.id: point.vectors for point in POINTS}
    kept = {each: point.vectors for each, point in (await content(there.target, name)).items()}
    assert kept.keys() == written.keys()
    assert kept != written, "the store does what the comparison is to bear"


async def test_what_chroma_cannot_hold_is_mapped_or_made_a_text_or_kept_as_a_dead_letter(
    chroma: dict[str, Any], tmp_path: Path
) -> None:
    name = fresh_name()
    told = settings(tmp_path, files(tmp_path, "in"), chroma, source="docs", target=name)
    one: Vectors = {"": struct.pack("<2f", 1, 1)}
    number, mixed = Point(7, one, {"n": 1}), Point("mixed", one, {"list": [1, "a"]})
    barred = Point("barred", one, {"#name": 1})
    await fill(told.source, Distance.DOT, [POINTS[0], number, mixed, barred])
    async with build(told) as assembly:
        with pytest.raises(ReplicatorError, match="1 keys are missing"):
            await assembly.service.run()
        [letter] = await assembly.service.letters(LetterState.OPEN, 9, 0)
        assert letter.event_key is not None
        assert (letter.event_key.id, letter.path) == ("barred", "payload.#name")
    found = await content(told.target, name)
    assert sorted(str(point.payload.get("_source_id")) for point in found.values()) == [
        "7",
        "None",
        "None",
    ]
    assert found["mixed"].payload["list"] == '[1,"a"]'


async def test_a_collection_of_qdrant_goes_to_chroma_and_comes_back(
    chroma: dict[str, Any], qdrant_url: str, tmp_path: Path
) -> None:
    qdrant = {"kind": "qdrant", "url": qdrant_url}
    name, ids = fresh_name(), [str(uuid.UUID(int=n)) for n in range(50)]
    points = {each: Point(each, {"": floats(n, 1)}, {"n": n}) for n, each in enumerate(ids)}
    there = settings(tmp_path, qdrant, chroma, source=name, target=name)
    source = open_store(there.source, 1 << 20)
    await source.ensure(
        CollectionSchema(
            name=name,
            vectors={"": VectorSchema(size=2, distance=Distance.DOT)},
            ids=IdKinds.UUID,
            indexes={"n": "integer"},
        )
    )
    await source.apply(WriteBatch(name, tuple(map(Upsert, points.values()))))
    await source.close()
    blocking = [each for each in await preflight(there) if each.severity is Severity.BLOCKS]
    assert blocking == []
    assert await migrate(there) is Phase.COMPLETE
    assert await content(there.target, name) == points
    back = settings(tmp_path, chroma, qdrant, source=name, target=fresh_name())
    assert await migrate(back) is Phase.COMPLETE
    assert await content(back.target, back.collections[0].target) == points
