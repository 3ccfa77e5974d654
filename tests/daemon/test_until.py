from __future__ import annotations

import pytest

from replicator.daemon.until import Goal, Until
from replicator.errors import Blocked
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
