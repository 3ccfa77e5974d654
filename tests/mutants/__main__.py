"""`python -m tests.mutants [NAME…]`: plant faults, run their tests, print what became."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from queue import Queue

from tests.mutants.faults import Fault, load, rotten
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
    parser.add_argument("--check", action="store_true", help="only look for what has rotted")
    options = parser.parse_args(arguments)
    faults = chosen(load(), options.names)
    if not faults:
        parser.error("no fault of that name")
    if options.check:
        return checked(faults)
    return trials(faults, max(1, options.jobs))


def chosen(faults: list[Fault], names: Sequence[str]) -> list[Fault]:
    """Those whose name or file a pattern meets; all without patterns."""
    return [
        fault
        for fault in faults
        if not names
        or any(fnmatch(fault.name, each) or fnmatch(fault.path, f"*{each}") for each in names)
    ]


def checked(faults: list[Fault]) -> int:
    """Name the faults that cannot be planted in the code of today; plant none."""
    stale = [
        Verdict(fault, Outcome.STALE, reason, 0.0)
        for fault in faults
        if (reason := rotten(fault, ROOT))
    ]
    for verdict in stale:
        print(line(verdict))
    return 1 if stale else 0


def trials(faults: list[Fault], jobs: int) -> int:
    """Judge all, several at once, each worker in its own copy."""
    free: Queue[Scratch] = Queue()

    def judge(fault: Fault) -> Verdict:
        scratch = free.get()
        try:
            return scratch.judge(fault)
        finally:
            free.put(scratch)

    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))
        copies = [Scratch(ROOT, Path(directory) / str(number)) for number in range(jobs)]
        for copy in copies:
            stack.callback(copy.close)
            free.put(copy)
        broken = copies[0].sound(test for fault in faults for test in fault.tests)
        if broken:
            print(f"without any fault a test fails: {broken}")
            return 2
        verdicts = []
        with ThreadPoolExecutor(jobs) as pool:
            for verdict in pool.map(judge, faults):
                print(line(verdict), flush=True)
                verdicts.append(verdict)
    return told(verdicts)


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
