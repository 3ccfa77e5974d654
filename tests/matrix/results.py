"""What became of each pair, a line each, so that a run goes on where the last one ended."""

from __future__ import annotations

from pathlib import Path

import msgspec

Pair = tuple[str, str]


class Result(msgspec.Struct, kw_only=True):
    """Of one pair. The last line of a pair counts."""

    source: str
    target: str
    wanted: int
    """Points at the beginning."""
    ok: bool
    seconds: float
    live: bool = False
    points: int = 0
    changes: int = 0
    changes_at_target: int = 0
    starts: int = 0
    problem: str = ""


def read_results(path: Path) -> dict[Pair, Result]:
    """None of a file that is not there, or of a last line that a killed run left."""
    if not path.exists():
        return {}
    found: dict[Pair, Result] = {}
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            result = msgspec.json.decode(line, type=Result)
            found[result.source, result.target] = result
    return found


def keep(path: Path, result: Result) -> None:
    """Append it, behind whatever a killed run left of a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        whole = file.tell() == 0 or path.read_bytes().endswith(b"\n")
        file.truncate(file.tell() if whole else path.read_bytes().rfind(b"\n") + 1)
        file.write(msgspec.json.encode(result) + b"\n")


def table(results: dict[Pair, Result], kinds: list[str]) -> list[str]:
    """A square: sources down, targets across."""
    wide = max(12, *(len(kind) + 2 for kind in kinds))
    lines = [f"{'from | to':{wide}}" + "".join(f"{kind:>{wide}}" for kind in kinds)]
    for source in kinds:
        cells = (_cell(results.get((source, target))) for target in kinds)
        lines.append(f"{source:{wide}}" + "".join(f"{cell:>{wide}}" for cell in cells))
    return lines


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    if not result.ok:
        return "FAILED"
    return f"{'live' if result.live else 'copy'} {result.seconds:.0f} s"
