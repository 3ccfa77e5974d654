"""Pace: the rate limit of bulk work, and what it tells of its progress."""

from __future__ import annotations

import asyncio
from collections import deque

from replicator.model.status import BackfillStatus

_WINDOW_S = 10.0
"""The rate shown is that of the last ten seconds: shorter jumps about, longer hides a stall."""
_STEP_S = 0.1
"""Rows within so short a time are remembered as one number: a hundred of them at most."""


class Pace:
    """Shared by the readers of one job."""

    def __init__(self, rate_max: float) -> None:
        self.rate_max = rate_max
        """Rows a second; 0 is unlimited. May be changed at any time."""
        self.progress = BackfillStatus()
        self._next_at = 0.0
        self._seen: deque[tuple[float, int]] = deque()

    async def rows(self, count: int) -> None:
        """Wait until so many rows may be carried."""
        now = asyncio.get_running_loop().time()
        self._saw(now, count)
        if self.rate_max > 0:
            start_at = max(now, self._next_at)
            self._next_at = start_at + count / self.rate_max
            await asyncio.sleep(start_at - now)

    def _saw(self, now: float, count: int) -> None:
        """Nobody may ever ask for the status, so what is old is forgotten here too."""
        if self._seen and now - self._seen[-1][0] < _STEP_S:
            at, before = self._seen[-1]
            self._seen[-1] = (at, before + count)
        else:
            self._seen.append((now, count))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._seen and self._seen[0][0] < now - _WINDOW_S:
            self._seen.popleft()

    def status(self) -> BackfillStatus:
        """Progress with rate and remaining time; None where they are not known."""
        now = asyncio.get_running_loop().time()
        self._forget(now)
        progress = self.progress
        rows = sum(count for _, count in self._seen)
        span = now - self._seen[0][0] if self._seen else 0.0
        progress.rate_per_s = rows / span if span > 0 else None
        progress.percent = progress.eta_s = None
        if progress.estimated is not None:
            # A source that others write grows meanwhile; and it is not done before it is done.
            progress.estimated = max(progress.estimated, progress.copied)
            left = progress.estimated - progress.copied
            progress.percent = (
                100.0 * progress.copied / progress.estimated if progress.estimated else 100.0
            )
            progress.eta_s = left / progress.rate_per_s if progress.rate_per_s else None
        return progress
