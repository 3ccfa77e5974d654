from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from replicator.errors import Blocked, OwnershipUnknown, Refused, ReplicatorError, Unavailable
from replicator.model.phase import Direction, Phase
from replicator.testing.memory_control import MemoryControl
from tests.cli.conftest import Run, Served
from tests.docs.tables import declared_commands


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


def with_json() -> list[list[str]]:
    """Every command that reads the configuration and prints JSON, with what it needs."""
    given = {
        "own": ["source"],
        "answer": ["yes"],
        "acknowledge": ["misplaced-keys"],
        "show": ["1"],
        "retry": ["1"],
        "discard": ["1"],
        "cutover": ["--yes"],
        "revert": ["--yes"],
        "complete": ["--yes"],
        "abort": ["--yes"],
    }
    return [
        [*words, *given.get(words[-1], [])]
        for words, command in declared_commands()
        if "as_json" in {parameter.name for parameter in command.params}
        and words not in {("demo",), ("stores",), ("migrate",)}  # they read no configuration
    ]


@pytest.mark.parametrize("command", with_json(), ids=" ".join)
def test_with_json_an_error_is_json_too(
    replicator: Run, config: Path, command: list[str]
) -> None:
    config.write_text(config.read_text().replace("settle", "setle"))
    result = replicator(*command, "--json")
    assert result.exit_code == 2
    told = msgspec.json.decode(result.stdout)["error"]
    assert (told["code"], told["exit_code"]) == ("config-unknown-key", 2)
    assert "feed.setle" in told["message"]
    assert told["hint"]
    assert result.stderr == ""


def test_with_json_a_wrong_option_is_told_as_json(replicator: Run) -> None:
    result = replicator("verify", "--json", "--level", "some")
    assert result.exit_code == 2
    told = msgspec.json.decode(result.stdout)["error"]
    assert told["code"] == "bad-request"
    assert "some" in told["message"]


def test_a_latched_fact_is_acknowledged_with_a_note(
    replicator: Run, control: MemoryControl
) -> None:
    control.latched.add("misplaced-keys")
    result = replicator("acknowledge", "misplaced-keys", "--note", "one partitioner by now")
    assert result.exit_code == 0, result.stderr
    assert control.entries[-1].message == "misplaced-keys: one partitioner by now"
    result = replicator("acknowledge", "misplaced-keys")
    assert result.exit_code == 2
    assert "error[not-found]" in result.stderr


@pytest.mark.parametrize(("word", "yes"), [("yes", True), ("no", False)])
def test_a_question_is_answered_from_any_terminal(
    replicator: Run, served: Served, control: MemoryControl, word: str, yes: bool
) -> None:
    assert "error[phase-refused]" in replicator("answer", word).stderr

    async def ask() -> asyncio.Task[bool]:
        async def asked() -> bool:
            await control._ask("cutover", "have all writers stopped?")
            return True

        task = asyncio.ensure_future(asked())
        while control._answer is None:
            await asyncio.sleep(0)
        return task

    task = served.call(ask())
    result = replicator("answer", word)
    assert result.exit_code == 0, result.stderr

    async def outcome() -> bool:
        try:
            return await task
        except Refused:
            return False

    assert served.call(outcome()) is yes


def test_the_hint_speaks_of_the_log_that_there_is(
    replicator: Run, control: MemoryControl
) -> None:
    control.failure = Unavailable("feed-unavailable", "disk I/O error")
    [_, hint] = replicator("pause").stderr.splitlines()
    assert "change log" in hint
    assert "broker" not in hint
