"""Waiting for a peer that is away: try again with backoff for as long as it takes, and say
why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from replicator.errors import Refused, ReplicatorError, Retryable
from replicator.model.finding import Blocker
from replicator.settings.settings import StreamSettings

T = TypeVar("T")


class Patience:
    """Backoff for calls that only read; they can be repeated at once and change nothing."""

    def __init__(self, settings: StreamSettings) -> None:
        self.trouble: Blocker | None = None
        """Why we wait just now; None while we do not."""
        self._settings = settings

    def saw(self, error: ReplicatorError) -> None:
        """Somebody met this error and is waiting."""
        self.trouble = Blocker(error.code, error.message)

    async def until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """
        The answer, however long it takes. A refusal is waited out too: a revoked key or a
        collection gone is mended by a person while we wait. Everything else is raised.
        """
        backoff_s: float = self._settings.backoff_min
        while True:
            try:
                answer = await call()
            except Retryable as error:
                self.saw(error)
                await asyncio.sleep(max(backoff_s, error.retry_after_s or 0.0))
            except Refused as error:
                self.saw(error)
                await asyncio.sleep(self._settings.backoff_max)
            else:
                self.trouble = None
                return answer
            backoff_s = min(backoff_s * 2, self._settings.backoff_max)
