"""Options of single collections: checked when they are read, told to their store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from replicator.errors import Refused
from replicator.kinds import kinds, variants
from replicator.migration.copy.transfer import export_settings, import_settings
from replicator.migration.evidence.taken import named_or_found
from replicator.migration.preflight.routes import wanted_target
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.ports.kind import DirectoryOf
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings
from replicator.stream.reading import Reader
from replicator.wiring import make_stores
from tests.kinds.conftest import brings

MODULE = '''
import msgspec
from replicator.model.schema import IdKinds
from replicator.model.traits import IdRules, Traits, VectorRules
from replicator.ports.kind import StoreKind
from replicator.settings.stores import StoreSettings


class Options(msgspec.Struct, frozen=True):
    key: str = "id"


class OptionedSettings(StoreSettings, tag="optioned", tag_field="kind", frozen=True):
    """Theirs."""

    options = Options
    place: str

    def address(self):
        return self.place


TRAITS = Traits(ids=IdRules(kinds=IdKinds.UUID), vectors=VectorRules(), marks=False)


class OptionedStore:
    traits = TRAITS

    def __init__(self):
        self.chosen = {}

    def choose(self, collection, options):
        self.chosen[collection] = options.key


KIND = StoreKind(
    settings=OptionedSettings,
    traits=TRAITS,
    example='kind = "optioned"',
    open=lambda settings, page_bytes: OptionedStore(),
)
'''


@pytest.fixture(autouse=True)
def kind(package: Path) -> None:
    """A kind with an option."""
    module = f"optioned_{package.name}".replace("-", "_")
    (package / f"{module}.py").write_text(MODULE)
    brings(package, module, {"optioned": f"{module}:KIND"})


def settings(
    source: str = "optioned", target: str = "optioned", **collection: dict[str, Any]
) -> Settings:
    """A configuration with one collection."""
    places = {"optioned": "place", "jsonl": "path"}
    return from_toml(
        {
            "name": "articles",
            "source": {"kind": source, places[source]: "here"},
            "target": {"kind": target, places[target]: "there"},
            "collections": [{"source": "a", "target": "b", **collection}],
            "feed": {"kind": "none"},
        },
        {},
        variants(),
    )


def test_each_store_is_told_of_its_own_collections() -> None:
    told = settings(source_options={"key": "isbn"}, target_options={"key": "n"})
    stores: Any = make_stores(told)
    assert [store.chosen for store in stores] == [{"a": "isbn"}, {"b": "n"}]


async def test_both_stores_are_told_of_each_collection_that_a_pattern_takes() -> None:
    options = {"source_options": {"key": "isbn"}, "target_options": {"key": "n"}}
    told = from_toml(
        {
            "name": "articles",
            "source": {"kind": "optioned", "place": "here"},
            "target": {"kind": "optioned", "place": "there"},
            "collections": [{"source": "docs-*", **options}],
            "feed": {"kind": "none"},
        },
        {},
        variants(),
    )
    stores: Any = make_stores(told)
    assert [store.chosen for store in stores] == [{}, {}]

    async def collections() -> list[str]:
        return ["docs-a", "docs-b", "other"]

    stores[0].collections = collections
    named, _ = await named_or_found(told, None, *map(Reader, stores))
    assert [each.source for each in named.collections] == ["docs-a", "docs-b"]
    assert [store.chosen for store in stores] == [
        {"docs-a": "isbn", "docs-b": "isbn"},
        {"docs-a": "n", "docs-b": "n"},
    ]


def test_an_option_that_is_not_given_is_told_at_its_default() -> None:
    stores: Any = make_stores(settings(target_options={"key": "n"}))
    assert [store.chosen for store in stores] == [{"a": "id"}, {"b": "n"}]


@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize(
    ("given", "why"),
    [({"kez": "n"}, "_options.kez"), ({"key": 5}, "_options.key")],
)
def test_an_option_that_does_not_fit_is_named_with_its_place(
    role: str, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(Refused) as caught:
        settings(
            source_options=given if role == "source" else {},
            target_options=given if role == "target" else {},
        )
    assert f"collections[0].{role}{why}" in caught.value.message


def test_options_of_a_source_whose_kind_has_none_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        settings(source="jsonl", source_options={"key": "n"})
    assert caught.value.message == (
        "collections[0].source_options: this kind of store has none"
    )


async def test_options_of_a_target_are_no_settings_to_make_it_with() -> None:
    told = settings(target_options={"key": "n"})
    vectors = {"": VectorSchema(size=2, distance=Distance.DOT)}
    schema = CollectionSchema(name="a", vectors=vectors, ids=IdKinds.STRING)
    _, target = make_stores(told)
    wanted = await wanted_target(told.collections[0], schema, target, capture_id=None)
    assert (wanted.name, wanted.native, wanted.vectors) == ("b", {}, vectors)


@pytest.mark.parametrize(("side", "key"), [("source", "isbn"), ("target", "n")])
def test_a_transfer_keeps_the_options_of_its_side(side: str, key: str) -> None:
    told = settings(source_options={"key": "isbn"}, target_options={"key": "n"})
    files = kinds()["jsonl"].files
    assert isinstance(files, DirectoryOf)
    where: dict[str, Any] = {
        "side": side,
        "collections": [],
        "directory": "out",
        "files": files,
    }
    [out] = export_settings(told, **where).collections
    assert (out.source_options, out.target_options) == ({"key": key}, {})
    [back] = import_settings(told, **where).collections
    assert (back.source_options, back.target_options) == ({}, {"key": key})


def test_settings_of_a_target_are_not_taken_for_options_of_it() -> None:
    told = settings(target="jsonl", target_options={"shard_number": 3})
    files = kinds()["jsonl"].files
    assert isinstance(files, DirectoryOf)
    [out] = export_settings(
        told, side="target", collections=[], directory="out", files=files
    ).collections
    assert out.source_options == {}
