"""
Coalescing: while a key waits for its turn, its events become one.

The lane keeps one pending entry per key. An event of a key that already waits is folded into
the entry, which keeps its place in the queue (so nothing starves behind a hot key) and gathers
the tickets of all events it stands for: they settle together, when the one write that carries
their sum is durable. Coalescing keeps the last event, or the highest version where images carry
one; it never drops a delete (Invariant 3) and never lets two entries of a key exist
(Invariant 2).

Versions order full images, and deletes that carry one; patches have no place in that order. An
image or a delete without a version ends the key's history, and what follows counts anew. What
an image that waits outranks is void, and stays with it all the same: should the store refuse
the newer image, the older is the word again (`Applier.one_by_one`).

Patches that only the source's image can resolve never come here: the lane defers them. A patch
that follows a pending upsert or delete folds into it in source terms, which never needs an
image.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

import msgspec

from replicator.model.event import ChangeEvent, Key, Op
from replicator.stream.fold import fold
from replicator.stream.watermark import Ticket


class Entry(msgspec.Struct, eq=False):
    """Everything that is pending for one key."""

    key: Key
    event: ChangeEvent
    """The sum of all events the entry stands for, in source terms."""
    tickets: list[Ticket]
    size: int
    """Bytes of the records it stands for, those replaced included: the budget counts arrivals.
    """
    at: float
    """Loop time at which the first event arrived."""
    at_ms: int
    """The log's time of the first event."""
    whole: int = 0
    """Behind the last upsert or delete in it; 0 when it is made of patches."""
    anew: bool = False
    """It holds an image or delete without a version: no version from before it counts."""

    @property
    def records(self) -> int:
        """Records of the feed that the entry stands for."""
        return len(self.tickets)


class Coalescer:
    """
    The pending entries of one lane, oldest first.

    Not bounded by itself: the lane pauses its partition when `records` or `bytes` are over
    budget (Invariant 10).
    """

    def __init__(self) -> None:
        # A linked list under the hash: a plain dict, emptied from its head, leaves dead slots
        # there that every later walk passes again.
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._bytes = 0
        self._records = 0

    def __len__(self) -> int:
        """Keys pending."""
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Sum of the entries' sizes."""
        return self._bytes

    @property
    def records(self) -> int:
        """Sum of the entries' records."""
        return self._records

    @property
    def oldest_at(self) -> float | None:
        """Loop time at which the oldest pending event arrived; None when nothing is pending."""
        return next(iter(self._entries.values())).at if self._entries else None

    @property
    def oldest_at_ms(self) -> int | None:
        """The log's time of the oldest pending event; None when nothing is pending."""
        return next(iter(self._entries.values())).at_ms if self._entries else None

    def get(self, key: Key) -> Entry | None:
        """What is pending for the key."""
        return self._entries.get(key)

    def pop(self, key: Key) -> Entry | None:
        """Take out what is pending for the key."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._records -= entry.records
            self._bytes -= entry.size
        return entry

    def add(
        self, event: ChangeEvent, ticket: Ticket, *, size: int, at_ms: int, now: float
    ) -> bool:
        """
        Make the event pending.

        Returns False when the event is older, by version, than the image that is pending for
        its key: it is void, and its ticket settles with the entry's.
        """
        self._bytes += size
        self._records += 1
        entry = self._entries.get(event.key)
        if entry is None:
            entry = Entry(event.key, event, [ticket], size, now, at_ms)
            self._entries[event.key] = entry
        else:
            entry.tickets.append(ticket)
            entry.size += size
            if entry.event.op is not Op.PATCH and is_older(event, entry.event.version):
                return False
            entry.event = fold(entry.event, event)
        if event.op is not Op.PATCH:
            entry.whole = ticket.next_offset
            entry.anew = entry.anew or event.version is None
        return True

    def join(self, key: Key, tickets: Sequence[Ticket], size: int) -> None:
        """Let the key's entry stand for these records too, whose effect it replaces."""
        entry = self._entries[key]
        entry.tickets.extend(tickets)
        entry.size += size
        self._bytes += size
        self._records += len(tickets)

    def take(self, records_max: int, bytes_max: int, blocked: Collection[Key]) -> list[Entry]:
        """
        Remove and return up to `records_max` entries, oldest first, of about `bytes_max` in
        all, leaving those whose key is blocked (in flight, held). At least one is returned when
        one is free, whatever its size.

        Costs O(taken + skipped) if `blocked` is a set or a dict.
        """
        taken: list[Entry] = []
        size = 0
        for key, entry in self._entries.items():
            if len(taken) >= records_max:
                break
            if key in blocked:
                continue
            if taken and size + entry.size > bytes_max:
                break
            taken.append(entry)
            size += entry.size
        for entry in taken:
            del self._entries[entry.key]
            self._records -= entry.records
        self._bytes -= size
        return taken


class VersionWindow:
    """
    The version of the image, or of the delete, that the store holds, for each of the keys
    written last: to know an event that arrives late.

    Everything that makes an event durable says so here: the stream, the retry of a dead letter,
    the last comparison. A repair does not, for the image that it copies has no version. What
    the store refused never enters: it must not hide an older image that can be carried. So an
    image that arrives while a newer one is in flight is judged when its own turn comes.

    It outlives a stream that is paused. Bounded: the key that was written longest ago is
    forgotten first.
    """

    def __init__(self, size: int) -> None:
        assert size >= 0, "the window has a size"
        self._size = size
        self._versions: OrderedDict[Key, int] = OrderedDict()

    def __len__(self) -> int:
        """Keys remembered."""
        return len(self._versions)

    def of(self, key: Key) -> int | None:
        """The version that the store holds of the key; None where none is known."""
        return self._versions.get(key)

    def is_stale(self, event: ChangeEvent) -> bool:
        """Whether the event must be discarded: an upsert or delete older than what is held."""
        return is_older(event, self._versions.get(event.key))

    def applied(self, event: ChangeEvent) -> None:
        """Remember what is durable now. A patch changes nothing; an image without a version
        ends the key's history.
        """
        if event.op is Op.PATCH:
            return
        if event.version is None:
            self._versions.pop(event.key, None)
            return
        self._versions[event.key] = event.version
        self._versions.move_to_end(event.key)
        if len(self._versions) > self._size:
            self._versions.popitem(last=False)

    def refused(self, event: ChangeEvent) -> None:
        """
        The store would not hold it: its version orders nothing. That it has none ends the key's
        history all the same, which discards nothing.
        """
        if event.op is not Op.PATCH and event.version is None:
            self._versions.pop(event.key, None)


def is_older(event: ChangeEvent, version: int | None) -> bool:
    """
    Whether the version says that the event came too late. Never true of a patch: it carries
    only a part, and what it carries may be newest all the same.
    """
    if event.op is Op.PATCH or event.version is None or version is None:
        return False
    return event.version < version
