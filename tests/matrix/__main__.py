"""
`make matrix`: every ordered pair of kinds, one after the other, with 10,000 points.

The results are kept in a file, and what went well is not done again. A pair that fails leaves
its configuration, log and state in a folder that is named, and the next one goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

from tests.matrix.access import Entry
from tests.matrix.play import play
from tests.matrix.results import Pair, Result, keep, read_results, table
from tests.matrix.table import ENTRIES, PAIRS

_PAIR_S = 1800.0
_STEP_S = 600.0
"""A busy machine takes minutes for a step that takes seconds otherwise."""


class Servers:
    """Each is started when it is first asked for, and serves every pair from then on."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._addresses: dict[str, str] = {}

    def of(self, kind: str) -> tuple[Entry, str]:
        entry = ENTRIES[kind]
        if entry.started is not None and kind not in self._addresses:
            self._addresses[kind] = self._stack.enter_context(entry.started(self._folder))
        return entry, self._addresses.get(kind, "")


def main() -> int:
    # So that whatever was started ends as well.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    options = _options()
    known = read_results(options.results)
    lacking = {kind: lack for kind, entry in ENTRIES.items() if (lack := entry.lacks())}
    for kind, lack in lacking.items():
        print(f"without {kind}: {lack}")
    wanted = [
        pair for pair in PAIRS if _is_meant(pair, options.only) and not lacking.keys() & {*pair}
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="matrix-")))
        servers = Servers(folder, stack)
        for pair in wanted:
            before = known.get(pair)
            done = before is not None and before.ok and before.wanted == options.points
            if done and not options.again:
                continue
            print(f"{pair[0]} → {pair[1]} … ", end="", flush=True)
            result = known[pair] = _played(servers, pair, options.points, options.seed)
            keep(options.results, result)
            print(f"{'ok' if result.ok else 'FAILED'}, {result.seconds:.0f} s", flush=True)
            if not result.ok:
                print(f"  {result.problem}", flush=True)
    print()
    print("\n".join(table(known, list(ENTRIES))))
    failed = [pair for pair in wanted if not known[pair].ok]
    print(f"{len(wanted) - len(failed)} of {len(wanted)} pairs went well: {options.results}")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="of what the application does")
    parser.add_argument("--again", action="store_true", help="also what went well before")
    parser.add_argument(
        "--only",
        action="append",
        metavar="SOURCE:TARGET",
        default=[],
        help="such pairs; `*` for either of them is any kind",
    )
    parser.add_argument("--results", type=Path, default=Path("var/matrix.jsonl"))
    options = parser.parse_args()
    for each in options.only:
        names = each.split(":")
        if len(names) != 2 or not {*names} <= {*ENTRIES, "*"}:
            parser.error(f"--only {each}: two of {', '.join(ENTRIES)}, with a colon between")
    return options


def _is_meant(pair: Pair, only: list[str]) -> bool:
    named = (each.split(":") for each in only)
    return not only or any(
        all(name in ("*", kind) for name, kind in zip(names, pair, strict=True))
        for names in named
    )


def _played(servers: Servers, pair: Pair, points: int, seed: int) -> Result:
    directory = Path(tempfile.mkdtemp(prefix=f"{pair[0]}-to-{pair[1]}-"))
    began = time.monotonic()
    result = Result(source=pair[0], target=pair[1], wanted=points, ok=False, seconds=0.0)
    try:
        source, target = (servers.of(kind) for kind in pair)
        work = play(directory, source, target, points=points, seed=seed, within_s=_STEP_S)
        told = asyncio.run(asyncio.wait_for(work, _PAIR_S))
    except Exception:  # noqa: BLE001 - whatever it is, it is this pair's, and the next one goes on
        (directory / "problem.txt").write_text(traceback.format_exc())
        last = traceback.format_exc().strip().splitlines()[-1]
        result.problem = f"{last[:500]} (see {directory})"
    else:
        for name, value in told.items():
            setattr(result, name, value)
        result.ok = True
        shutil.rmtree(directory, ignore_errors=True)
    result.seconds = round(time.monotonic() - began, 1)
    return result


if __name__ == "__main__":
    sys.exit(main())
