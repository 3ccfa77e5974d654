from __future__ import annotations

from typing import Any

import pytest

from replicator.errors import Refused
from replicator.stream.filter import Filter

UUID = "0b7cb5c1-5b2c-4b1e-9d0c-3f1a2b3c4d5e"


def must(condition: dict[str, Any]) -> Filter:
    return Filter({"must": [condition]})


def field(key: str = "a", **condition: Any) -> Filter:
    return must({"key": key, **condition})


@pytest.mark.parametrize(
    ("condition", "payload", "expected"),
    [
        ({"match": {"value": 5}}, {"a": 5}, True),
        ({"match": {"value": 5}}, {"a": 6}, False),
        ({"match": {"value": 5}}, {"a": "5"}, False),
        ({"match": {"value": "5"}}, {"a": 5}, False),
        ({"match": {"value": 1}}, {"a": True}, False),
        ({"match": {"value": True}}, {"a": 1}, False),
        ({"match": {"value": True}}, {"a": True}, True),
        ({"match": {"value": 5}}, {"a": [1, 5]}, True),
        ({"match": {"value": 5}}, {"a": [[5]]}, False),
        ({"match": {"value": 5}}, {"a": {"b": 5}}, False),
        ({"match": {"value": 5}}, {"a": None}, False),
        ({"match": {"any": [1, 5]}}, {"a": 5}, True),
        ({"match": {"any": ["x", 5]}}, {"a": ["y"]}, False),
        ({"match": {"any": []}}, {"a": 5}, False),
        ({"match": {"except": [5]}}, {"a": 6}, True),
        ({"match": {"except": [5]}}, {"a": [5, 6]}, True),
        ({"match": {"except": [5]}}, {"a": [5]}, False),
        ({"match": {"except": [5]}}, {"a": "5"}, True),
        ({"match": {"except": [5]}}, {"a": None}, False),
        ({"match": {"except": [5]}}, {"a": []}, False),
        ({"match": {"text": "blue sky"}}, {"a": "The Sky was blue."}, True),
        ({"match": {"text": "blue sky"}}, {"a": "sky, blue"}, True),
        ({"match": {"text": "blue sky"}}, {"a": "the sky"}, False),
        ({"match": {"text": "sky"}}, {"a": "skyline"}, False),
        ({"match": {"text_any": "blue sky"}}, {"a": ["the sky"]}, True),
        ({"match": {"text_any": "blue sky"}}, {"a": ["green"]}, False),
        ({"match": {"phrase": "sky was"}}, {"a": "The sky, was blue"}, True),
        ({"match": {"phrase": "was sky"}}, {"a": "The sky was blue"}, False),
        ({"match": {"phrase": "ky was"}}, {"a": "The sky was blue"}, False),
        ({"match": {"substring": "y w"}}, {"a": "sky was"}, True),
        ({"match": {"substring": "Y W"}}, {"a": "sky was"}, False),
        ({"match": {"prefix": "sk"}}, {"a": "sky"}, True),
        ({"match": {"prefix": "ky"}}, {"a": "sky"}, False),
        ({"match": {"prefix": "5"}}, {"a": 5}, False),
        ({"range": {"gte": 5}}, {"a": 5}, True),
        ({"range": {"gt": 5}}, {"a": 5}, False),
        ({"range": {"lte": 5}}, {"a": 5.0}, True),
        ({"range": {"lt": 5}}, {"a": 5}, False),
        ({"range": {"gt": 1, "lt": 5}}, {"a": [0, 7]}, False),
        ({"range": {"gt": 1, "lt": 5}}, {"a": [0, 3]}, True),
        ({"range": {"gte": 0}}, {"a": True}, False),
        ({"range": {"gte": 0}}, {"a": "5"}, False),
        ({"range": {"gt": 2**53}}, {"a": 2**53 + 1}, True),
        ({"range": {"gte": "2024-01-01T00:00:00Z"}}, {"a": "2024-01-01"}, True),
        ({"range": {"lt": "2024-01-01T01:00:00+01:00"}}, {"a": "2024-01-01"}, False),
        ({"range": {"gte": "2024-01-01"}}, {"a": "soon"}, False),
        ({"range": {"gte": "2024-01-01"}}, {"a": 2024}, False),
        ({"values_count": {"gte": 2}}, {"a": [1, 2]}, True),
        ({"values_count": {"gte": 2}}, {"a": [1]}, False),
        ({"values_count": {"lt": 2}}, {"a": "text"}, True),
        ({"values_count": {"gt": 0}}, {"a": None}, False),
        ({"is_empty": True}, {"a": []}, True),
        ({"is_empty": False}, {"a": 0}, True),
        ({"is_null": True}, {"a": None}, True),
        ({"is_null": True}, {"a": []}, False),
        ({"is_null": False}, {"a": []}, True),
    ],
)
def test_a_condition_says_what_it_says(
    condition: dict[str, Any], payload: dict[str, Any], expected: bool
) -> None:
    assert field(**condition).matches(1, payload) is expected


