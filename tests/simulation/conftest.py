"""
Coverage over all seeds, whichever process ran them: each shard leaves what it met with the
test's report, and the process that reports adds it up and prints it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation.coverage import Coverage

_TOTAL = Coverage()
_KEY = "simulation coverage"
_FOUND: list[str] = []
_FOUND_KEY = "planted bug"


@pytest.fixture
def coverage(record_property: Any) -> Iterator[Coverage]:
    """What this shard meets, handed over with its report."""
    met = Coverage()
    yield met
    record_property(_KEY, met.as_dict())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what the shards met, and which seeds found which planted bug."""
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == _KEY:
                _TOTAL.add(value)  # type: ignore[arg-type]
            if name == _FOUND_KEY:
                _FOUND.append(str(value))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print it."""
    if _TOTAL.seeds:
        terminalreporter.write_sep("-", "simulation coverage")
        terminalreporter.write_line(_TOTAL.report())
    if _FOUND:
        terminalreporter.write_sep("-", "planted bugs")
        for line in sorted(_FOUND):
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A whole run that never took some transition, met some fault or gave some command in some
    situation has not proven what it claims.
    """
    lacking = _TOTAL.unreached() or _TOTAL.unmet() or _TOTAL.ungiven()
    if _TOTAL.seeds >= 2_000 and lacking and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
