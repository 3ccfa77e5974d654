"""
Holds: keys that an operation keeps to itself, and keys that somebody watches.

They belong to the process, not to a stream: a stream that is started anew meets them. Whoever
writes keys joins as a *party*; a hold waits until no party is writing its keys, and a party
that ends, however it ends, is waited for no more. What it left in flight is the write guard's
to remember.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Set
from contextlib import asynccontextmanager
from typing import Protocol

from replicator.model.event import Key


class Party(Protocol):
    """Something that writes keys, as the stream does."""

    def is_writing(self, keys: Set[Key]) -> bool:
        """Whether a write of any of these keys is under way."""
        ...

    def wake(self) -> None:
        """Keys are free again."""
        ...


class Holds:
    """The keys that are held, and those that are watched. Not safe across threads."""

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        """Held now; shared with the lanes, which start no write of them."""
        self._watched: dict[Key, bool] = {}
        self._parties: set[Party] = set()
        self._progress = asyncio.Event()

    def join(self, party: Party) -> None:
        """From now on this party may be writing."""
        self._parties.add(party)

    def leave(self, party: Party) -> None:
        """It writes no more. Idempotent."""
        self._parties.discard(party)
        self.progress()

    def progress(self) -> None:
        """A party has finished some write."""
        if self.keys:
            self._progress.set()
            self._progress = asyncio.Event()

    @asynccontextmanager
    async def holding(self, keys: Collection[Key]) -> AsyncIterator[None]:
        """
        Within it no party's write of these keys is under way or starts; their events wait. Not
        to be nested with overlapping keys.
        """
        held = frozenset(keys)
        assert self.keys.isdisjoint(held), "a key is held once"
        self.keys |= held
        try:
            while any(party.is_writing(held) for party in self._parties):
                await self._progress.wait()
            yield
        finally:
            self.keys -= held
            for party in self._parties:
                party.wake()

    # -- watching --------------------------------------------------------------------------

    def watch(self, keys: Collection[Key]) -> None:
        """Note from now on when events of these keys are read."""
        for key in keys:
            self._watched[key] = False

    def unwatch(self, keys: Collection[Key]) -> None:
        """Forget about these keys."""
        for key in keys:
            self._watched.pop(key, None)

    def saw(self, key: Key) -> None:
        """An event of the key was read."""
        if key in self._watched:
            self._watched[key] = True

    def seen(self, key: Key) -> bool:
        """Whether an event of the key was read since `watch`; also when nobody watched it."""
        return self._watched.get(key, True)
