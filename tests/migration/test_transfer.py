"""Export and import are plain copies of one store, as it is, with a state of their own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.errors import Refused
from replicator.migration.copy.transfer import (
    export_settings,
    import_settings,
    leave_manifest,
)
from replicator.ports.kind import DirectoryOf
from replicator.settings.feeds import ChangelogSettings, NoFeedSettings
from replicator.settings.settings import BackfillSettings, Settings
from replicator.settings.transform import CollectionSettings, TransformSettings

FILES = DirectoryOf(
    settings=lambda directory: JsonlSettings(path=directory), holds=lambda *_: True
)
OLD, NEW = QdrantSettings(url="http://old:6334"), QdrantSettings(url="http://new:6334")
SETTINGS = Settings(
    name="shop",
    source=OLD,
    target=NEW,
    collections=[
        CollectionSettings(
            source="books",
            target="books_v2",
            ids="keep",
            transform=TransformSettings(drop=["secret"]),
        ),
        CollectionSettings(source="films", target="films_v2"),
    ],
    feed=ChangelogSettings(path="changes.db"),
    backfill=BackfillSettings(readers=7),
)


def names(settings: Settings) -> list[tuple[str, str]]:
    return [(c.source, c.target) for c in settings.collections]


def export(side: str, *collections: str) -> Settings:
    return export_settings(
        SETTINGS, side=side, collections=list(collections), directory="out", files=FILES
    )


def take_in(side: str, *collections: str) -> Settings:
    return import_settings(
        SETTINGS,
        side=side,
        collections=list(collections),
        directory="in",
        files=FILES,
    )


@pytest.mark.parametrize(
    ("side", "store", "collections"),
    [
        ("source", OLD, [("books", "books"), ("films", "films")]),
        ("target", NEW, [("books_v2", "books_v2"), ("films_v2", "films_v2")]),
    ],
)
def test_an_export_copies_the_named_side_into_the_directory(
    side: str, store: QdrantSettings, collections: list[tuple[str, str]]
) -> None:
    settings = export(side)
    assert settings.source == store
    assert settings.target == JsonlSettings(path="out")
    assert names(settings) == collections


@pytest.mark.parametrize(
    ("side", "store", "collections"),
    [
        ("source", OLD, [("books", "books"), ("films", "films")]),
        ("target", NEW, [("books_v2", "books_v2"), ("films_v2", "films_v2")]),
    ],
)
def test_an_import_copies_the_directory_into_the_named_side(
    side: str, store: QdrantSettings, collections: list[tuple[str, str]]
) -> None:
    settings = take_in(side)
    assert settings.source == JsonlSettings(path="in")
    assert settings.target == store
    assert names(settings) == collections


def test_points_travel_as_they_are_and_no_feed_is_read() -> None:
    for settings in (export("source"), take_in("target")):
        assert settings.feed == NoFeedSettings()
        assert all(c.transform == TransformSettings() for c in settings.collections)
        assert {c.ids for c in settings.collections} == {"auto"}


def test_only_the_collections_asked_for_travel() -> None:
    assert names(export("source", "films")) == [("films", "films")]
    assert names(take_in("target", "films_v2")) == [("films_v2", "films_v2")]


def test_the_state_lies_beside_the_files_and_is_no_migrations() -> None:
    out, back = export("source"), take_in("source")
    assert out.state.path == str(Path("out") / ".export.db")
    assert back.state.path == str(Path("in") / ".import.db")
    assert SETTINGS.state.path not in {out.state.path, back.state.path}
    assert len({SETTINGS.name, out.name, back.name}) == 3


def test_everything_else_is_as_configured() -> None:
    assert export("source").backfill.readers == 7


@pytest.mark.parametrize(("side", "name"), [("source", "books_v2"), ("target", "books")])
def test_a_collection_of_the_other_side_is_not_found_and_those_that_are_there_are_named(
    side: str, name: str
) -> None:
    with pytest.raises(Refused) as caught:
        export(side, name)
    assert caught.value.code == "not-found"
    assert "films" in caught.value.message
    with pytest.raises(Refused):
        take_in(side, name)


def test_what_a_collection_accepts_is_accepted_of_its_export_and_import() -> None:
    [books, films] = SETTINGS.collections
    accepting = msgspec.structs.replace(books, accept=["loss-sharding-method"])
    settings = msgspec.structs.replace(SETTINGS, collections=[accepting, films])
    for made in (export_settings, import_settings):
        copied = made(settings, side="target", collections=[], directory="d", files=FILES)
        assert [each.accept for each in copied.collections] == [["loss-sharding-method"], []]


# -- a target that several sources share ---------------------------------------------------

SHARED = msgspec.structs.replace(
    SETTINGS,
    collections=[
        CollectionSettings(
            source=name, target="all", ids="mapped", accept=["loss-setting", code]
        )
        for name, code in (("books", "loss-shard-number"), ("films", "loss-metadata"))
    ],
)


def test_a_shared_target_is_exported_and_imported_once_as_it_is() -> None:
    made = export_settings(SHARED, side="target", collections=[], directory="out", files=FILES)
    assert names(made) == [("all", "all")]
    assert (made.collections[0].ids, made.collections[0].accept) == ("auto", ["loss-setting"])
    back = import_settings(SHARED, side="target", collections=[], directory="in", files=FILES)
    assert names(back) == [("all", "all")]
    assert (
        len(
            export_settings(
                SHARED, side="source", collections=[], directory="out", files=FILES
            ).collections
        )
        == 2
    )


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize(
    ("side", "exported", "there"),
    [("target", "source", ("books", "films")), ("source", "target", ("all",))],
)
def test_files_of_several_collections_never_become_those_of_one_or_the_other_way(
    side: str, exported: str, there: tuple[str, ...], manifest: bool, tmp_path: Path
) -> None:
    if manifest:
        leave_manifest(SHARED, str(tmp_path), exported, dict.fromkeys(there, 1))
    files = DirectoryOf(settings=FILES.settings, holds=lambda _, name: name in there)
    with pytest.raises(Refused) as caught:
        import_settings(SHARED, side=side, collections=[], directory=str(tmp_path), files=files)
    assert caught.value.code == "target-shared"
