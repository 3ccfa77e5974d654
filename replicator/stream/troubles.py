"""
What is being waited for just now, and by whom: several wait at once, and one that is answered
must not make the others look well.
"""

from __future__ import annotations

from replicator.errors import ReplicatorError
from replicator.model.finding import Blocker


class Troubles:
    """Whoever waits says so with `saw`, and takes it back with `over`, however it ends."""

    def __init__(self) -> None:
        self._waits: dict[object, Blocker] = {}

    def saw(self, who: object, error: ReplicatorError) -> None:
        """`who` met this error and waits; a later one of the same waiter replaces it."""
        self._waits[who] = Blocker(error.code, error.message)

    def over(self, who: object) -> None:
        """`who` waits no more. Also right for one that never did."""
        self._waits.pop(who, None)

    @property
    def first(self) -> Blocker | None:
        """Why the one that waits longest does; None while nobody waits."""
        return next(iter(self._waits.values()), None)
