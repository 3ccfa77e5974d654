"""What is kept of each pair."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.matrix import __main__ as program
from tests.matrix.results import Result, keep, read_results, table
from tests.matrix.table import ENTRIES, PAIRS


def result(source: str, target: str, *, ok: bool = True, wanted: int = 10) -> Result:
    return Result(source=source, target=target, wanted=wanted, ok=ok, seconds=1.4, live=ok)


def test_the_last_line_of_a_pair_counts(tmp_path: Path) -> None:
    path = tmp_path / "var" / "results.jsonl"
    assert read_results(path) == {}
    for each in (result("a", "b", ok=False), result("b", "a"), result("a", "b")):
        keep(path, each)
    assert read_results(path) == {("a", "b"): result("a", "b"), ("b", "a"): result("b", "a")}


def test_a_line_that_a_killed_run_left_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    keep(path, result("a", "b"))
    with path.open("ab") as file:
        file.write(msgspec.json.encode(result("b", "a"))[:20])
    assert list(read_results(path)) == [("a", "b")]
    keep(path, result("b", "b"))
    assert list(read_results(path)) == [("a", "b"), ("b", "b")]


def test_the_table_shows_sources_down_and_targets_across() -> None:
    found = {("a", "b"): result("a", "b"), ("b", "a"): result("b", "a", ok=False)}
    lines = [line.split() for line in table(found, ["a", "b"])]
    assert lines == [
        ["from", "|", "to", "a", "b"],
        ["a", "-", "live", "1", "s"],
        ["b", "FAILED", "-"],
    ]


@pytest.mark.parametrize(
    ("words", "played"),
    [
        ([], [("chroma", "jsonl"), ("jsonl", "parquet")]),
        (["--again"], [("chroma", "qdrant"), ("chroma", "jsonl"), ("jsonl", "parquet")]),
        (["--points", "11"], [("chroma", "qdrant"), ("chroma", "jsonl"), ("jsonl", "parquet")]),
        (["--only", "chroma:*"], [("chroma", "jsonl")]),
        (["--only", "chroma:qdrant"], []),
    ],
)
def test_what_went_well_is_not_done_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    played: list[tuple[str, str]],
) -> None:
    path = tmp_path / "results.jsonl"
    keep(path, result("chroma", "qdrant"))
    keep(path, result("chroma", "jsonl", ok=False))
    done: list[tuple[str, str]] = []

    def play(_: object, pair: tuple[str, str], points: int, seed: int) -> Result:
        done.append(pair)
        return result(*pair, ok=pair[1] != "parquet", wanted=points)

    pairs = [("chroma", "qdrant"), ("chroma", "jsonl"), ("jsonl", "parquet")]
    monkeypatch.setattr(program, "PAIRS", pairs)
    monkeypatch.setattr(program, "_played", play)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    given = ["matrix", "--results", str(path), "--points", "10", *words]
    monkeypatch.setattr("sys.argv", given)
    assert program.main() == (("jsonl", "parquet") in done)
    assert done == played
    assert read_results(path).keys() >= set(played)


def test_what_the_machine_lacks_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[tuple[str, str]] = []

    def play(_: object, pair: tuple[str, str], points: int, seed: int) -> Result:
        done.append(pair)
        return result(*pair, wanted=points)

    poor = {**ENTRIES, "chroma": replace(ENTRIES["chroma"], lacks=lambda: "no server")}
    monkeypatch.setattr(program, "ENTRIES", poor)
    monkeypatch.setattr(program, "_played", play)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    given = ["matrix", "--results", str(tmp_path / "results.jsonl"), "--only", "qdrant:*"]
    monkeypatch.setattr("sys.argv", given)
    assert program.main() == 0
    assert done == [("qdrant", kind) for kind in ENTRIES if kind != "chroma"]
    assert "without chroma: no server" in capsys.readouterr().out


def test_a_pair_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["matrix", "--only", "chroma:quadrant"])
    with pytest.raises(SystemExit):
        program.main()
    assert ("chroma", "qdrant") in PAIRS
    assert "quadrant" not in ENTRIES
