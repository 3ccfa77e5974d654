"""`replicator run` as a real process, over files and a change log."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from replicator.feeds.changelog import ChangelogWriter
from replicator.state.sqlite import SqliteStateStore
from tests.cli.conftest import Run

PROGRAM = [sys.executable, "-c", "from replicator.cli.main import main; main()"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two hundred points at the source, and an empty change log."""
    folder = tmp_path / "source"
    folder.mkdir()
    points = (
        {"id": n, "vectors": {"": [n, 1.0]}, "payload": {"number": n}} for n in range(200)
    )
    lines = (json.dumps(point) + "\n" for point in points)
    (folder / "articles.jsonl").write_text("".join(lines))
    ChangelogWriter(tmp_path / "changes.db").close()
    return folder


@pytest.fixture
def start(config: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PROGRAM, "run", "--config", str(config), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = threading.Timer(60, process.kill)
        deadline.start()
        processes.append((process, deadline))
        return process

    yield run
    for process, deadline in processes:
        deadline.cancel()
        process.kill()
        process.communicate()


def until(process: subprocess.Popen[str], text: str) -> None:
    """Wait for a line of the log."""
    assert process.stdout is not None
    assert process.stderr is not None
    seen = []
    for line in process.stdout:
        if text in line:
            return
        seen.append(line)
    pytest.fail(f"{text} never came: {seen} {process.stderr.read()}")


@pytest.mark.usefixtures("source")
def test_a_migration_from_the_copy_to_the_revert_by_commands_alone(
    start: Callable[..., subprocess.Popen[str]], replicator: Run
) -> None:
    assert replicator("check").exit_code == 0
    daemon = start()
    until(daemon, '"phase": "STREAMING"')
    event = {
        "op": "upsert",
        "collection": "articles",
        "id": 1000,
        "vectors": {"": [1, 2]},
        "payload": {},
    }
    assert replicator("emit", input=json.dumps(event)).exit_code == 0
    refused = replicator("cutover", "--yes")
    assert refused.exit_code == 2
    assert "error[gate-closed]" in refused.stderr
    while not msgspec.json.decode(replicator("status", "--json").stdout)["stream"]["applied"]:
        assert daemon.poll() is None
    # The source never got the event that was emitted, so both stores differ by it.
    verified = replicator("verify")
    assert verified.exit_code == 1, verified.stdout + verified.stderr
    assert "1 extra" in verified.stdout, verified.stderr
    repaired = replicator("repair")
    assert repaired.exit_code == 0, repaired.stderr
    again = replicator("verify")
    assert again.exit_code == 0, again.stdout + again.stderr
    cutover = replicator("cutover", "--yes")
    assert cutover.exit_code == 0, cutover.stderr
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert (told["phase"], told["application_may_write"]) == ("STREAMING", "target")
    revert = replicator("revert", "--yes")
    assert revert.exit_code == 0, revert.stderr
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert (told["phase"], told["application_may_write"]) == ("STREAMING", "source")


@pytest.mark.usefixtures("source")
def test_a_job_copies_catches_up_and_ends(
    start: Callable[..., subprocess.Popen[str]], replicator: Run, tmp_path: Path
) -> None:
    job = start("--until", "caught-up")
    out, err = job.communicate()
    assert (job.returncode, err) == (0, "")
    phases = [
        line["phase"]
        for line in map(json.loads, out.splitlines())
        if line.get("step") == "phase"
    ]
    assert phases == ["PLANNED", "BACKFILL", "REPLAY", "STREAMING"]
    assert (tmp_path / "target" / "articles_v2.jsonl").stat().st_size > 0
    again = start("--until", "backfilled")
    assert again.wait() == 0


@pytest.mark.usefixtures("source")
def test_a_second_daemon_on_one_state_is_refused(
    start: Callable[..., subprocess.Popen[str]], replicator: Run, tmp_path: Path
) -> None:
    async def held() -> tuple[int, str]:
        state = await SqliteStateStore.open(tmp_path / "state.db")
        daemon = start()
        _, err = await asyncio.to_thread(daemon.communicate)
        await state.close()
        return daemon.returncode, err

    code, err = asyncio.run(held())
    assert code == 2
    assert err.startswith("error[state-locked]")


def test_only_a_target_can_be_wiped(replicator: Run) -> None:
    result = replicator("run", "--wipe-target", "articles")
    assert result.exit_code == 2
    assert "the targets are articles_v2" in result.stderr


@pytest.mark.usefixtures("source")
def test_a_target_that_is_not_empty_refuses_a_job_until_it_is_named(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "articles_v2.jsonl").write_text('{"id": 7, "vectors": {"": [1, 1]}}\n')
    job = start("--until", "backfilled")
    _, err = job.communicate()
    assert job.returncode == 2
    assert err.startswith("error[target-not-empty]")
    named = start("--until", "backfilled", "--wipe-target", "articles_v2")
    _, err = named.communicate()
    assert (named.returncode, err) == (0, "")


def test_an_address_off_loopback_without_a_token_is_refused(
    start: Callable[..., subprocess.Popen[str]], config: Path
) -> None:
    config.write_text(config.read_text().replace("127.0.0.1:0", "0.0.0.0:0"))
    daemon = start()
    _, err = daemon.communicate()
    assert daemon.returncode == 2
    assert "error[config-invalid]" in err
    assert "token" in err
