"""
How many writes may be under way at once: additive increase, multiplicative decrease.

A store says "slower" with a throttle, a timeout, or by taking longer. The limit rises by one
for each limit's worth of good answers and falls by half on a refusal; latency beyond twice the
best recently seen stops the rise. The best is forgotten slowly, so that a store that became
slower for good is not punished for its past.
"""

from __future__ import annotations

import asyncio

_SLOWER = 2.0
"""Latency of this multiple of the best is read as a queue at the store. Less reads noise as a
queue."""
_FORGET = 1.02
"""Growth of the remembered best with each answer: doubled after about 35 answers."""


class ConcurrencyLimit:
    """Shared by everything that writes to one store. Not safe across threads."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._limit = float(min(4, maximum))
        self._best_s = 0.0
        self._taken = 0
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def now(self) -> int:
        """Writes allowed at once just now."""
        return max(1, min(int(self._limit), self.maximum))

    @property
    def taken(self) -> int:
        """Writes under way."""
        return self._taken

    @property
    def free(self) -> bool:
        """Whether another write may start."""
        return self._taken < self.now

    def take(self) -> None:
        """Start a write. Only when `free`."""
        assert self.free, "a write started above the limit"
        self._taken += 1

    def give(self) -> None:
        """A write has ended."""
        self._taken -= 1
        self._wake()

    async def wait(self) -> None:
        """Wait until a write may start, and take its place."""
        while not self.free:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake()  # the place that was meant for us goes to another
                raise
        self.take()

    def answered(self, seconds: float) -> None:
        """A write was answered well after so many seconds."""
        best = min(seconds, self._best_s * _FORGET) if self._best_s else seconds
        self._best_s = max(best, 1e-6)
        if seconds <= self._best_s * _SLOWER:
            self._limit = min(self._limit + 1.0 / self._limit, float(self.maximum))
        else:
            self._limit = max(1.0, self._limit - 1.0 / self._limit)
        self._wake()

    def refused(self) -> None:
        """A write was throttled, or its reply did not come."""
        self._limit = max(1.0, self._limit / 2)

    def _wake(self) -> None:
        room = self.now - self._taken
        while room > 0 and self._waiters:
            waiter = self._waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                room -= 1
