"""A query's filter, as the target is asked it."""

from __future__ import annotations

from typing import Any

import pytest

from replicator.errors import Refused
from replicator.migration.equality.asked_filter import Translation, both
from replicator.model.point import PointId
from replicator.settings.transform import TransformSettings

TRANSFORM = TransformSettings(
    drop=["secret"],
    default={"lang": "en"},
    cast={"price": "int"},
    rename={"n": "count", "o": "a.b", "lost": "origin"},
    constant={"origin": "here"},
    vectors={"v": "w"},
)


def hashed(point_id: PointId) -> PointId:
    return f"t{point_id}"


def at_target(spec: dict[str, Any], *, nests: bool = True) -> Any:
    return Translation(TRANSFORM, nests=nests, target_id=hashed).translated(spec)


def test_no_filter_stays_none() -> None:
    assert Translation(TRANSFORM, nests=True, target_id=hashed).translated(None) is None


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ({"key": "year", "match": {"value": 1}}, {"key": "year", "match": {"value": 1}}),
        ({"key": "n", "range": {"gt": 1}}, {"key": "count", "range": {"gt": 1}}),
        ({"key": "n[].x", "is_null": True}, {"key": "count[].x", "is_null": True}),
        ({"key": '"n"', "match": {"value": 1}}, {"key": "count", "match": {"value": 1}}),
        ({"key": "o.p", "match": {"value": 1}}, {"key": '"a.b".p', "match": {"value": 1}}),
        ({"is_empty": {"key": "n"}}, {"is_empty": {"key": "count"}}),
        ({"is_null": {"key": "n"}}, {"is_null": {"key": "count"}}),
        (
            {"nested": {"key": "n", "filter": {"must": [{"key": "n", "match": {"value": 1}}]}}},
            {
                "nested": {
                    "key": "count",
                    "filter": {"must": [{"key": "n", "match": {"value": 1}}]},
                }
            },
        ),
        ({"has_id": [1, 2]}, {"has_id": ["t1", "t2"]}),
        ({"has_vector": "v"}, {"has_vector": "w"}),
        (
            {"should": [{"key": "n", "match": {"value": 1}}]},
            {"should": [{"key": "count", "match": {"value": 1}}]},
        ),
    ],
)
@pytest.mark.parametrize("clause", ["must", "should", "must_not"])
def test_names_are_those_of_the_target(
    clause: str, asked: dict[str, Any], there: dict[str, Any]
) -> None:
    assert at_target({clause: [asked]}) == {clause: [there]}


def test_some_of_several_are_translated_and_counted_as_before() -> None:
    condition = {"key": "n", "match": {"value": 1}}
    spec = {"min_should": {"conditions": [condition], "min_count": 1}}
    assert at_target(spec) == {
        "min_should": {"conditions": [condition | {"key": "count"}], "min_count": 1}
    }


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"key": "secret", "match": {"value": 1}}, "'secret' does not travel"),
        ({"key": "lost", "match": {"value": 1}}, "'lost' does not travel"),
        ({"key": "lang", "match": {"value": "de"}}, "changes the field 'lang'"),
        ({"key": "price", "range": {"gt": 1}}, "changes the field 'price'"),
        ({"has_vector": "other"}, "'other' does not travel"),
    ],
)
def test_what_the_transform_changes_cannot_be_asked(
    condition: dict[str, Any], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        at_target({"must": [condition]})


@pytest.mark.parametrize(
    "condition",
    [
        {"key": "year.deep", "match": {"value": 1}},
        {"nested": {"key": "year", "filter": {"must": [{"key": "x", "is_null": True}]}}},
    ],
)
def test_nothing_lies_below_a_field_of_a_target_that_does_not_nest(
    condition: dict[str, Any],
) -> None:
    with pytest.raises(Refused, match="is a text at the target"):
        at_target({"must": [condition]}, nests=False)


def test_only_what_is_kept_can_be_asked() -> None:
    keeping = Translation(TransformSettings(keep=["a"]), nests=True, target_id=hashed)
    assert keeping.translated({"must": [{"key": "a", "is_null": True}]})
    with pytest.raises(Refused):
        keeping.translated({"must": [{"key": "b", "is_null": True}]})


def test_of_two_filters_both_must_match() -> None:
    one = {"must": [{"key": "a", "is_null": True}]}
    other = {"must_not": [{"key": "b", "is_null": True}]}
    assert both(one, None) is one
    assert both(None, other) is other
    assert both(None, None) is None
    assert both(one, other) == {"must": [one, other]}
