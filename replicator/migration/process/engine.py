"""
The engine: the data path of one migration, put together as its record says.

It knows both stores, the feed, the writers with their guards, and what is known of them: lag,
trouble, positions. It captures, streams and compares when the `supervisor` says so.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

from replicator import failpoints
from replicator.errors import Refused
from replicator.migration.copy.pace import Pace
from replicator.migration.equality.likeness import likeness
from replicator.migration.equality.mirror import Mirror
from replicator.migration.equality.recheck import Recheck, Rechecked
from replicator.migration.evidence.identity import Identity
from replicator.migration.evidence.journal import Journal
from replicator.migration.evidence.log_identity import bookmarks_before
from replicator.migration.evidence.standing import read_standing
from replicator.migration.evidence.verified import Verified, read_verified
from replicator.migration.parts import Parts
from replicator.migration.preflight.checks import preflight_or_refuse
from replicator.migration.preflight.routes import Atlas, draw_atlas
from replicator.migration.process.observe import Observer
from replicator.model.event import ChangeEvent
from replicator.model.fact import FactCode
from replicator.model.finding import Blocker
from replicator.model.phase import Direction, Phase
from replicator.model.position import Bookmark, LogIdentity, Partition, Positions, Record
from replicator.model.record import Capture
from replicator.model.status import LagStatus
from replicator.ports.store import Store, StoreWriter
from replicator.settings.stores import StoreSettings
from replicator.stream.apply import Applier
from replicator.stream.coalesce import VersionWindow
from replicator.stream.counters import Counters
from replicator.stream.decoding import make_decoder, whose_events
from replicator.stream.embedding import Embeddings
from replicator.stream.intake import Intake
from replicator.stream.letters import DeadLetters
from replicator.stream.ownership import Lease, Ownership, Purpose, Rest, Revoked
from replicator.stream.patience import Patience
from replicator.stream.reading import Reader
from replicator.stream.stream import Stream
from replicator.stream.waits import Waits
from replicator.stream.writing import Writer


class Engine:
    """The data path of one migration, under its record."""

    def __init__(self, parts: Parts, journal: Journal) -> None:
        settings = parts.settings
        self.parts = parts
        self.journal = journal
        self.counters = Counters()
        self.ownership = Ownership()
        self.waits = Waits(parts.clock)
        self.versions = VersionWindow(settings.stream.version_window)
        """Kept over pauses and restarts of the stream, and fed by retry and last comparison."""
        self.patience = Patience(settings.stream, self.waits)
        self.embeddings = Embeddings(parts.models, self.patience, parts.metrics)
        self.source = self._reader(parts.source, settings.source)
        self.target = self._reader(parts.target, settings.target)
        self.writers = {
            Direction.FORWARD: self._writer(parts.target, settings.target, self.target),
            Direction.REVERSE: self._writer(parts.source, settings.source, self.source),
        }
        self.letters = DeadLetters(
            parts.letter_log,
            parts.state,
            metrics=parts.metrics,
            clock=parts.clock,
            backoff_max_s=settings.stream.backoff_max,
            waits=self.waits,
        )
        self.identity = Identity(
            parts,
            journal,
            source=self.source,
            target=self.target,
            patience=self.patience,
            writers=self.writers,
        )
        self.pace = Pace(settings.backfill.rate_max)
        self.route_epoch: Callable[[], Awaitable[int]] = _declared_nowhere
        """The route's epoch before we came; set by `crossing`, which knows the switch."""
        self.stream_settings = settings.stream
        self.observer: Observer | None = None
        if parts.feed is not None:
            stuck = getattr(settings.feed, "stuck_after", None)
            self.observer = Observer(
                parts.feed,
                clock=parts.clock,
                counters=self.counters,
                stuck_after_s=stuck,
                positions=lambda: self.committed,
            )
        self.stream: Stream | None = None
        self._streams: Lease | None = None
        """Of the stream that runs, or is about to."""
        self.atlas: Atlas | None = None
        self.verified: Verified | None = None
        """The last full verification."""
        self.absolves = True
        """No process of this migration left a request on its way that may be a wipe."""
        self.persisted: Positions = {}
        """The persisted positions as of the last stream's end, while none runs."""

    def _reader(self, store: Store, of: StoreSettings) -> Reader:
        settings = self.parts.settings
        return Reader(
            store,
            patience=self.patience,
            connector=str(of.__struct_config__.tag),
            metrics=self.parts.metrics,
            page_bytes=settings.memory.page_bytes(settings.backfill.readers),
        )

    def _writer(self, store: StoreWriter, of: StoreSettings, reads: Reader) -> Writer:
        return Writer(
            store,
            connector=str(of.__struct_config__.tag),
            settings=self.parts.settings.stream,
            metrics=self.parts.metrics,
            waits=self.waits,
            reads=reads,
        )

    # -- facts -----------------------------------------------------------------------------

    @property
    def show_after_s(self) -> float:
        """From an event to its being visible at the source."""
        settle = float(getattr(self.parts.settings.feed, "settle", 0.0))
        return max(settle, self.source.staleness_s)

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
        """What is being waited for against all plans, if anything."""
        return self.waits.first

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
            *whose_events(self.parts.settings.feed),
            *(
                f"{name}: {sentence}"
                for name, route in self.atlas.forward.items()
                for sentence in route.transform.lossy
            ),
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
            source=self.source,
            target=self.target,
            atlas=self.atlas,
            settings=self.parts.settings.verify,
        )

    # -- work ------------------------------------------------------------------------------

    async def preflight(self) -> None:
        """
        Know everything that can be known before the first write. Waits for a peer that is away;
        raises Refused for what no waiting mends.
        """
        parts = self.parts
        standing = await read_standing(parts.state)
        try:
            findings = await self.patience.until_answered(
                lambda: preflight_or_refuse(
                    parts.settings,
                    source=self.source.once,
                    target=self.target.once,
                    feed=parts.feed,
                    standing=standing,
                    wipe=parts.wipe,
                    models=parts.models,
                ),
                or_refused=True,
            )
        except Refused as refused:
            # The process ends with it; who looks at the state afterwards shall find out why.
            await self.journal.note("check", refused.message, code=refused.code)
            raise
        told = [f"{finding.code}: {finding.message}" for finding in findings]
        await self.journal.note("check", "nothing blocks", findings=told)

    async def capture(self) -> None:
        """Phase PLANNED: take the positions from which everything will be replayed."""
        await self.preflight()
        feed = self.parts.feed
        positions: Positions = {}
        bookmarks: dict[Partition, Bookmark] = {}
        log: LogIdentity | None = None
        epoch = max(self.journal.record.epoch, await self.route_epoch())
        if feed is not None:
            bounds = await self.patience.until_answered(feed.bounds)
            # An open transaction's records lie below the end and become visible later.
            positions = {partition: min(at.stable, at.end) for partition, at in bounds.items()}
            log = await self.patience.until_answered(feed.identity)
            bookmarks = await self.patience.until_answered(
                partial(bookmarks_before, feed, positions)
            )
        capture = Capture(
            id=uuid.uuid4().hex,
            positions=positions,
            partitions=len(positions),
            at=self.parts.clock(),
        )
        # A migration before this one may have died with writes on their way to this target.
        self.writers[Direction.FORWARD].guard.suspect()
        await self.patience.until_answered(self.identity.pin)
        await failpoints.reached("capture.before-persist")
        await self.parts.state.commit(positions, {}, bookmarks)
        self.persisted = positions
        # Invariant 4: the capture is persisted before any source row is read.
        await self.journal.move(
            Phase.BACKFILL,
            "positions captured",
            only_from=Phase.PLANNED,
            evidence={"positions": dict(positions), "epoch": epoch},
            capture=capture,
            # The writers of the route were told this epoch before we came: what is stamped with
            # an earlier one, from here on, came late.
            epochs=self.journal.record.epochs.enter(epoch, positions, moved=False),
            log=log,
            fingerprint=self.parts.fingerprint,
        )
        await failpoints.reached("capture.persisted")

    def stop_stream(self) -> None:
        """Let `follow` end with nothing half done."""
        if self._streams is not None:
            self._streams.revoke()
        if self.stream is not None:
            self.stream.stop()

    async def recall_verified(self) -> Verified | None:
        """What the last full verification rests on; asked again whenever one has ended."""
        self.verified = await read_verified(self.parts.state)
        return self.verified

    def forget_stream(self) -> None:
        """After `follow` has ended: remember how far it came."""
        if self.stream is not None and self.stream.lanes:
            self.persisted = self.stream.committed
        self.stream = None

    async def draw(self) -> Atlas:
        """Describe both stores, waiting for them."""
        parts = self.parts
        self.atlas = await self.patience.until_answered(
            lambda: draw_atlas(
                parts.settings,
                self.source.once,
                self.target.once,
                embeddings=self.embeddings,
                pinned=self.journal.record.collections,
            )
        )
        return self.atlas

    async def follow(self) -> None:
        """Phases that stream: apply events in the direction of the record, until stopped."""
        record = self.journal.record
        with self.ownership.lease(record.direction, Purpose.STREAM, record.epoch) as lease:
            self._streams = lease
            try:
                await self._follow(lease)
            except Revoked:
                return  # stopped before anything was read
            finally:
                self._streams = None

    async def _follow(self, lease: Lease) -> None:
        feed, parts, record = self.parts.feed, self.parts, self.journal.record
        assert feed is not None
        direction = record.direction
        self.letters.direction = direction
        await lease.while_held(self.identity.look_patiently())
        await self.identity.claim(lease)
        atlas = await lease.while_held(self.draw())
        positions = await parts.state.positions()
        self.persisted = positions
        assert record.capture is not None
        intake = self.intake(atlas, direction)
        writer = self.writers[direction]
        applier = Applier(
            routes=atlas.routes(direction),
            writer=writer,
            images=self.source,
            feed=feed,
            intake=intake,
            letters=self.letters,
            patience=self.patience,
            show_after_s=self.show_after_s,
            versions=self.versions,
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
            lease=lease,
            ownership=self.ownership,
            misplaced=self._misplaced,
            look=self.identity.look_at_log,
        )
        await self.stream.run(positions)

    async def _misplaced(self, record: Record) -> None:
        """A key in another partition than its own may have lost its order: for good."""
        await self.journal.latch(
            FactCode.MISPLACED,
            "records lie in another partition than their key demands",
            partition=record.partition,
            offset=record.offset,
        )

    def intake(self, atlas: Atlas, direction: Direction) -> Intake:
        """How events are read in a direction."""
        feed = self.parts.settings.feed
        return Intake(
            decoder=make_decoder(feed, atlas.integer_ids, direction, scopes=atlas.scopes),
            routes=atlas.routes(direction),
            epochs=self.journal.record.epochs,
            partitioner=str(getattr(feed, "partitioner", "unchecked")),
            patches=not getattr(feed, "compacted_without_patches", False),
        )

    async def recheck(self, end: Positions, rest: Rest) -> Rechecked:
        """The last comparison; the stream rests, and `rest` says so."""
        parts, record = self.parts, self.journal.record
        feed, direction = parts.feed, record.direction
        assert feed is not None
        atlas = self.atlas or await self.draw()
        forward = direction is Direction.FORWARD
        with self.ownership.lease(direction, Purpose.MEND, record.epoch, rest=rest) as lease:
            comparison = Recheck(
                direction=direction,
                feed=feed,
                intake=self.intake(atlas, direction),
                written=self.target if forward else self.source,
                owner=self.source if forward else self.target,
                likeness={
                    name: likeness(atlas, name, direction, parts.settings.verify)
                    for name in atlas.forward
                },
                writer=self.writers[direction],
                lease=lease,
                state=parts.state,
                keys_max=parts.settings.cutover.touched_keys_max,
                bytes_max=parts.settings.cutover.touched_bytes_max,
                versions=self.versions,
            )
            return await comparison.run(await self._compared_from(), end)

    async def _compared_from(self) -> Positions:
        """From where on the log's keys were not compared yet."""
        record = self.journal.record
        if record.direction is Direction.REVERSE:
            # What lies before the switch was compared then, and belongs to the other store.
            return record.epochs.moved_at
        verified = await read_verified(self.parts.state)
        if verified is None or verified.context != record.context:
            # The gate demands one. Since it was asked an epoch may have been followed, or the
            # log be unprovable after an outage.
            raise Refused("gate-closed", "what was verified before the attempt counts no more")
        return verified.positions

    async def straggler_behind(self, vector: Positions, epoch: int) -> str | None:
        """
        Read what lies behind a fence vector: where the first record is that was not written
        under the epoch that begins there, an older or an unstamped one; None when there is
        none. Raises as the feed does.
        """
        feed = self.parts.feed
        assert feed is not None
        atlas = self.atlas or await self.draw()
        intake = self.intake(atlas, self.journal.record.direction)
        for partition, at in (await feed.bounds()).items():
            start = vector.get(partition, at.end)
            if start >= at.end:
                continue
            async for records in feed.read(partition, start, at.end):
                for record in records:
                    event = intake.peek(record)
                    stamp = event.epoch if isinstance(event, ChangeEvent) else None
                    if event is not None and (stamp is None or stamp < epoch):
                        return f"the record {partition}, {record.offset}, of an earlier epoch"
        return None


async def _declared_nowhere() -> int:
    return 0
