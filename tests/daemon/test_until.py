from __future__ import annotations

import pytest

from replicator.daemon.until import Goal, Until
from replicator.errors import LASTING, Blocked, Refused, ReplicatorError, Unavailable
from replicator.model.finding import Blocker
from replicator.model.phase import Phase
from replicator.model.status import PartitionStatus, Status
from replicator.testing.memory_control import streaming_status


def status(phase: Phase, *partitions: tuple[int | None, int | None]) -> Status:
    told = streaming_status()
    told.phase = phase
    told.partitions = [
        PartitionStatus(
            partition=f"t/{number}", end=end, position=end, applied=end, committed=committed
        )
        for number, (end, committed) in enumerate(partitions)
    ]
    return told


@pytest.mark.parametrize(
    ("phase", "reached"),
    [
        (Phase.PLANNED, False),
        (Phase.BACKFILL, False),
        (Phase.REPLAY, True),
        (Phase.STREAMING, True),
        (Phase.COMPLETE, True),
    ],
)
def test_backfilled_is_whatever_comes_after_the_copy(phase: Phase, reached: bool) -> None:
    assert Until(Goal.BACKFILLED).reached(status(phase)) is reached


def test_caught_up_is_the_end_seen_first_and_not_the_end_that_moves_on() -> None:
    until = Until(Goal.CAUGHT_UP)
    assert not until.reached(status(Phase.REPLAY, (5, 5)))
    assert not until.reached(status(Phase.STREAMING, (10, 9), (7, 7)))
    assert not until.reached(status(Phase.STREAMING, (90, 9), (90, 90)))
    assert until.reached(status(Phase.STREAMING, (90, 10), (90, 7)))


def test_an_end_that_nobody_knows_is_not_reached() -> None:
    until = Until(Goal.CAUGHT_UP)
    assert not until.reached(status(Phase.STREAMING))
    assert not until.reached(status(Phase.STREAMING, (5, 5), (None, 5)))
    assert not until.reached(status(Phase.STREAMING, (5, None), (6, 6)))
    assert until.reached(status(Phase.STREAMING, (None, 5), (None, 6)))


def test_an_unknown_partition_keeps_it_open() -> None:
    until = Until(Goal.CAUGHT_UP)
    told = status(Phase.STREAMING, (5, 5))
    told.lag.unknown_partitions = 1
    assert not until.reached(told)


def test_a_plain_copy_is_caught_up_when_it_is_complete() -> None:
    assert Until(Goal.CAUGHT_UP).reached(status(Phase.COMPLETE))


@pytest.mark.parametrize("phase", [Phase.BLOCKED, Phase.HELD, Phase.ABORTED])
def test_what_needs_a_person_ends_the_job(phase: Phase) -> None:
    with pytest.raises(Blocked, match=phase.value):
        Until(Goal.BACKFILLED).reached(status(phase))


def waiting(code: str, *, copied: int) -> Status:
    told = status(Phase.BACKFILL)
    told.not_ready = [Blocker("phase", "the stream is starting"), Blocker(code, "it is away")]
    told.backfill.copied = copied
    return told


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("store-unavailable", Unavailable),
        ("outcome-unknown", Unavailable),
        ("topic-missing", Refused),
    ],
)
def test_a_job_that_cannot_start_gives_up_soon_and_says_for_what(
    code: str, error: type[ReplicatorError]
) -> None:
    until = Until(Goal.BACKFILLED)
    until.has_patience(waiting(code, copied=40), 100.0)
    until.has_patience(waiting(code, copied=40), 109.0)
    with pytest.raises(error) as caught:
        until.has_patience(waiting(code, copied=40), 110.0)
    assert (caught.value.code, caught.value.message) == (code, "it is away")


@pytest.mark.parametrize("code", sorted(LASTING))
def test_a_job_waits_for_nothing_that_no_waiting_mends(code: str) -> None:
    with pytest.raises(Refused) as caught:
        Until(Goal.BACKFILLED).has_patience(waiting(code, copied=40), 0.0)
    assert caught.value.code == code


def test_a_job_that_has_worked_waits_for_minutes_and_anew_after_every_step() -> None:
    until = Until(Goal.BACKFILLED)
    until.has_patience(status(Phase.BACKFILL), 0.0)
    until.has_patience(waiting("store-unavailable", copied=50), 10.0)
    until.has_patience(waiting("store-unavailable", copied=50), 309.0)
    until.has_patience(waiting("store-unavailable", copied=60), 311.0)
    until.has_patience(waiting("store-unavailable", copied=60), 600.0)
    with pytest.raises(Unavailable):
        until.has_patience(waiting("store-unavailable", copied=60), 612.0)


def test_a_wait_that_was_answered_does_not_count() -> None:
    until = Until(Goal.BACKFILLED)
    until.has_patience(waiting("store-unavailable", copied=0), 0.0)
    until.has_patience(status(Phase.BACKFILL), 9.0)
    until.has_patience(waiting("store-unavailable", copied=0), 11.0)
    until.has_patience(waiting("store-unavailable", copied=0), 20.0)
