"""
The write guard: no write starts while an earlier one may still land.

A client deadline cancels nothing at a server. A write whose reply was lost can arrive seconds
later and overwrite what was written since, so after an unknown outcome the same keys are
written no sooner than the store's late-write bound. Within a process the writer waits with the
keys held. What the writer cannot hold (a write that was cancelled, or one of a process that
died) is held here for the whole store.
"""

from __future__ import annotations

import asyncio


class WriteGuard:
    """One per store that is written. All times are the running loop's."""

    def __init__(self, late_write_bound_s: float) -> None:
        self.bound_s = late_write_bound_s
        self._clear_at = 0.0

    def suspect(self, seconds: float | None = None) -> None:
        """Some write, now or before, may land until the bound has passed from now; or until
        `seconds` have, of a bound that began in an earlier process.
        """
        left_s = self.bound_s if seconds is None else min(seconds, self.bound_s)
        self._clear_at = max(self._clear_at, asyncio.get_running_loop().time() + left_s)

    def absolve(self) -> None:
        """What was sent before has nowhere to land."""
        self._clear_at = 0.0

    @property
    def is_clear(self) -> bool:
        """Whether nothing unanswered can still land."""
        return asyncio.get_running_loop().time() >= self._clear_at

    @property
    def clear_at(self) -> float:
        """Loop time from which on nothing unanswered can land any more."""
        return self._clear_at

    @property
    def left_s(self) -> float:
        """Seconds until nothing unanswered can still land."""
        return max(0.0, self._clear_at - asyncio.get_running_loop().time())

    async def clear(self) -> None:
        """Wait until nothing unanswered can still land."""
        # Invariant 5: after an unknown outcome no write starts before the bound has passed.
        while not self.is_clear:  # noqa: ASYNC110  # the time may be moved while we wait
            await asyncio.sleep(self.left_s)
