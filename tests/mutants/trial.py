"""
Trials: a fault is planted in a scratch copy, and the tests decide.

The copy is made once for each worker and is the only thing that is ever changed. Compiled
files in it are checked by their source's hash: two faults of one length, planted within one
second, look the same to a check by time and size.
"""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

import msgspec

from tests.mutants.faults import Fault, rotten

WITHIN_S = 60.0
"""One trial: the tests named take seconds, and on virtual time what waits in vain fails. Less
takes a busy machine for a hang."""

_PARTS = ("replicator", "tests", "pyproject.toml", "Dockerfile")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc")


class Outcome(Enum):
    """What became of a fault."""

    KILLED = "killed"
    HUNG = "hung"
    """The tests did not end: whoever runs them notices as well."""
    SURVIVED = "survived"
    STALE = "stale"


class Verdict(msgspec.Struct, frozen=True):
    """A fault's end: the test that killed it, or why it could not be planted."""

    fault: Fault
    outcome: Outcome
    detail: str
    seconds: float

    @property
    def is_well(self) -> bool:
        """Whether the tests noticed."""
        return self.outcome in (Outcome.KILLED, Outcome.HUNG)


class Scratch:
    """A copy of the tree in `directory`, to plant faults in."""

    def __init__(
        self,
        root: Path,
        directory: Path,
        parts: Iterable[str] = _PARTS,
        within_s: float = WITHIN_S,
    ) -> None:
        self._directory = directory
        self._within_s = within_s
        for part in parts:
            source = root / part
            if source.is_dir():
                shutil.copytree(source, directory / part, ignore=_NOT_COPIED)
            elif source.exists():
                shutil.copy2(source, directory / part)
        compileall.compile_dir(
            directory, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )
        self._out = directory / "out.txt"
        # Sessions of their own: Ctrl-C ends us, and its closed input ends this.
        self._warm = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(directory), "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        """Let the process go."""
        self._warm.communicate()

    def sound(self, tests: Iterable[str]) -> str:
        """Run tests without a fault: where they fail by themselves, a failure proves nothing.
        Empty when all pass.
        """
        code, out = self._pytest(sorted(set(tests)), self._within_s * 10)
        return "" if code == 0 else _first_failure(out) or f"pytest ended with {code}: {out}"

    def judge(self, fault: Fault) -> Verdict:
        """Plant a fault, run its tests, take it out again."""
        if reason := rotten(fault, self._directory):
            return Verdict(fault, Outcome.STALE, reason, 0.0)
        path = self._directory / fault.path
        text = path.read_text(encoding="utf-8")
        started = time.monotonic()
        path.write_text(fault.planted(text), encoding="utf-8")
        try:
            code, out = self._pytest(fault.tests, self._within_s)
        finally:
            path.write_text(text, encoding="utf-8")
        seconds = time.monotonic() - started
        if code == -signal.SIGALRM:
            return Verdict(
                fault, Outcome.HUNG, f"no end within {self._within_s:.0f} s", seconds
            )
        if code == 0:
            return Verdict(fault, Outcome.SURVIVED, fault.says, seconds)
        if code == 1 and (test := _first_failure(out)):
            return Verdict(fault, Outcome.KILLED, test, seconds)
        # Nothing was tested: the modules do not even load, or pytest was called wrongly.
        return Verdict(fault, Outcome.STALE, f"pytest ended with {code}: {out[-500:]}", seconds)

    def _pytest(self, tests: Iterable[str], within_s: float) -> tuple[int, str]:
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        arguments = [
            *("-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # imported before: it is warm
            *tests,
        ]
        request = {"arguments": arguments, "within_s": within_s, "out": str(self._out)}
        self._warm.stdin.write(json.dumps(request) + "\n")
        self._warm.stdin.flush()
        code = int(self._warm.stdout.readline())
        return code, self._out.read_text(encoding="utf-8", errors="replace")


def _first_failure(out: str) -> str:
    found = re.search(r"^(?:FAILED|ERROR) (\S+::\S+)", out, re.MULTILINE)
    return found[1] if found else ""
