"""The time of a test run, by tier."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests.plugins.budget import BUDGETS_S, table, tier_of

ROOT = Path(__file__).parents[2]


def report(nodeid: str, duration: float) -> SimpleNamespace:
    return SimpleNamespace(nodeid=nodeid, duration=duration)


def test_the_phases_of_a_test_are_summed_and_the_dearest_tier_comes_first() -> None:
    lines = table(
        [
            report("tests/stream/test_lane.py::test_a", 0.5),
            report("tests/crash/test_kill.py::test_b", 2.0),
            report("tests/crash/test_kill.py::test_b", 1.0),
            report("tests/crash/test_kill.py::test_c[x/y]", 0.5),
        ]
    )
    assert [" ".join(line.split()) for line in lines] == [
        f"crash 3.5 s of {BUDGETS_S['crash']} s 88% 2 tests",
        f"stream 0.5 s of {BUDGETS_S['stream']} s 12% 1 tests",
        f"all 4.0 s of {sum(BUDGETS_S.values())} s 100% 3 tests",
    ]


def test_a_tier_that_takes_longer_than_it_may_is_marked() -> None:
    within, over = BUDGETS_S["stream"], BUDGETS_S["crash"] + 1
    lines = table(
        [
            report("tests/stream/test_lane.py::test_a", within),
            report("tests/crash/test_kill.py::test_b", over),
            report("tests/new/test_tier.py::test_c", 9000.0),
        ]
    )
    assert [line.split()[0] for line in lines if line.endswith("OVER BUDGET")] == [
        "crash",
        "all",
    ]


def test_every_tier_has_a_budget_and_all_fit_into_25_minutes_of_three_workers() -> None:
    tiers = {tier_of(str(path.relative_to(ROOT))) for path in ROOT.glob("tests/**/test_*.py")}
    assert tiers == BUDGETS_S.keys()
    assert sum(BUDGETS_S.values()) <= 25 * 60 * 2.5, "three workers share two cores"


def test_a_tier_is_the_folder_below_tests() -> None:
    assert tier_of("tests/feeds/kafka/test_feed.py::test_a") == "feeds"
    assert tier_of("tests/test_alone.py::test_a") == "(other)"
