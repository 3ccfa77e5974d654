"""
The engine: the data path of one migration, put together as its record says.

It knows both stores, the feed, the writers with their guards, and what is known of them: lag,
trouble, positions. It captures, streams and compares when the `supervisor` says so.
"""

from __future__ import annotations

import asyncio
import uuid

import msgspec

from replicator import failpoints
from replicator.codecs.events import EventDecoder
from replicator.migration.journal import Journal
from replicator.migration.mirror import Mirror
from replicator.migration.observe import Observer
from replicator.migration.pace import Pace
from replicator.migration.parts import Parts
from replicator.migration.recheck import Recheck, Rechecked
from replicator.migration.routes import Atlas, draw_atlas
from replicator.migration.verify import Verified
from replicator.model.finding import Blocker
from replicator.model.phase import Direction, Phase
from replicator.model.position import Positions
from replicator.model.record import Capture
from replicator.model.status import LagStatus
from replicator.ports.store import Store
from replicator.stream.apply import Applier
from replicator.stream.intake import Intake
from replicator.stream.letters import DeadLetters
from replicator.stream.patience import Patience
from replicator.stream.stream import Counters, Stream
from replicator.stream.writing import Writer


class Engine:
    """The data path of one migration, under its record."""

    def __init__(self, parts: Parts, journal: Journal) -> None:
        settings = parts.settings
        self.parts = parts
        self.journal = journal
        self.counters = Counters()
        self.patience = Patience(settings.stream)
        self.writers = {
            Direction.FORWARD: self._writer(parts.target, settings.target.__class__),
            Direction.REVERSE: self._writer(parts.source, settings.source.__class__),
        }
        self.letters = DeadLetters(
            parts.letter_log,
            parts.state,
            metrics=parts.metrics,
            clock=parts.clock,
            backoff_max_s=settings.stream.backoff_max,
        )
        self.pace = Pace(settings.backfill.rate_max)
        self.stream_settings = settings.stream
        self.observer: Observer | None = None
        if parts.feed is not None:
            stuck = getattr(settings.feed, "stuck_after", None)
            self.observer = Observer(
                parts.feed, clock=parts.clock, counters=self.counters, stuck_after_s=stuck
            )
        self.stream: Stream | None = None
        self.atlas: Atlas | None = None
        self.persisted: Positions = {}
        """The persisted positions as of the last stream's end, while none runs."""

    def _writer(self, store: Store, kind: type) -> Writer:
        return Writer(
            store,
            connector=str(kind.__struct_config__.tag),  # type: ignore[attr-defined]
            settings=self.parts.settings.stream,
            metrics=self.parts.metrics,
        )

    # -- facts -----------------------------------------------------------------------------

    @property
    def show_after_s(self) -> float:
        """From an event to its being visible at the source."""
        settle = float(getattr(self.parts.settings.feed, "settle", 0.0))
        return max(settle, self.parts.source.staleness_s)

    @property
    def committed(self) -> Positions:
        """The persisted positions."""
        if self.stream is not None and self.stream.lanes:
            return self.stream.committed
        return self.persisted

    @property
    def is_clear(self) -> bool:
        """Whether nothing that was sent to either store may still land."""
        return all(writer.guard.is_clear for writer in self.writers.values())

    @property
    def trouble(self) -> Blocker | None:
        """What is being waited for just now, if anything."""
        writer = self.writers[self.journal.record.direction]
        return writer.trouble or self.patience.trouble or self.letters.trouble

    @property
    def may_wait_for_images(self) -> bool:
        """Whether some patch may have to wait until the source shows it."""
        return any(
            collection.transform.filter is not None
            for collection in self.parts.settings.collections
        )

    @property
    def lossy(self) -> list[str]:
        """Why the old store cannot hold every later change; empty until both stores are
        described.
        """
        if self.atlas is None:
            return []
        return [
            f"{name}: {sentence}"
            for name, route in self.atlas.forward.items()
            for sentence in route.transform.lossy
        ]

    def lag(self) -> LagStatus:
        """How far the stream is behind; unknown where there is no stream to be behind."""
        if self.observer is None:
            return LagStatus()
        stream = self.stream if self.stream is not None and self.stream.lanes else None
        positions = stream.positions if stream is not None else self.persisted
        return self.observer.lag(positions, stream)

    def mirror(self) -> Mirror:
        """Both stores side by side."""
        assert self.atlas is not None
        return Mirror(
            source=self.parts.source,
            target=self.parts.target,
            atlas=self.atlas,
            settings=self.parts.settings.verify,
            patience=self.patience,
        )

    # -- work ------------------------------------------------------------------------------

    async def capture(self) -> None:
        """Phase PLANNED: take the positions from which everything will be replayed."""
        feed = self.parts.feed
        positions: Positions = {}
        if feed is not None:
            bounds = await self.patience.until_answered(feed.bounds)
            # An open transaction's records lie below the end and become visible later.
            positions = {partition: min(at.stable, at.end) for partition, at in bounds.items()}
        capture = Capture(
            id=uuid.uuid4().hex,
            positions=positions,
            partitions=len(positions),
            at=self.parts.clock(),
        )
        # A migration before this one may have died with writes on their way to this target.
        self.writers[Direction.FORWARD].guard.suspect()
        await failpoints.reached("capture.before-persist")
        await self.parts.state.commit(positions, {})
        self.persisted = positions
        # Invariant 4: the capture is persisted before any source row is read.
        await self.journal.move(
            Phase.BACKFILL,
            "positions captured",
            only_from=Phase.PLANNED,
            evidence={"positions": dict(positions)},
            capture=capture,
            fingerprint=self.parts.fingerprint,
        )
        await failpoints.reached("capture.persisted")

    def stop_stream(self) -> None:
        """Let `follow` end with nothing half done."""
        if self.stream is not None:
            self.stream.stop()

    def forget_stream(self) -> None:
        """After `follow` has ended: remember how far it came."""
        if self.stream is not None and self.stream.lanes:
            self.persisted = self.stream.committed
        self.stream = None

    async def draw(self) -> Atlas:
        """Describe both stores, waiting for them."""
        parts = self.parts
        self.atlas = await self.patience.until_answered(
            lambda: draw_atlas(parts.settings, parts.source, parts.target)
        )
        return self.atlas

    async def follow(self) -> None:
        """Phases that stream: apply events in the direction of the record, until stopped."""
        feed, parts, record = self.parts.feed, self.parts, self.journal.record
        assert feed is not None
        direction = record.direction
        atlas = await self.draw()
        positions = await parts.state.positions()
        self.persisted = positions
        assert record.capture is not None
        intake = self.intake(atlas, direction)
        writer = self.writers[direction]
        applier = Applier(
            routes=atlas.routes(direction),
            writer=writer,
            images=parts.source,
            feed=feed,
            intake=intake,
            letters=self.letters,
            patience=self.patience,
            show_after_s=self.show_after_s,
        )
        self.counters.polled_at = asyncio.get_running_loop().time()
        self.stream = Stream(
            feed=feed,
            intake=intake,
            applier=applier,
            writer=writer,
            letters=self.letters,
            state=parts.state,
            patience=self.patience,
            settings=self.stream_settings,
            metrics=parts.metrics,
            clock=parts.clock,
            counters=self.counters,
            show_after_s=self.show_after_s,
        )
        await self.stream.run(positions)

    def intake(self, atlas: Atlas, direction: Direction) -> Intake:
        """How events are read in a direction."""
        feed = self.parts.settings.feed
        return Intake(
            decoder=EventDecoder(
                atlas.integer_ids, int(getattr(feed, "event_bytes_max", 1 << 23))
            ),
            routes=atlas.routes(direction),
            integer_ids=atlas.integer_ids,
            epoch=self.journal.record.epoch,
            partitioner=str(getattr(feed, "partitioner", "unchecked")),
        )

    async def recheck(self, end: Positions) -> Rechecked:
        """The last comparison; the stream rests."""
        parts, record = self.parts, self.journal.record
        feed, direction = parts.feed, record.direction
        assert feed is not None
        atlas = self.atlas or await self.draw()
        forward = direction is Direction.FORWARD
        verified = await parts.state.get("verified")
        begin = record.fence_vector
        if forward:
            assert verified is not None, "the gate demands a verification"
            # What lies before an earlier switch was compared then, and since then the target
            # was the application's own; its events carry epochs that are stale by now.
            begin = {
                partition: max(position, record.fence_vector.get(partition, position))
                for partition, position in msgspec.json.decode(
                    verified, type=Verified
                ).positions.items()
            }
        comparison = Recheck(
            direction=direction,
            feed=feed,
            intake=self.intake(atlas, direction),
            written=parts.target if forward else parts.source,
            owner=parts.source if forward else parts.target,
            schemas=atlas.targets if forward else atlas.sources,
            writer=self.writers[direction],
            state=parts.state,
            patience=self.patience,
            settings=parts.settings.verify,
            keys_max=parts.settings.cutover.touched_keys_max,
        )
        return await comparison.run(begin, end)
