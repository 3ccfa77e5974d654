from __future__ import annotations

import msgspec
import pytest

from replicator.errors import Blocked, OwnershipUnknown, Refused, ReplicatorError, Unavailable
from replicator.model.phase import Direction, Phase
from replicator.testing.memory_control import MemoryControl
from tests.cli.conftest import Run


def test_pause_and_resume_say_how_it_stands_then(
    replicator: Run, control: MemoryControl
) -> None:
    result = replicator("pause")
    assert (result.exit_code, control.shown.paused) == (0, True)
    assert result.stdout.startswith("paused: STREAMING, forward, paused")
    result = replicator("resume", "--json")
    assert msgspec.json.decode(result.stdout)["paused"] is False


def test_own_takes_a_persons_word(replicator: Run, control: MemoryControl) -> None:
    control.shown.phase = Phase.HELD
    assert replicator("own", "target").exit_code == 0
    assert control.shown.direction is Direction.REVERSE
    assert replicator("own", "both").exit_code == 2


@pytest.mark.parametrize(
    ("command", "phase"), [("complete", Phase.COMPLETE), ("abort", Phase.ABORTED)]
)
def test_what_cannot_be_undone_asks_first(
    replicator: Run, control: MemoryControl, command: str, phase: Phase
) -> None:
    for told in ("n\n", ""):
        result = replicator(command, input=told)
        assert result.exit_code == 2
        assert "error[declined]" in result.stderr
        assert control.shown.phase is Phase.STREAMING
    assert replicator(command, input="y\n").exit_code == 0
    assert control.shown.phase is phase
    control.shown.phase = Phase.STREAMING
    assert replicator(command, "--yes").exit_code == 0
    assert control.shown.phase is phase


def test_tune_changes_what_is_named_and_lists_all(
    replicator: Run, control: MemoryControl
) -> None:
    assert msgspec.json.decode(replicator("tune", "--json").stdout) == {
        "backfill.rate_max": "0.0"
    }
    told = replicator("tune", "backfill.rate_max=100")
    assert control.tunables == {"backfill.rate_max": "100"}
    assert told.stdout.splitlines()[-1].split() == ["backfill.rate_max", "100"]
    assert "error[bad-request]" in replicator("tune", "no.such=1").stderr
    assert replicator("tune", "backfill.rate_max").exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("phase-refused", "COMPLETE cannot be paused"), 2),
        (OwnershipUnknown("ownership-unknown", "the switch cannot be read"), 2),
        (Unavailable("target-unavailable", "connection refused"), 3),
        (Blocked("log-truncated", "t/0 begins at 9"), 1),
    ],
)
def test_an_error_is_one_line_with_its_hint_and_the_exit_code_tells(
    replicator: Run, control: MemoryControl, error: ReplicatorError, code: int
) -> None:
    control.failure = error
    result = replicator("pause")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == f"error[{error.code}]: {error.message}\nhint: {error.hint}\n"
