"""Where the time of a test run goes: one line for each folder of tests, the dearest first."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

import pytest


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
        f"{tier:14} {spent:8.1f} s  {spent / (whole or 1):4.0%}  {len(tests[tier]):5} tests"
        for tier, spent in rows
    ] + [f"{'all':14} {whole:8.1f} s        {sum(map(len, tests.values())):5} tests"]


def tier_of(nodeid: str) -> str:
    """The folder below `tests` that a test lies in."""
    parts = PurePosixPath(nodeid.partition("::")[0]).parts
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else "(other)"
