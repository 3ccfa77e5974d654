"""A store as one word."""

from __future__ import annotations

import pytest

from replicator.model.store_url import read_store_url


def test_a_url_says_kind_place_and_collection() -> None:
    url = read_store_url("qdrant://db:6334/articles")
    assert (url.kind, url.place, url.folder, url.collection) == (
        "qdrant",
        "db:6334",
        "/",
        "articles",
    )
    assert url.http(6334) == "http://db:6334"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("chroma://db/articles", "http://db:8000"),
        ("chroma://db", "http://db:8000"),
        ("chroma+http://[::1]/articles", "http://[::1]:8000"),
        # Where TLS is, its own port is meant.
        ("chroma+https://db/articles", "https://db"),
        ("chroma+https://db:9/articles", "https://db:9"),
    ],
)
def test_the_transport_and_the_port_of_a_server(text: str, address: str) -> None:
    assert read_store_url(text).http(8000) == address


@pytest.mark.parametrize(
    ("text", "path", "collection"),
    [
        ("jsonl:///a/b/name", "/a/b", "name"),
        ("jsonl:a/b/name", "a/b", "name"),
        ("jsonl:./name", ".", "name"),
        ("jsonl:///name", "/", "name"),
        ("jsonl:///a/b/", "/a/b", None),
        ("jsonl:///a%20b/n%2Fame%3F", "/a b", "n/ame?"),
    ],
)
def test_a_folder_is_absolute_or_relative(text: str, path: str, collection: str | None) -> None:
    url = read_store_url(text)
    assert (url.path, url.collection) == (path, collection)


def test_settings_stand_behind_the_question_mark() -> None:
    url = read_store_url("chroma://db/a?tenant=t%20t&database=")
    assert url.given == {"tenant": "t t", "database": ""}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("articles", "does not begin with a kind"),
        ("//db/articles", "does not begin with a kind"),
        ("qdrant://db/a#b", "%23"),
        ("qdrant://db/a?b", "bad query field"),
        ("qdrant://db/a?b=1&b=2", "b stands there twice"),
        ("qdrant://[db/a", "IPv6"),
    ],
)
def test_what_is_no_url_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_store_url(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("qdrant+tcp://db/a", "'tcp' is no transport"),
        ("qdrant:a", "names no host"),
        ("qdrant://db/a/b", "and nothing else"),
        ("qdrant://db:port/a", "Port"),
    ],
)
def test_what_is_no_server_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_store_url(text).http(6334)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("jsonl://folder/name", "three slashes"),
        ("jsonl+file:///folder/name", "three slashes"),
        ("jsonl:name", "names no folder"),
    ],
)
def test_what_is_no_folder_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        _ = read_store_url(text).path
