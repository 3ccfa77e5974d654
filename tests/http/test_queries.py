"""Queries as people write them: one question each, and back again unchanged."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.errors import Refused
from replicator.http.queries import QueryBody, VerifyBody, query_from, verify_body, verify_from
from replicator.model.point import ScopedId


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "one of `vector`, `id` and `text`"),
        ({"vector": [1.0], "id": 1}, "one of `vector`, `id` and `text`"),
        ({"vector": [1.0], "text": "a"}, "one of `vector`, `id` and `text`"),
        ({"text": " ", "expect": [1]}, "text: it is blank"),
        ({"text": "a"}, "says with `expect` which ids must be found"),
        ({"vector": [float("inf")]}, "NaN or Infinity"),
        ({"id": 1, "limit": 0}, "limit: expected at least 1"),
    ],
)
def test_a_query_asks_one_thing(given: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        query_from(msgspec.convert(given, QueryBody))
    assert caught.value.code == "bad-request"


@pytest.mark.parametrize(
    "given",
    [
        {"vector": [1.0, 2.0], "using": "v", "class": "rare"},
        {"id": "a", "scope": "tenant", "filter": {"must": []}},
        {"text": "a book", "using": "text", "expect": [1, "b"], "limit": 3},
        {"text": "a book", "scope": "tenant", "expect": ["b"]},
        {"vector": [1.0], "expect": [7], "collection": "books"},
    ],
)
def test_a_query_comes_to_the_daemon_as_it_was_written(given: dict[str, Any]) -> None:
    written = verify_from(msgspec.convert({"queries": [given]}, VerifyBody))
    assert verify_from(verify_body(written)) == written
    assert written.queries is not None
    [query] = written.queries
    if "scope" in given:
        ids = [each for each in (query.id, *query.expect) if each is not None]
        assert all(isinstance(each, ScopedId) and each.scope == "tenant" for each in ids)
