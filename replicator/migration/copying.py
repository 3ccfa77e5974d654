"""
The job of phase BACKFILL: settle, prepare the target, copy, and the phase that follows.

Between the capture and the first row `settle` passes, anew at each start until chunks are cut:
a process that died in between left nothing that says how much of it had passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from replicator import failpoints
from replicator.errors import Blocked
from replicator.migration.backfill import Backfill, prepare_target
from replicator.migration.engine import Engine
from replicator.model.phase import Direction, Phase


class CopyJob:
    """One run of it; resumes where the last one ended."""

    def __init__(self, engine: Engine, plain_copy_check: Callable[[], Awaitable[None]]) -> None:
        self._engine = engine
        self._plain_copy_check = plain_copy_check
        self._stopping = asyncio.Event()
        self._backfill: Backfill | None = None

    def stop(self) -> None:
        """End at the next page's end, or before the copy begins."""
        self._stopping.set()
        if self._backfill is not None:
            self._backfill.stop()

    async def run(self) -> None:
        """Everything from the capture to the phase after the copy, or until `stop`."""
        engine, parts = self._engine, self._engine.parts
        capture = engine.journal.record.capture
        assert capture is not None
        fresh = not await parts.state.chunks()
        if fresh and await self._stopped_within(engine.show_after_s):
            # Invariant 4: `settle` passes between the capture and the first row, anew at each
            # start.
            return
        await engine.letters.load()
        writer = engine.writers[Direction.FORWARD]
        await writer.guard.clear()
        await prepare_target(
            parts.settings,
            source=parts.source,
            target=parts.target,
            writer=writer,
            capture_id=capture.id,
            wipe=parts.wipe,
            resumed=not fresh,
            patience=engine.patience,
        )
        await failpoints.reached("copy.before-first-row")
        self._backfill = Backfill(
            source=parts.source,
            target=parts.target,
            writer=writer,
            atlas=await engine.draw(),
            state=parts.state,
            letters=engine.letters,
            patience=engine.patience,
            pace=engine.pace,
            settings=parts.settings.backfill,
            metrics=parts.metrics,
        )
        if self._stopping.is_set() or not await self._backfill.run():
            return
        await self.follow_up()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def follow_up(self) -> None:
        """Enter the phase that follows the copy."""
        engine, feed = self._engine, self._engine.parts.feed
        if feed is None:
            await self._plain_copy_check()
            left = engine.letters.open
            await engine.journal.move(
                Phase.COMPLETE,
                f"copied but for {left} rows in the dead letters"
                if left
                else "copied; both equal",
                only_from=Phase.BACKFILL,
            )
            return
        bounds = await engine.patience.until_answered(feed.bounds)
        capture = engine.journal.record.capture
        if capture is None or bounds.keys() != capture.positions.keys():
            # Whatever answered is not the log that was captured: its ends mean nothing.
            raise Blocked(
                "partitions-changed",
                f"the topic has {len(bounds)} partitions, not those of the capture",
            )
        await engine.journal.move(
            Phase.REPLAY,
            "every row is copied",
            only_from=Phase.BACKFILL,
            replay_until={partition: at.end for partition, at in bounds.items()},
        )
        await failpoints.reached("replay.began")
