"""Real processes, real signals. Nothing sleeps: each step waits for a line of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from replicator.daemon import address

SCRIPT = Path(__file__).with_name("in_memory.py")


class Process:
    """A daemon in a process of its own."""

    def __init__(self, state: Path, mode: str, *goal: str, drain_s: float = 60.0) -> None:
        self.state = state
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(state), mode, *goal],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DRAIN_S": str(drain_s)},
        )
        self._deadline = threading.Timer(60, self._process.kill)
        self._deadline.start()

    def until(self, text: str) -> str:
        """The next line of its output that holds a text."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        seen = []
        for line in self._process.stdout:
            if text in line:
                return line
            seen.append(line)
        pytest.fail(f"{text!r} never came: {seen} {self._process.stderr.read()}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit code, the rest of standard output, and standard error."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        # Not `communicate`, which would miss what `until` has read ahead.
        out, err = self._process.stdout.read(), self._process.stderr.read()
        return self._process.wait(), out, err

    def get(self, path: str) -> bytes:
        found = address.lookup(str(self.state))
        assert found is not None
        with urllib.request.urlopen(found.url + path) as response:
            return bytes(response.read())

    def kill(self) -> None:
        self._deadline.cancel()
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    processes = []

    def run(mode: str, *goal: str, drain_s: float = 60.0) -> Process:
        process = Process(tmp_path / "state" / "replicator.db", mode, *goal, drain_s=drain_s)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_that_is_a_success(
    start: Callable[..., Process], number: int
) -> None:
    daemon = start("well")
    daemon.until("daemon started")
    daemon.signal(number)
    draining = msgspec.json.decode(daemon.until("draining"))
    assert draining["asked_by"] == signal.Signals(number).name
    code, out, err = daemon.end()
    assert code == 0
    assert out.index("drained") < out.index("daemon stopped") < out.index("closed")
    assert err == ""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["term", "int"]
)
@pytest.mark.parametrize("mode", ["never-drains", "loop-stuck"])
def test_the_second_signal_ends_it_even_with_a_loop_that_stands_still(
    start: Callable[..., Process], mode: str, number: int, code: int
) -> None:
    daemon = start(mode)
    daemon.until("daemon started")
    daemon.signal(signal.SIGTERM)
    daemon.until("still" if mode == "loop-stuck" else "draining")
    daemon.signal(number)
    ended, _, err = daemon.end()
    assert ended == code
    assert "second signal" in err


def test_a_drain_that_takes_too_long_is_a_failure_and_says_so(
    start: Callable[..., Process],
) -> None:
    daemon = start("never-drains", drain_s=0.1)
    daemon.until("daemon started")
    daemon.signal(signal.SIGTERM)
    code, out, err = daemon.end()
    assert code == 1
    assert "error[draining-timeout]" in err
    assert "closed" in out


def test_a_loop_that_stands_still_while_draining_ends_and_shows_where(
    start: Callable[..., Process],
) -> None:
    daemon = start("loop-stuck", drain_s=0.1)
    daemon.until("daemon started")
    daemon.signal(signal.SIGTERM)
    code, _, err = daemon.end()
    assert code == 1
    assert "in run" in err


def test_a_signal_while_the_parts_are_built_begins_no_work(
    start: Callable[..., Process],
) -> None:
    code, out, err = start("signal-while-building").end()
    assert (code, err) == (0, "")
    assert "drained" not in out
    assert "closed" in out


def test_a_stuck_feed_ends_the_process_with_its_reason(start: Callable[..., Process]) -> None:
    code, _, err = start("stuck-feed").end()
    assert code == 1
    assert "error[feed-stuck]: no record for 120 s" in err


def test_of_several_errors_one_is_told(start: Callable[..., Process]) -> None:
    code, _, err = start("two-errors").end()
    assert code == 1
    assert "error[log-truncated]: t/0 begins at 9" in err


def test_a_defect_shows_its_trace(start: Callable[..., Process]) -> None:
    code, _, err = start("defect").end()
    assert code == 1
    assert "KeyError: 'a defect'" in err


def test_a_migration_that_ends_by_itself_ends_the_process(
    start: Callable[..., Process],
) -> None:
    code, out, _ = start("done").end()
    assert code == 0
    assert "draining" not in out


def test_a_daemon_waits_for_a_store_that_is_away_and_is_up_meanwhile(
    start: Callable[..., Process],
) -> None:
    daemon = start("away")
    waiting = msgspec.json.decode(daemon.until("waiting to start"))
    assert waiting["code"] == "target-unavailable"
    assert b"live" in daemon.get("/livez")
    daemon.until("waiting to start")
    daemon.until("can_cutover")
    daemon.signal(signal.SIGTERM)
    assert daemon.end()[0] == 0


def test_a_job_does_not_wait_for_a_store_that_is_away(start: Callable[..., Process]) -> None:
    code, _, err = start("away", "backfilled").end()
    assert code == 3
    assert "error[target-unavailable]" in err


def test_a_job_drains_when_its_goal_is_reached(start: Callable[..., Process]) -> None:
    code, out, err = start("well", "backfilled").end()
    assert (code, err) == (0, "")
    assert "drained" in out


def test_a_job_that_is_blocked_drains_and_fails(start: Callable[..., Process]) -> None:
    code, out, err = start("blocked", "caught-up").end()
    assert code == 1
    assert "error[phase-refused]: the migration is BLOCKED: t/0 begins at 9" in err
    assert "drained" in out


def test_a_blocked_daemon_stays_up_and_answers(start: Callable[..., Process]) -> None:
    daemon = start("blocked")
    daemon.until("BLOCKED")
    assert msgspec.json.decode(daemon.get("/v1/status"))["phase"] == "BLOCKED"
    daemon.signal(signal.SIGINT)
    assert daemon.end()[0] == 0


def test_the_address_is_announced_while_it_runs_and_withdrawn_after(
    start: Callable[..., Process],
) -> None:
    daemon = start("well")
    url = msgspec.json.decode(daemon.until("daemon started"))["url"]
    found = address.lookup(str(daemon.state))
    assert found is not None
    assert found.url == url
    daemon.signal(signal.SIGTERM)
    daemon.end()
    assert address.lookup(str(daemon.state)) is None
    assert list(daemon.state.parent.iterdir()) == []


def test_the_log_is_json_lines_with_level_and_time(start: Callable[..., Process]) -> None:
    daemon = start("well")
    daemon.until("daemon started")
    line = msgspec.json.decode(daemon.until("lag_records"))
    assert line["message"] == "status"
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")
    assert line["lag_records"] == 0
