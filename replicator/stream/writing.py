"""
Writing a batch until it is durable, or until each record in it that cannot be is known.

Every failure ends in one of four ways. Nothing was written: wait and try again, for ever,
because a store that is away for minutes must cost no event. The outcome is unknown: wait out
the late-write bound with the keys held, then try again. The batch is refused because of some
record in it: cut it in halves until the record stands alone. Anything else is a defect, and
stops the stream.

A batch that is larger than the store takes in one request is cut before it is sent
(`requests`). Writes of several collections go side by side: a slow one does not hold up the
others, and each keeps the laws of the lease and of the guard for itself. A store that cannot
patch (`Traits.patches`) is given whole points only, which `bases` makes of patches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from replicator.errors import Recovery, Rejected, ReplicatorError, first_cause, recovery
from replicator.metrics import Metrics
from replicator.model.finding import Blocker
from replicator.model.point import PointId
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch
from replicator.ports.store import StoreWriter
from replicator.settings.settings import StreamSettings
from replicator.stream.bases import Bases
from replicator.stream.guard import WriteGuard
from replicator.stream.limit import ConcurrencyLimit
from replicator.stream.ownership import Lease, Revoked
from replicator.stream.reading import Reader
from replicator.stream.requests import requests_of
from replicator.stream.waits import Waits


class Written(msgspec.Struct):
    """What became of a batch: everything is durable but the rejected."""

    rejected: dict[PointId, Rejected] = {}
    absent: int = 0

    def add(self, receipt: Receipt) -> None:
        """Take a receipt in."""
        self.rejected.update(receipt.rejected)
        self.absent += len(receipt.absent)

    def join(self, other: Written) -> None:
        """Take in what became of another part."""
        self.rejected.update(other.rejected)
        self.absent += other.absent


class Writer:
    """
    Write to one store, under a lease. Shared by the stream, the backfill and repair; safe for
    concurrent use.
    """

    def __init__(
        self,
        store: StoreWriter,
        *,
        connector: str,
        settings: StreamSettings,
        metrics: Metrics,
        waits: Waits | None = None,
        reads: Reader | None = None,
    ) -> None:
        """`reads`: of the same store; needed of one that cannot patch, and of no other."""
        self.guard = WriteGuard(store.late_write_bound_s)
        self.limit = ConcurrencyLimit(settings.in_flight_max)
        self.retries = 0
        self._store = store
        self._connector = connector
        self._settings = settings
        self._metrics = metrics
        self._waits = waits or Waits()
        self._held_up: dict[object, ReplicatorError] = {}
        self._bases: Bases | None = None
        if not store.traits.patches:
            assert reads is not None, "what cannot be patched must be read"
            self._bases = Bases(reads, self.guard, self._waits)

    @property
    def trouble(self) -> Blocker | None:
        """Why writes fail just now; None while they do not."""
        error = next(iter(self._held_up.values()), None)
        return None if error is None else Blocker(error.code, error.message)

    async def write(self, lease: Lease, collection: str, writes: Sequence[Write]) -> Written:
        """
        Write until durable. The caller keeps the keys to itself meanwhile: no other write of
        them may be under way. Cancelling it leaves the outcome unknown, and the guard says so.
        Raises Revoked once the lease is, with nothing sent since, and nothing in flight.
        """
        if self._bases is None:
            return await self._write(lease, collection, writes)
        written = Written()
        patches = [write for write in writes if isinstance(write, Patch)]
        whole = [write for write in writes if not isinstance(write, Patch)]
        if whole:
            written.join(await self._replace(self._bases, lease, collection, whole))
        begin = 0
        while begin < len(patches):
            end = begin + self._bases.room(collection, len(patches) - begin)
            part = patches[begin:end]
            written.join(await self._fold(self._bases, lease, collection, part))
            begin = end
        return written

    async def _fold(
        self, bases: Bases, lease: Lease, collection: str, patches: Sequence[Patch]
    ) -> Written:
        """Carry out patches of a store that cannot. Should we end in between, the store holds
        what it held: nothing was sent.
        """
        # Invariant 5, of reading too: what may still land may be the base.
        await self.settled(lease)
        folded = await bases.fold(lease, collection, patches)
        written = Written(folded.rejected, folded.absent)
        if folded.writes:
            written.join(await self._replace(bases, lease, collection, folded.writes))
        return written

    async def _replace(
        self, bases: Bases, lease: Lease, collection: str, writes: Sequence[Upsert | Delete]
    ) -> Written:
        """Write whole points, and let the bases know."""
        before = bases.sending(lease, collection, writes)
        try:
            written = await self._write(lease, collection, writes)
        except BaseException:
            bases.doubt()
            raise
        bases.answered(collection, writes, written.rejected, before)
        return written

    async def _write(self, lease: Lease, collection: str, writes: Sequence[Write]) -> Written:
        written = Written()
        parts = list(requests_of(writes, self._store.traits.limits))[::-1]
        while parts:
            part = parts.pop()
            try:
                written.add(await self._until_answered(lease, WriteBatch(collection, part)))
            except Rejected as error:
                if len(part) == 1:
                    written.rejected[part[0].id] = error
                else:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
        return written

    async def write_each(
        self, lease: Lease, groups: Mapping[str, Sequence[Write]]
    ) -> dict[str, Written]:
        """
        As `write`, of several collections side by side. A lease that is revoked ends each as it
        would alone: what is in flight is answered before Revoked is raised. Whatever else one
        of them raises ends the others at once, and what they had sent is left to the guard, as
        when all of it is cancelled.
        """
        if len(groups) == 1:
            [(collection, writes)] = groups.items()
            return {collection: await self.write(lease, collection, writes)}
        written: dict[str, Written] = {}

        async def one(collection: str, writes: Sequence[Write]) -> None:
            # The lease is revoked for the others too; cancelled by us, they would leave unknown
            # what was about to be answered.
            with contextlib.suppress(Revoked):
                written[collection] = await self.write(lease, collection, writes)

        try:
            async with asyncio.TaskGroup() as group:
                for collection, writes in groups.items():
                    group.create_task(one(collection, writes), name=f"write {collection}")
        except BaseExceptionGroup as errors:
            raise first_cause(errors) from errors
        if len(written) < len(groups):
            raise Revoked
        return written

    async def administer(self, lease: Lease, request: Callable[[], Awaitable[None]]) -> None:
        """
        A write that is no batch (create a collection, wipe it), repeated until it is answered,
        under the same guard: a wipe that lands late would take the copy with it. Raises Revoked
        as `write` does.
        """
        who = object()
        backoff_s: float = self._settings.backoff_min
        try:
            while True:
                await self.settled(lease)
                lease.check()
                try:
                    return await request()
                except ReplicatorError as error:
                    if recovery(error) is Recovery.WAIT_OUT:
                        self.guard.suspect()
                    wait_s = self._wait_s(error, backoff_s)
                    self._failed(who, error)
                except BaseException:
                    self.guard.suspect()
                    raise
                await lease.sleep(wait_s)
                backoff_s = min(backoff_s * 2, self._settings.backoff_max)
        finally:
            self._answered(who)
            if self._bases is not None:
                self._bases.doubt()

    async def settled(self, lease: Lease) -> None:
        """As `cleared`, but no longer than the lease is held. Raises Revoked."""
        if not self.guard.is_clear:
            await lease.while_held(self.cleared())

    async def cleared(self) -> None:
        """Wait, and say so, until nothing that was sent before can still land."""
        if self.guard.is_clear:
            return
        message = f"a write to {self._connector} whose reply was lost may still land"
        with self._waits.waiting("late-writes", message, seconds=self.guard.left_s):
            await self.guard.clear()

    async def _until_answered(self, lease: Lease, batch: WriteBatch) -> Receipt:
        who = object()
        backoff_s: float = self._settings.backoff_min
        try:
            while True:
                await self.settled(lease)
                await self._place(lease)
                try:
                    lease.check()
                    return await self._apply(batch)
                except (Revoked, Rejected):
                    raise
                except ReplicatorError as error:
                    failure = error
                    wait_s = self._wait_s(error, backoff_s)
                    self._failed(who, error)
                except BaseException:
                    # Cancelled, or a defect in the connector: the write may be on its way.
                    self.guard.suspect()
                    raise
                finally:
                    self.limit.give()
                await self._rest(lease, failure, wait_s)
                backoff_s = min(backoff_s * 2, self._settings.backoff_max)
        finally:
            self._answered(who)

    async def _place(self, lease: Lease) -> None:
        """Take a place among the writes under way."""
        if self.limit.free:
            self.limit.take()
            return
        place = asyncio.ensure_future(self.limit.wait())
        try:
            await lease.while_held(place)
        except BaseException:
            # It may have been given to us in the very moment in which we went away.
            if place.done() and not place.cancelled():
                self.limit.give()
            raise

    def _failed(self, who: object, error: ReplicatorError) -> None:
        self._held_up[who] = error
        self._waits.saw(who, error)

    def _answered(self, who: object) -> None:
        self._held_up.pop(who, None)
        self._waits.over(who)

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

    async def _rest(self, lease: Lease, error: ReplicatorError, wait_s: float) -> None:
        try:
            await lease.sleep(wait_s)
        except BaseException:
            if recovery(error) is Recovery.WAIT_OUT:
                # The wait after an unknown outcome was cut short: let nobody else forget it.
                self.guard.suspect()
            raise
