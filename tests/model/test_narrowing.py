"""What is left of a filter when a store can be trusted with some of its conditions only."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from replicator.model.filter import Condition, Field, Filter, HasId, parse_filter
from replicator.model.narrowing import at_least
from replicator.stream.filter import compiled
from tests.stream.test_filter_engine import random_filter, random_value

A = {"key": "a", "match": {"value": "x"}}
B = {"key": "b", "match": {"value": "x"}}
UNSURE = {"key": "u", "match": {"value": "x"}}


def sure(condition: Condition) -> Condition | None:
    return None if isinstance(condition, Field) and condition.key == "u" else condition


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        ({"must": [A, UNSURE]}, {"must": [A]}),
        ({"must": [UNSURE]}, None),
        ({"must": [A], "should": [B, UNSURE]}, {"must": [A]}),
        ({"must_not": [A, UNSURE]}, {"must_not": [A]}),
        # What bars a point must bar it surely: not (a and u) is not "not a".
        ({"must_not": [{"must": [A, UNSURE]}]}, None),
        ({"must_not": [{"should": [A, UNSURE]}]}, {"must_not": [{"should": [A]}]}),
        ({"must_not": [{"must": [A], "must_not": [UNSURE]}]}, None),
        (
            {"must_not": [{"must": [A], "must_not": [B]}]},
            {"must_not": [{"must": [A], "must_not": [B]}]},
        ),
        (
            {"min_should": {"conditions": [A, B, UNSURE], "min_count": 2}},
            {"min_should": {"conditions": [A, B], "min_count": 1}},
        ),
        ({"min_should": {"conditions": [A, UNSURE], "min_count": 1}}, None),
        (
            {"must_not": [{"min_should": {"conditions": [A, B, UNSURE], "min_count": 2}}]},
            {"must_not": [{"min_should": {"conditions": [A, B], "min_count": 2}}]},
        ),
        ({"must": [{"must": [UNSURE]}, A]}, {"must": [A]}),
        # Stores do not agree on what an empty filter within a filter matches.
        ({"must_not": [A, {"must": []}]}, {"must_not": [A]}),
    ],
)
def test_what_is_not_sure_is_left_out_so_that_more_matches(
    spec: dict[str, Any], left: dict[str, Any] | None
) -> None:
    wanted = None if left is None else parse_filter(left)
    assert at_least(parse_filter(spec), sure) == wanted


def test_what_is_sure_may_be_asked_in_other_words() -> None:
    found = at_least(parse_filter({"must": [A]}), lambda _: HasId((5,)))
    assert found == Filter(must=(HasId((5,)),))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_matches_the_filter_matches_what_is_left_of_it(seed: int) -> None:
    random = Random(seed)
    payloads = [
        {key: random_value(random) for key in "ab" if random.random() < 0.8} for _ in range(60)
    ]
    telling = 0
    for _ in range(60):
        trusted = random.random()
        dice = Random(random.random())
        tree = parse_filter(random_filter(random))

        def some(
            condition: Condition, dice: Random = dice, trusted: float = trusted
        ) -> Condition | None:
            return condition if dice.random() < trusted else None

        left = at_least(tree, some)
        if left is None:
            continue
        all_of_it, rest = compiled(tree), compiled(left)
        for number, payload in enumerate(payloads, 1):
            assert not all_of_it(number, payload) or rest(number, payload), (tree, left)
        telling += not all(rest(number, payload) for number, payload in enumerate(payloads, 1))
    assert telling > 15
