"""
The route's epochs: which event was written under which route, and which came too late.

The epoch changes only by something that every stamping writer has been told: a switch, or a
person's word on who owns the data. It never falls, and the number of a switch that did not
take place is not used again, since some writer may have heard it.

An epoch ends at a vector, the log's ends seen with the fence closed. An event of that epoch at
or behind the vector is a *straggler*: its writer passed the fence late, and wrote to a store
that the application has left. Every vector is kept, so that a retry or a comparison over an old
part of the log judges as the stream did.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from replicator.model.position import Partition, Positions

_ENDS_MAX = 1000
"""Ended epochs that are kept: a thousand switches of one migration. What is older is judged by
the oldest that is kept."""


class Standing(Enum):
    """What an event's epoch says of it."""

    IN_FORCE = "in force"
    """Of the epoch in force, of one that had not ended there yet, or unstamped."""
    STRAGGLER = "straggler"
    LATER = "later"
    """Of an epoch that we have not heard of: somebody else moved the traffic."""
    DENIED = "denied"
    """Of one that the switch says there never was."""


class EpochEnd(msgspec.Struct, frozen=True):
    """Where an epoch, and with it every earlier one, ended."""

    epoch: int
    vector: Positions
    moved: bool = True
    """Whether the application moved to the other store there."""


class Epochs(msgspec.Struct, frozen=True, kw_only=True):
    """The epoch in force, and the ends of those before it, oldest first."""

    current: int = 0
    offered: int = 0
    """The highest number that any switch was ever told."""
    ends: tuple[EpochEnd, ...] = ()
    denied: tuple[int, ...] = ()
    """Later numbers that events carried and the switch does not know."""

    @property
    def following(self) -> int:
        """The number of the next switch: no writer stamps it yet, rightly or wrongly."""
        return max(self.current, self.offered, *self.denied) + 1

    def offer(self) -> Epochs:
        """The next switch is about to be told its number, `offered` from now on."""
        return msgspec.structs.replace(self, offered=self.following)

    @property
    def moved_at(self) -> Positions:
        """Where the application last moved from one store to the other; empty before it did. An
        epoch that was followed where the application stayed ends nothing for either store.
        """
        return next((end.vector for end in reversed(self.ends) if end.moved), {})

    def enter(self, epoch: int, vector: Positions, *, moved: bool) -> Epochs:
        """Another epoch is in force; the one before it ended at `vector`. `moved`: with it the
        application moved to the other store.
        """
        assert epoch >= self.current, "an epoch never falls"
        if epoch == self.current:
            return self
        ends = (*self.ends, EpochEnd(self.current, dict(vector), moved))
        return msgspec.structs.replace(
            self, current=epoch, offered=max(self.offered, epoch), ends=ends[-_ENDS_MAX:]
        )

    def deny(self, epoch: int) -> Epochs:
        """The switch does not know this later epoch."""
        return msgspec.structs.replace(self, denied=(*self.denied, epoch)[-_ENDS_MAX:])

    def standing(self, epoch: int | None, partition: Partition, offset: int) -> Standing:
        """Judge an event by its epoch and its place in the log."""
        if epoch is None or epoch == self.current:
            return Standing.IN_FORCE
        if epoch > self.current:
            return Standing.DENIED if epoch in self.denied else Standing.LATER
        end = self._end_of(epoch)
        late = end is None or offset >= end.vector.get(partition, 0)
        return Standing.STRAGGLER if late else Standing.IN_FORCE

    def _end_of(self, epoch: int) -> EpochEnd | None:
        """
        Where it ended: with the first that ended at or after its number; one that was offered
        and never taken ended with the last before it.
        """
        last = self.ends[-1] if self.ends else None
        return next((end for end in self.ends if end.epoch >= epoch), last)


def stragglers(epochs: Sequence[int | None], expected: int) -> int:
    """
    Of events found behind a fence vector, how many were not written under the epoch that begins
    there: older ones and unstamped ones.
    """
    return sum(epoch is None or epoch < expected for epoch in epochs)
