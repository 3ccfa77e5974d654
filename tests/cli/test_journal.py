"""The journal: of the daemon, and of the state where none runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from replicator.cli.journal import after
from replicator.kinds import variants
from replicator.migration.evidence.journal import Journal
from replicator.model.phase import Direction, Phase
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.settings.load import load
from replicator.testing.memory_control import MemoryControl
from replicator.wiring import open_state
from tests.cli.conftest import Run


def entry(number: int) -> JournalEntry:
    return JournalEntry(
        at=1_750_000_000.0 + number,
        phase=Phase.STREAMING,
        direction=Direction.FORWARD,
        step="verify",
        message=f"generation {number}",
        evidence={"compared": number},
    )


def test_the_newest_comes_last_with_its_evidence(
    replicator: Run, control: MemoryControl
) -> None:
    control.entries = [entry(1), entry(2), entry(3)]
    lines = replicator("journal", "--limit", "2").stdout.splitlines()
    assert [line.split("  ")[-2:] for line in lines] == [
        ["generation 2", '{"compared":2}'],
        ["generation 3", '{"compared":3}'],
    ]
    told = msgspec.json.decode(replicator("journal", "--json").stdout)
    assert [each["evidence"]["compared"] for each in told] == [1, 2, 3]


def test_the_state_is_read_where_no_daemon_runs(replicator: Run, config: Path) -> None:
    assert "error[state-missing]" in replicator("journal").stderr

    async def begin() -> None:
        state = await open_state(load(config, {}, variants()))
        try:
            journal = Journal(state, MigrationRecord(name="articles"), lambda: 0.0)
            await journal.begin(journal.record, "planned")
            await journal.note("pause", "paused")
        finally:
            await state.close()

    asyncio.run(begin())
    lines = replicator("journal").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["planned", "paused"]


@pytest.mark.parametrize(
    ("seen", "now", "new"),
    [
        ([], [1, 2], [1, 2]),
        ([1, 2], [1, 2], []),
        ([1, 2], [1, 2, 3, 4], [3, 4]),
        ([1, 2], [2, 3], [3]),
        ([1], [5, 6], [5, 6]),
        ([1], [], []),
    ],
)
def test_following_tells_each_entry_once(
    seen: list[int], now: list[int], new: list[int]
) -> None:
    assert after([entry(n) for n in seen], [entry(n) for n in now]) == [entry(n) for n in new]
