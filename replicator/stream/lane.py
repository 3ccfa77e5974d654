"""
A lane: the data path of one partition, without its waits.

Records enter in order and are tracked by the commit watermark. Their events wait in the
coalescer, one entry a key. An entry that is taken is in flight until its effect is durable;
meanwhile later events of the key wait, so that they reach the store in the feed's order
(Invariant 2).

A patch that only the source's image can resolve (it touches what a filter, a default or a
computed field reads) is *deferred*: it waits until the source must show it, is not folded with
other patches, and a later upsert or delete takes its place. Patches that come while one waits
are deferred too, each until its own time: a key that is patched without end still moves the
watermark.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Set
from enum import Enum, auto

import msgspec

from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition, Record
from replicator.stream.coalesce import Coalescer, VersionWindow
from replicator.stream.watermark import CommitWatermark, Ticket

_DUES_SPARE = 64
"""Times of patches that wait no more, kept before the heap is made anew."""


class Added(Enum):
    """What became of an event that a lane took in."""

    PENDING = auto()
    """The first of its key that waits."""
    COALESCED = auto()
    """It became one with what waits."""
    DEFERRED = auto()
    """A patch that waits for the source's image."""
    OUTRANKED = auto()
    """Void, as long as the newer image that waits can be written; its ticket waits with it."""
    VOID = auto()
    """A newer image is durable: discarded. The caller settles its ticket."""


class Whole(msgspec.Struct, frozen=True):
    """
    An upsert or delete that took effect, or the source's image: it makes up for what was
    rejected `below` it, other than images of a newer `version` (None: all).
    """

    version: int | None
    below: int


class Work(msgspec.Struct):
    """
    What one key needs next. `event` is None where the source's image is to be fetched; the
    tickets are settled once the effect is durable.
    """

    key: Key
    event: ChangeEvent | None
    tickets: list[Ticket]
    size: int
    oldest_at_ms: int
    """The log's time of the oldest event in it."""
    whole: int = 0
    """
    Behind the last record whose key is whole with this work: its last upsert or delete, or all
    of it where the source's image is written. What was rejected before it is made up for; what
    was rejected between it and a patch that folded into it is not. 0 for patches.
    """
    anew: bool = False
    """It holds an image or delete without a version: no version from before it counts."""

    @property
    def wholes(self) -> list[Whole]:
        """What takes effect with this work, if it does."""
        version = None if self.event is None or self.anew else self.event.version
        return [Whole(version, self.whole)] if self.whole else []

    @property
    def position(self) -> int:
        """Behind the last of its records; those an image replaced stand behind it here."""
        return max(ticket.next_offset for ticket in self.tickets)


class Deferred(msgspec.Struct):
    """One patch that waits for the source to show it."""

    due: float
    ticket: Ticket
    size: int
    at_ms: int


