"""`python -m tests.mutants [NAME…]`: plant faults, run their tests, print what became of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from tests.mutants.faults import Fault, load
from tests.mutants.trial import Outcome, Scratch, Verdict

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every fault is noticed, 1 when one survives or has rotted, 2 when tests fail
    without any fault.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="faults, or patterns, or files; all by default"
    )
    parser.add_argument("--jobs", type=int, default=1, help="trials at once")
    options = parser.parse_args(arguments)
    faults = chosen(load(), options.names)
    if not faults:
        parser.error("no fault of that name")
    return trials(faults, max(1, options.jobs))


def chosen(faults: list[Fault], names: Sequence[str]) -> list[Fault]:
    """Those whose name or file a pattern meets; all without patterns."""
    return [
        fault
        for fault in faults
        if not names
        or any(fnmatch(fault.name, each) or fnmatch(fault.path, f"*{each}") for each in names)
    ]


def trials(faults: list[Fault], jobs: int) -> int:
    """Judge all, several at once, each worker in its own copy."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copies = threading.local()
        made = iter(range(jobs))

        def scratch() -> Scratch:
            if not hasattr(copies, "own"):
                copies.own = Scratch(ROOT, Path(directory) / str(next(made)))
            return copies.own

        def judge(fault: Fault) -> Verdict:
            return scratch().judge(fault)

        broken = scratch_of(directory).sound(test for fault in faults for test in fault.tests)
        if broken:
            print(f"without any fault a test fails: {broken}")
            return 2
        with ThreadPoolExecutor(jobs) as pool:
            verdicts = []
            for verdict in pool.map(judge, faults):
                print(line(verdict), flush=True)
                verdicts.append(verdict)
    return told(verdicts)


def scratch_of(directory: str) -> Scratch:
    """The copy in which the tests are run without a fault."""
    return Scratch(ROOT, Path(directory) / "sound")


def line(verdict: Verdict) -> str:
    """One row of the table."""
    outcome = verdict.outcome.value
    return f"{outcome:9} {verdict.fault.name:45} {verdict.seconds:5.1f} s  {verdict.detail}"


def told(verdicts: Sequence[Verdict]) -> int:
    """The sum, and the exit code."""
    counts = {
        outcome: sum(verdict.outcome is outcome for verdict in verdicts) for outcome in Outcome
    }
    print(
        f"{len(verdicts)} faults: "
        + ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items() if count)
    )
    return 0 if all(verdict.is_well for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
