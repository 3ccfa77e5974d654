"""When a job that runs the daemon (`replicator run --until …`) has reached its goal."""

from __future__ import annotations

from enum import Enum

from replicator.errors import CODES, LASTING, Blocked, Refused, Unavailable
from replicator.model.finding import Blocker
from replicator.model.phase import Phase
from replicator.model.status import Status

_LOST = frozenset({Phase.BLOCKED, Phase.HELD, Phase.ABORTED})
_PASSING = frozenset({"outcome-unknown", "store-throttled", "transaction-open"})
_IN_ORDER = frozenset({"phase", "settle", "late-writes", "index-build"})
"""What a job waits for in the ordinary course of things, and which ends by itself."""
_COPYING = frozenset({Phase.PLANNED, Phase.BACKFILL})


_START_S = 10.0
"""How long a job waits for its environment before it has done anything: a person or a script
looks on. Half would fail beside a store that is just starting."""
_PATIENCE_S = 300.0
"""How long it waits later on without getting anywhere. Half would give hours of copying up
while a store is restarted with care."""


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
        self._done: int | None = None
        self._stands_since: float | None = None
        self._has_worked = False

    def has_patience(self, status: Status, now: float) -> None:
        """
        Raises Unavailable or Refused when the job has waited long enough for what the status
        names, where a daemon goes on waiting; at once for what no waiting mends. `now` in
        seconds of any clock that only grows.
        """
        for reason in status.not_ready:
            if reason.code in LASTING:
                raise _given_up(reason)
        waits = [reason for reason in status.not_ready if reason.code not in _IN_ORDER]
        done = status.backfill.copied + status.stream.applied
        self._has_worked = self._has_worked or (self._done is not None and done != self._done)
        if not waits or done != self._done:
            self._done, self._stands_since = done, None
        if not waits:
            return
        if self._stands_since is None:
            self._stands_since = now
        elif now - self._stands_since >= (_PATIENCE_S if self._has_worked else _START_S):
            raise _given_up(waits[0])

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


def _given_up(reason: Blocker) -> Unavailable | Refused:
    away = reason.code.endswith("-unavailable") or reason.code in _PASSING
    code = reason.code if reason.code in CODES else "internal"
    return Unavailable(code, reason.message) if away else Refused(code, reason.message)
