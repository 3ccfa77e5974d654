"""Waiting for a peer that is away: try again with backoff for as long as it takes, and say
why.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from replicator.errors import Refused, ReplicatorError, Retryable
from replicator.model.finding import Blocker
from replicator.settings.settings import StreamSettings
from replicator.stream.waits import Waits

T = TypeVar("T")


class Patience:
    """Backoff for calls that only read; they can be repeated at once and change nothing."""

    def __init__(self, settings: StreamSettings, waits: Waits | None = None) -> None:
        self.waits = waits or Waits()
        self._settings = settings

    @property
    def trouble(self) -> Blocker | None:
        """Why we wait just now; None while we do not."""
        return self.waits.first

    def saw(self, who: object, error: ReplicatorError) -> None:
        """`who` met this error and waits, until it is `over`."""
        self.waits.saw(who, error)

    def over(self, who: object) -> None:
        """`who` was answered, or gave up."""
        self.waits.over(who)

    async def rest(
        self,
        who: object,
        error: Retryable | Refused,
        backoff_s: float | None = None,
        stop: asyncio.Event | None = None,
    ) -> float:
        """
        Wait before the next try, and say why; returns the backoff after it. A refusal is waited
        out the longest: a revoked key or a collection gone is mended by a person. `stop` ends
        the wait at once.
        """
        self.saw(who, error)
        wait_s: float = self._settings.backoff_min if backoff_s is None else backoff_s
        if isinstance(error, Refused):
            wait_s = self._settings.backoff_max
        asked_s = getattr(error, "retry_after_s", None) or 0.0
        if stop is None:
            await asyncio.sleep(max(wait_s, asked_s))
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wait_s, asked_s)):
                    await stop.wait()
        return float(min(wait_s * 2, self._settings.backoff_max))

    async def until_answered(
        self, call: Callable[[], Awaitable[T]], *, or_refused: bool = False
    ) -> T:
        """
        The answer, however long it takes. A refusal is waited out too, but for `or_refused`: a
        revoked key or a collection gone is mended by a person while we wait. Everything else is
        raised.
        """
        who, backoff_s = object(), None
        try:
            while True:
                try:
                    return await call()
                except Retryable as error:
                    backoff_s = await self.rest(who, error, backoff_s)
                except Refused as error:
                    if or_refused:
                        raise
                    backoff_s = await self.rest(who, error, backoff_s)
        finally:
            self.over(who)
