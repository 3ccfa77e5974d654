"""When a job that runs the daemon (`replicator run --until …`) has reached its goal."""

from __future__ import annotations

from enum import Enum

from replicator.errors import CODES, Blocked
from replicator.model.phase import Phase
from replicator.model.status import Status

_LOST = frozenset({Phase.BLOCKED, Phase.HELD, Phase.ABORTED})
_COPYING = frozenset({Phase.PLANNED, Phase.BACKFILL})


class Goal(Enum):
    """`backfilled`: every row is copied; `caught-up`: and every change up to now is applied."""

    BACKFILLED = "backfilled"
    CAUGHT_UP = "caught-up"


class Until:
    """
    Judge one status after the other.

    Caught up means: everything that was in the log when streaming began is persisted. A lag of
    zero would never be seen where the application writes all the time.
    """

    def __init__(self, goal: Goal) -> None:
        self._goal = goal
        self._ends: dict[str, int] | None = None

    def reached(self, status: Status) -> bool:
        """Raises Blocked when the goal cannot be reached without a person."""
        if status.phase in _LOST:
            code = status.not_ready[0].code if status.not_ready else ""
            raise Blocked(
                code if code in CODES else "phase-refused",
                f"the migration is {status.phase.value}: {status.reason}",
            )
        if status.phase is Phase.COMPLETE:
            return True
        if self._goal is Goal.BACKFILLED:
            return status.phase not in _COPYING
        return status.phase is Phase.STREAMING and self._caught_up(status)

    def _caught_up(self, status: Status) -> bool:
        ends = {row.partition: row.end for row in status.partitions}
        if self._ends is None:
            known = {name: end for name, end in ends.items() if end is not None}
            if not known or len(known) < len(ends) or status.lag.unknown_partitions:
                return False  # Invariant 9: an end that nobody knows is not reached
            self._ends = known
        persisted = {row.partition: row.committed for row in status.partitions}
        return all((persisted.get(name) or 0) >= end for name, end in self._ends.items())
