"""
The dispatcher: takes batches from the lanes and starts a write for each.

A batch is taken when it is full, or when the first of it has waited for `linger`. What was
written is settled, in the lanes and for the committer; what the store or the transform refuses
is applied record by record, and the rest of it is in the dead letters by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from replicator import failpoints
from replicator.clock import Clock
from replicator.metrics import Metrics
from replicator.model.event import Key
from replicator.model.position import Place
from replicator.stream.apply import Applier
from replicator.stream.committer import Committer
from replicator.stream.counters import Counters
from replicator.stream.lane import Lane, Whole, Work
from replicator.stream.lanes import Lanes
from replicator.stream.letters import DeadLetters
from replicator.stream.limit import ConcurrencyLimit
from replicator.stream.ownership import Lease, Revoked


class Dispatcher:
    """Of one stream."""

    def __init__(
        self,
        *,
        lanes: Lanes,
        applier: Applier,
        committer: Committer,
        letters: DeadLetters,
        lease: Lease,
        limit: ConcurrencyLimit,
        counters: Counters,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._lanes = lanes
        self._applier = applier
        self._committer = committer
        self._letters = letters
        self._lease = lease
        self._limit = limit
        self._counters = counters
        self._metrics = metrics
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Until the lanes stop and every write that was begun has ended."""
        work = self._lanes.work
        while not self._lanes.stopping.is_set():
            work.clear()
            wait_s = self._start_batches(group)
            try:
                async with asyncio.timeout(wait_s):
                    await work.wait()
            except TimeoutError:
                continue
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _start_batches(self, group: asyncio.TaskGroup) -> float | None:
        """Start what is ready; returns seconds until more is, None when only an event can
        tell.
        """
        while len(self._tasks) < self._limit.now:
            now = asyncio.get_running_loop().time()
            busy = self._lanes.busy.values()
            since = [lane.oldest_at for lane in busy if lane.oldest_at is not None]
            ripe = self._is_full_batch() or (
                bool(since) and now >= min(since) + self._lanes.settings.linger
            )
            batch = self._take_batch(now, ripe=ripe)
            if not batch:
                dues = [due for lane in busy if (due := lane.next_due()) is not None]
                if since and not ripe:
                    dues.append(min(since) + self._lanes.settings.linger)
                return max(0.0, min(dues) - now) if dues else None
            task = group.create_task(self._write(batch), name="stream write")
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return None

    def _is_full_batch(self) -> bool:
        lanes, settings = self._lanes.busy.values(), self._lanes.settings
        return (
            sum(lane.waiting for lane in lanes) >= settings.batch_records
            or sum(lane.waiting_bytes for lane in lanes) >= settings.batch_bytes
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._lanes.work.set()

    def _take_batch(self, now: float, *, ripe: bool) -> list[tuple[Lane, Work]]:
        """Fill a batch from the lanes, the one that waits longest first."""
        settings = self._lanes.settings
        batch: list[tuple[Lane, Work]] = []
        bytes_left = int(settings.batch_bytes) if ripe else 0
        for lane in sorted(self._lanes.busy.values(), key=_waits_since):
            room = settings.batch_records - len(batch)
            if room <= 0:
                break
            works = lane.take(room, bytes_left, now)
            bytes_left -= sum(work.size for work in works)
            batch += [(lane, work) for work in works]
            if lane.is_idle:
                del self._lanes.busy[lane.partition]
        return batch

    async def _write(self, batch: list[tuple[Lane, Work]]) -> None:
        void = {work.key for _, work in batch if self._applier.is_void(work)}
        changes = [(work.key, work.event) for _, work in batch if work.key not in void]
        healing: list[tuple[Lane, Key, Sequence[Whole]]] = []
        try:
            await failpoints.reached("stream.before-write")
            refused = await self._applier.apply(self._lease, changes)
            await failpoints.reached("stream.after-write")
            apart = void | refused.keys()
            for lane, work in batch:
                wholes = work.wholes
                if work.key in apart:
                    wholes = await self._applier.one_by_one(
                        self._lease, lane.partition, work, refused.get(work.key)
                    )
                healing.append((lane, work.key, wholes))
            healed = await self._healed(healing)
        except Revoked:
            return  # its records stay before the watermark, and are read again
        self._settle(batch, apart, healed)

    async def _healed(
        self, healing: Sequence[tuple[Lane, Key, Sequence[Whole]]]
    ) -> dict[Key, Place]:
        """Below which record the open letters of a key are made up for by what was written."""
        healed: dict[Key, Place] = {}
        for lane, key, wholes in healing:
            for whole in wholes:
                if not self._letters.concerns(key):
                    break
                # A letter may hold an image of a newer version than what was written since.
                if whole.version is None or not await self._letters.hold_newer(
                    key, whole.version, lane.partition, whole.below, self._lease
                ):
                    healed[key] = Place(lane.partition, whole.below)
        return healed

    def _settle(
        self,
        batch: list[tuple[Lane, Work]],
        apart: Collection[Key],
        healed: dict[Key, Place],
    ) -> None:
        """`apart`: keys whose works did not take effect as a whole."""
        now_ms = self._clock() * 1000
        ops: dict[str, int] = {}
        for lane, work in batch:
            event = work.event
            if work.key not in apart:
                op = "upsert" if event is None else event.op.value
                ops[op] = ops.get(op, 0) + len(work.tickets)
                if event is not None and event.ts_ms:
                    seconds = max(0.0, (now_ms - event.ts_ms) / 1000)
                    self._metrics.end_to_end_latency.observe(seconds)
            lane.finish(work)
        self._committer.heal(healed)
        for op, count in ops.items():
            self._counters.applied += count
            self._metrics.applied(op, count)
        self._counters.absent += self._applier.absent
        self._metrics.patches_absent.inc(self._applier.absent)
        self._applier.absent = 0
        self._counters.discarded += self._applier.discarded
        self._metrics.events_discarded.inc(self._applier.discarded)
        self._applier.discarded = 0
        self._lanes.made_progress()


def _waits_since(lane: Lane) -> float:
    return lane.oldest_at if lane.oldest_at is not None else float("inf")