@pytest.mark.parametrize(
    "condition",
    [
        {"match": {"value": 5}},
        {"match": {"any": [5]}},
        {"match": {"except": [5]}},
        {"match": {"text": "five"}},
        {"range": {"lt": 5}},
        {"values_count": {"gte": 1}},
        {"is_null": True},
    ],
)
def test_a_missing_field_matches_nothing(condition: dict[str, Any]) -> None:
    assert not field(**condition).matches(1, {"b": 5})


def test_a_missing_field_is_empty_and_counts_nothing() -> None:
    assert must({"is_empty": {"key": "a"}}).matches(1, {})
    assert field(values_count={"lt": 1}).matches(1, {})


def test_a_whole_number_and_its_integral_float_are_one_value_as_stores_swap_them() -> None:
    assert field(match={"value": 5}).matches(1, {"a": 5.0})
    assert field(match={"any": [5.0]}).matches(1, {"a": 5})
    assert not field(match={"except": [5]}).matches(1, {"a": 5.0})


@pytest.mark.parametrize(
    ("key", "payload", "expected"),
    [
        ("a.b", {"a": {"b": 5}}, True),
        ("a.b", {"a.b": 5}, False),
        ('"a.b"', {"a.b": 5}, True),
        ('x."a.b"', {"x": {"a.b": 5}}, True),
        ("a.b", {"a": [{"b": 5}]}, False),
        ("a[].b", {"a": [{"b": 1}, {"b": 5}]}, True),
        ("a[].b", {"a": {"b": 5}}, False),
        ("a[].b", {"a": [{"b": [4, 5]}]}, True),
        ("a[1].b", {"a": [{"b": 5}, {"b": 1}]}, False),
        ("a[0].b", {"a": [{"b": 5}]}, True),
        ("a[7]", {"a": [5]}, False),
        ("a[]", {"a": [[5]]}, True),
        ("a[][]", {"a": [[5]]}, True),
        ("a.b[].c", {"a": {"b": [{"c": 5}]}}, True),
    ],
)
def test_a_key_is_a_path(key: str, payload: dict[str, Any], expected: bool) -> None:
    assert field(key, match={"value": 5}).matches(1, payload) is expected


def test_values_are_counted_where_the_path_leads_and_one_place_is_enough() -> None:
    two = field("a[].b", values_count={"gte": 2})
    assert two.matches(1, {"a": [{"b": [1, 2]}, {"b": 1}]})
    assert not two.matches(1, {"a": [{"b": 1}, {"b": 2}]})


def test_nested_asks_all_of_one_element() -> None:
    nested = must(
        {
            "nested": {
                "key": "parts",
                "filter": {
                    "must": [{"key": "kind", "match": {"value": "x"}}],
                    "must_not": [{"key": "size", "range": {"gt": 3}}],
                },
            }
        }
    )
    assert nested.matches(1, {"parts": [{"kind": "y"}, {"kind": "x", "size": 2}]})
    assert not nested.matches(
        1, {"parts": [{"kind": "x", "size": 9}, {"kind": "y", "size": 1}]}
    )
    assert not nested.matches(1, {"parts": {"kind": "x"}})
    assert nested.fields == {"parts"}


def test_clauses_join_as_all_some_and_none() -> None:
    joined = Filter(
        {
            "must": {"key": "a", "match": {"value": 1}},
            "should": [
                {"key": "b", "match": {"value": 1}},
                {"key": "c", "match": {"value": 1}},
            ],
            "must_not": [{"key": "d", "match": {"value": 1}}],
        }
    )
    assert joined.matches(1, {"a": 1, "c": 1})
    assert not joined.matches(1, {"a": 1})
    assert not joined.matches(1, {"b": 1, "c": 1})
    assert not joined.matches(1, {"a": 1, "b": 1, "d": 1})


def test_filters_nest_in_filters() -> None:
    nested = must({"should": [{"is_null": {"key": "a"}}, {"key": "b", "range": {"gt": 2}}]})
    assert nested.matches(1, {"a": None})
    assert nested.matches(1, {"b": 3})
    assert not nested.matches(1, {"a": 1, "b": 2})
    every_clause = {
        "must": [{"is_empty": {"key": "a"}}],
        "should": [{"is_empty": {"key": "b"}}],
        "must_not": [{"is_empty": {"key": "c"}}],
        "min_should": {"conditions": [{"is_empty": {"key": "d"}}], "min_count": 1},
    }
    assert must(every_clause).matches(1, {"c": 1})
    assert not must(every_clause).matches(1, {"c": 1, "d": 1})


def test_min_should_counts() -> None:
    conditions = [{"key": key, "match": {"value": 1}} for key in "abc"]
    two = Filter({"min_should": {"conditions": conditions, "min_count": 2}})
    assert two.matches(1, {"a": 1, "c": 1})
    assert not two.matches(1, {"b": 1})


