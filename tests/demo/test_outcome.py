from __future__ import annotations

import json

from replicator.demo.oracle import Comparison
from replicator.demo.outcome import Outcome, Proof


def proof(recall: float = 1.0, **counts: int) -> Proof:
    examples = [f"{count} {kind}" for kind, count in counts.items() if count]
    return Proof(
        after="cutover",
        source=Comparison(points=10),
        target=Comparison(points=10, examples=examples, **counts),
        recall_at_10=recall,
    )


def outcome() -> Outcome:
    return Outcome(seed=1, feed="change log")


def test_equal_stores_are_a_success() -> None:
    seen = outcome()
    seen.prove(proof())
    assert seen.ok
    assert json.loads(seen.json())["ok"] is True


def test_every_kind_of_difference_is_a_failure() -> None:
    for kind in ("missing", "extra", "different"):
        seen = outcome()
        seen.prove(proof(**{kind: 1}))
        assert not seen.ok, kind
        assert json.loads(seen.json())["ok"] is False


def test_a_search_that_finds_other_points_or_none_is_a_failure() -> None:
    for recall in (0.9, float("nan")):
        seen = outcome()
        seen.prove(proof(recall))
        assert not seen.ok


def test_a_request_that_failed_is_a_failure_even_when_the_stores_are_equal() -> None:
    seen = outcome()
    seen.prove(proof())
    seen.failed_requests = 1
    assert not seen.ok
