"""
The application's side of a cutover: which store is in use, and whether writes are admitted.

Three things can hold writes up, and each is lifted by its own hand only: the fence (the
replicator asks for it, with a deadline after which it opens by itself), the switch (for the
instant in which the route changes, so that no operation sees two routes), and a rest (the
demonstration counts what is in the stores).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

StoreName = Literal["source", "target"]

_ATTEMPTS = 100
"""Attempts that are remembered as over: a request that comes later than a hundred others is not
to be expected."""


class Route(msgspec.Struct, frozen=True):
    """The store in use, and the epoch that its events carry."""

    active: StoreName
    epoch: int


class Gate:
    """Admits operations one by one, and can wait until none is under way."""

    def __init__(self) -> None:
        self.route = Route("source", 0)
        self.closings = 0
        self.opened_by_deadline = 0
        self._closed_for = ""
        self._closed_at = 0.0
        self._over: dict[str, None] = {}
        """Attempts for which the fence was opened, oldest first."""
        self._held_by: set[str] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def fenced(self) -> bool:
        """Whether the fence is closed."""
        return "fence" in self._held_by

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[Route]:
        """Wait until writes are admitted; the route stays as it is until the block is left."""
        while self._held_by:
            await self._open.wait()
        self._under_way += 1
        self._idle.clear()
        try:
            yield self.route
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def close_fence(self, deadline_s: float, attempt: str = "") -> bool:
        """
        Admit nothing more, and return when every operation under way is done: written to the
        store, its event durable in the log. After `deadline_s` the fence opens by itself.
        Raises TimeoutError when operations are still under way then.

        False, and nothing is done, for an attempt for which the fence was opened: the request
        was sent before that, and comes late. Also when it was opened while we waited.
        """
        if attempt and attempt in self._over:
            return False
        self.closings += 1
        loop = asyncio.get_running_loop()
        if not self.fenced:
            self._closed_at = loop.time()
        self._closed_for = attempt
        self._hold("fence")
        if self._deadline:
            self._deadline.cancel()
        self._deadline = loop.call_later(deadline_s, self._open_by_deadline)
        async with asyncio.timeout(deadline_s):
            await self._idle.wait()
        return not attempt or attempt not in self._over

    def open_fence(self, attempt: str = "") -> bool:
        """
        Admit writes again, along the route in force, and close no more for this attempt.
        Idempotent.

        False, and the fence stays closed, for another attempt than the one it is closed for:
        the request was sent before that one began, and comes late.
        """
        if attempt and self.fenced and self._closed_for not in ("", attempt):
            return False
        if attempt:
            self._over[attempt] = None
            if len(self._over) > _ATTEMPTS:
                del self._over[next(iter(self._over))]
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
        self._lift("fence")
        return True

    @property
    def closed_s(self) -> float:
        """For how long the fence has been closed; 0 while it is open."""
        return asyncio.get_running_loop().time() - self._closed_at if self.fenced else 0.0

    @property
    def held_s(self) -> float:
        """How long the fence stays closed if nobody asks again; 0 while it is open."""
        if self._deadline is None:
            return 0.0
        return max(0.0, self._deadline.when() - asyncio.get_running_loop().time())

    async def switch(self, to: StoreName, epoch: int) -> bool:
        """Change the route. False, and nothing changes, when `epoch` is an older one."""
        if epoch < self.route.epoch:
            return False
        self._hold("switch")
        try:
            await self._idle.wait()
            self.route = Route(to, epoch)
        finally:
            self._lift("switch")
        return True

    async def at_work(self) -> None:
        """Wait while there is a rest. A write that nobody asked for yet is not held up."""
        while "rest" in self._held_by:
            await self._open.wait()

    async def rest(self) -> None:
        """Admit nothing more until `work`, and return when nothing is under way."""
        self._hold("rest")
        await self._idle.wait()

    def work(self) -> None:
        """End the rest."""
        self._lift("rest")

    def _open_by_deadline(self) -> None:
        self.opened_by_deadline += 1
        self.open_fence()

    def _hold(self, reason: str) -> None:
        self._held_by.add(reason)
        self._open.clear()

    def _lift(self, reason: str) -> None:
        self._held_by.discard(reason)
        if not self._held_by:
            self._open.set()
