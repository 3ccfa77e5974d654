"""
Traffic: what stops the application from writing, and what sends it to one store or the other.

Both are called from one event loop, by one attempt at a time.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from replicator.model.fence import FenceAnswer
from replicator.model.phase import Direction


class Fence(Protocol):
    """The writer fence: while it is closed the application does not write."""

    @property
    def rests_on_word(self) -> bool:
        """
        Nobody enforces the fence: it is a person's or a command's word. It never opens by
        itself, and stragglers are looked for over the whole `delivery_timeout`.
        """
        ...

    async def close(self, deadline_s: float, attempt: str) -> FenceAnswer:
        """
        Close, or extend the deadline of a fence that is closed; returns when every writer has
        acknowledged that its events are flushed. The
        holder opens it by itself after `deadline_s`, should we die. Raises Retryable or Refused
        ("fence-failed") when it did not close; it may then be closed in part, and `open` is
        called.

        `attempt` is a token: it names the attempt at a cutover that the fence is closed for. A
        request may arrive late, after one that was sent later: a fence that was opened for an
        attempt stays open for it, and its `close` is refused.
        """
        ...

    async def open(self, attempt: str) -> FenceAnswer:
        """
        Let the application write again, where the switch points; no `close` of this attempt
        closes it any more. Idempotent. Raises Refused("fence-held") while the fence is closed
        for another attempt: it stays closed then. Raises Retryable or Refused as `close` does.
        """
        ...


class Pointer(msgspec.Struct, frozen=True):
    """Where a switch points, and the epoch that it was told last, where it keeps that."""

    direction: Direction
    epoch: int | None = None


class Switch(Protocol):
    """The traffic switch: which store the application uses."""

    async def to(self, direction: Direction, epoch: int) -> None:
        """
        Send the application to the source (forward) or the target (reverse). `epoch` is the
        route's from now on; writers that stamp it on their events show stragglers. Idempotent
        where `repeatable`; raises OutcomeUnknown where it may or may not have happened.
        """
        ...

    async def current(self) -> Pointer | None:
        """Where the switch points now; None when it cannot be read."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether `to` may be called again after a crash without harm."""
        ...
