"""What the application says that both stores must hold, and that it sees when they do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.endtoend.application import Collection
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Image, Records
from tests.matrix.access import Ids
from tests.matrix.application import PairApplication, Store
from tests.matrix.stores.files import JSONL, JsonlAccess

POOR = replace(JSONL, kind="poor", accepts=frozenset({Ids.TEXT}), nested=False, ascii_ids=True)
"""Where ids are texts of ASCII, and nothing is nested."""


@pytest.fixture
async def app(tmp_path: Path) -> PairApplication:
    stores = tuple(Store(entry, JsonlAccess(tmp_path / entry.kind)) for entry in (JSONL, POOR))
    sink = ChangelogSink(tmp_path / "changes.db")
    await sink.close()
    app = PairApplication(
        (stores[0], stores[1]), sink, [Collection(source="Docs", target="Copy")]
    )
    await app.create(20)
    return app


async def test_a_target_by_the_rules_does_not_differ(app: PairApplication) -> None:
    [collection] = app.collections
    there = app.at_target(collection, collection.records)
    # An id that it does not take is a UUID, and the original is kept.
    assert {Ids.of(each) for each in there} == {Ids.UUID}
    originals = {image.payload["_source_id"] for image in there.values()}
    assert originals == set(collection.records)
    # What it cannot nest is a text.
    deep = [json.loads(image.payload["deep"]) for image in there.values()]
    assert deep == [image.payload["deep"] for image in collection.records.values()]
    await app.stores[1].access.write("Copy", there)
    assert await app.differences("target") == []
    assert await app.differences("source") == []


def lose(records: Records) -> None:
    records.popitem()


def add(records: Records) -> None:
    records["one more"] = next(iter(records.values()))


def move(records: Records) -> None:
    place, image = records.popitem()
    records[place] = Image(tuple(-each for each in image.vector), image.payload)


def rename(records: Records) -> None:
    place, image = records.popitem()
    records[place] = Image(image.vector, image.payload | {"title": "another"})


def forget(records: Records) -> None:
    place, image = records.popitem()
    payload = {name: each for name, each in image.payload.items() if name != "_source_id"}
    records[place] = Image(image.vector, payload)


def flatten(records: Records) -> None:
    place, image = records.popitem()
    records[place] = Image(image.vector, image.payload | {"deep": "{}"})


@pytest.mark.parametrize("spoil", [lose, add, move, rename, forget, flatten])
async def test_one_point_that_is_not_as_it_must_be_is_seen(
    app: PairApplication, spoil: Callable[[Records], None]
) -> None:
    [collection] = app.collections
    there = app.at_target(collection, collection.records)
    spoil(there)
    await app.stores[1].access.write("Copy", there)
    assert len(await app.differences("target")) == 1


async def test_the_source_is_looked_at_too(app: PairApplication) -> None:
    [collection] = app.collections
    collection.records.popitem()
    [told] = await app.differences("source")
    assert told.startswith("source Docs: ")
    assert "is extra" in told
