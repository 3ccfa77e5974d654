"""
The commit watermark: which position of a partition is safe to commit.

Records enter in offset order and are settled in any order, because batches of different keys
finish at different times. Only the run of settled records at the head may be committed. Offsets
may have gaps (compaction, control records), so the head is found by walking what was tracked,
never by counting.
"""

from __future__ import annotations

from collections import deque

import msgspec

from replicator.model.position import Record


class Ticket(msgspec.Struct, eq=False, gc=False):
    """
    The promise to settle one record. Held by whoever carries the record's effect.

    The record itself stays until the position passes it: any of those that are pending can
    turn out to be the last one passed when positions are persisted.
    """

    next_offset: int
    record: Record | None = None
    settled: bool = False


class CommitWatermark:
    """
    Track the records of one partition and report the position safe to commit.

    Not safe for use from more than one task; each lane owns its own. Not bounded by itself: the
    lane pauses before it tracks more than its budget (Invariant 10).
    """

    def __init__(self, position: int) -> None:
        """`position` is the next offset to read, as everywhere."""
        assert position >= 0, "a position is an offset"
        self._position = position
        self._tracked_to = position
        self._pending: deque[Ticket] = deque()
        self._last: Record | None = None

    @property
    def position(self) -> int:
        """Safe to commit: every record before it has a durable effect."""
        return self._position

    @property
    def last(self) -> Record | None:
        """The last record before the position, where one was passed since the beginning."""
        return self._last

    @property
    def tracked_to(self) -> int:
        """The next offset to read: everything before it was tracked, or is a gap."""
        return self._tracked_to

    @property
    def pending(self) -> int:
        """Records tracked and not yet passed by the position, settled ones among them."""
        return len(self._pending)

    def track(self, offset: int, record: Record | None = None) -> Ticket:
        """Enter the next record. Offsets ascend and may leave gaps."""
        assert offset >= self._tracked_to, "the feed went backwards"
        ticket = Ticket(offset + 1, record)
        self._pending.append(ticket)
        self._tracked_to = ticket.next_offset
        return ticket

    def settle(self, ticket: Ticket) -> None:
        """Say that the record's effect is durable, at the target or in the dead letters."""
        assert not ticket.settled, "a ticket is settled once"
        ticket.settled = True
        # Invariant 1: the watermark never passes a record that is not durable.
        while self._pending and self._pending[0].settled:
            passed = self._pending.popleft()
            self._position = passed.next_offset
            # Whoever still holds the ticket no longer holds the record's bytes with it.
            self._last, passed.record = passed.record, None
        if not self._pending:
            # Behind the last record there may be a gap that only the feed saw.
            self._position = self._tracked_to

    def advance(self, position: int) -> None:
        """
        Take note that no record lies between `tracked_to` and `position`.

        Control records and compaction leave gaps behind the last record. With nothing pending
        the gap is passed at once, else the position would stay behind the log end for ever;
        with something pending it is passed when the last of that is settled. A position that
        was passed already changes nothing.
        """
        self._tracked_to = max(self._tracked_to, position)
        if not self._pending:
            self._position = self._tracked_to
