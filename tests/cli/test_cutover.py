"""Cutover and revert: without a terminal by CliRunner, with one as a real process on a pty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from replicator.errors import Refused
from replicator.migration.cutover.gate import BLOCKERS
from replicator.model.command import Answer, Cutover
from replicator.model.finding import Blocker
from replicator.model.phase import Direction
from replicator.testing.memory_control import MemoryControl
from tests.cli.conftest import Run, Served
from tests.cli.terminal import Terminal

QUESTION = "Have all writers stopped?"


@pytest.fixture
def terminal(config: Path, served: Served) -> Iterator[Terminal]:
    """A cutover whose fence asks a person."""
    served.control.question = QUESTION
    terminal = Terminal(config, "cutover")
    yield terminal
    terminal.close()


def test_a_dry_run_lists_what_is_in_the_way_and_exits_with_2(
    replicator: Run, control: MemoryControl
) -> None:
    assert replicator("cutover", "--dry-run").exit_code == 0
    control.shown.blockers = [Blocker("lag", "the lag is unknown")]
    result = replicator("cutover", "--dry-run")
    assert result.exit_code == 2
    row = result.stdout.splitlines()[1].split(maxsplit=1)
    assert row == ["lag", f"the lag is unknown  {BLOCKERS['lag']}"]
    told = msgspec.json.decode(replicator("cutover", "--dry-run", "--json").stdout)
    [blocker] = told["blockers"]
    assert blocker == {
        "code": "lag",
        "message": "the lag is unknown",
        "hint": BLOCKERS["lag"],
    }
    assert control.requests == []


def test_a_closed_gate_is_refused(replicator: Run, control: MemoryControl) -> None:
    control.shown.blockers = [Blocker("lag", "the lag is unknown")]
    result = replicator("cutover", "--yes")
    assert result.exit_code == 2
    assert "error[gate-closed]: the lag is unknown" in result.stderr


def test_a_script_answers_in_advance_and_sees_each_step(
    replicator: Run, control: MemoryControl
) -> None:
    control.question = QUESTION
    result = replicator(
        "cutover", "--yes", "--timeout", "90s", "--waive-dead-letters", "--json"
    )
    assert result.exit_code == 0
    assert msgspec.json.decode(result.stdout) == {"done": True, "blockers": []}
    assert [line.split()[2] for line in result.stderr.splitlines()[:-1]] == [
        "fence",
        "drain",
        "done",
    ]
    assert control.requests == [Cutover(timeout_s=90.0, waive_dead_letters=True, yes=True)]
    assert control.shown.direction is Direction.REVERSE


def test_a_revert_is_the_same_the_other_way(replicator: Run, control: MemoryControl) -> None:
    control.shown.direction = Direction.REVERSE
    assert replicator("revert", "--yes").exit_code == 0
    assert control.shown.direction is Direction.FORWARD


def test_old_steps_of_the_journal_are_not_told_again(
    replicator: Run, control: MemoryControl
) -> None:
    assert replicator("cutover", "--yes").exit_code == 0
    result = replicator("revert", "--yes")
    assert "cutover" not in result.stderr


def test_a_question_that_nobody_can_answer_is_not_begun(
    replicator: Run, control: MemoryControl
) -> None:
    result = replicator("cutover")
    assert result.exit_code == 2
    assert "--yes answers for scripts" in result.stderr
    assert control.entries == []


def test_an_attempt_that_fails_tells_why(replicator: Run, control: MemoryControl) -> None:
    control.failure = Refused("fence-ignored", "records arrived on t/0")
    result = replicator("cutover", "--yes")
    assert result.exit_code == 2
    assert "error[fence-ignored]: records arrived on t/0" in result.stderr


def test_a_timeout_without_a_unit_is_refused(replicator: Run, control: MemoryControl) -> None:
    result = replicator("cutover", "--yes", "--timeout", "90")
    assert result.exit_code == 2
    assert "90s" in result.stderr or "unit" in result.stderr
    assert control.requests == []


def test_a_person_is_asked_until_the_answer_is_one(terminal: Terminal, served: Served) -> None:
    terminal.until(QUESTION)
    terminal.seen = ""
    terminal.type("perhaps\n")
    terminal.until(QUESTION)
    terminal.type("yes\n")
    assert terminal.end() == 0
    assert "cutover: done" in terminal.seen
    assert served.control.shown.direction is Direction.REVERSE


def test_a_no_goes_back(terminal: Terminal, served: Served) -> None:
    terminal.until(QUESTION)
    terminal.type("no\n")
    assert terminal.end() == 2
    assert "error[declined]" in terminal.seen
    assert served.control.shown.direction is Direction.FORWARD


def test_the_end_of_the_input_is_a_no(terminal: Terminal, served: Served) -> None:
    terminal.until(QUESTION)
    terminal.type("\x04")
    assert terminal.end() == 2
    assert served.control.shown.direction is Direction.FORWARD


def test_an_answer_from_elsewhere_ends_the_question(terminal: Terminal, served: Served) -> None:
    terminal.until(QUESTION)
    served.call(served.control.do(Answer(True)))
    assert terminal.end() == 0
    assert "cutover: done" in terminal.seen


def test_an_interrupt_says_what_goes_on_and_leaves_it_going(
    terminal: Terminal, served: Served
) -> None:
    terminal.until(QUESTION)
    terminal.interrupt()
    assert terminal.end() == 130
    assert "the cutover goes on in the daemon: it was at step fence" in terminal.seen
    assert "replicator status" in terminal.seen
    assert "Traceback" not in terminal.seen
    fence = served.control.shown.fence
    assert fence is not None
    assert fence.question == QUESTION
