"""
Where the time of a test run goes: one line for each folder of tests, the dearest first, with
the time that it may take. One that takes more is marked, and fails nothing: a busy machine is
no defect, and a tier that is marked on an idle one has grown too dear.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

import pytest

BUDGETS_S = {
    "cli": 50,
    "codecs": 30,
    "connectors": 340,
    "crash": 170,
    "daemon": 30,
    "demo": 190,
    "docs": 15,
    "embedding": 5,
    "endtoend": 700,
    "failpoints": 70,
    "feeds": 210,
    "http": 10,
    "kinds": 20,
    "local_store": 20,
    "matrix": 90,
    "memory": 60,
    "migration": 70,
    "model": 10,
    "mutants": 20,
    "packaging": 15,
    "settings": 20,
    "simulation": 1050,
    "state": 10,
    "stream": 50,
    "testing": 30,
    "traffic": 10,
}
"""Seconds of one worker for each tier of `make test`, on a machine that does nothing else. They
fit into the 25 minutes of its three workers; twice as long, and nobody would run it before each
change."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for group in terminalreporter.stats.values()
        for report in group
        if isinstance(report, pytest.TestReport)
    ]
    lines = table(reports)
    if len(lines) > 2:  # of one folder pytest itself says as much
        terminalreporter.section("time by tier, of all workers together")
        for line in lines:
            terminalreporter.write_line(line)


def table(reports: list[Any]) -> list[str]:
    """The tiers by their seconds, and the sum: setting up and taking down included."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        tier = tier_of(report.nodeid)
        seconds[tier] += report.duration
        tests[tier].add(report.nodeid)
    whole = sum(seconds.values())
    rows = sorted(seconds.items(), key=lambda row: -row[1])
    return [
        _line(tier, spent, BUDGETS_S.get(tier), spent / (whole or 1), len(tests[tier]))
        for tier, spent in rows
    ] + [_line("all", whole, sum(BUDGETS_S.values()), 1.0, sum(map(len, tests.values())))]


def _line(tier: str, spent_s: float, budget_s: int | None, share: float, tests: int) -> str:
    of = "" if budget_s is None else f"of {budget_s:4} s"
    over = "  OVER BUDGET" if budget_s is not None and spent_s > budget_s else ""
    return f"{tier:14} {spent_s:8.1f} s {of:9}  {share:4.0%}  {tests:5} tests{over}"


def tier_of(nodeid: str) -> str:
    """The folder below `tests` that a test lies in."""
    parts = PurePosixPath(nodeid.partition("::")[0]).parts
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else "(other)"
