"""Every command sees the same collections of a pattern, over real files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replicator.feeds.changelog import ChangelogWriter
from replicator.kinds import variants
from replicator.settings.load import load
from tests.cli.conftest import CONFIG, Run

PROGRAM = [sys.executable, "-c", "from replicator.cli.main import main; main()"]
TABLE = 'source = "articles"\ntarget = "articles_v2"\n'


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        points = ({"id": n, "vectors": {"": [n, 1.0]}, "payload": {"n": n}} for n in range(5))
        lines = (json.dumps(point) + "\n" for point in points)
        (folder / f"{name}.jsonl").write_text("".join(lines))


def files(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".jsonl") for path in folder.glob("*.jsonl"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "replicator.toml"
    path.write_text(CONFIG.format(folder=tmp_path).replace(TABLE, 'source = "docs-*"\n'))
    fill(tmp_path / "source", "docs-a", "docs-b", "other")
    ChangelogWriter(tmp_path / "changes.db").close()
    return path


@pytest.fixture
def ran(config: Path) -> Callable[[], None]:
    """A migration of what there is."""

    def run() -> None:
        command = [*PROGRAM, "run", "--config", str(config), "--until", "caught-up"]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)

    return run


def found(replicator: Run, exit_code: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The findings of `check`, by code."""
    result = replicator("check", "--json")
    assert result.exit_code == exit_code, result.output
    findings: dict[str, list[dict[str, Any]]] = {}
    for finding in msgspec.json.decode(result.stdout):
        findings.setdefault(finding["code"], []).append(finding)
    return findings


def test_check_and_plan_show_what_would_be_taken(replicator: Run) -> None:
    [taken] = found(replicator)["collections-taken"]
    assert taken["severity"] == "informs"
    assert taken["message"] == "2 collections travel: 'docs-a', 'docs-b'"
    plan = msgspec.json.decode(replicator("plan", "--json").stdout)
    assert [(each["source"], each["target"]) for each in plan["collections"]] == [
        ("docs-a", "docs-a"),
        ("docs-b", "docs-b"),
    ]


def test_a_pattern_that_matches_nothing_blocks(replicator: Run, config: Path) -> None:
    config.write_text(config.read_text().replace("docs-*", "dosc-*"))
    [unmatched] = found(replicator, 2)["collections-unmatched"]
    assert unmatched["severity"] == "blocks"
    assert unmatched["hint"]
    for command in ("plan", "run", "export"):
        result = replicator(command)
        assert result.exit_code == 2
        assert "error[collections-unmatched]" in result.stderr


def test_a_source_that_is_away_is_no_traceback(replicator: Run, config: Path) -> None:
    text = config.read_text()
    one = text.index("[source]"), text.index("[target]")
    away = '[source]\nkind = "qdrant"\nurl = "http://127.0.0.1:1"\n'
    config.write_text(text[: one[0]] + away + text[one[1] :])
    findings = found(replicator, 3)
    assert "source-unavailable" in findings
    assert "collections-taken" not in findings
    for command in (["plan"], ["export"], ["run", "--until", "caught-up"]):
        result = replicator(*command)
        assert (command, result.exit_code) == (command, 3)


def test_once_it_has_begun_everybody_sees_the_collections_of_the_beginning(
    replicator: Run, ran: Callable[[], None], tmp_path: Path
) -> None:
    ran()
    fill(tmp_path / "source", "docs-new")
    ran()
    assert files(tmp_path / "target") == ["docs-a", "docs-b"]
    findings = found(replicator)
    assert findings["collections-taken"][0]["message"].startswith("2 collections")
    [left_out] = findings["collection-left-out"]
    assert (left_out["severity"], left_out["subject"]) == ("warns", "collections/docs-new")
    plan = msgspec.json.decode(replicator("plan", "--json").stdout)
    assert [each["source"] for each in plan["collections"]] == ["docs-a", "docs-b"]
    out = str(tmp_path / "out")
    assert replicator("export", out).exit_code == 0
    assert files(tmp_path / "out") == ["docs-a", "docs-b"]
    assert replicator("dead-letters", "list", "--export", out).exit_code == 0
    lines = [
        json.dumps({"op": "delete", "collection": name, "id": 1}) + "\n"
        for name in ("docs-a", "docs-new")
    ]
    assert replicator("emit", input=lines[0]).exit_code == 0
    refused = replicator("emit", input=lines[1])
    assert refused.exit_code == 1
    assert "'docs-new' is no source collection" in refused.stderr


def test_events_may_be_emitted_before_it_has_begun(replicator: Run) -> None:
    for name, code in (("docs-later", 0), ("other", 1)):
        line = json.dumps({"op": "delete", "collection": name, "id": 1}) + "\n"
        assert replicator("emit", input=line).exit_code == code


def test_a_directory_is_imported_without_the_source(replicator: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert replicator("export", str(out)).exit_code == 0
    for path in (tmp_path / "source").iterdir():
        path.unlink()
    fill(out, "foreign")
    result = replicator("import", str(out))
    assert result.exit_code == 0, result.stderr
    assert files(tmp_path / "target") == ["docs-a", "docs-b"]
    assert replicator("dead-letters", "list", "--import", str(out)).exit_code == 0


def test_what_a_pattern_may_take_may_be_wiped(replicator: Run) -> None:
    assert replicator("check", "--wipe-target", "docs-a").exit_code == 0
    refused = replicator("check", "--wipe-target", "other")
    assert refused.exit_code == 2
    assert "the targets are those of docs-*" in refused.stderr


def test_a_configuration_is_begun_with_a_pattern(replicator: Run, tmp_path: Path) -> None:
    path = tmp_path / "begun.toml"
    given = ["--source", "jsonl", "--target", "jsonl", "--feed", "none", "-o", str(path)]
    made = replicator("init", "--collection", "docs-*", *given)
    assert made.exit_code == 0
    told = load(path, {}, variants())
    assert [(each.source, each.target) for each in told.collections] == [("docs-*", "*")]
    assert told.has_patterns
    refused = replicator("init", "--collection", "docs-[", "-o", str(tmp_path / "other.toml"))
    assert (refused.exit_code, "no `]` closes" in refused.stderr) == (2, True)
