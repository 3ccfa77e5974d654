"""
Long operations: verify, repair, retry, cutover, revert. One at a time, and owned here: a caller
that goes away does not stop them; a drain does, and so does, for those that hold keys, whatever
stops the stream they work beside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from replicator.errors import Refused
from replicator.model.situation import HOLDING
from replicator.stream.ownership import Ownership, Purpose, Revoked

T = TypeVar("T")


class Operations:
    """Holds the operation under way."""

    def __init__(self, ownership: Ownership, bound_s: float) -> None:
        """`bound_s`: how long an operation that is to end may take to end well."""
        self.name = ""
        """Of the operation under way, or the last one."""
        self.draining = False
        """Nothing new is begun."""
        self._ownership = ownership
        self._bound_s = bound_s
        self._reason, self._by_person = "", False
        self._task: asyncio.Task[Any] | None = None
        self._cut: asyncio.Task[Any] | None = None
        """The one that was told to end at once."""

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._task is None or self._task.done()

    @property
    def under_way(self) -> str | None:
        """The name of the operation under way."""
        return None if self.idle else self.name

    async def cancel(self, name: str) -> bool:
        """Stop this operation on a person's word; False when it is not under way."""
        if self.under_way != name:
            return False
        self._by_person = True
        await self._cut_short()
        return True

    async def run(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run an operation to its end, whatever becomes of the caller. Raises Refused."""
        if self.draining:
            raise Refused("phase-refused", "the process is shutting down")
        if not self.idle:
            raise Refused("phase-refused", f"{self.name} is under way; wait for it")
        task: asyncio.Task[T] = asyncio.ensure_future(work())
        self._task, self.name = task, name
        self._reason, self._by_person = "the work beside it ended", False
        try:
            return await asyncio.shield(task)
        except Revoked:
            raise self._stopped(name) from None
        except asyncio.CancelledError:
            if task.cancelled():
                raise self._stopped(name) from None
            raise

    def _stopped(self, name: str) -> Refused:
        if self._by_person:
            return Refused("cancelled", f"{name} was cancelled")
        return Refused("phase-refused", f"{name} was stopped: {self._reason}")

    async def end_holding(self, reason: str) -> None:
        """
        End an operation that holds keys before the stream beside it stops. What it has in
        flight is waited for within the bound; then it is cut short, and the guard knows.
        """
        if self.idle or self.name not in HOLDING:
            return
        assert self._task is not None
        self._reason = reason
        self._ownership.revoke(Purpose.REPAIR, Purpose.RETRY)
        await asyncio.wait([self._task], timeout=self._bound_s)
        await self._cut_short()

    async def end(self, reason: str) -> None:
        """Stop what is under way. A cutover goes back to STREAMING in its own handler."""
        await self.end_holding(reason)
        self._reason = reason
        await self._cut_short()

    async def _cut_short(self) -> None:
        task = self._task
        if task is None or task.done():
            return
        # Once: a second cancellation would end what the first one lets it clean up.
        if self._cut is not task:
            self._cut = task
            task.cancel()
        await asyncio.wait([task])
