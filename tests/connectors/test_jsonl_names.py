"""Every collection name has a file of its own, and every file tells its collection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.jsonl.names import collection_of, file_name
from replicator.connectors.jsonl.store import JsonlStore
from replicator.errors import Refused
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.write import Upsert, WriteBatch
from replicator.testing.store_conformance import floats

LONG = ("a" * 240, "a" * 255, "新闻" * 20 + "向量" * 15, "%" * 90)
NAMES = ("", "articles", "a/b c", "a=b", *LONG)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_collection_of_any_name_is_written_read_and_told(
    tmp_path: Path, name: str
) -> None:
    store = JsonlStore(JsonlSettings(path=str(tmp_path)))
    await store.ensure(CollectionSchema(name=name, vectors=None, ids=IdKinds.UINT64))
    await store.apply(WriteBatch(name, (Upsert(Point(1, {"": floats(1)}, {})),)))
    await store.finish_bulk(name)
    await store.wipe(name)
    assert await store.count(name) == 0
    [path] = tmp_path.iterdir()
    assert collection_of(path) == name
    assert not path.name.startswith(".")
    assert await store.collections() == [name]
    await store.close()


async def test_a_file_that_no_collection_would_have_is_not_listed(tmp_path: Path) -> None:
    for name in ("b c.jsonl", "date=2026.jsonl", ".jsonl", "a.jsonl.new", "a.json", "a.jsonl"):
        (tmp_path / name).write_text('{"id": 1, "vector": [1]}\n')
    store = JsonlStore(JsonlSettings(path=str(tmp_path)))
    assert await store.collections() == ["a"]
    await store.close()


async def test_a_directory_that_is_not_there_lists_nothing(tmp_path: Path) -> None:
    store = JsonlStore(JsonlSettings(path=str(tmp_path / "absent")))
    assert await store.collections() == []
    await store.close()


def test_ordinary_names_have_the_files_that_they_always_had() -> None:
    assert file_name("articles") == "articles.jsonl"
    assert file_name("a/b é") == "a%2Fb%20%C3%A9.jsonl"


def test_a_cut_name_that_the_file_does_not_tell_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / file_name("a" * 255)
    path.write_text('{"id": 1, "vector": [1]}\n')
    with pytest.raises(Refused):
        collection_of(path)


names = st.text(st.characters(codec="utf-8"), max_size=300)


@given(names, names)
def test_no_two_collections_share_a_file(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) is (one == other)
    assert len(os.fsencode(file_name(one) + ".new")) <= 255


@given(st.integers(230, 260), st.integers(230, 260))
def test_names_that_differ_behind_the_cut_have_two_files(one: int, other: int) -> None:
    assert (file_name("a" * one) == file_name("a" * other)) is (one == other)
