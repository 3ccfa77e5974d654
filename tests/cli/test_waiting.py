from __future__ import annotations

from replicator.cli.waiting import Figures


def test_an_estimate_that_was_too_low_makes_no_bar_longer_than_whole() -> None:
    assert Figures(7, 10).most == 10
    assert Figures(12, 10).most == 12
    assert Figures(12, None).most is None
