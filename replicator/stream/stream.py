"""
The stream: from the feed to the store written, in one direction, until it is told to stop.

    feed.poll ─► intake ─► lane: track, coalesce ─► apply: transform, write ─► settle ─► commit

Three tasks share the lanes, and never wait while they change one. The *reader* polls, decodes
and adds. The *dispatcher* takes batches and starts a write task for each. The *committer*
persists what the watermarks allow. A record that cannot be carried is in the dead letters
before anything behind it in its poll can be written: otherwise an upsert could settle a letter
that is not there yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence, Set

import msgspec

from replicator import failpoints
from replicator.clock import Clock
from replicator.errors import EpochAhead, Refused, Rejected, Retryable, Unavailable
from replicator.metrics import Metrics
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import (
    Bookmark,
    Partition,
    Place,
    Polled,
    Positions,
    Record,
    bookmark_of,
)
from replicator.ports.feed import ChangeFeed
from replicator.ports.state import StateStore
from replicator.settings.settings import StreamSettings
from replicator.stream.apply import Applier
from replicator.stream.intake import Intake
from replicator.stream.lane import Added, Lane, Whole, Work
from replicator.stream.letters import DeadLetters
from replicator.stream.ownership import Lease, Ownership, Revoked
from replicator.stream.patience import Patience
from replicator.stream.unknown import UnknownFields
from replicator.stream.watermark import Ticket
from replicator.stream.writing import Writer

_POLL_S = 0.2
"""How long a poll waits for records: idles cheaply, and still notices a stop soon."""
_POLL_RECORDS = 2000
"""Records of one poll: the loop is not held for longer than about twenty milliseconds."""


_PUBLISH_S = 5.0
"""How long a commit waits for others to be shown it: what is durable is persisted no later for
a broker that is away, and a shutdown is not held up."""


class Counters(msgspec.Struct):
    """What streams did since the process began, over every start and both directions."""

    applied: int = 0
    coalesced: int = 0
    discarded: int = 0
    ignored: int = 0
    misplaced: int = 0
    absent: int = 0
    unknown: UnknownFields = msgspec.field(default_factory=UnknownFields)
    polled_at: float = 0.0
    """Loop time when records last came, or none could."""


class Stream:
    """One run of the data path. `run` ends after `stop`; a stream is not started twice."""

    def __init__(
        self,
        *,
        feed: ChangeFeed,
        intake: Intake,
        applier: Applier,
        writer: Writer,
        letters: DeadLetters,
        state: StateStore,
        patience: Patience,
        settings: StreamSettings,
        metrics: Metrics,
        clock: Clock,
        counters: Counters,
        show_after_s: float,
        lease: Lease,
        ownership: Ownership,
        misplaced: Callable[[Record], Awaitable[None]],
        look: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """
        `misplaced` keeps the fact that such a record came, before it can count as done. `look`
        raises Blocked when the log is another one, Retryable while that cannot be told.
        """
        self.lanes: dict[Partition, Lane] = {}
        self.applier = applier
        self.intake = intake
        self._feed = feed
        self._writer = writer
        self._letters = letters
        self._state = state
        self._patience = patience
        self.settings = settings
        self._metrics = metrics
        self._clock = clock
        self._counters = counters
        self._show_after_s = show_after_s
        self._lease = lease
        self._holds = ownership.holds
        self._misplaced = misplaced
        self._look = look
        self._doubted = False
        """The log was away: whoever answers now may be another one under its name."""
        self._ahead: EpochAhead | None = None
        """Of the record at which reading stopped: somebody else moved the traffic."""
        self._active: dict[Partition, Lane] = {}
        """Lanes with records that are not settled: of many partitions mostly few."""
        self._busy: dict[Partition, Lane] = {}
        """Lanes with something that waits to be written."""
        self._committed: Positions = {}
        self._published: Positions = {}
        self._committing = asyncio.Lock()
        self._lettered: dict[Key, Place] = {}
        """Keys with open dead letters that a durable upsert or delete settles, up to a
        place."""
        self._paused: set[Partition] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()

    # -- from outside ----------------------------------------------------------------------

    async def run(self, positions: Mapping[Partition, int]) -> None:
        """
        Apply everything from these positions on, until `stop`. Cancelling it leaves writes with
        an unknown outcome; the writer's guard knows.
        """
        records_max = max(256, self.settings.buffer_records // max(1, min(4, len(positions))))
        self.lanes = {
            partition: Lane(
                partition,
                position,
                records_max=records_max,
                held=self._holds.keys,
                versions=self.applier.versions,
            )
            for partition, position in positions.items()
        }
        self._committed = dict(positions)
        await self._letters.load()
        self._holds.join(self)
        try:
            opening = self._patience.until_answered(lambda: self._feed.open(positions))
            await self._lease.while_held(opening)
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(), name="stream reader")
                dispatcher = group.create_task(self._dispatch(group), name="stream dispatcher")
                group.create_task(self._commit_regularly(), name="stream committer")
                await asyncio.wait([reader, dispatcher])
                while self._tasks:
                    await asyncio.wait(set(self._tasks))
                self._drained.set()
            await self.commit()
            if self._ahead is not None:
                raise self._ahead
        except Revoked:
            return  # before anything was read
        finally:
            self._holds.leave(self)
            self._patience.over(self)

    def stop(self) -> None:
        """
        Send nothing more, let what is in flight be answered, persist, and end `run`. What waits
        is read again next time.
        """
        self._lease.revoke()
        self._stopping.set()
        self._wake.set()
        self._made_progress()

    def doubt(self) -> None:
        """The log did not answer: nothing more is taken in before it was looked at."""
        self._doubted = True

    @property
    def positions(self) -> Positions:
        """The commit watermarks: everything before them is durable."""
        return {partition: lane.watermark.position for partition, lane in self.lanes.items()}

    @property
    def committed(self) -> Positions:
        """What is persisted."""
        return dict(self._committed)

    @property
    def published(self) -> Positions:
        """What others were shown last; empty before the first time."""
        return dict(self._published)

    @property
    def in_flight(self) -> int:
        """Records in writes under way."""
        return sum(len(work.tickets) for lane in self._active.values() for work in lane.works)

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of their events."""
        return sum(work.size for lane in self._active.values() for work in lane.works)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of events that are not durable."""
        return sum(lane.bytes for lane in self._active.values())

    def is_writing(self, keys: Set[Key]) -> bool:
        """Whether a write of any of these keys is under way."""
        return any(lane.is_writing(keys) for lane in self._active.values())

    def wake(self) -> None:
        """Keys that were held are free again."""
        self._wake.set()

    async def commit(self) -> None:
        """Persist the watermarks, then let others see them. Safe to call from several tasks."""
        async with self._committing:  # two in parallel could persist an older position last
            await self._commit()

    async def _commit(self) -> None:
        moved = {
            partition: position
            for partition, position in self.positions.items()
            if self._committed.get(partition) != position
        }
        settled = dict(self._lettered)
        if moved or settled:
            # Taken with the positions: each is of the last record before one of them.
            marks = {
                partition: bookmark_of(last)
                for partition in moved
                if (last := self.lanes[partition].watermark.last) is not None
            }
            await failpoints.reached("stream.before-commit")
            await self._persist(moved, settled, marks)
            await failpoints.reached("stream.after-commit")
        if self._published != self._committed:
            await self._publish()

    async def _persist(
        self, moved: Positions, settled: dict[Key, Place], marks: dict[Partition, Bookmark]
    ) -> None:
        # Whichever way they arose: after a later whole image, which its owner holds and the
        # other store was given, the two are one in that key.
        await self._state.commit(moved, settled, marks)
        self._committed.update(moved)
        for key, place in settled.items():
            if self._lettered.get(key) == place:
                del self._lettered[key]
        if settled:
            await self._letters.recount()

    async def _publish(self) -> None:
        """Also what a process before this one persisted and died before it was published."""
        positions = dict(self._committed)
        try:
            async with asyncio.timeout(_PUBLISH_S):
                await self._feed.publish(positions)
        except TimeoutError:
            self._patience.saw(
                self, Unavailable("feed-unavailable", "positions cannot be published just now")
            )
        except (Retryable, Refused) as error:
            # Only the view of others is late; the next commit publishes again.
            self._patience.saw(self, error)
        else:
            self._published = positions
            self._patience.over(self)
            await failpoints.reached("stream.after-publish")

    # -- reading ---------------------------------------------------------------------------

    async def _read(self) -> None:
        while not self._stopping.is_set():
            # Invariant 10: nothing is read while the buffer is full.
            await self._until(lambda: self._room() > 0 or self._stopping.is_set())
            if self._stopping.is_set():
                return
            records_max = max(1, min(_POLL_RECORDS, self._room()))
            polled = await self._polled(records_max)
            if polled is None:
                return
            if polled.records:
                self._counters.polled_at = asyncio.get_running_loop().time()
                try:
                    await self._take_in(polled.records)
                except Revoked:
                    return  # nothing of the poll was tracked: it is read again
                if self._ahead is not None:
                    self.stop()
                    return
            for partition, position in polled.positions.items():
                # Control records and compaction leave gaps that only the feed sees.
                self.lanes[partition].watermark.advance(position)
            self._pause_and_resume()

    async def _polled(self, records_max: int) -> Polled | None:
        """What the feed brings; None when we are stopped while it is away."""
        who, backoff_s = object(), None
        polled: Polled | None = None
        try:
            while not self._stopping.is_set():
                try:
                    if polled is None:
                        polled = await self._feed.poll(records_max, _POLL_S)
                    if self._doubted and self._look is not None:
                        # After the poll, and before anything of it counts: the next commit
                        # would replace what the log is known by.
                        await self._lease.while_held(self._look())
                    self._doubted = False
                    return polled
                except (Retryable, Refused) as error:
                    self.doubt()
                    backoff_s = await self._patience.rest(who, error, backoff_s, self._stopping)
                except Revoked:
                    return None
        finally:
            self._patience.over(who)
        return None

    def _room(self) -> int:
        """Records that may still be read."""
        if self.buffered_bytes >= self.settings.buffer_bytes:
            return 0
        tracked = sum(lane.watermark.pending for lane in self._active.values())
        return int(self.settings.buffer_records - tracked)

    def _pause_and_resume(self) -> None:
        self._active = {p: lane for p, lane in self._active.items() if lane.watermark.pending}
        full = {p for p, lane in self._active.items() if lane.is_full} - self._paused
        room = {partition for partition in self._paused if self.lanes[partition].has_room}
        if full:
            self._feed.pause(full)
        if room:
            self._feed.resume(room)
        self._paused = (self._paused | full) - room

    async def _take_in(self, records: list[Record]) -> None:
        events = [self.intake.event(record) for record in records]
        ahead = next((event for event in events if isinstance(event, EpochAhead)), None)
        if ahead is not None:
            # Nothing from there on may count as done before it is known who owns the data.
            self._ahead = ahead
            records = records[: events.index(ahead)]
            events = events[: len(records)]
        for record in records:
            if self.intake.is_misplaced(record, len(self.lanes)):
                self._counters.misplaced += 1
                self._metrics.keys_misplaced.inc()
                await self._misplaced(record)
        rejected = [
            self._letters.of_record(record, event, self.intake.key(record))
            for record, event in zip(records, events, strict=True)
            if isinstance(event, Rejected)
        ]
        if rejected:
            await self._letters.keep(rejected, self._lease)
        now = asyncio.get_running_loop().time()
        for record, event in zip(records, events, strict=True):
            lane = self.lanes[record.partition]
            self._active[record.partition] = lane
            ticket = lane.track(record.offset, record)
            if isinstance(event, ChangeEvent):
                if not self._add(lane, record, event, ticket, now):
                    lane.watermark.settle(ticket)
            else:
                lane.watermark.settle(ticket)
                if event is None:
                    self._counters.ignored += 1
                    self._metrics.events_ignored.inc()
        self._wake.set()

    def _add(
        self, lane: Lane, record: Record, event: ChangeEvent, ticket: Ticket, now: float
    ) -> bool:
        """Give an event to its lane; False when a newer version, durable, makes it void."""
        if event.unknown:
            self._counters.unknown.note(event.unknown)
        self._holds.saw(event.key)
        transform = self.intake.routes[event.key.collection].transform
        waits = event.op is Op.PATCH and transform.needs_image(event)
        added = lane.add(
            event,
            ticket,
            size=record.size,
            at_ms=record.at_ms,
            now=now,
            needs_image=waits,
            shown_at=now + self._show_after_s,
        )
        match added:
            case Added.COALESCED:
                self._counters.coalesced += 1
                self._metrics.events_coalesced.inc()
            case Added.OUTRANKED | Added.VOID:
                self._discarded(1)
        self._busy[lane.partition] = lane
        return added is not Added.VOID

    def _discarded(self, count: int) -> None:
        self._counters.discarded += count
        self._metrics.events_discarded.inc(count)

    # -- writing ---------------------------------------------------------------------------

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            wait_s = self._start_batches(group)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _start_batches(self, group: asyncio.TaskGroup) -> float | None:
        """Start what is ready; returns seconds until more is, None when only an event can
        tell.
        """
        while len(self._tasks) < self._writer.limit.now:
            now = asyncio.get_running_loop().time()
            since = [
                lane.oldest_at for lane in self._busy.values() if lane.oldest_at is not None
            ]
            ripe = self._is_full_batch() or (
                bool(since) and now >= min(since) + self.settings.linger
            )
            batch = self._take_batch(now, ripe=ripe)
            if not batch:
                dues = [
                    due for lane in self._busy.values() if (due := lane.next_due()) is not None
                ]
                if since and not ripe:
                    dues.append(min(since) + self.settings.linger)
                return max(0.0, min(dues) - now) if dues else None
            task = group.create_task(self._write(batch), name="stream write")
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return None

    def _is_full_batch(self) -> bool:
        waiting = sum(lane.waiting for lane in self._busy.values())
        waiting_bytes = sum(lane.waiting_bytes for lane in self._busy.values())
        return (
            waiting >= self.settings.batch_records or waiting_bytes >= self.settings.batch_bytes
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    def _take_batch(self, now: float, *, ripe: bool) -> list[tuple[Lane, Work]]:
        """Fill a batch from the lanes, the one that waits longest first."""
        batch: list[tuple[Lane, Work]] = []
        bytes_left = int(self.settings.batch_bytes) if ripe else 0
        for lane in sorted(self._busy.values(), key=_waits_since):
            room = self.settings.batch_records - len(batch)
            if room <= 0:
                break
            works = lane.take(room, bytes_left, now)
            bytes_left -= sum(work.size for work in works)
            batch += [(lane, work) for work in works]
            if lane.is_idle:
                del self._busy[lane.partition]
        return batch

    async def _write(self, batch: list[tuple[Lane, Work]]) -> None:
        void = {work.key for _, work in batch if self.applier.is_void(work)}
        changes = [(work.key, work.event) for _, work in batch if work.key not in void]
        healing: list[tuple[Lane, Key, Sequence[Whole]]] = []
        try:
            await failpoints.reached("stream.before-write")
            refused = await self.applier.apply(self._lease, changes)
            await failpoints.reached("stream.after-write")
            apart = void | refused.keys()
            for lane, work in batch:
                wholes = work.wholes
                if work.key in apart:
                    wholes = await self.applier.one_by_one(
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
        self._lettered.update(healed)
        for op, count in ops.items():
            self._counters.applied += count
            self._metrics.applied(op, count)
        self._counters.absent += self.applier.absent
        self._metrics.patches_absent.inc(self.applier.absent)
        self.applier.absent = 0
        self._discarded(self.applier.discarded)
        self.applier.discarded = 0
        self._made_progress()

    # -- waiting ---------------------------------------------------------------------------

    def _made_progress(self) -> None:
        self._holds.progress()
        self._progress.set()
        self._progress = asyncio.Event()

    async def _until(self, true: Callable[[], bool]) -> None:
        """Wait until something that finished made it true."""
        while not true():
            await self._progress.wait()

    async def _commit_regularly(self) -> None:
        while not self._drained.is_set():
            try:
                async with asyncio.timeout(self.settings.commit_interval):
                    await self._drained.wait()
            except TimeoutError:
                await self.commit()


def _waits_since(lane: Lane) -> float:
    return lane.oldest_at if lane.oldest_at is not None else float("inf")
