"""
The stream: from the feed to the store written, in one direction, until it is told to stop.

    feed.poll ─► intake ─► lane: track, coalesce ─► apply: transform, write ─► settle ─► commit
    └──────────── poller ───────────┘              └───── dispatcher ─────┘   └ committer ┘

Three tasks share the lanes, and never wait while they change one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Set

from replicator.clock import Clock
from replicator.metrics import Metrics
from replicator.model.event import Key
from replicator.model.position import Partition, Positions, Record
from replicator.ports.feed import ChangeFeed
from replicator.ports.state import StateStore
from replicator.settings.settings import StreamSettings
from replicator.stream.apply import Applier
from replicator.stream.committer import Committer
from replicator.stream.counters import Counters
from replicator.stream.dispatcher import Dispatcher
from replicator.stream.intake import Intake
from replicator.stream.lane import Lane
from replicator.stream.lanes import Lanes
from replicator.stream.letters import DeadLetters
from replicator.stream.ownership import Lease, Ownership, Revoked
from replicator.stream.patience import Patience
from replicator.stream.poller import Poller
from replicator.stream.writing import Writer


class Stream:
    """One run of the data path. `run` ends after `stop`; a stream is not started twice."""

    def __init__(
        self,
        *,
        feed: ChangeFeed,
        intake: Intake,
        applier: Applier,
        writer: Writer,
        letters: DeadLetters,
        state: StateStore,
        patience: Patience,
        settings: StreamSettings,
        metrics: Metrics,
        clock: Clock,
        counters: Counters,
        show_after_s: float,
        lease: Lease,
        ownership: Ownership,
        misplaced: Callable[[Record], Awaitable[None]],
        look: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """
        `misplaced` keeps the fact that such a record came, before it can count as done. `look`
        raises Blocked when the log is another one, Retryable while that cannot be told.
        """
        self.applier = applier
        self.intake = intake
        self._feed = feed
        self._letters = letters
        self._patience = patience
        self._lease = lease
        self._holds = ownership.holds
        self._lanes = Lanes(settings, self._holds, applier.versions)
        self._poller = Poller(
            lanes=self._lanes,
            feed=feed,
            intake=intake,
            letters=letters,
            holds=self._holds,
            lease=lease,
            patience=patience,
            counters=counters,
            metrics=metrics,
            show_after_s=show_after_s,
            misplaced=misplaced,
            look=look,
        )
        self._committer = Committer(
            lanes=self._lanes,
            feed=feed,
            letters=letters,
            state=state,
            patience=patience,
        )
        self._dispatcher = Dispatcher(
            lanes=self._lanes,
            applier=applier,
            committer=self._committer,
            letters=letters,
            lease=lease,
            limit=writer.limit,
            counters=counters,
            metrics=metrics,
            clock=clock,
        )

    async def run(self, positions: Mapping[Partition, int]) -> None:
        """
        Apply everything from these positions on, until `stop`. Cancelling it leaves writes with
        an unknown outcome; the writer's guard knows.
        """
        self._lanes.open(positions)
        self._committer.begin(positions)
        await self._letters.load()
        self._holds.join(self)
        drained = asyncio.Event()
        try:
            opening = self._patience.until_answered(lambda: self._feed.open(positions))
            await self._lease.while_held(opening)
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(), name="stream poller")
                writing = group.create_task(
                    self._dispatcher.run(group), name="stream dispatcher"
                )
                group.create_task(self._committer.run(drained), name="stream committer")
                await asyncio.wait([reading, writing])
                drained.set()
            await self.commit()
            if self._poller.ahead is not None:
                raise self._poller.ahead
        except Revoked:
            return  # before anything was read
        finally:
            self._holds.leave(self)
            self._patience.over(self._committer)

    async def _read(self) -> None:
        await self._poller.run()
        if self._poller.ahead is not None:
            self.stop()

    def stop(self) -> None:
        """
        Send nothing more, let what is in flight be answered, persist, and end `run`. What waits
        is read again next time.
        """
        self._lease.revoke()
        self._lanes.stop()

    def tune(self, settings: StreamSettings) -> None:
        """Go on with these."""
        self._lanes.settings = settings

    def doubt(self) -> None:
        """The log did not answer: nothing more is taken in before it was looked at."""
        self._poller.doubt()

    async def commit(self) -> None:
        """Persist the watermarks, then let others see them. Safe to call from several tasks."""
        await self._committer.commit()

    def wake(self) -> None:
        """Keys that were held are free again."""
        self._lanes.work.set()

    def is_writing(self, keys: Set[Key]) -> bool:
        """Whether a write of any of these keys is under way."""
        return self._lanes.is_writing(keys)

    # -- what there is to see --------------------------------------------------------------

    @property
    def lanes(self) -> dict[Partition, Lane]:
        """A lane for each partition, once `run` has begun."""
        return self._lanes.of

    @property
    def positions(self) -> Positions:
        """The commit watermarks: everything before them is durable."""
        return self._lanes.positions

    @property
    def committed(self) -> Positions:
        """What is persisted."""
        return dict(self._committer.committed)

    @property
    def published(self) -> Positions:
        """What others were shown last; empty before the first time."""
        return dict(self._committer.published)

    @property
    def in_flight(self) -> int:
        """Records in writes under way."""
        return self._lanes.in_flight

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of their events."""
        return self._lanes.in_flight_bytes

    @property
    def buffered_bytes(self) -> int:
        """Bytes of events that are not durable."""
        return self._lanes.buffered_bytes
