"""The journal: persisted before anyone acts, whole or not at all, from where it says only."""

from __future__ import annotations

import asyncio

import pytest

from replicator.migration.evidence.journal import Journal
from replicator.model.phase import Direction, Phase
from replicator.model.record import MigrationRecord
from replicator.testing.memory_state import MemoryStateStore
from tests.stream.rig import now, virtual


async def journal_in(
    phase: Phase, *, latency_s: float = 0.0
) -> tuple[Journal, MemoryStateStore]:
    state = MemoryStateStore(lambda: latency_s)
    journal = Journal(state, MigrationRecord(name="test"), lambda: 100.0 + now())
    await journal.begin(MigrationRecord(name="test", phase=phase), "planned")
    return journal, state


@virtual
async def test_a_move_is_persisted_with_its_reason_and_evidence() -> None:
    journal, state = await journal_in(Phase.STREAMING)
    moved = await journal.move(
        Phase.FENCING,
        "cutover begins",
        only_from=Phase.STREAMING,
        evidence={"lag": 3},
        fence_closed=True,
    )
    assert moved
    record = await state.load()
    assert record == journal.record
    assert record is not None
    assert (record.phase, record.reason, record.fence_closed) == (
        Phase.FENCING,
        "cutover begins",
        True,
    )
    assert record.since == 100.0
    [entry] = await state.journal(1)
    assert (entry.step, entry.phase, entry.message) == (
        "phase",
        Phase.FENCING,
        "cutover begins",
    )
    assert entry.evidence == {"lag": 3}


@virtual
async def test_nothing_moves_when_somebody_else_has_left_the_phase() -> None:
    journal, state = await journal_in(Phase.STREAMING)
    before = journal.record
    assert not await journal.move(
        Phase.SWITCHING, "late", only_from=Phase.FENCING, fence_closed=True
    )
    assert journal.record is before
    assert len(await state.journal(10)) == 1


@virtual
async def test_of_two_who_leave_a_phase_at_once_one_does() -> None:
    journal, state = await journal_in(Phase.STREAMING, latency_s=0.1)
    moved = await asyncio.gather(
        journal.move(Phase.FENCING, "one", only_from=Phase.STREAMING),
        journal.move(Phase.BLOCKED, "two", only_from=Phase.STREAMING),
    )
    assert moved == [True, False]
    assert journal.record.phase is Phase.FENCING
    assert (await state.load()) == journal.record


@virtual
async def test_a_step_that_the_table_does_not_know_is_a_defect() -> None:
    journal, _ = await journal_in(Phase.PLANNED)
    with pytest.raises(AssertionError):
        await journal.move(Phase.SWITCHING, "no", only_from=Phase.PLANNED)


@virtual
async def test_the_code_of_an_earlier_reason_does_not_outlive_it() -> None:
    journal, _ = await journal_in(Phase.STREAMING)
    await journal.move(
        Phase.BLOCKED, "cut", only_from=Phase.STREAMING, reason_code="log-truncated"
    )
    assert journal.record.reason_code == "log-truncated"
    await journal.move(Phase.STREAMING, "resumed", only_from=Phase.BLOCKED)
    assert journal.record.reason_code == ""


@pytest.mark.parametrize("after_s", [0.05, 0.15])
@virtual
async def test_a_cancelled_move_is_taken_to_its_end_and_raised_afterwards(
    after_s: float,
) -> None:
    journal, state = await journal_in(Phase.STREAMING, latency_s=0.1)
    moving = asyncio.create_task(
        journal.move(Phase.FENCING, "begins", only_from=Phase.STREAMING)
    )
    await asyncio.sleep(after_s)
    moving.cancel()
    await asyncio.wait([moving])
    assert moving.cancelled()
    assert journal.record.phase is Phase.FENCING
    assert (await state.load()) == journal.record


@virtual
async def test_the_record_is_changed_in_memory_only_once_it_is_persisted() -> None:
    journal, _ = await journal_in(Phase.STREAMING, latency_s=0.1)
    moving = asyncio.create_task(
        journal.move(Phase.FENCING, "begins", only_from=Phase.STREAMING)
    )
    await asyncio.sleep(0.15)
    assert journal.record.phase is Phase.STREAMING
    await moving
    assert journal.record.phase is Phase.FENCING


@virtual
async def test_a_change_within_the_phase_keeps_phase_and_time() -> None:
    journal, state = await journal_in(Phase.STREAMING)
    since = journal.record.since
    await asyncio.sleep(5)
    await journal.change("pause", "paused", paused=True)
    record = await state.load()
    assert record is not None
    assert (record.paused, record.phase, record.since) == (True, Phase.STREAMING, since)
    assert (await state.journal(1))[0].step == "pause"


@virtual
async def test_a_note_changes_nothing_but_the_journal() -> None:
    journal, state = await journal_in(Phase.STREAMING)
    before = await state.load()
    await journal.note("verify", "both stores are equal", compared=7)
    assert await state.load() == before
    [entry] = await state.journal(1)
    assert (entry.step, entry.evidence, entry.direction) == (
        "verify",
        {"compared": 7},
        Direction.FORWARD,
    )


@virtual
async def test_whoever_waits_for_changes_hears_of_each() -> None:
    journal, _ = await journal_in(Phase.STREAMING)
    for paused in (True, False):
        waiting = asyncio.create_task(journal.changes())
        await asyncio.sleep(1)
        assert not waiting.done()
        await journal.change("pause", "x", paused=paused)
        await waiting


@virtual
async def test_of_two_changes_at_once_neither_takes_back_the_other() -> None:
    journal, state = await journal_in(Phase.STREAMING, latency_s=0.1)
    await asyncio.gather(
        journal.change("pause", "paused", paused=True),
        journal.change("fence", "closed", fence_closed=True),
    )
    assert (journal.record.paused, journal.record.fence_closed) == (True, True)
    assert (await state.load()) == journal.record
