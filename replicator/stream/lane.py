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

import msgspec

from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition, Record
from replicator.stream.coalesce import Coalescer, is_older
from replicator.stream.watermark import CommitWatermark, Ticket


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
    version: int | None = None
    """The newest of the patches that the source's image stands for."""

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
    version: int | None


class Lane:
    """
    Not safe for use from more than one task at a time; nothing here waits. `now` is the loop's
    time.
    """

    def __init__(
        self, partition: Partition, position: int, *, records_max: int, held: Set[Key]
    ) -> None:
        """Nothing new is started for keys in `held`, which the stream keeps for all lanes."""
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
    ) -> bool:
        """
        Take an event in. `needs_image`: a patch that only the source's image resolves.
        `shown_at`: from when the source shows the event. False: it is older than a waiting
        event of the key, and discarded.
        """
        key = event.key
        deferred = self._deferred.get(key)
        pending = self._coalescer.get(key)
        waits = event.op is Op.PATCH and (deferred is not None or needs_image)
        # Where a full image waits, the patch folds into it, and needs no other image.
        if waits and (pending is None or pending.event.op is Op.PATCH):
            # One that only stands behind such a patch waits as long: an image is all that will
            # be written of it too.
            self._defer(event, ticket, size=size, at_ms=at_ms, due=shown_at)
            return True
        if deferred and any(is_older(event, patch.version) for patch in deferred):
            return False
        if not self._coalescer.add(event, ticket, size=size, at_ms=at_ms, now=now):
            return False
        self.bytes += size
        if deferred and event.op is not Op.PATCH:
            # A full image or a delete replaces every patch before it; they are durable with it.
            entry = self._coalescer.get(key)
            assert entry is not None
            for patch in self._deferred.pop(key):
                entry.tickets.append(patch.ticket)
                entry.size += patch.size
        return True

    def _defer(
        self, event: ChangeEvent, ticket: Ticket, *, size: int, at_ms: int, due: float
    ) -> None:
        queue = self._deferred.setdefault(event.key, deque())
        # A patch that folds by itself is deferred behind one that does not, to keep their
        # order, and a pending one joins: the image that is fetched at `due` holds it.
        entry = self._coalescer.pop(event.key)
        if entry is not None:
            for earlier in entry.tickets:
                queue.append(Deferred(due, earlier, 0, entry.at_ms, entry.event.version))
            queue[-1].size = entry.size
        due = max(due, queue[-1].due if queue else due)
        self.bytes += size
        queue.append(Deferred(due, ticket, size, at_ms, event.version))
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
                    entry.key, entry.event, entry.tickets, entry.size, entry.at_ms, entry.whole
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
            del self._overdue[key]
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
            if patch.version is not None:
                work.version = max(work.version or 0, patch.version)
        if not queue:
            del self._deferred[key]
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
