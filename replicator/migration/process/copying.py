"""
The job of phase BACKFILL: prepare the target while `settle` passes, copy, and the phase that
follows.

Between the capture and the first row `settle` passes, anew at each start until chunks are cut:
a process that died in between left nothing that says how much of it had passed. Making the
target ready reads no row, and uses the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from replicator import failpoints
from replicator.errors import Blocked, Refused
from replicator.migration.copy.backfill import Backfill, prepare_target
from replicator.migration.process.engine import Engine
from replicator.model.phase import Direction, Phase
from replicator.stream.ownership import Lease, Purpose, Revoked


class CopyJob:
    """One run of it; resumes where the last one ended."""

    def __init__(self, engine: Engine, plain_copy_check: Callable[[], Awaitable[None]]) -> None:
        self._engine = engine
        self._plain_copy_check = plain_copy_check
        self._stopping = asyncio.Event()
        self._backfill: Backfill | None = None
        self._ending: asyncio.Task[None] | None = None
        """What follows the copy."""

    def stop(self) -> None:
        """End at once, or with the pages whose writes are in flight."""
        self._stopping.set()
        self._engine.ownership.revoke(Purpose.PREPARE, Purpose.BACKFILL, Purpose.REPAIR)
        if self._backfill is not None:
            self._backfill.stop()
        if self._ending is not None:
            self._ending.cancel()  # it reads, or mends under a lease that the guard knows

    async def run(self) -> None:
        """Everything from the capture to the phase after the copy, or until `stop`."""
        engine = self._engine
        await engine.letters.load()
        fresh = not await engine.parts.state.chunks()
        epoch = engine.journal.record.epoch
        try:
            with engine.ownership.lease(Direction.FORWARD, Purpose.PREPARE, epoch) as lease:
                await self._prepare(lease, fresh=fresh)
            with engine.ownership.lease(Direction.FORWARD, Purpose.BACKFILL, epoch) as lease:
                if not await self._copy(lease):
                    return
            await self._end()
        except Revoked:
            return

    async def _end(self) -> None:
        self._ending = asyncio.ensure_future(self.follow_up())
        try:
            await asyncio.wait([self._ending])
        finally:
            self._ending.cancel()
        if not self._ending.cancelled():
            self._ending.result()

    async def _prepare(self, lease: Lease, *, fresh: bool) -> None:
        """Look, make the target ready, and let `settle` pass meanwhile."""
        engine, parts = self._engine, self._engine.parts
        capture = engine.journal.record.capture
        assert capture is not None
        # Invariant 4: `settle` passes between the capture and the first row, anew at each
        # start.
        settle_s = engine.show_after_s if fresh else 0.0
        settled_at = asyncio.get_running_loop().time() + settle_s
        with self._settling(settle_s):
            if not fresh:
                await lease.while_held(engine.identity.look_patiently())
            else:
                await lease.while_held(self._look_again())
                await lease.while_held(self._absolve_what_is_absent())
            # What lands late is seen before a target is judged to be empty.
            await engine.writers[Direction.FORWARD].settled(lease)
            await prepare_target(
                parts.settings,
                source=engine.source,
                target=engine.target,
                writer=engine.writers[Direction.FORWARD],
                lease=lease,
                capture_id=capture.id,
                wipe=parts.wipe,
                resumed=not fresh,
                state=parts.state,
            )
            await engine.identity.claim(lease)
            await lease.sleep(settled_at - asyncio.get_running_loop().time())
        await failpoints.reached("copy.before-first-row")

    @contextmanager
    def _settling(self, seconds: float) -> Iterator[None]:
        """Show `settle` for as long as it lasts: making the target ready may take longer, and
        shows what it waits for itself.
        """
        waits = self._engine.waits
        if seconds > 0:
            message = "letting every change from before the capture become readable"
            waits.begin(self, "settle", message, seconds=seconds)
        ending = asyncio.get_running_loop().call_later(seconds, waits.over, self)
        try:
            yield
        finally:
            ending.cancel()
            waits.over(self)

    async def _look_again(self) -> None:
        """The preflight, for what has changed since the capture: what follows may wipe the
        target.
        """
        try:
            await self._engine.preflight()
        except Refused as error:
            raise Blocked(error.code, error.message) from error

    async def _absolve_what_is_absent(self) -> None:
        """
        A write of an earlier migration that is still on its way to a collection that is not
        there has nowhere to land, in a store that does not create on write. But for a wipe: it
        would land on what is made there now. So nothing is absolved where one is allowed, or
        where a process of this very migration died, which may have been allowed one.
        """
        engine, parts = self._engine, self._engine.parts
        if engine.target.traits.creates_on_write or not engine.absolves or parts.wipe:
            return
        for name in parts.settings.targets:
            found = await engine.target.describe(name, or_refused=True)
            if found is not None:
                return
        engine.writers[Direction.FORWARD].guard.absolve()

    async def _copy(self, lease: Lease) -> bool:
        engine, parts = self._engine, self._engine.parts
        self._backfill = Backfill(
            source=engine.source,
            target=engine.target.store,
            writer=engine.writers[Direction.FORWARD],
            lease=lease,
            atlas=await lease.while_held(engine.draw()),
            state=parts.state,
            letters=engine.letters,
            patience=engine.patience,
            pace=engine.pace,
            settings=parts.settings.backfill,
            metrics=parts.metrics,
        )
        return not self._stopping.is_set() and await self._backfill.run()

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