def test_an_id_matches_with_its_type_and_a_uuid_in_any_spelling() -> None:
    ids = must({"has_id": [5, UUID.upper()]})
    assert ids.matches(5, {})
    assert ids.matches(UUID, {})
    assert not ids.matches("5", {})
    assert ids.fields == frozenset()


def test_an_empty_filter_matches_everything() -> None:
    empties: tuple[dict[str, Any], ...] = ({}, {"must": []}, {"should": []}, {"must_not": []})
    for empty in empties:
        assert Filter(empty).matches(1, {})


def test_the_fields_are_the_top_level_ones_of_every_condition() -> None:
    deep = Filter(
        {
            "must": [
                {"key": "a.b", "match": {"value": 1}},
                {"should": [{"is_null": {"key": "c[].x"}}]},
            ],
            "must_not": [
                {"nested": {"key": "d", "filter": {"must": [{"is_empty": {"key": "e"}}]}}}
            ],
            "min_should": {"conditions": [{"is_empty": {"key": '"f.g"'}}], "min_count": 1},
        }
    )
    assert deep.fields == {"a", "c", "d", "f.g"}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ([], "filter"),
        ({"musst": []}, "filter.musst"),
        ({"must": "x"}, "filter.must"),
        ({"must": [{}]}, "filter.must[0]"),
        ({"must": [5]}, "filter.must[0]"),
        ({"must": [{"is_full": {"key": "a"}}]}, "filter.must[0].is_full"),
        ({"must": [{"is_null": {"key": "a"}, "has_id": []}]}, "filter.must[0]"),
        ({"must": [{"is_null": "a"}]}, "filter.must[0].is_null"),
        ({"must": [{"has_id": 5}]}, "filter.must[0].has_id"),
        ({"must": [{"has_vector": "v"}]}, "filter.must[0].has_vector"),
        ({"must": [{"has_id": [True]}]}, "filter.must[0].has_id"),
        ({"must": [{"has_id": [5, None]}]}, "filter.must[0].has_id"),
        ({"must": [{"key": "a"}]}, "filter.must[0]"),
        ({"must": [{"key": "a", "geo_radius": {}}]}, "filter.must[0].geo_radius"),
        ({"must": [{"key": "a", "match": 5}]}, "filter.must[0].match"),
        ({"must": [{"key": "a", "match": {"like": "x"}}]}, "filter.must[0].match.like"),
        ({"must": [{"key": "a", "match": {"value": None}}]}, "filter.must[0].match.value"),
        ({"must": [{"key": "a", "match": {"any": "x"}}]}, "filter.must[0].match.any"),
        ({"must": [{"key": "a", "match": {"text": ""}}]}, "filter.must[0].match.text"),
        ({"must": [{"key": "a", "range": {}}]}, "filter.must[0].range"),
        ({"must": [{"key": "a", "range": {"above": 5}}]}, "filter.must[0].range"),
        ({"must": [{"key": "a", "range": {"gt": "soon"}}]}, "filter.must[0].range"),
        (
            {"must": [{"key": "a", "range": {"gt": 5, "lt": "2024-01-01"}}]},
            "filter.must[0].range",
        ),
        ({"must": [{"key": "a", "range": {"gt": True}}]}, "filter.must[0].range"),
        (
            {"must": [{"key": "a", "values_count": {"gt": 1.5}}]},
            "filter.must[0].values_count.gt",
        ),
        ({"must": [{"key": "a", "is_empty": 1}]}, "filter.must[0].is_empty"),
        (
            {"must": [{"key": "a", "match": {"value": 1}, "range": {"gt": 1}}]},
            "filter.must[0]",
        ),
        ({"must": [{"nested": {"key": "a"}}]}, "filter.must[0].nested"),
        (
            {"must": [{"nested": {"key": "a", "filter": {"must": [{"has_id": [1]}]}}}]},
            "filter.must[0].nested.filter.must[0].has_id",
        ),
        ({"min_should": {"conditions": []}}, "filter.min_should"),
        ({"min_should": {"conditions": [], "min_count": -1}}, "filter.min_should.min_count"),
        *(
            ({"must": [{"key": key, "match": {"value": 1}}]}, "filter.must[0].key")
            for key in ("", ".a", "a.", "a..b", "[0]", "a[", "a[x]", "a]", 'a"b', "a[]b", 5)
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(spec: Any, path: str) -> None:
    with pytest.raises(Refused) as refused:
        Filter(spec)
    assert refused.value.code == "transform-invalid"
    assert refused.value.message.startswith(f"{path}: ")


def test_where_texts_are_uuids_has_id_takes_any_spelling() -> None:
    name = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    spec = {"must": [{"has_id": ["{" + name.upper() + "}"]}]}
    assert Filter(spec, uuids=True).matches(name, {})
    assert not Filter(spec).matches(name, {})
