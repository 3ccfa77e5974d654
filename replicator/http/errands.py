"""
Long work that a request began and that outlives it.

A verification takes hours and a cutover must not be cut short because a laptop closed: the work
belongs to the server, and the request only waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Errands:
    """The tasks that requests began."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the work. Cancelling the wait leaves the work alone."""
        task = asyncio.create_task(work, name=f"errand {name}")
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel what is still under way, and wait until it has ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # The migration has journalled the failure; with nobody waiting it has no other reader.
        if not task.cancelled():
            task.exception()
