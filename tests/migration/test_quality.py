from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.migration.equality.quality import overlap, rank_agreement, recall

answers = st.lists(st.integers(0, 12) | st.sampled_from("xyz"), unique=True, max_size=10)


def test_recall_counts_the_expected_among_the_first_k() -> None:
    assert recall([1, 2, 3, 4], [4, 3, 9, 1], 4) == 0.75
    assert recall([1, 2, 3, 4], [4, 3, 2, 1], 2) == 0.0
    assert recall([1, 2], [2, 1], 10) == 1.0
    assert recall([1, 2], [], 10) == 0.0


def test_nothing_expected_is_nothing_missed() -> None:
    assert recall([], [1], 10) == 1.0


def test_an_integer_id_is_not_its_text() -> None:
    assert recall([5], ["5"], 1) == overlap([5], ["5"]) == rank_agreement([5], ["5"]) == 0.0


def test_overlap_is_shared_over_all() -> None:
    assert overlap([1, 2, 3], [3, 2, 9]) == 0.5
    assert overlap([], []) == 1.0
    assert overlap([], [1]) == 0.0


def test_rank_agreement_is_the_weighted_mean_of_the_agreement_at_each_depth() -> None:
    # Depth 1 agrees on nothing, depth 2 on both: 0.9 / (1 + 0.9).
    assert rank_agreement([1, 2], [2, 1]) == pytest.approx(0.9 / 1.9)


def test_a_swap_at_the_top_costs_more_than_one_at_the_end() -> None:
    order = list(range(10))
    top = [1, 0, *order[2:]]
    end = [*order[:8], 9, 8]
    assert rank_agreement(order, top) < rank_agreement(order, end) < 1.0


def test_a_short_answer_agrees_less_than_a_full_one() -> None:
    assert rank_agreement([1, 2, 3], [1]) < 1.0
    assert rank_agreement([1, 2, 3], [1]) > rank_agreement([1, 2, 3], [])


@given(answers, answers)
def test_every_measure_lies_between_no_and_full_agreement(
    first: list[int | str], second: list[int | str]
) -> None:
    for measure in (overlap(first, second), rank_agreement(first, second)):
        assert 0.0 <= measure <= 1.0 + 1e-12
        assert (measure == pytest.approx(0.0)) == (
            bool(first or second) and not set(first) & set(second)
        )
    assert rank_agreement(first, second) == pytest.approx(rank_agreement(second, first))
    assert overlap(first, second) == overlap(second, first)
    assert (rank_agreement(first, second) == pytest.approx(1.0)) == (first == second)
    assert 0.0 <= recall(first, second, 5) <= 1.0


@given(answers)
def test_equal_answers_agree_in_full(answer: list[int | str]) -> None:
    assert recall(answer, answer, 5) == overlap(answer, answer) == 1.0
    assert rank_agreement(answer, answer) == pytest.approx(1.0)
