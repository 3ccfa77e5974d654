"""The template of a connector is found by its entry point, and migrates both ways."""

from __future__ import annotations

import json
import struct
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from replicator.cli.main import cli
from replicator.errors import ReplicatorError
from replicator.kinds import GROUP, kinds, open_store, variants
from replicator.model.finding import Severity
from replicator.model.letter import LetterState
from replicator.model.phase import Phase
from replicator.model.point import Point, PointId
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.write import Upsert, WriteBatch
from replicator.ports.store import Store
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings
from replicator.wiring import build, make_stores, preflight
from tests.kinds.conftest import brings

TEMPLATE = Path(__file__).parent / "template_store"
POINTS = [
    Point(f"doc {n}", {"": struct.pack("<2f", n, 1)}, {"n": n, "tags": ["a", "ä"], "x": 0.5})
    for n in range(300)
]
WHOLE = CollectionSchema(
    name="docs",
    vectors={"": VectorSchema(size=2, distance=Distance.DOT)},
    ids=IdKinds.STRING,
)


@pytest.fixture
def folder(package: Path) -> Path:
    """Where the stores lie; the template's package is installed."""
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    brings(package, project["name"], project["entry-points"][GROUP])
    return package


def settings(folder: Path, source: str, target: str, **given: Any) -> Settings:
    """A plain copy from one place to another, each of the kind that its name ends in."""

    def store(place: str) -> dict[str, str]:
        return {"kind": place.rpartition(".")[2], "path": str(folder / place)}

    return from_toml(
        {
            "name": "docs",
            "source": store(source),
            "target": store(target),
            "collections": [{"source": "docs", "target": "docs"}],
            "feed": {"kind": "none"},
            "state": {"path": str(folder / f"{target}.state")},
            **given,
        },
        {},
        variants(),
    )


async def migrate(told: Settings) -> Phase:
    """Where a migration ends."""
    async with build(told) as assembly:
        await assembly.service.run()
        return (await assembly.service.status()).phase


async def fill(store: Store, points: list[Point]) -> None:
    await store.ensure(WHOLE)
    await store.apply(WriteBatch("docs", tuple(map(Upsert, points))))


@asynccontextmanager
async def both(settings: Settings) -> AsyncIterator[tuple[Store, Store]]:
    """The stores themselves."""
    source, target = make_stores(settings)
    try:
        yield source, target
    finally:
        await source.close()
        await target.close()


async def content(store: Store, collection: str = "docs") -> dict[PointId, Point]:
    chunks = await store.split(collection, 3)
    pages = [page for chunk in chunks async for page in store.scan(chunk, None, 100)]
    return {point.id: point for page in pages for point in page.points}


async def test_a_collection_goes_there_and_back_unchanged(folder: Path) -> None:
    there = settings(folder, "in.jsonl", "middle.shelf")
    back = settings(folder, "middle.shelf", "out.jsonl")
    async with both(there) as (source, _):
        await fill(source, POINTS)
        wanted = await content(source)
    assert await migrate(there) is Phase.COMPLETE
    assert await migrate(back) is Phase.COMPLETE
    async with both(back) as (middle, target):
        assert await content(middle) == wanted
        assert await content(target) == wanted


async def test_all_that_a_store_lists_goes_there_and_back_the_unnamed_too(folder: Path) -> None:
    names = ["", "docs", "x*"]
    there = settings(folder, "in.shelf", "middle.jsonl", collections="*")
    back = settings(folder, "middle.jsonl", "out.shelf", collections="*")
    async with both(there) as (source, _):
        for number, name in enumerate(names):
            await source.ensure(msgspec.structs.replace(WHOLE, name=name))
            await source.apply(WriteBatch(name, (Upsert(POINTS[number]),)))
    for told in (there, back):
        [taken] = [each for each in await preflight(told) if each.code == "collections-taken"]
        assert taken.message == "3 collections travel: '', 'docs', 'x*'"
        assert await migrate(told) is Phase.COMPLETE
    async with both(back) as (middle, target):
        for store in (middle, target):
            assert await store.collections() == names
            for number, name in enumerate(names):
                assert await content(store, name) == {POINTS[number].id: POINTS[number]}


async def test_what_the_store_cannot_hold_is_kept_as_a_dead_letter(folder: Path) -> None:
    told = settings(folder, "in.jsonl", "out.shelf")
    large = Point("large", {"": struct.pack("<2f", 1, 1)}, {"a": 1 << 63})
    async with both(told) as (source, _):
        await fill(source, [POINTS[0], large])
    async with build(told) as assembly:
        with pytest.raises(ReplicatorError, match="1 keys are missing"):
            await assembly.service.run()
        [letter] = await assembly.service.letters(LetterState.OPEN, 9, 0)
        assert (letter.code, letter.path) == ("field-invalid", "payload.a")
    store = open_store(told.target, 1 << 20)
    assert await content(store) == {POINTS[0].id: POINTS[0]}
    await store.close()


async def test_what_nests_becomes_a_text_and_the_check_says_so(folder: Path) -> None:
    told = settings(folder, "in.jsonl", "out.shelf")
    nested = Point("nested", POINTS[0].vectors, {"a": {"z": [1, "ä"], "b": 1.0}, "l": [1, 2]})
    async with both(told) as (source, target):
        await fill(source, [nested])
        [found] = [each for each in await preflight(told) if each.code == "nested-as-json"]
        assert found.severity is Severity.INFORMS
        assert await migrate(told) is Phase.COMPLETE
        held = (await content(target))["nested"]
    assert held.payload == {"a": '{"b":1,"z":[1,"ä"]}', "l": [1, 2]}


async def test_an_id_that_the_store_cannot_hold_becomes_another(folder: Path) -> None:
    told = settings(folder, "in.jsonl", "out.shelf")
    async with both(told) as (source, target):
        await fill(source, [Point(7, POINTS[0].vectors, {})])
        assert await migrate(told) is Phase.COMPLETE
        [(_, point)] = (await content(target)).items()
        assert point.payload == {"_source_id": 7}


async def test_a_collection_that_the_store_cannot_make_is_found_beforehand(
    folder: Path,
) -> None:
    told = settings(folder, "in.jsonl", "out.shelf")
    two = dict.fromkeys("ab", VectorSchema(size=2, distance=Distance.DOT))
    async with both(told) as (source, _):
        await source.ensure(CollectionSchema(name="docs", vectors=two, ids=WHOLE.ids))
    [found] = [each for each in await preflight(told) if each.severity is Severity.BLOCKS]
    assert found.code == "unsupported"
    assert "one vector here" in found.message


def test_the_kind_is_told_with_the_others(folder: Path) -> None:
    assert [*kinds()][-1] == "shelf"
    result = CliRunner().invoke(cli, ["stores", "--json"])
    told = json.loads(result.stdout)[-1]
    assert (told["kind"], told["package"]) == ("shelf", "shelf_store")
    assert "shelf (of shelf_store): A SQLite file with a table of points." in (
        CliRunner().invoke(cli, ["stores"]).stdout
    )
