"""The time of a test run, by tier."""

from __future__ import annotations

from types import SimpleNamespace

from tests.plugins.budget import table, tier_of


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
    assert [line.split() for line in lines] == [
        ["crash", "3.5", "s", "88%", "2", "tests"],
        ["stream", "0.5", "s", "12%", "1", "tests"],
        ["all", "4.0", "s", "3", "tests"],
    ]


def test_a_tier_is_the_folder_below_tests() -> None:
    assert tier_of("tests/feeds/kafka/test_feed.py::test_a") == "feeds"
    assert tier_of("tests/test_alone.py::test_a") == "(other)"
