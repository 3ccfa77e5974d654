"""
Ownership: who may write which store, held and never inferred.

Every writer of a store works under a *lease*: the store's direction, the purpose, the epoch.
The leases that stand side by side are those of `TOGETHER`, all on one store; any other is
granted only when it is alone. So a stream and a comparison that mends, or writers of both
stores, cannot be at work at once, whatever commands overlap.

A lease is revoked (pause, phase change, drain, BLOCKED) before anything else may write. From
then on it sends nothing more: whoever waits in a backoff, for a guard or for a place ends at
once with `Revoked`. What is in flight is waited for, but no longer than the caller's bound: it
is cancelled then, and the store's guard remembers that it may still land.

A *rest* keeps the stream and everything beside it from starting, until the one who holds it
releases it. Nobody else can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from enum import Enum
from typing import TypeVar

from replicator.errors import Refused
from replicator.model.phase import Direction
from replicator.stream.holds import Holds

T = TypeVar("T")


class Purpose(Enum):
    """What a lease is for."""

    PREPARE = "prepare"
    """Create, wipe and mark the target."""
    BACKFILL = "backfill"
    STREAM = "stream"
    REPAIR = "repair"
    RETRY = "retry"
    MEND = "mend"
    """What the last comparison of a cutover writes once more, while the stream rests."""


TOGETHER = frozenset({Purpose.STREAM, Purpose.REPAIR, Purpose.RETRY})
"""On one store they may be at work side by side: the keys that a repair or retry holds are kept
from the stream."""


class Revoked(Exception):
    """The lease was revoked, and nothing was sent since. Not an error: the work ends."""


class Lease:
    """The right to write one store, until it is revoked or given back. Use `with`."""

    def __init__(
        self, ownership: Ownership, store: Direction, purpose: Purpose, epoch: int
    ) -> None:
        self.store = store
        self.purpose = purpose
        self.epoch = epoch
        self.began = asyncio.get_running_loop().time()
        """Loop time since when nobody else writes the store but those of `TOGETHER`."""
        self._ownership = ownership
        self._revoked = asyncio.Event()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    @property
    def is_revoked(self) -> bool:
        """Whether nothing more may be sent under it."""
        return self._revoked.is_set()

    def revoke(self) -> None:
        """Nothing more is sent under it. What is in flight is its holder's to end."""
        self._revoked.set()

    def give_back(self) -> None:
        """Its holder has nothing in flight any more. Idempotent."""
        self.revoke()
        self._ownership.ended(self)

    def check(self) -> None:
        """Raises Revoked. To be asked right before anything is sent."""
        if self.is_revoked:
            raise Revoked

    async def while_held(self, wait: Awaitable[T]) -> T:
        """Wait, but no longer than the lease is held. Raises Revoked."""
        waiting = asyncio.ensure_future(wait)
        revoked = asyncio.ensure_future(self._revoked.wait())
        try:
            self.check()
            await asyncio.wait({waiting, revoked}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            raise Revoked
        finally:
            # The one that lost, or both where we were cancelled ourselves.
            for task in (waiting, revoked):
                if not task.done():
                    task.cancel()

    async def sleep(self, seconds: float) -> None:
        """Wait so long. Raises Revoked as soon as it is revoked."""
        self.check()
        try:
            async with asyncio.timeout(seconds):
                await self._revoked.wait()
        except TimeoutError:
            return
        raise Revoked


class Rest:
    """Keeps everything of `TOGETHER` from starting, until `release`."""

    def __init__(self, ownership: Ownership, reason: str) -> None:
        self.reason = reason
        self._ownership = ownership

    def release(self) -> None:
        """Whoever rested may go on. Idempotent."""
        self._ownership.rested(self)


class Ownership:
    """The leases, rests and held keys of one process. Not safe across threads."""

    def __init__(self) -> None:
        self.holds = Holds()
        self._leases: set[Lease] = set()
        self._rests: set[Rest] = set()

    # -- leases ----------------------------------------------------------------------------

    def lease(
        self, store: Direction, purpose: Purpose, epoch: int, rest: Rest | None = None
    ) -> Lease:
        """
        Grant a lease. Raises Refused("phase-refused") while another one, or a rest that is not
        `rest`, stands against it.
        """
        for other in self._leases:
            beside = {purpose, other.purpose} <= TOGETHER and purpose is not other.purpose
            if not beside or other.store is not store or other.epoch != epoch:
                raise Refused(
                    "phase-refused",
                    f"{other.purpose.value} writes just now; {purpose.value} has to wait",
                )
        against = [each for each in self._rests if each is not rest]
        if against:
            raise Refused("phase-refused", f"{against[0].reason}; {purpose.value} has to wait")
        lease = Lease(self, store, purpose, epoch)
        self._leases.add(lease)
        return lease

    def ended(self, lease: Lease) -> None:
        """A lease was given back."""
        self._leases.discard(lease)

    def revoke(self, *purposes: Purpose) -> None:
        """Revoke the leases of these purposes (none named: all)."""
        for lease in self._leases:
            if not purposes or lease.purpose in purposes:
                lease.revoke()

    def held(self, *purposes: Purpose) -> bool:
        """Whether a lease of one of these purposes (none named: any) is not given back."""
        return any(not purposes or lease.purpose in purposes for lease in self._leases)

    # -- rest ------------------------------------------------------------------------------

    def rest(self, reason: str) -> Rest:
        """Let nothing of `TOGETHER` start. What runs is the caller's to end."""
        rest = Rest(self, reason)
        self._rests.add(rest)
        return rest

    def rested(self, rest: Rest) -> None:
        """A rest was released."""
        self._rests.discard(rest)

    @property
    def rests(self) -> bool:
        """Whether somebody holds a rest."""
        return bool(self._rests)
