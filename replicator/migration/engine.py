"""
The engine: which work the phase in force asks for, started and stopped one at a time.

    PLANNED → capture    BACKFILL → copy    REPLAY, STREAMING, FENCING → stream
    SWITCHING → switch, after a restart     everything else → nothing

A supervisor compares what is wanted (phase, direction, pause, rest) with what runs, ends the
one and starts the other. Whoever changes the record calls `wake`. A job that ends by itself has
moved the phase; one that fails is mapped by its error: BLOCKED, or the process ends with the
truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from replicator.codecs.events import EventDecoder
from replicator.errors import Blocked, first_cause
from replicator.migration.copying import CopyJob
from replicator.migration.journal import Journal
from replicator.migration.mirror import Mirror
from replicator.migration.observe import Observer
from replicator.migration.pace import Pace
from replicator.migration.parts import Parts
from replicator.migration.recheck import Recheck, Rechecked
from replicator.migration.routes import Atlas, draw_atlas
from replicator.migration.verify import Verified
from replicator.model.finding import Blocker
from replicator.model.phase import STREAMS, TERMINAL, Direction, Phase
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

_PROBE_S = 1.0
"""How often the broker is asked for its ends: the lag shown is at most about this old."""


class Job(msgspec.Struct):
    """What runs now. `stop` asks it to end with nothing half done."""

    kind: str
    task: asyncio.Task[None]
    stop: Callable[[], None]


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
        self._job: Job | None = None
        self._resting = False
        self._attention = asyncio.Event()
        self._idle = asyncio.Event()
        self._draining = False
        self.resume_switch: Callable[[], Awaitable[None]] | None = None
        """Set by the migration: what to do when the process finds itself in SWITCHING."""
        self.switch_is_owned = False
        """A cutover of this process is in SWITCHING; nothing is to be resumed."""
        self.plain_copy_check: Callable[[], Awaitable[None]] | None = None
        """Set by the migration: the verification that ends a plain copy."""

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

    # -- supervision -----------------------------------------------------------------------

    def wake(self) -> None:
        """The record has changed, or a rest is over."""
        self._resting = False
        self._attention.set()

    def drain(self) -> None:
        """End what runs, and `supervise`."""
        self._draining = True
        self._attention.set()

    async def quiesce(self) -> None:
        """Let the stream rest, until `wake`."""
        self._resting = True
        self._attention.set()
        while self._job is not None:
            self._idle.clear()
            await self._idle.wait()
        # Invariant 5: switching waits out what may still land.
        for writer in self.writers.values():
            await writer.guard.clear()

    async def paused(self) -> None:
        """
        After the record says so: wait until what ran has ended, so that whoever paused may rely
        on it. Also returns when it is resumed meanwhile, or does not end within the drain
        timeout (then it is cancelled).
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.parts.settings.stream.drain_timeout):
                while self._job is not None and self.journal.record.paused:
                    self._idle.clear()
                    await self._idle.wait()

    async def supervise(self) -> None:
        """Run what the record asks for until it is terminal or drained."""
        attention = asyncio.create_task(self._attention.wait(), name="attention")
        try:
            while True:
                if attention.done():
                    self._attention.clear()
                    attention = asyncio.create_task(self._attention.wait(), name="attention")
                wanted = None if self._draining else self._wanted()
                if self._job is not None and self._job.kind != wanted:
                    await self._end_job()
                    continue
                if self._job is None:
                    self._idle.set()
                    if self._draining or self.journal.record.phase in TERMINAL:
                        return
                    if wanted is not None:
                        self._job = self._start(wanted)
                waits = {attention} | ({self._job.task} if self._job else set())
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if self._job is not None and self._job.task.done():
                    await self._finish_job()
        finally:
            attention.cancel()
            if self._job is not None:
                self._job.task.cancel()
                await asyncio.wait([self._job.task])

    def _wanted(self) -> str | None:
        record = self.journal.record
        if record.paused or self._resting:
            return None
        if record.phase is Phase.PLANNED:
            return "capture"
        if record.phase is Phase.BACKFILL:
            return "backfill"
        if record.phase in STREAMS:
            return f"stream {record.direction.value}"
        if record.phase is Phase.SWITCHING and not self.switch_is_owned:
            return "switch"
        return None

    def _start(self, kind: str) -> Job:
        if kind == "backfill":
            copy = CopyJob(self)
            return Job(kind, asyncio.create_task(copy.run(), name=kind), copy.stop)
        work: dict[str, Callable[[], Awaitable[None]]] = {
            "capture": self._capture,
            "switch": self._resume_switch,
        }
        task = asyncio.ensure_future(work.get(kind, self._stream)())
        return Job(kind, task, self._stop_stream if kind.startswith("stream") else lambda: None)

    def _stop_stream(self) -> None:
        if self.stream is not None:
            self.stream.stop()

    async def _end_job(self) -> None:
        """End what runs: gracefully within the drain timeout, else by force (the guards
        know).
        """
        assert self._job is not None
        job = self._job
        job.stop()
        await asyncio.wait([job.task], timeout=self.parts.settings.stream.drain_timeout)
        if not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task])
        await self._finish_job()

    async def _finish_job(self) -> None:
        assert self._job is not None
        task, self._job = self._job.task, None
        if self.stream is not None and self.stream.lanes:
            self.persisted = self.stream.committed
        self.stream = None
        self._idle.set()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            await self.failed(error)

    async def failed(self, error: BaseException) -> None:
        """Move to BLOCKED where a person can mend it; raise everything else."""
        cause = first_cause(error)
        if not isinstance(cause, Blocked):
            raise cause
        record = self.journal.record
        if (
            record.phase in (Phase.BLOCKED, Phase.SWITCHING, Phase.HELD)
            or record.phase in TERMINAL
        ):
            return
        back_to = Phase.STREAMING if record.phase is Phase.FENCING else record.phase
        await self.journal.move(
            Phase.BLOCKED,
            cause.message,
            only_from=record.phase,
            reason_code=cause.code,
            blocked_from=back_to,
        )
        self._attention.set()

    # -- jobs ------------------------------------------------------------------------------

    async def _capture(self) -> None:
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

    async def draw(self) -> Atlas:
        """Describe both stores, waiting for them."""
        parts = self.parts
        self.atlas = await self.patience.until_answered(
            lambda: draw_atlas(parts.settings, parts.source, parts.target)
        )
        return self.atlas

    async def _stream(self) -> None:
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

    async def _resume_switch(self) -> None:
        assert self.resume_switch is not None
        await self.resume_switch()

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

    # -- probing ---------------------------------------------------------------------------

    async def probe_regularly(self) -> None:
        """Watch the log for as long as the migration runs."""
        while self.observer is not None:
            await self.probe()
            await asyncio.sleep(_PROBE_S)

    async def probe(self) -> None:
        """Ask once, and do what the answer asks for: BLOCKED, or the end of REPLAY."""
        assert self.observer is not None
        record = self.journal.record
        expected = record.capture.partitions if record.capture is not None else None
        try:
            await self.observer.probe(self.stream, expected)
        except Blocked as error:
            await self.failed(error)
            return
        record = self.journal.record
        if record.phase is Phase.REPLAY and not record.paused:
            committed = self.committed
            if all(committed.get(p, -1) >= end for p, end in record.replay_until.items()):
                await self.journal.move(
                    Phase.STREAMING,
                    "everything up to the copy's end is applied",
                    only_from=Phase.REPLAY,
                )
                self._attention.set()
