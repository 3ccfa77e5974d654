"""Filters of a search: what the server is asked, and what it is not."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from replicator.connectors.weaviate.classes import Class, Property, Said
from replicator.connectors.weaviate.filters import write_filter
from replicator.connectors.weaviate.messages import (
    AND,
    CONTAINS_ANY,
    EQUAL,
    GREATER_EQUAL,
    LESS,
    NOBODY,
    NOT,
    OR,
)
from replicator.errors import Refused
from replicator.model.filter import parse_search_filter

KEPT = Class(
    name="Docs",
    document={},
    properties={
        each.name: each
        for each in (
            Property("n", "int", None, True),
            Property("x", "number", None, True),
            Property("b", "boolean", None, True),
            Property("u", "uuid", None, True),
            Property("tag", "text", "field", True),
            Property("tags", "text[]", "field", True),
            Property("body", "text", "word", True),
            Property("dark", "int", None, False),
        )
    },
    left=(),
    vectors={},
    rest="payload",
    tenants=False,
    said=Said(),
)
ONE = str(uuid.UUID(int=1))


def written(spec: dict[str, Any]) -> Any:
    return write_filter(parse_search_filter(spec), KEPT)


def test_a_value_is_asked_in_the_words_of_its_property() -> None:
    for key, value, field in (
        ("n", 5, "value_int"),
        ("x", 5, "value_number"),
        ("b", True, "value_boolean"),
        ("u", ONE, "value_text"),
        ("tag", "a b", "value_text"),
        ("tags", "a", "value_text"),
    ):
        made = written({"must": [{"key": key, "match": {"value": value}}]})
        assert (made.operator, made.target.property) == (EQUAL, key)
        assert getattr(made, field) == value


def test_clauses_become_operators() -> None:
    made = written(
        {
            "must": [{"key": "n", "range": {"gte": 2, "lt": 5}}],
            "should": [{"key": "tag", "match": {"any": ["a", "b"]}}, {"has_id": [ONE.upper()]}],
            "must_not": [{"key": "b", "match": {"value": True}}],
        }
    )
    assert made.operator == AND
    within, some, without = made.filters
    assert [each.operator for each in within.filters] == [GREATER_EQUAL, LESS]
    either, by_id = some.filters
    assert (some.operator, either.operator) == (OR, OR)
    assert (by_id.operator, list(by_id.value_text_array.values)) == (CONTAINS_ANY, [ONE])
    assert (without.operator, len(without.filters)) == (NOT, 1)


def test_ids_that_no_object_has_are_asked_for_as_one_that_is_nobodys() -> None:
    assert list(written({"must": [{"has_id": [5, "x"]}]}).value_text_array.values) == [NOBODY]


@pytest.mark.parametrize(
    "condition",
    [
        {"key": "body", "match": {"value": "a b"}},  # cut into words there
        {"key": "other", "match": {"value": 1}},  # it stands in the JSON
        {"key": "dark", "match": {"value": 1}},
        {"key": "n", "match": {"value": "5"}},
        {"key": "n", "match": {"value": 1 << 60}},
        {"key": "n", "range": {"gte": 2.5}},
        {"key": "tag", "range": {"gte": "2020-01-01T00:00:00Z"}},
        {"key": "tag", "match": {"text": "a"}},
        {"key": "n", "values_count": {"gte": 1}},
        {"is_empty": {"key": "n"}},
        {"has_vector": "v"},
        {"key": "a.b", "match": {"value": 1}},
    ],
)
def test_what_is_not_the_same_there_is_refused(condition: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        written({"must": [condition]})
    assert caught.value.code == "unsupported"
