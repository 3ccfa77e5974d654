"""Export, import, check and plan, over real files."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from replicator.feeds.changelog import ChangelogWriter
from tests.cli.conftest import Run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Points at the source."""
    folder = tmp_path / "source"
    folder.mkdir()
    points = ({"id": n, "vectors": {"": [n, 1.0]}, "payload": {"n": n}} for n in range(50))
    lines = (json.dumps(point) + "\n" for point in points)
    (folder / "articles.jsonl").write_text("".join(lines))
    return folder


@pytest.mark.usefixtures("source")
def test_a_collection_goes_out_and_in_again(replicator: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = replicator("export", str(out), "--json")
    assert result.exit_code == 0, result.stderr
    assert msgspec.json.decode(result.stdout) == {"done": True, "copied": 50}
    (out / "articles.jsonl").rename(out / "articles_v2.jsonl")
    result = replicator("import", str(out))
    assert result.exit_code == 0, result.stderr
    assert "import done: 50 points" in result.stdout
    assert (tmp_path / "target" / "articles_v2.jsonl").exists()


@pytest.mark.usefixtures("source")
def test_export_and_import_pair_without_an_argument(
    replicator: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert replicator("export").exit_code == 0
    told = msgspec.json.decode((tmp_path / "articles-export" / "export.json").read_bytes())
    assert (told["side"], told["collections"]) == ("source", {"articles": 50})
    result = replicator("import", "--json")
    assert result.exit_code == 0, result.stderr
    assert msgspec.json.decode(result.stdout) == {"done": True, "copied": 50}
    assert (tmp_path / "target" / "articles_v2.jsonl").exists()


@pytest.mark.usefixtures("source")
def test_what_came_from_a_store_goes_back_to_it(replicator: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert replicator("export", out).exit_code == 0
    (tmp_path / "source" / "articles.jsonl").unlink()
    result = replicator("import", out, "--to", "source")
    assert result.exit_code == 0, result.stderr
    assert "import done: 50 points" in result.stdout


def test_an_import_with_mended_rows_is_run_again(replicator: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows = ['{"id": 1, "vectors": {"": [1, 1]}}', '{"id": 2, "vectors": {"": [1, "x"]}}']
    (folder / "articles_v2.jsonl").write_text("\n".join(rows) + "\n")
    first = replicator("import", str(folder))
    assert first.exit_code == 1
    assert "error[rows-left]" in first.stderr
    # The hint is followed to the letter.
    [hint] = [line for line in first.stderr.splitlines() if line.startswith("see: replicator ")]
    listed = replicator(*hint.removeprefix("see: replicator ").split(), "--json")
    [letter] = msgspec.json.decode(listed.stdout)
    assert letter["event_key"]["id"] == 2
    rows[1] = rows[1].replace('"x"', "2")
    (folder / "articles_v2.jsonl").write_text("\n".join(rows) + "\n")
    again = replicator("import", str(folder))
    assert again.exit_code == 0, again.stderr
    assert "import done: 2 points" in again.stdout


def test_a_dead_letter_of_an_import_is_given_up_without_a_daemon(
    replicator: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows = '{"id": 1, "vectors": {"": [1, 1]}}\n{"id": 2, "vectors": {"": ["x"]}}\n'
    (folder / "articles_v2.jsonl").write_text(rows)
    assert replicator("import", str(folder)).exit_code == 1
    of = ("--import", str(folder))
    assert "vectors" in replicator("dead-letters", "show", *of, "1").stdout
    assert replicator("dead-letters", "discard", *of, "1").stdout == "discarded 1 of 1\n"
    assert msgspec.json.decode(replicator("dead-letters", "list", *of, "--json").stdout) == []
    assert "complete already" in replicator("import", str(folder)).stderr


@pytest.mark.usefixtures("source")
def test_a_wipe_begins_a_complete_export_anew(replicator: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert replicator("export", out).exit_code == 0
    with (tmp_path / "source" / "articles.jsonl").open("a") as file:
        file.write('{"id": 99, "vectors": {"": [9, 1]}}\n')
    result = replicator("export", out, "--wipe-target", "articles")
    assert result.exit_code == 0, result.stderr
    assert "export done: 51 points" in result.stdout


@pytest.mark.usefixtures("source")
def test_what_is_complete_is_not_done_again_by_mistake(replicator: Run, tmp_path: Path) -> None:
    assert replicator("export", str(tmp_path / "out")).exit_code == 0
    result = replicator("export", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "complete already" in result.stderr


@pytest.mark.usefixtures("source")
def test_points_of_unknown_origin_are_not_written_over(replicator: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "articles.jsonl").write_text('{"id": 1, "vectors": {"": [1, 1]}}\n')
    result = replicator("export", str(out))
    assert result.exit_code == 2
    assert "error[target-not-empty]" in result.stderr
    assert replicator("export", str(out), "--wipe-target", "articles").exit_code == 0


@pytest.mark.usefixtures("source")
def test_a_collection_that_is_not_there_is_refused(replicator: Run, tmp_path: Path) -> None:
    result = replicator("export", str(tmp_path / "out"), "--collection", "others")
    assert result.exit_code == 2
    assert "error[not-found]" in result.stderr


def test_check_tells_what_blocks_with_its_hint_and_exits_with_2(replicator: Run) -> None:
    result = replicator("check")
    assert result.exit_code == 2
    assert "blocks  [source-missing]" in result.stdout
    assert "hint:" in result.stdout
    told = msgspec.json.decode(replicator("check", "--json").stdout)
    assert {"severity", "code", "subject", "message", "hint"} == set(told[0])
    assert told[0]["severity"] == "blocks"


@pytest.mark.usefixtures("source")
def test_check_of_a_good_plan_says_what_is_next(replicator: Run, tmp_path: Path) -> None:
    ChangelogWriter(tmp_path / "changes.db").close()
    result = replicator("check")
    assert result.exit_code == 0, result.stdout
    assert "nothing blocks" in result.stdout
    assert not (tmp_path / "state.db").exists()


@pytest.mark.usefixtures("source")
def test_a_store_that_does_not_answer_exits_with_3(
    replicator: Run, config: Path, tmp_path: Path
) -> None:
    ChangelogWriter(tmp_path / "changes.db").close()
    away = '[target]\nkind = "qdrant"\nurl = "http://127.0.0.1:1"\ntimeout = "1s"\n[[coll'
    head, _, tail = config.read_text().partition("[target]")
    config.write_text(head + away + tail.partition("[[coll")[2])
    result = replicator("check", "--json")
    codes = {each["code"] for each in msgspec.json.decode(result.stdout)}
    assert result.exit_code == 3, codes


@pytest.mark.usefixtures("source")
def test_the_plan_says_what_will_be_written_where(replicator: Run) -> None:
    result = replicator("plan")
    assert result.exit_code == 0
    assert "articles → articles_v2 (will be created)" in result.stdout
    told = msgspec.json.decode(replicator("plan", "--json").stdout)
    assert told["points"] == 50
    assert told["collections"][0]["creates_target"] is True
