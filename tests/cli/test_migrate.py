"""`replicator migrate`, over real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from replicator.cli.main import cli
from replicator.cli.migrate import _missed
from replicator.model.report import Report

Migrate = Callable[..., Result]
ROWS = [{"id": n, "vectors": {"": [n, 1.0]}, "payload": {"n": n}} for n in range(50)]


def put(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    lines = (json.dumps(row) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text("".join(lines))


def points(folder: Path, name: str) -> dict[int, Any]:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    found = [each for each in map(json.loads, lines) if "id" in each]
    return {each["id"]: each["payload"] for each in found}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with points at `source`, in which the command is given."""
    put(tmp_path / "source", "articles", ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def migrate(*arguments: str) -> Result:
    return run("migrate", *arguments)


def queries(place: Path, *asked: dict[str, Any]) -> str:
    path = place / "queries.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in asked))
    return str(path)


def test_two_urls_are_enough(place: Path) -> None:
    result = migrate("jsonl:source/articles", "jsonl:target/copy")
    assert result.exit_code == 0, result.output
    assert points(place / "target", "copy") == points(place / "source", "articles")
    for told in (
        "articles → copy (will be created)",
        "both stores are equal",
        "search articles: queries 50",
        "migrated: 50 points",
        "replicator init --source jsonl --target jsonl",
    ):
        assert told in result.stdout


def test_the_result_for_programs(place: Path) -> None:
    asked = queries(place, *({"id": n} for n in range(10)))
    result = migrate(
        "jsonl:source/articles",
        "jsonl:target/copy",
        *("--queries", asked, "--min-recall", "0.95", "--json"),
    )
    assert result.exit_code == 0, result.output
    told = msgspec.json.decode(result.stdout)
    assert (told["done"], told["copied"], told["missed"]) == (True, 50, [])
    assert told["plan"]["collections"][0]["target"] == "copy"
    assert told["report"]["search"]["articles"]["queries"] == 10
    assert told["report"]["counts"] == {"articles": [50, 50]}


def test_every_collection_travels_where_none_is_named(place: Path) -> None:
    put(place / "source", "notes", ROWS[:7])
    result = migrate("jsonl:source/", "jsonl:target/")
    assert result.exit_code == 0, result.output
    assert len(points(place / "target", "articles")) == 50
    assert len(points(place / "target", "notes")) == 7


def test_a_search_that_could_not_be_compared_misses_the_threshold(place: Path) -> None:
    asked = queries(place, {"id": 1, "using": "text"})
    more = ("--queries", asked, "--min-recall", "0.1")
    result = migrate("jsonl:source/articles", "jsonl:target/copy", *more)
    assert result.exit_code == 1
    assert "missed: articles: no search could be compared" in result.stdout
    assert len(points(place / "target", "copy")) == 50


def test_a_threshold_is_met_or_not_whatever_the_interval_says() -> None:
    report = Report(
        level="full",
        generation=1,
        started_at=0,
        finished_at=1,
        compared=2,
        missing=0,
        extra=0,
        different=0,
        counts={"a": [1, 1], "b": [1, 1]},
        search={"a": {"recall": 0.95}, "b": {"recall": 0.94, "recall_high": 0.98}},
        below=["of the gate"],
    )
    assert _missed(report, 0.95) == ["b: recall 0.94 is below 0.95"]
    assert _missed(report, 0.5) == []
    assert _missed(report, None) == ["of the gate"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [({"id": 1, "collection": "notes"}, "not-found"), ({"vector": "x"}, "bad-request")],
)
def test_wrong_queries_are_told_before_anything_is_copied(
    place: Path, asked: dict[str, Any], code: str
) -> None:
    more = ("--queries", queries(place, asked))
    result = migrate("jsonl:source/articles", "jsonl:target/copy", *more)
    assert result.exit_code == 2
    assert f"error[{code}]" in result.stderr
    assert not (place / "target").exists()


def test_a_target_that_holds_points_is_refused_unless_it_is_named(place: Path) -> None:
    put(place / "target", "copy", [{"id": 999, "vectors": {"": [1, 1]}, "payload": {}}])
    result = migrate("jsonl:source/articles", "jsonl:target/copy")
    assert result.exit_code == 2
    assert "[target-not-empty]" in result.stdout
    assert list(points(place / "target", "copy")) == [999]
    told = migrate("jsonl:source/articles", "jsonl:target/copy", "--json")
    assert told.exit_code == 2
    found = msgspec.json.decode(told.stdout)
    assert "target-not-empty" in {each["code"] for each in found["findings"]}
    wiped = migrate("jsonl:source/articles", "jsonl:target/copy", "--wipe-target", "copy")
    assert wiped.exit_code == 0, wiped.output
    assert 999 not in points(place / "target", "copy")


def test_what_is_complete_is_not_done_again_by_mistake(place: Path) -> None:
    assert migrate("jsonl:source/articles", "jsonl:target/copy").exit_code == 0
    again = migrate("jsonl:source/articles", "jsonl:target/copy")
    assert again.exit_code == 2
    assert "this migration is complete already" in again.stderr
    put(place / "source", "articles", ROWS[:5])
    anew = migrate("jsonl:source/articles", "jsonl:target/copy", "--wipe-target", "copy")
    assert anew.exit_code == 0, anew.output
    assert len(points(place / "target", "copy")) == 5


def test_what_could_not_be_carried_is_shown_and_mended(place: Path) -> None:
    put(place / "source", "articles", [*ROWS, {"id": 99, "vectors": {"": [1, "x"]}}])
    first = migrate("jsonl:source/articles", "jsonl:target/copy")
    assert first.exit_code == 1
    assert "error[rows-left]" in first.stderr
    # The hint is followed to the letter.
    [hint] = [line for line in first.stderr.splitlines() if line.startswith("see: replicator ")]
    listed = run(*hint.removeprefix("see: replicator ").split(), "--json")
    [letter] = msgspec.json.decode(listed.stdout)
    assert letter["event_key"]["id"] == 99
    put(place / "source", "articles", [*ROWS, {"id": 99, "vectors": {"": [1, 2]}}])
    again = migrate("jsonl:source/articles", "jsonl:target/copy")
    assert again.exit_code == 0, again.output
    assert len(points(place / "target", "copy")) == 51


def test_a_source_that_is_not_there_is_refused_and_one_that_is_away_exits_with_3() -> None:
    result = migrate("jsonl:source/none", "jsonl:target/copy")
    assert result.exit_code == 2
    assert "[source-missing]" in result.stdout
    away = migrate("qdrant://127.0.0.1:1/a?timeout=1s", "jsonl:target/copy")
    assert away.exit_code == 3, away.output


def test_the_state_lies_where_it_is_said_and_the_copy_can_be_asked_for(place: Path) -> None:
    more = ("--directory", "elsewhere/state")
    assert migrate("jsonl:source/articles", "jsonl:target/copy", *more).exit_code == 0
    assert not (place / "var").exists()
    [config] = (place / "elsewhere/state").glob("*.toml")
    told = msgspec.json.decode(run("status", "-c", str(config), "--json").stdout)
    assert told["phase"] == "COMPLETE"
