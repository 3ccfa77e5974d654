"""Two URLs are a configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from replicator.cli import addresses
from replicator.cli.addresses import addressed
from replicator.errors import Refused
from replicator.kinds import kinds, variants
from replicator.settings.load import load
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings

EXAMPLES = [
    (kind.name, text)
    for kind in kinds().values()
    if kind.url is not None
    for text in kind.url.example.split(", ")
]
FILES = "jsonl:///folder/name"


def of(source: str, target: str = FILES, **more: object) -> Settings:
    return addressed(source, target, folder=Path("var"), **more).settings  # type: ignore[arg-type]


def fields(section: StoreSettings, *names: str) -> tuple[object, ...]:
    return tuple(getattr(section, name) for name in names)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("SOURCE", "TARGET"):
        monkeypatch.setenv(f"{side}_API_KEY", f"the {side} key")


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_the_examples_of_a_kind_are_urls_of_it(kind: str, text: str) -> None:
    for told in (of(text), of("jsonl:///other/name", text)):
        assert kind in (told.source.__struct_config__.tag, told.target.__struct_config__.tag)


def test_a_section_is_what_the_url_says() -> None:
    told = of("chroma:///data/articles", "qdrant+https://db:1/copy?shard_number=2")
    assert fields(told.source, "path", "url") == ("/data", "http://localhost:8000")
    assert fields(told.target, "url", "shard_number") == ("https://db:1", 2)
    assert [(each.source, each.target) for each in told.collections] == [("articles", "copy")]


def test_without_a_collection_all_are_meant_each_under_its_own_name() -> None:
    told = of("qdrant://db", "jsonl:///folder/")
    assert told.has_patterns
    assert [(each.source, each.target) for each in told.collections] == [("*", "*")]
    assert of("qdrant://db/articles", "jsonl:///folder/").targets == ["articles"]


def test_a_pattern_and_the_collection_without_a_name_are_said_too() -> None:
    assert of("qdrant://db/docs-*", "jsonl:///folder/").has_patterns
    told = of("pinecone://index/__default__", FILES)
    assert [each.source for each in told.collections] == [""]


def test_secrets_come_from_the_environment_by_the_side_they_are_of(tmp_path: Path) -> None:
    told = addressed("pinecone://i/n", "qdrant://db/a", folder=tmp_path)
    keys = [each.api_key.reveal() for each in (told.settings.source, told.settings.target)]  # type: ignore[attr-defined]
    assert keys == ["the SOURCE key", "the TARGET key"]
    assert "the SOURCE key" not in told.text


def test_the_text_is_the_same_configuration(tmp_path: Path) -> None:
    told = addressed(
        'jsonl:///a "b"/n%7F${HOME}%C3%A9',
        "chroma://db/copy?document_field=text",
        accept=["loss-hnsw"],
        recall_min=0.5,
        folder=tmp_path,
    )
    path = tmp_path / "written.toml"
    path.write_text(told.text)
    assert load(path, {}, variants()) == told.settings
    assert fields(told.settings.source, "path") == ('/a "b"',)
    [collection] = told.settings.collections
    assert collection.source == "n\x7f${HOME}é"
    assert collection.target_options == {"document_field": "text"}
    assert collection.accept == ["loss-hnsw"]
    assert told.settings.verify.recall_min == 0.5


def test_a_copy_is_named_by_what_it_copies_where() -> None:
    one = of("qdrant://db/a")
    assert re.fullmatch(r"qdrant-to-jsonl-[0-9a-f]{8}", one.name)
    assert one.state.path == f"var/{one.name}.db"
    same = (
        of("qdrant://db:6334/a?timeout=5s"),
        of("qdrant://db/a", accept=["loss-hnsw"], recall_min=0.1),
    )
    assert {each.name for each in same} == {one.name}
    others = (of("qdrant://db/b"), of("qdrant://dc/a"), of("qdrant://db/a", "jsonl:///f/other"))
    assert one.name not in {each.name for each in others}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://db/a", "there is no kind of store 'http'"),
        ("somewhere", "does not begin with a kind"),
        ("qdrant:///folder/a", "such as qdrant://localhost:6334/articles: it names no host"),
        ("qdrant://db/a?colour=red", "'colour' is no setting"),
        ("qdrant://db/a?url=x", "url stands in the URL already"),
        ("qdrant://db/a?api_key=sesame", "SOURCE_API_KEY"),
        ("pgvector://app:sesame@db/base/table", "PGPASSWORD"),
        ("pgvector://db/table", "the database and the table"),
        ("pinecone://index/a/b", "and nothing else"),
        ("qdrant://u:sesame@db/a#x", "%23"),
    ],
)
def test_what_is_wrong_with_a_url_is_told_without_a_secret(text: str, why: str) -> None:
    with pytest.raises(Refused, match=re.escape(why)) as refused:
        of(text)
    assert refused.value.code == "bad-request"
    assert "sesame" not in refused.value.message


def test_a_setting_that_does_not_fit_is_told_by_its_path() -> None:
    with pytest.raises(Refused, match=r"source\.timeout") as refused:
        of("qdrant://db/a?timeout=soon")
    assert refused.value.code == "config-invalid"


def test_a_kind_without_a_url_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    mute = {"jsonl": replace(kinds()["jsonl"], url=None)}
    monkeypatch.setattr(addresses, "kinds", lambda: mute)
    with pytest.raises(Refused, match="replicator init --source jsonl") as refused:
        of(FILES)
    assert refused.value.code == "unsupported"
