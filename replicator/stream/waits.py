"""
What is being waited for just now, by whom, since when and until when.

Several wait at once, and one that is answered must not make the others look well. A wait that
nobody sees is a defect: whoever waits for a peer, a bound or a person says so here, and takes
it back however the wait ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from replicator import clock as clocks
from replicator.clock import Clock
from replicator.errors import ReplicatorError
from replicator.model.finding import Blocker
from replicator.model.status import Wait


class Waits:
    """The waits of one process. Not safe across threads."""

    def __init__(self, clock: Clock = clocks.wall) -> None:
        self._clock = clock
        self._waits: dict[object, Wait] = {}

    def saw(self, who: object, error: ReplicatorError) -> None:
        """`who` met this error and waits; a later one of the same waiter replaces it."""
        self._enter(who, error.code, error.message, until=None, planned=False)

    def begin(
        self,
        who: object,
        code: str,
        message: str,
        *,
        seconds: float | None = None,
        planned: bool = False,
    ) -> None:
        """
        `who` waits, for so many seconds where that is known. `planned`: as the phase asks for,
        which makes nobody look unwell.
        """
        until = None if seconds is None else self._clock() + seconds
        self._enter(who, code, message, until=until, planned=planned)

    def over(self, who: object) -> None:
        """`who` waits no more. Also right for one that never did."""
        self._waits.pop(who, None)

    @contextmanager
    def waiting(
        self, code: str, message: str, *, seconds: float | None = None, planned: bool = False
    ) -> Iterator[None]:
        """As `begin` and `over` around a wait."""
        who = object()
        self.begin(who, code, message, seconds=seconds, planned=planned)
        try:
            yield
        finally:
            self.over(who)

    @property
    def all(self) -> list[Wait]:
        """Every wait under way, the longest first."""
        return list(self._waits.values())

    @property
    def first(self) -> Blocker | None:
        """Why the one that waits longest against all plans does; None while nobody does."""
        unplanned = (wait for wait in self._waits.values() if not wait.planned)
        wait = next(unplanned, None)
        return None if wait is None else Blocker(wait.code, wait.message)

    def _enter(
        self, who: object, code: str, message: str, *, until: float | None, planned: bool
    ) -> None:
        known = self._waits.get(who)
        since = known.since if known is not None and known.code == code else self._clock()
        self._waits[who] = Wait(
            code=code, message=message, since=since, until=until, planned=planned
        )
