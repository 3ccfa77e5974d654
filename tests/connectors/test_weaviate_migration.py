"""Plain copies into Weaviate and out of it, as a configuration says them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from replicator.errors import ReplicatorError
from replicator.kinds import open_store, variants
from replicator.model.finding import Severity
from replicator.model.letter import LetterState
from replicator.model.phase import Phase
from replicator.model.point import MultiVector, Point, PointId
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
from tests.plugins.weaviate import WeaviatePlace

SHAPES = {
    "text": VectorSchema(size=2, distance=Distance.COSINE),
    "late": VectorSchema(kind=VectorKind.MULTI, size=2, distance=Distance.DOT),
}
MAXSIM = ["loss-multivector"]
"""Both compare rows so, and Qdrant alone has a word for it."""

# Weaviate keeps the length of vectors, and Qdrant scales them: so they have length one.
POINTS = [
    Point(
        str(uuid.UUID(int=n)),
        {"text": floats(0.6, 0.8), "late": MultiVector(2, floats(n, 1, 2, 3))},
        {"n": n, "tag": f"t{n % 3}", "deep": {"x": [None, 1.0, 1 << 60]}, "Title": "ä"},
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


async def fill(section: StoreSettings, name: str, points: list[Point], **more: Any) -> None:
    store = open_store(section, 1 << 20)
    wanted = {"vectors": SHAPES, "ids": IdKinds.UUID, "indexes": {"n": "integer"}, **more}
    await store.ensure(CollectionSchema(name=name, **wanted))
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


@pytest.fixture
def weaviate(weaviate_place: WeaviatePlace) -> dict[str, Any]:
    return {**weaviate_place.section, "late_write_bound": "0s"}


async def test_a_collection_goes_from_qdrant_to_a_class_and_back_unchanged(
    weaviate: dict[str, Any], qdrant_url: str, tmp_path: Path
) -> None:
    qdrant = {"kind": "qdrant", "url": qdrant_url}
    name, again = fresh_name(), fresh_name()
    there = settings(
        tmp_path, qdrant, weaviate,
        source=name, target=name, target_options={"properties": {"tag": "text"}},
        accept=MAXSIM,
    )  # fmt: skip
    await fill(there.source, name, POINTS)
    found = await preflight(there)
    assert [each for each in found if each.severity is Severity.BLOCKS] == []
    assert await migrate(there) is Phase.COMPLETE
    assert await content(there.target, name) == await content(there.source, name)
    back = settings(tmp_path, weaviate, qdrant, source=name, target=again, accept=MAXSIM)
    assert await migrate(back) is Phase.COMPLETE
    assert await content(back.target, again) == await content(there.source, name)


async def test_a_name_without_a_capital_letter_is_refused_by_the_configuration(
    weaviate: dict[str, Any], tmp_path: Path
) -> None:
    files = {"kind": "jsonl", "path": str(tmp_path / "in")}
    with pytest.raises(ReplicatorError, match="'Docs'"):
        settings(tmp_path, files, weaviate, source="docs", target="docs")


async def test_a_class_that_a_person_made_takes_what_its_properties_hold(
    weaviate: dict[str, Any], tmp_path: Path
) -> None:
    name = fresh_name()
    files = {"kind": "jsonl", "path": str(tmp_path / "in")}
    told = settings(
        tmp_path, files, weaviate, source="docs", target=name, transform={"keep": ["n", "tag"]}
    )
    vectors = {"": VectorSchema(size=2, distance=Distance.DOT)}
    points = [Point(each.id, {"": floats(1, 2)}, each.payload) for each in POINTS]
    odd = Point(str(uuid.UUID(int=999)), {"": floats(1, 2)}, {"n": "nine"})
    await fill(told.source, "docs", [*points, odd], vectors=vectors)
    store = open_store(told.target, 1 << 20)
    rest: Any = store
    document = {
        "class": name,
        "properties": [
            {"name": "n", "dataType": ["int"]},
            {"name": "tag", "dataType": ["text"]},
        ],
        "vectorConfig": {
            "default": {
                "vectorizer": {"none": {}},
                "vectorIndexType": "hnsw",
                "vectorIndexConfig": {"distance": "dot"},
            }
        },
    }
    await rest._rest.create(document)
    await store.close()
    async with build(told) as assembly:
        with pytest.raises(ReplicatorError, match="1 keys are missing"):
            await assembly.service.run()
        [letter] = await assembly.service.letters(LetterState.OPEN, 9, 0)
        assert letter.event_key is not None
        assert (letter.event_key.id, letter.path) == (odd.id, "payload.n")
    kept = await content(told.target, name)
    assert kept == {
        each.id: Point(each.id, each.vectors, {k: each.payload[k] for k in ("n", "tag")})
        for each in points
    }
