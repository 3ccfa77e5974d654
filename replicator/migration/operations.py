"""
Long operations: verify, repair, retry, cutover, revert. One at a time, and owned here: a caller
that goes away does not stop them, a drain does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from replicator.errors import Refused

T = TypeVar("T")


class Operations:
    """Holds the operation under way."""

    def __init__(self) -> None:
        self.name = ""
        """Of the operation under way, or the last one."""
        self.draining = False
        """Nothing new is begun."""
        self._task: asyncio.Task[Any] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._task is None or self._task.done()

    def refuse_beside(self, *names: str) -> None:
        """Raises Refused while one of these operations (none named: any) is under way."""
        if not self.idle and (not names or self.name in names):
            raise Refused("phase-refused", f"{self.name} is under way; wait for it")

    async def cancel(self, name: str) -> bool:
        """Stop the operation of this name; False when it is not under way."""
        task = self._task
        if task is None or self.idle or self.name != name:
            return False
        task.cancel()
        await asyncio.wait([task])
        return True

    async def run(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run an operation to its end, whatever becomes of the caller. Raises Refused."""
        if self.draining:
            raise Refused("phase-refused", "the process is shutting down")
        self.refuse_beside()
        task: asyncio.Task[T] = asyncio.ensure_future(work())
        self._task, self.name = task, name
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not self.draining:
                raise Refused("cancelled", f"{name} was cancelled") from None
            if task.cancelled():
                raise Refused(
                    "phase-refused", f"{name} was stopped: the process is shutting down"
                ) from None
            raise

    async def end(self) -> None:
        """Stop what is under way. A cutover goes back to STREAMING in its own handler."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
