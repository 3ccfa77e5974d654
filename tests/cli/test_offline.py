"""Commands while no daemon runs: over a real state file."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replicator.daemon import address
from replicator.feeds.changelog import ChangelogDeadLetters
from replicator.model.event import Key
from replicator.model.fact import Fact, FactCode
from replicator.model.finding import Difference, Finding
from replicator.model.letter import RejectedRecord
from replicator.model.phase import Direction, Phase
from replicator.model.position import Partition
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.state.sqlite import SqliteStateStore
from replicator.testing.memory_control import EPOCH_S
from tests.cli.conftest import Run, Served

REJECTED = RejectedRecord(
    key=b"articles/1",
    value=b"\x00",
    code="value-malformed",
    path="",
    message="no map",
    at=EPOCH_S,
    partition=Partition("changelog/0"),
    offset=4,
    event_key=Key("articles", 1),
)


def record(phase: Phase, direction: Direction = Direction.FORWARD) -> MigrationRecord:
    return MigrationRecord(
        name="articles",
        phase=phase,
        direction=direction,
        since=EPOCH_S,
        reason="so it is",
    )


def entry(phase: Phase) -> JournalEntry:
    return JournalEntry(
        at=EPOCH_S, phase=phase, direction=Direction.FORWARD, step="phase", message="so it is"
    )


async def write(folder: Path, migration: MigrationRecord) -> None:
    state = await SqliteStateStore.open(folder / "state.db")
    letters = ChangelogDeadLetters(folder / "changes.db")
    kept = await state.load()
    migration.revision = kept.revision + 1 if kept else 1
    await state.begin(migration, entry(migration.phase))
    await state.commit({Partition("changelog/0"): 7}, {})
    (ref,) = await letters.keep([REJECTED])
    await state.add_letters([(ref, REJECTED)])
    await state.add_findings(
        [
            Finding(
                key=Key("articles", 2),
                kind=Difference.MISSING,
                detail="",
                generation=1,
                at=EPOCH_S,
            )
        ]
    )
    await letters.close()
    await state.close()


@pytest.fixture
def streaming(tmp_path: Path) -> None:
    asyncio.run(write(tmp_path, record(Phase.STREAMING)))


@pytest.mark.usefixtures("streaming")
def test_the_status_says_what_is_known_and_that_no_daemon_runs(replicator: Run) -> None:
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert told["phase"] == "STREAMING"
    assert told["application_may_write"] == "source"
    assert told["lag"]["records"] is None
    assert told["ready"] is False
    assert told["not_ready"][0]["code"] == "daemon-unavailable"
    assert told["stream"]["dead_letters"] == 1
    assert told["verify"]["missing"] == 1
    assert told["partitions"][0]["committed"] == 7
    assert told["partitions"][0]["status"] == "STOP"


@pytest.mark.usefixtures("streaming")
def test_dead_letters_can_be_read_and_not_retried(replicator: Run) -> None:
    assert "value-malformed" in replicator("dead-letters", "list").stdout
    assert "no map" in replicator("dead-letters", "show", "1").stdout
    result = replicator("dead-letters", "retry", "--all")
    assert result.exit_code == 2
    assert "error[daemon-needed]" in result.stderr


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize(
    "command",
    [
        ["pause"],
        ["resume"],
        ["tune"],
        ["verify"],
        ["repair"],
        ["cutover", "--yes"],
        ["revert", "--yes"],
        ["own", "source"],
        ["answer", "yes"],
    ],
)
def test_what_needs_a_daemon_is_refused(replicator: Run, command: list[str]) -> None:
    result = replicator(*command)
    assert result.exit_code == 2
    assert "error[daemon-needed]" in result.stderr
    assert "hint: Start the daemon" in result.stderr


@pytest.mark.usefixtures("streaming")
def test_a_migration_can_be_given_up(replicator: Run) -> None:
    assert replicator("abort", "--yes").exit_code == 0
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert told["phase"] == "ABORTED"
    assert replicator("abort", "--yes").exit_code == 2


def test_after_the_switch_it_cannot_be_given_up(replicator: Run, tmp_path: Path) -> None:
    asyncio.run(write(tmp_path, record(Phase.STREAMING, Direction.REVERSE)))
    result = replicator("abort", "--yes")
    assert result.exit_code == 2
    assert "error[phase-refused]" in result.stderr
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert told["application_may_write"] == "target"


def test_what_is_fenced_is_neither_given_up_nor_completed(
    replicator: Run, tmp_path: Path
) -> None:
    """Only a daemon opens the fence, and after the end none would."""
    for command, direction in (
        ("abort", Direction.FORWARD),
        ("complete", Direction.REVERSE),
    ):
        fenced = record(Phase.STREAMING, direction)
        fenced.fence_closed = True
        asyncio.run(write(tmp_path, fenced))
        result = replicator(command, "--yes")
        assert result.exit_code == 2
        assert "error[phase-refused]: the writer fence is not open yet" in result.stderr
        told = msgspec.json.decode(replicator("status", "--json").stdout)
        assert told["phase"] == "STREAMING"
        assert command not in told["possible"]


def test_a_reverse_window_can_be_completed(replicator: Run, tmp_path: Path) -> None:
    for phase in (Phase.STREAMING, Phase.BLOCKED):
        asyncio.run(write(tmp_path, record(phase, Direction.REVERSE)))
        told = msgspec.json.decode(replicator("status", "--json").stdout)
        assert "complete" in told["possible"]
        assert replicator("complete", "--yes").exit_code == 0
        told = msgspec.json.decode(replicator("status", "--json").stdout)
        assert (told["phase"], told["application_may_write"]) == ("COMPLETE", "target")
        assert replicator("complete", "--yes").exit_code == 2


def test_a_latched_fact_can_be_acknowledged(replicator: Run, tmp_path: Path) -> None:
    latched = record(Phase.STREAMING)
    seen = {"partition": "changelog/0", "offset": 3}
    latched.facts = (
        Fact(code=FactCode.MISPLACED, message="in another one", at=EPOCH_S, evidence=seen),
    )
    asyncio.run(write(tmp_path, latched))
    assert "error[not-found]" in replicator("acknowledge", "group-foreign").stderr
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert [fact["code"] for fact in told["facts"]] == ["misplaced-keys"]
    result = replicator("acknowledge", "misplaced-keys", "--note", "it is mended")
    assert result.exit_code == 0, result.stderr
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert told["facts"] == []

    async def kept() -> tuple[MigrationRecord | None, JournalEntry]:
        state = await SqliteStateStore.open(tmp_path / "state.db")
        try:
            return await state.load(), (await state.journal(1))[0]
        finally:
            await state.close()

    now, entry = asyncio.run(kept())
    assert now is not None
    assert now.voided == 1, "only a full verification begun from here on counts"
    assert entry.message == "misplaced-keys: it is mended"
    assert entry.evidence["offset"] == 3
    assert replicator("acknowledge", "misplaced-keys").exit_code == 2


def test_what_blocks_is_acknowledged_by_a_daemon_which_can_look(
    replicator: Run, tmp_path: Path
) -> None:
    blocked = record(Phase.BLOCKED)
    blocked.reason_code = "log-replaced"
    asyncio.run(write(tmp_path, blocked))
    assert "error[daemon-needed]" in replicator("acknowledge", "log-replaced").stderr


def test_a_state_that_somebody_holds_is_not_given_up(replicator: Run, tmp_path: Path) -> None:
    async def held(work: Coroutine[Any, Any, None]) -> None:
        await work
        state = await SqliteStateStore.open(tmp_path / "state.db")
        result = await asyncio.to_thread(replicator, "abort", "--yes")
        assert result.exit_code == 2
        assert "error[state-locked]" in result.stderr
        assert (await asyncio.to_thread(replicator, "status")).exit_code == 0
        await state.close()

    asyncio.run(held(write(tmp_path, record(Phase.STREAMING))))


def test_while_fenced_nobody_is_said_to_write(replicator: Run, tmp_path: Path) -> None:
    for phase in (Phase.FENCING, Phase.SWITCHING, Phase.HELD):
        asyncio.run(write(tmp_path, record(phase)))
        told = msgspec.json.decode(replicator("status", "--json").stdout)
        assert told["application_may_write"] is None, phase


def test_before_anything_was_run_there_is_no_state(replicator: Run, tmp_path: Path) -> None:
    result = replicator("status")
    assert result.exit_code == 2
    assert "error[state-missing]" in result.stderr
    assert not (tmp_path / "state.db").exists()


@pytest.mark.usefixtures("streaming")
def test_an_address_left_by_a_daemon_that_was_killed_is_found_out(
    replicator: Run, tmp_path: Path
) -> None:
    address.announce(str(tmp_path / "state.db"), "http://127.0.0.1:1")
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert told["not_ready"][0]["code"] == "daemon-unavailable"


def test_a_daemon_that_holds_the_state_and_does_not_answer_is_unavailable(
    replicator: Run, tmp_path: Path
) -> None:
    async def held(work: Coroutine[Any, Any, None]) -> None:
        await work
        state = await SqliteStateStore.open(tmp_path / "state.db")
        address.announce(str(tmp_path / "state.db"), "http://127.0.0.1:1")
        result = await asyncio.to_thread(replicator, "status")
        assert result.exit_code == 3
        assert "error[daemon-unavailable]" in result.stderr
        await state.close()

    asyncio.run(held(write(tmp_path, record(Phase.STREAMING))))


@pytest.mark.usefixtures("streaming")
def test_a_daemon_of_another_migration_on_our_old_port_is_not_asked(
    replicator: Run, served: Served
) -> None:
    served.control.shown.name = "others"
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert told["name"] == "articles"
    assert "error[daemon-needed]" in replicator("pause").stderr
    assert not served.control.shown.paused


@pytest.mark.parametrize(
    ("phase", "direction", "says"),
    [
        (Phase.COMPLETE, Direction.REVERSE, "finished"),
        (Phase.ABORTED, Direction.FORWARD, "given up; the application stays on the source"),
    ],
)
def test_of_a_migration_that_is_over_nothing_is_asked_any_more(
    replicator: Run, tmp_path: Path, phase: Phase, direction: Direction, says: str
) -> None:
    asyncio.run(write(tmp_path, record(phase, direction)))
    text = replicator("status").stdout
    assert says in text
    for word in ("not ready", "daemon", "STOP", "unknown", "gate"):
        assert word not in text, text
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert (told["ready"], told["not_ready"], told["partitions"]) == (True, [], [])


@pytest.mark.usefixtures("streaming")
def test_a_letter_is_given_up_without_a_daemon_and_the_journal_says_so(
    replicator: Run,
) -> None:
    assert replicator("dead-letters", "discard", "1", "9").stdout == "discarded 1 of 2\n"
    [last] = msgspec.json.decode(replicator("journal", "--limit", "1", "--json").stdout)
    assert (last["step"], last["evidence"]["closed"]) == ("discard", 1)


@pytest.mark.usefixtures("streaming")
def test_half_a_copy_is_not_called_whole(replicator: Run) -> None:
    told = msgspec.json.decode(replicator("status", "--json").stdout)
    assert told["backfill"]["percent"] is None, "no chunk was ever cut"
