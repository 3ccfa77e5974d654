"""When the daemon is killed: at random moments of every phase, from a seed."""

from __future__ import annotations

import asyncio
import random

from replicator.demo.progress import Progress
from replicator.demo.replication import Replication
from replicator.model.phase import Phase

_STREAMING_KILLS = 2
_CROSSING_KILLS = 2
_CROSSING_S = 1.5
"""A cutover takes about a second here, so a kill falls into any of its steps, or just after."""


class Chaos:
    """Kills, if asked to. Without it, every method returns at once."""

    def __init__(
        self, replication: Replication, progress: Progress, *, seed: int, active: bool
    ) -> None:
        self._replication = replication
        self._progress = progress
        self._random = random.Random(f"{seed}/kill")  # noqa: S311 - no secret, a seed
        self.active = active

    async def during_copy(self, points: int) -> None:
        """Once in the middle of the copy, and once while its events are replayed."""
        if not self.active:
            return
        rows = round(points * self._random.uniform(0.1, 0.8))
        await self._replication.until(
            lambda status: (
                status.phase not in {Phase.PLANNED, Phase.BACKFILL}
                or status.backfill.copied >= rows
            ),
            "copying",
        )
        await self._strike("in the copy")
        await self._replication.until(
            lambda status: status.phase in {Phase.REPLAY, Phase.STREAMING}, "replaying"
        )
        await self._strike("in replay")

    async def while_streaming(self) -> None:
        """A few times while events flow."""
        for _ in range(_STREAMING_KILLS if self.active else 0):
            await self._replication.until(
                lambda status: status.phase is Phase.STREAMING, "streaming"
            )
            await asyncio.sleep(self._random.uniform(0.2, 2.0))
            await self._strike("while streaming")

    def crossings(self) -> list[float]:
        """After how many seconds to kill each of the first attempts at a cutover or revert."""
        kills = _CROSSING_KILLS if self.active else 0
        return [self._random.uniform(0, _CROSSING_S) for _ in range(kills)]

    async def cross(self, after_s: float, operation: str) -> None:
        """Kill it some time after a cutover or revert began."""
        await asyncio.sleep(after_s)
        await self._strike(f"{after_s:.1f} s into {operation}")

    async def _strike(self, where: str) -> None:
        await self._replication.crash()
        self._progress.say(f"✗ killed the daemon {where}, and started it again")
