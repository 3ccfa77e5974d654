"""
The poller: reads the feed, decodes, and adds to the lanes.

A record that cannot be carried is in the dead letters before anything behind it in its poll can
be written: otherwise an upsert could settle a letter that is not there yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from replicator.errors import EpochAhead, Refused, Rejected, Retryable
from replicator.metrics import Metrics
from replicator.model.event import ChangeEvent, Op
from replicator.model.position import Partition, Polled, Record
from replicator.ports.feed import ChangeFeed
from replicator.stream.counters import Counters
from replicator.stream.holds import Holds
from replicator.stream.intake import Intake
from replicator.stream.lane import Added, Lane
from replicator.stream.lanes import Lanes
from replicator.stream.letters import DeadLetters
from replicator.stream.ownership import Lease, Revoked
from replicator.stream.patience import Patience
from replicator.stream.watermark import Ticket

_POLL_S = 0.2
"""How long a poll waits for records: idles cheaply, and still notices a stop soon."""
_POLL_RECORDS = 2000
"""Records of one poll: the loop is not held for longer than about twenty milliseconds."""


class Poller:
    """Of one stream."""

    def __init__(
        self,
        *,
        lanes: Lanes,
        feed: ChangeFeed,
        intake: Intake,
        letters: DeadLetters,
        holds: Holds,
        lease: Lease,
        patience: Patience,
        counters: Counters,
        metrics: Metrics,
        show_after_s: float,
        misplaced: Callable[[Record], Awaitable[None]],
        look: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """As of `Stream`."""
        self.ahead: EpochAhead | None = None
        """Of the record at which reading stopped: somebody else moved the traffic."""
        self._lanes = lanes
        self._feed = feed
        self._intake = intake
        self._letters = letters
        self._holds = holds
        self._lease = lease
        self._patience = patience
        self._counters = counters
        self._metrics = metrics
        self._show_after_s = show_after_s
        self._misplaced = misplaced
        self._look = look
        self._doubted = False
        """The log was away: whoever answers now may be another one under its name."""
        self._paused: set[Partition] = set()

    def doubt(self) -> None:
        """The log did not answer: nothing more is taken in before it was looked at."""
        self._doubted = True

    async def run(self) -> None:
        """Until the lanes stop, or a record says that somebody else moved the traffic."""
        lanes = self._lanes
        while not lanes.stopping.is_set():
            # Invariant 10: nothing is read while the buffer is full.
            await lanes.until(lambda: lanes.room > 0 or lanes.stopping.is_set())
            if lanes.stopping.is_set():
                return
            records_max = max(1, min(_POLL_RECORDS, lanes.room))
            polled = await self._polled(records_max)
            if polled is None:
                return
            if polled.records:
                self._counters.polled_at = asyncio.get_running_loop().time()
                try:
                    await self._take_in(polled.records)
                except Revoked:
                    return  # nothing of the poll was tracked: it is read again
                if self.ahead is not None:
                    return
            for partition, position in polled.positions.items():
                # Control records and compaction leave gaps that only the feed sees.
                lanes.of[partition].watermark.advance(position)
            self._pause_and_resume()

    async def _polled(self, records_max: int) -> Polled | None:
        """What the feed brings; None when we are stopped while it is away."""
        who, backoff_s, stopping = object(), None, self._lanes.stopping
        polled: Polled | None = None
        try:
            while not stopping.is_set():
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
                    backoff_s = await self._patience.rest(who, error, backoff_s, stopping)
                except Revoked:
                    return None
        finally:
            self._patience.over(who)
        return None

    def _pause_and_resume(self) -> None:
        lanes = self._lanes
        lanes.leave_settled()
        full = {p for p, lane in lanes.active.items() if lane.is_full} - self._paused
        room = {partition for partition in self._paused if lanes.of[partition].has_room}
        if full:
            self._feed.pause(full)
        if room:
            self._feed.resume(room)
        self._paused = (self._paused | full) - room

    async def _take_in(self, records: list[Record]) -> None:
        lanes = self._lanes
        events = [self._intake.event(record) for record in records]
        ahead = next((event for event in events if isinstance(event, EpochAhead)), None)
        if ahead is not None:
            # Nothing from there on may count as done before it is known who owns the data.
            self.ahead = ahead
            records = records[: events.index(ahead)]
            events = events[: len(records)]
        for record in records:
            if self._intake.is_misplaced(record, len(lanes.of)):
                self._counters.misplaced += 1
                self._metrics.keys_misplaced.inc()
                await self._misplaced(record)
        rejected = [
            self._letters.of_record(record, event, self._intake.key(record))
            for record, event in zip(records, events, strict=True)
            if isinstance(event, Rejected)
        ]
        if rejected:
            await self._letters.keep(rejected, self._lease)
        now = asyncio.get_running_loop().time()
        for record, event in zip(records, events, strict=True):
            lane = lanes.of[record.partition]
            lanes.active[record.partition] = lane
            ticket = lane.track(record.offset, record)
            if isinstance(event, ChangeEvent):
                if not self._add(lane, record, event, ticket, now):
                    lane.watermark.settle(ticket)
            else:
                lane.watermark.settle(ticket)
                if event is None:
                    self._counters.ignored += 1
                    self._metrics.events_ignored.inc()
        lanes.work.set()

    def _add(
        self, lane: Lane, record: Record, event: ChangeEvent, ticket: Ticket, now: float
    ) -> bool:
        """Give an event to its lane; False when a newer version, durable, makes it void."""
        if event.unknown:
            self._counters.unknown.note(event.unknown)
        self._holds.saw(event.key)
        transform = self._intake.routes[event.key.collection].transform
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
                self._counters.discarded += 1
                self._metrics.events_discarded.inc()
        self._lanes.busy[lane.partition] = lane
        return added is not Added.VOID
