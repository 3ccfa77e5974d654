from __future__ import annotations

import urllib.request
from pathlib import Path

import msgspec

from replicator.model.command import Pause
from replicator.model.finding import Blocker
from replicator.model.phase import Direction, Phase
from replicator.model.status import FenceStatus, LagStatus, PartitionHealth, PartitionStatus
from replicator.testing.memory_control import EPOCH_S, MemoryControl
from tests.cli.conftest import Run, Served
from tests.cli.terminal import Terminal


def test_the_json_is_what_the_daemon_serves(replicator: Run, served: Served) -> None:
    result = replicator("status", "--json")
    assert result.exit_code == 0
    with urllib.request.urlopen(f"{served.server.url}/v1/status") as response:
        assert msgspec.json.decode(result.stdout) == msgspec.json.decode(response.read())


def test_one_screen_says_where_it_stands_and_what_is_next(
    replicator: Run, control: MemoryControl
) -> None:
    control.shown.partitions = [
        PartitionStatus(
            partition="t/0",
            end=None,
            position=3,
            applied=2,
            committed=1,
            status=PartitionHealth.STALL,
        )
    ]
    text = replicator("status").stdout
    assert "STREAMING" in text
    assert "next: replicator cutover" in text
    assert "writes source (forward, epoch 0)" in text
    assert any(
        line.split() == ["t/0", "unknown", "3", "2", "1", "STALL"] for line in text.splitlines()
    )
    assert "\x1b" not in text


def test_unknown_lag_is_never_shown_as_a_number(
    replicator: Run, control: MemoryControl
) -> None:
    control.shown.lag = LagStatus(unknown_partitions=3)
    lines = [line.split() for line in replicator("status").stdout.splitlines()]
    assert ["lag", "unknown"] in lines


def test_keys_that_kept_changing_are_shown_beside_the_findings(
    replicator: Run, control: MemoryControl
) -> None:
    assert "at every look" not in replicator("status").stdout
    control.shown.verify.hot = 3
    assert "0 different; 3 changed at every look" in replicator("status").stdout


def test_what_blocks_comes_with_what_to_do(replicator: Run, control: MemoryControl) -> None:
    control.shown.phase = Phase.BLOCKED
    control.shown.reason = "t/0 begins at 9"
    control.shown.ready = False
    control.shown.not_ready = [Blocker("log-truncated", "t/0 begins at 9")]
    control.shown.blockers = [Blocker("phase", "the phase is BLOCKED")]
    text = replicator("status").stdout
    assert "replicator resume" in text
    assert "t/0 begins at 9" in text
    assert "start a new capture" in text
    assert "phase: the phase is BLOCKED" in text


def test_the_question_of_a_cutover_is_shown(replicator: Run, control: MemoryControl) -> None:
    control.shown.fence = FenceStatus(
        operation="cutover", step="fence", since=EPOCH_S, question="Have all writers stopped?"
    )
    text = replicator("status").stdout
    assert "cutover: step fence" in text
    assert "asked: Have all writers stopped?" in text


def test_every_phase_has_a_next_step(replicator: Run, control: MemoryControl) -> None:
    for phase in Phase:
        for direction in Direction:
            for paused in (False, True):
                control.shown.phase = phase
                control.shown.direction = direction
                control.shown.paused = paused
                assert replicator("status").exit_code == 0, phase


def test_watching_renews_the_screen_until_it_is_interrupted(
    served: Served, config: Path
) -> None:
    terminal = Terminal(config, "status", "--watch")
    terminal.until("STREAMING")
    served.call(served.control.do(Pause()))
    terminal.until("(paused)")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen
    terminal.close()