class Lane:
    """
    Not safe for use from more than one task at a time; nothing here waits. `now` is the loop's
    time.
    """

    def __init__(
        self,
        partition: Partition,
        position: int,
        *,
        records_max: int,
        held: Set[Key],
        versions: VersionWindow | None = None,
    ) -> None:
        """
        Nothing new is started for keys in `held`, which the stream keeps for all lanes;
        `versions` are those that the store holds.
        """
        self.partition = partition
        self.watermark = CommitWatermark(position)
        self.records_max = records_max
        self.bytes = 0
        """Of events that are not durable yet."""
        self._coalescer = Coalescer()
        self._deferred: dict[Key, deque[Deferred]] = {}
        self._dues: list[tuple[float, int, Key]] = []
        """A heap: when which key has a patch due. May name keys that wait no more."""
        self._overdue: dict[Key, None] = {}
        """Keys with a patch due that could not start yet."""
        self._in_flight: dict[Key, Work] = {}
        self._held = held
        self._versions = versions if versions is not None else VersionWindow(0)
        self._patches = 0
        """Deferred patches of all keys."""

    @property
    def is_full(self) -> bool:
        """Whether the partition must pause. Settled records behind an unsettled one count
        too.
        """
        # Invariant 10: memory is bounded by configuration, not by what arrives.
        return self.watermark.pending >= self.records_max

    @property
    def has_room(self) -> bool:
        """Whether a paused partition may go on."""
        return self.watermark.pending <= self.records_max // 2

    @property
    def waiting(self) -> int:
        """Keys with something to write that is not in flight."""
        return len(self._coalescer)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of those."""
        return self._coalescer.bytes

    @property
    def oldest_at(self) -> float | None:
        """Since when the oldest of those waits."""
        return self._coalescer.oldest_at

    @property
    def works(self) -> Collection[Work]:
        """What is under way."""
        return self._in_flight.values()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits that could be started, now or later."""
        return not len(self._coalescer) and not self._deferred

    def is_writing(self, keys: Set[Key]) -> bool:
        """Whether a write of any of these keys is under way."""
        return not keys.isdisjoint(self._in_flight)

    def track(self, offset: int, record: Record | None = None) -> Ticket:
        """Track a record; every record of the partition, in order."""
        return self.watermark.track(offset, record)

    def add(
        self,
        event: ChangeEvent,
        ticket: Ticket,
        *,
        size: int,
        at_ms: int,
        now: float,
        needs_image: bool,
        shown_at: float,
    ) -> Added:
        """
        Take an event in. `needs_image`: a patch that only the source's image resolves.
        `shown_at`: from when the source shows the event.
        """
        key = event.key
        if self._is_void(event):
            return Added.VOID
        deferred = self._deferred.get(key)
        pending = self._coalescer.get(key)
        waits = event.op is Op.PATCH and (deferred is not None or needs_image)
        # Where a full image waits, the patch folds into it, and needs no other image.
        if waits and (pending is None or pending.event.op is Op.PATCH):
            # One that only stands behind such a patch waits as long: an image is all that will
            # be written of it too.
            self._defer(event, ticket, size=size, at_ms=at_ms, due=shown_at)
            return Added.DEFERRED
        self.bytes += size
        if not self._coalescer.add(event, ticket, size=size, at_ms=at_ms, now=now):
            return Added.OUTRANKED
        if deferred and event.op is not Op.PATCH:
            # A full image or a delete replaces every patch before it; they are durable with it.
            self._coalescer.join(
                key, [patch.ticket for patch in deferred], sum(patch.size for patch in deferred)
            )
            self._forget_deferred(key)
        return Added.PENDING if pending is None else Added.COALESCED

    def _is_void(self, event: ChangeEvent) -> bool:
        """
        Whether a newer image is durable, and nothing is on its way that could end its history.
        What is in flight may yet be refused: what stands behind it is judged when it is taken.
        """
        pending, writing = self._coalescer.get(event.key), self._in_flight.get(event.key)
        return (
            self._versions.is_stale(event)
            and not (pending is not None and pending.whole)
            and not (writing is not None and writing.event is not None and writing.whole)
        )

    def _forget_deferred(self, key: Key) -> None:
        self._patches -= len(self._deferred.pop(key))
        if not self._deferred:
            self._dues.clear()
            self._overdue.clear()
        elif len(self._dues) > 2 * self._patches + _DUES_SPARE:
            # Times of patches that were replaced: they must not outgrow those that wait.
            self._dues = [
                (patch.due, patch.ticket.next_offset, key)
                for key, queue in self._deferred.items()
                for patch in queue
            ]
            heapq.heapify(self._dues)

    def _defer(
        self, event: ChangeEvent, ticket: Ticket, *, size: int, at_ms: int, due: float
    ) -> None:
        queue = self._deferred.setdefault(event.key, deque())
        # A patch that folds by itself is deferred behind one that does not, to keep their
        # order, and a pending one joins: the image that is fetched at `due` holds it.
        entry = self._coalescer.pop(event.key)
        if entry is not None:
            for earlier in entry.tickets:
                queue.append(Deferred(due, earlier, 0, entry.at_ms))
            queue[-1].size = entry.size
            self._patches += len(entry.tickets)
        due = max(due, queue[-1].due if queue else due)
        self.bytes += size
        queue.append(Deferred(due, ticket, size, at_ms))
        self._patches += 1
        heapq.heappush(self._dues, (due, ticket.next_offset, event.key))

    def take(self, records_max: int, bytes_max: int, now: float) -> list[Work]:
        """Start the oldest work of up to so many keys, none of which is in flight or held."""
        works = self._start_due(now, records_max)
        for work in works:
            self._in_flight[work.key] = work
        blocked = self._in_flight.keys() | self._held if self._held else self._in_flight.keys()
        room = records_max - len(works)
        if room > 0 and bytes_max > 0 and len(self._coalescer):
            works += [
                Work(
                    entry.key,
                    entry.event,
                    entry.tickets,
                    entry.size,
                    entry.at_ms,
                    entry.whole,
                    entry.anew,
                )
                for entry in self._coalescer.take(room, bytes_max, blocked)
            ]
        for work in works:
            self._in_flight[work.key] = work
        return works

    def _start_due(self, now: float, keys_max: int) -> list[Work]:
        while self._dues and self._dues[0][0] <= now:
            self._overdue[heapq.heappop(self._dues)[2]] = None
        works: list[Work] = []
        for key in list(self._overdue):
            if len(works) == keys_max:
                break
            if key in self._in_flight or key in self._held:
                continue
            self._overdue.pop(key, None)
            queue = self._deferred.get(key)
            # The patch that was due may be gone, and another of the key not be due yet.
            if queue and queue[0].due <= now:
                works.append(self._take_due(key, now))
        return works

    def _take_due(self, key: Key, now: float) -> Work:
        queue = self._deferred[key]
        work = Work(key, None, [], 0, queue[0].at_ms)
        while queue and queue[0].due <= now:
            patch = queue.popleft()
            work.tickets.append(patch.ticket)
            work.size += patch.size
            work.whole = max(work.whole, patch.ticket.next_offset)
            self._patches -= 1
        if not queue:
            self._forget_deferred(key)
        return work

    def next_due(self) -> float | None:
        """When the next deferred patch is due; None when none waits for its time."""
        return self._dues[0][0] if self._dues else None

    def finish(self, work: Work) -> None:
        """The work's effect is durable, at the store or in the dead letters."""
        # Invariant 1: only now may the watermark pass these records.
        for ticket in work.tickets:
            self.watermark.settle(ticket)
        self.bytes -= work.size
        del self._in_flight[work.key]

    def oldest_ms(self) -> int | None:
        """The log's time of the oldest event that is not durable; None when there is none."""
        times = [work.oldest_at_ms for work in self._in_flight.values()]
        times += [queue[0].at_ms for queue in self._deferred.values()]
        first = self._coalescer.oldest_at_ms
        if first is not None:
            times.append(first)
        return min(times, default=None)
