"""
The committer: persists what the watermarks allow, then lets others see it.

Positions are persisted together with the letters that what lies before them has settled, and
with a bookmark of the last record before each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from replicator import failpoints
from replicator.errors import Refused, Retryable, Unavailable
from replicator.model.event import Key
from replicator.model.position import Bookmark, Partition, Place, Positions, bookmark_of
from replicator.ports.feed import ChangeFeed
from replicator.ports.state import StateStore
from replicator.stream.lanes import Lanes
from replicator.stream.letters import DeadLetters
from replicator.stream.patience import Patience

_PUBLISH_S = 5.0
"""How long a commit waits for others to be shown it: what is durable is persisted no later for
a broker that is away, and a shutdown is not held up."""


class Committer:
    """Of one stream."""

    def __init__(
        self,
        *,
        lanes: Lanes,
        feed: ChangeFeed,
        letters: DeadLetters,
        state: StateStore,
        patience: Patience,
    ) -> None:
        self.committed: Positions = {}
        """What is persisted."""
        self.published: Positions = {}
        """What others were shown last; empty before the first time."""
        self._lanes = lanes
        self._feed = feed
        self._letters = letters
        self._state = state
        self._patience = patience
        self._committing = asyncio.Lock()
        self._healed: dict[Key, Place] = {}
        """Keys with open dead letters that a durable upsert or delete settles, up to a
        place."""

    def begin(self, positions: Mapping[Partition, int]) -> None:
        """These are persisted already."""
        self.committed = dict(positions)

    def heal(self, healed: Mapping[Key, Place]) -> None:
        """Settle the open letters of these keys, up to a place, with the next commit."""
        self._healed.update(healed)

    async def run(self, drained: asyncio.Event) -> None:
        """Commit at every interval, until nothing more is written."""
        while not drained.is_set():
            try:
                async with asyncio.timeout(self._lanes.settings.commit_interval):
                    await drained.wait()
            except TimeoutError:
                await self.commit()

    async def commit(self) -> None:
        """Persist the watermarks, then let others see them. Safe to call from several tasks."""
        async with self._committing:  # two in parallel could persist an older position last
            await self._commit()

    async def _commit(self) -> None:
        moved = {
            partition: position
            for partition, position in self._lanes.positions.items()
            if self.committed.get(partition) != position
        }
        settled = dict(self._healed)
        if moved or settled:
            # Taken with the positions: each is of the last record before one of them.
            marks = {
                partition: bookmark_of(last)
                for partition in moved
                if (last := self._lanes.of[partition].watermark.last) is not None
            }
            await failpoints.reached("stream.before-commit")
            await self._persist(moved, settled, marks)
            await failpoints.reached("stream.after-commit")
        if self.published != self.committed:
            await self._publish()

    async def _persist(
        self, moved: Positions, settled: dict[Key, Place], marks: dict[Partition, Bookmark]
    ) -> None:
        # Whichever way they arose: after a later whole image, which its owner holds and the
        # other store was given, the two are one in that key.
        await self._state.commit(moved, settled, marks)
        self.committed.update(moved)
        for key, place in settled.items():
            if self._healed.get(key) == place:
                del self._healed[key]
        if settled:
            await self._letters.recount()

    async def _publish(self) -> None:
        """Also what a process before this one persisted and died before it was published."""
        positions = dict(self.committed)
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
            self.published = positions
            self._patience.over(self)
            await failpoints.reached("stream.after-publish")
