"""
Writing a batch until it is durable, or until each record in it that cannot be is known.

Every failure ends in one of four ways. Nothing was written: wait and try again, for ever,
because a store that is away for minutes must cost no event. The outcome is unknown: wait out
the late-write bound with the keys held, then try again. The batch is refused because of some
record in it: cut it in halves until the record stands alone. Anything else is a defect, and
stops the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from replicator.errors import Recovery, Rejected, ReplicatorError, recovery
from replicator.metrics import Metrics
from replicator.model.finding import Blocker
from replicator.model.point import PointId
from replicator.model.write import Receipt, Write, WriteBatch
from replicator.ports.store import StoreWriter
from replicator.settings.settings import StreamSettings
from replicator.stream.guard import WriteGuard
from replicator.stream.limit import ConcurrencyLimit
from replicator.stream.troubles import Troubles


class Written(msgspec.Struct):
    """What became of a batch: everything is durable but the rejected."""

    rejected: dict[PointId, Rejected] = {}
    absent: int = 0

    def add(self, receipt: Receipt) -> None:
        """Take a receipt in."""
        self.rejected.update(receipt.rejected)
        self.absent += len(receipt.absent)


class Writer:
    """Write to one store. Shared by the stream, the backfill and repair; safe for concurrent
    use.
    """

    def __init__(
        self,
        store: StoreWriter,
        *,
        connector: str,
        settings: StreamSettings,
        metrics: Metrics,
    ) -> None:
        self.guard = WriteGuard(store.late_write_bound_s)
        self.limit = ConcurrencyLimit(settings.in_flight_max)
        self.retries = 0
        self._store = store
        self._connector = connector
        self._settings = settings
        self._metrics = metrics
        self._troubles = Troubles()

    @property
    def trouble(self) -> Blocker | None:
        """Why writes fail just now; None while they do not."""
        return self._troubles.first

    async def write(self, collection: str, writes: Sequence[Write]) -> Written:
        """
        Write until durable. The caller keeps the keys to itself meanwhile: no other write of
        them may be under way. Cancelling it leaves the outcome unknown, and the guard says so.
        """
        written = Written()
        parts = [tuple(writes)] if writes else []
        while parts:
            part = parts.pop()
            try:
                written.add(await self._until_answered(WriteBatch(collection, part)))
            except Rejected as error:
                if len(part) == 1:
                    written.rejected[part[0].id] = error
                else:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
        return written

    async def administer(self, request: Callable[[], Awaitable[None]]) -> None:
        """
        A write that is no batch (create a collection, wipe it), repeated until it is answered,
        under the same guard: a wipe that lands late would take the copy with it.
        """
        who = object()
        backoff_s: float = self._settings.backoff_min
        try:
            while True:
                await self.guard.clear()
                try:
                    return await request()
                except ReplicatorError as error:
                    if recovery(error) is Recovery.WAIT_OUT:
                        self.guard.suspect()
                    wait_s = self._wait_s(error, backoff_s)
                    self._troubles.saw(who, error)
                except BaseException:
                    self.guard.suspect()
                    raise
                await asyncio.sleep(wait_s)
                backoff_s = min(backoff_s * 2, self._settings.backoff_max)
        finally:
            self._troubles.over(who)

    async def _until_answered(self, batch: WriteBatch) -> Receipt:
        who = object()
        backoff_s: float = self._settings.backoff_min
        try:
            while True:
                await self.guard.clear()
                await self.limit.wait()
                try:
                    return await self._apply(batch)
                except Rejected:
                    raise
                except ReplicatorError as error:
                    wait_s = self._wait_s(error, backoff_s)
                    self._troubles.saw(who, error)
                except BaseException:
                    # Cancelled, or a defect in the connector: the write may be on its way.
                    self.guard.suspect()
                    raise
                finally:
                    self.limit.give()
                await self._rest(wait_s)
                backoff_s = min(backoff_s * 2, self._settings.backoff_max)
        finally:
            self._troubles.over(who)

    async def _apply(self, batch: WriteBatch) -> Receipt:
        loop = asyncio.get_running_loop()
        started = loop.time()
        receipt = await self._store.apply(batch)
        self.limit.answered(loop.time() - started)
        self._metrics.wrote(self._connector, loop.time() - started, len(batch.writes))
        return receipt

    def _wait_s(self, error: ReplicatorError, backoff_s: float) -> float:
        """How long to wait before the next try; raises what no waiting mends."""
        action = recovery(error)
        self._metrics.write_failed(action.value)
        self.limit.refused()
        self.retries += 1
        match action:
            case Recovery.WAIT_OUT:
                # Invariant 5: the write may land until the bound has passed; the keys are held.
                return max(backoff_s, self.guard.bound_s)
            case Recovery.RETRY:
                asked_s = getattr(error, "retry_after_s", None)
                return backoff_s if asked_s is None else max(backoff_s, float(asked_s))
            case Recovery.REFUSE:
                # A revoked key or a collection gone: a person mends it while the stream waits.
                return float(self._settings.backoff_max)
            case _:
                raise error

    async def _rest(self, wait_s: float) -> None:
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            # The wait after an unknown outcome was cut short: let nobody else forget it.
            self.guard.suspect()
            raise
