"""Names and patterns in the configuration, and the collections that they mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.errors import Refused
from replicator.kinds import variants
from replicator.settings.expansion import check_matched, expanded, lists, may_be_target
from replicator.settings.load import from_toml, redacted
from replicator.settings.patterns import Pattern, read_name
from replicator.settings.settings import Settings

FEED = {"kind": "changelog", "path": "changes.db"}
TABLES = [{"collection": "a", "key": ["id"], "vectors": {"v": ""}}]


def read(collections: Any, **sections: Any) -> Settings:
    document: dict[str, Any] = {
        "name": "n",
        "source": {"kind": "jsonl", "path": "one"},
        "target": {"kind": "jsonl", "path": "two"},
        "collections": collections,
        "feed": {"kind": "none"},
        **sections,
    }
    return from_toml(document, {}, variants())


def refusal(collections: Any, **sections: Any) -> str:
    with pytest.raises(Refused) as caught:
        read(collections, **sections)
    assert caught.value.code == "config-invalid"
    return caught.value.message


def pairs(settings: Settings) -> list[tuple[str, str]]:
    return [(each.source, each.target) for each in settings.collections]


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("*", ["a", "", "a\nb"], []),
        ("docs-*", ["docs-", "docs-a"], ["docs", "my-docs-a", "Docs-a"]),
        ("docs-?", ["docs-a", "docs-?"], ["docs-", "docs-ab"]),
        ("v[0-9]", ["v1"], ["va", "v10", "v[0-9]"]),
        ("v[!0-9]", ["va"], ["v1", "v"]),
        ("[]a]", ["]", "a"], ["[]a]"]),
        ("[*]*", ["*", "*a"], ["a"]),
        ("a.b*", ["a.b"], ["axb"]),
    ],
)
def test_a_pattern_stands_for_whole_names(text: str, yes: list[str], no: list[str]) -> None:
    pattern = read_name(text)
    assert isinstance(pattern, Pattern)
    assert [name for name in yes + no if pattern.matches(name)] == yes


@pytest.mark.parametrize(
    ("text", "name"), [("a", "a"), ("", ""), ("a[*]b", "a*b"), ("[[]x]", "[x]"), ("[?]", "?")]
)
def test_a_character_in_brackets_is_itself(text: str, name: str) -> None:
    assert read_name(text) == name
    assert not isinstance(read_name(text), Pattern)


@given(st.text())
def test_every_name_can_be_written(name: str) -> None:
    written = "".join(f"[{char}]" if char in "*?[" else char for char in name)
    assert (read_name(written), type(read_name(written))) == (name, str)
    assert read_name(f"{written}*").matches(name)  # type: ignore[attr-defined]


def test_a_bracket_that_nothing_closes_is_refused() -> None:
    for text in ("a[b", "[", "[!]", "[]"):
        assert "collections[0].source" in refusal([{"source": text}])


def test_a_star_for_all_is_a_table_for_all() -> None:
    whole = read("*")
    assert whole == read([{"source": "*"}]) == read([{"source": "*", "target": "*"}])
    assert whole.has_patterns
    assert pairs(expanded(whole, ["b", "a"])) == [("a", "a"), ("b", "b")]
    assert "[[collections]]" in refusal("docs-*")


def test_a_name_without_a_target_keeps_its_name() -> None:
    settings = read([{"source": "a"}, {"source": "b", "target": "c"}, {"source": "x[*]"}])
    assert pairs(settings) == [("a", "a"), ("b", "c"), ("x*", "x*")]
    assert not settings.has_patterns
    assert expanded(settings, ["x1", "b"]) == settings


def test_what_is_expanded_has_names_that_look_like_patterns() -> None:
    settings = expanded(read("*"), ["a*", "a1"])
    assert not settings.has_patterns
    assert expanded(settings, ["a2"]) == settings


def test_what_a_table_says_goes_for_each_that_it_takes() -> None:
    table = {
        "source": "docs-*",
        "accept": ["loss-distance"],
        "scopes": ["x"],
        "transform": {"drop": ["a"]},
    }
    settings = expanded(read([{"source": "z"}, table]), ["docs-b", "docs-a", "other", "z"])
    assert [each.source for each in settings.collections] == ["z", "docs-a", "docs-b"]
    for each in settings.collections[1:]:
        assert (each.accept, each.scopes) == (["loss-distance"], ["x"])
        assert each.transform.drop == ["a"]


@pytest.mark.parametrize(
    ("collections", "path", "words"),
    [
        ([{"source": "docs-*", "target": "copies"}], "collections[0].target", "leave `target`"),
        ([{"source": "a*"}, {"source": "a*"}], "collections[1].source", "collections[0]"),
        ([{"source": "*", "source_options": {"x": 1}}], "collections[0].source_options", ""),
    ],
)
def test_what_no_pattern_can_have_is_refused(collections: Any, path: str, words: str) -> None:
    message = refusal(collections)
    assert message.startswith(f"{path}")
    assert words in message


def test_a_pattern_needs_two_stores() -> None:
    same = {"kind": "jsonl", "path": "one"}
    assert refusal("*", target=same).startswith("collections[0].source: is a pattern")


def test_a_databases_own_log_is_read_by_tables_that_are_named() -> None:
    feed = FEED | {"decoder": "debezium", "tables": TABLES}
    named = [{"source": "a"}]
    qdrant = {"source": {"kind": "qdrant"}}
    assert read(named, feed=feed, **qdrant).collections[0].source == "a"
    message = refusal([*named, {"source": "b*"}], feed=feed, **qdrant)
    assert message.startswith("collections[1].source: is a pattern, and the decoder `debezium`")


def test_a_pattern_that_matches_nothing_is_named() -> None:
    settings = read([{"source": "a"}, {"source": "b*"}, {"source": "c*"}])
    check_matched(settings, ["b", "cc"])
    with pytest.raises(Refused, match=r"collections\[2\].source: 'c\*'") as caught:
        check_matched(settings, ["b"])
    assert caught.value.code == "collections-unmatched"


def test_what_may_be_meant_is_known_without_a_store() -> None:
    settings = read([{"source": "a", "target": "b"}, {"source": "docs-*"}])
    assert [name for name in ("a", "b", "docs-1", "x") if lists(settings, name)] == [
        "a",
        "docs-1",
    ]
    assert [name for name in ("a", "b", "docs-1", "x") if may_be_target(settings, name)] == [
        "b",
        "docs-1",
    ]


def test_patterns_are_shown_as_they_are_written() -> None:
    shown = msgspec.json.encode(redacted(read([{"source": "docs-*"}])))
    assert msgspec.json.decode(shown)["collections"][0]["source"] == "docs-*"


def test_only_a_kind_knows_whether_a_collection_can_have_no_name() -> None:
    assert pairs(read([{"source": "", "target": ""}])) == [("", "")]
    chroma = {"kind": "chroma"}
    for kind, words in (({"kind": "qdrant"}, "is empty"), (chroma, "is no name for Chroma")):
        assert words in refusal([{"source": ""}], target=kind)
