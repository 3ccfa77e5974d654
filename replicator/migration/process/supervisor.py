"""
The supervisor: which work the phase in force asks for, started and stopped one at a time.

    PLANNED → capture    BACKFILL → copy    REPLAY, STREAMING, FENCING → stream
    SWITCHING → switch, after a restart     everything else → nothing

Where the stream met an event of a later epoch, explaining it comes before the next stream.

It compares what is wanted (phase, direction, pause, rest) with what runs, ends the one and
starts the other. Whoever changes the record calls `wake`. A job that ends by itself has moved
the phase; one that fails is mapped by its error: BLOCKED, or the process ends with the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from replicator import failpoints
from replicator.errors import Blocked, EpochAhead, Refused, Retryable, first_cause
from replicator.migration.equality.recheck import Rechecked
from replicator.migration.process.copying import CopyJob
from replicator.migration.process.engine import Engine
from replicator.migration.process.observe import ANSWER_S
from replicator.migration.process.operations import Operations
from replicator.model.fact import FactCode
from replicator.model.finding import Blocker
from replicator.model.phase import STREAMS, TERMINAL, WORKING, Phase
from replicator.model.position import Positions
from replicator.stream.ownership import Rest

_PROBE_S = 1.0
"""How often the broker is asked for its ends: the lag shown is at most about this old."""

_AGAIN_S = 1.0
"""Before a job that ended without a step is started anew: whatever made it end, it must not
spin."""


class Job(msgspec.Struct):
    """What runs now. `stop` asks it to end with nothing half done."""

    kind: str
    task: asyncio.Task[None]
    stop: Callable[[], object]


class Supervisor:
    """Runs the engine's work. One for each engine."""

    def __init__(
        self,
        engine: Engine,
        operations: Operations,
        *,
        plain_copy_check: Callable[[], Awaitable[None]],
    ) -> None:
        """`plain_copy_check`: the verification that ends a copy without a feed."""
        self.plain_copy_check = plain_copy_check
        self.resume_switch: Callable[[], Awaitable[None]] | None = None
        """What to do when the process finds itself in SWITCHING; set by `crossing`."""
        self.explain: Callable[[EpochAhead], Awaitable[None]] | None = None
        """What to make of an event of a later epoch; set by `crossing`."""
        self._operations = operations
        self.switch_is_owned = False
        """A cutover of this process is in SWITCHING; nothing is to be resumed."""
        self._engine = engine
        self._job: Job | None = None
        self._ahead: EpochAhead | None = None
        """Met by the last stream, and not explained yet."""
        self._not_before = 0.0
        self._attention = asyncio.Event()
        self._idle = asyncio.Event()
        self._draining = False

    @property
    def committed(self) -> Positions:
        """The persisted positions."""
        return self._engine.committed

    @property
    def show_after_s(self) -> float:
        """From an event to its being visible at the source."""
        return self._engine.show_after_s

    async def commit(self) -> None:
        """Persist now what the stream has applied."""
        stream = self._engine.stream
        if stream is not None and stream.lanes:
            await stream.commit()

    async def recheck(self, end: Positions, rest: Rest) -> Rechecked:
        """The last comparison of a cutover, while the stream rests."""
        return await self._engine.recheck(end, rest)

    async def straggler_behind(self, vector: Positions, epoch: int) -> str | None:
        """The first record behind a fence vector that was not written under a new epoch."""
        return await self._engine.straggler_behind(vector, epoch)

    def wake(self) -> None:
        """The record has changed, or a rest is over."""
        self._attention.set()

    def drain(self) -> None:
        """End what runs, and `run`."""
        self._draining = True
        self._attention.set()

    async def quiesce(self, reason: str) -> Rest:
        """
        Let the stream rest, until the rest that is returned is released, by whoever holds it
        and nobody else.
        """
        rest = self._engine.ownership.rest(reason)
        self._attention.set()
        try:
            while self._job is not None:
                self._idle.clear()
                await self._idle.wait()
            # Invariant 5: switching waits out what may still land.
            for writer in self._engine.writers.values():
                await writer.cleared()
        except BaseException:
            rest.release()
            self._attention.set()
            raise
        return rest

    async def paused(self) -> None:
        """
        After the record says so: wait until what ran has ended, so that whoever paused may rely
        on it; bounded by the drain timeout, after which it is cancelled. Also returns when it
        is resumed meanwhile.
        """
        while self._job is not None and self._engine.journal.record.paused:
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
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
                    if self._draining or self._engine.journal.record.phase in TERMINAL:
                        return
                    if wanted is not None and self._soon() == 0:
                        self._job = self._start(wanted)
                waits = {attention} | ({self._job.task} if self._job else set())
                pause_s = self._soon() if self._job is None and wanted is not None else None
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=pause_s)
                if self._job is not None and self._job.task.done():
                    await self._finish_job()
        finally:
            attention.cancel()
            if self._job is not None:
                self._job.task.cancel()
                await asyncio.wait([self._job.task])

    def _soon(self) -> float:
        """Seconds until a job may start."""
        return max(0.0, self._not_before - asyncio.get_running_loop().time())

    def _wanted(self) -> str | None:
        record = self._engine.journal.record
        if record.paused or self._engine.ownership.rests:
            return None
        if record.phase is Phase.PLANNED:
            return "capture"
        if record.phase is Phase.BACKFILL:
            return "backfill"
        if record.phase in STREAMS:
            return f"stream {record.direction.value}" if self._ahead is None else "explain"
        if record.phase is Phase.SWITCHING and not self.switch_is_owned:
            return "switch"
        return None

    def _start(self, kind: str) -> Job:
        if kind == "backfill":
            copy = CopyJob(self._engine, self.plain_copy_check)
            return Job(kind, asyncio.create_task(copy.run(), name=kind), copy.stop)
        assert self.resume_switch is not None, "crossing was put together"
        work: dict[str, Callable[[], Awaitable[None]]] = {
            "capture": self._engine.capture,
            "explain": self._explain,
            "switch": self.resume_switch,
        }
        task = asyncio.ensure_future(work.get(kind, self._engine.follow)())
        if kind.startswith("stream"):
            return Job(kind, task, self._engine.stop_stream)
        # A capture that is cut short has read no row, and the next one begins anew; a question
        # to the switch is asked again; a switch goes on as after a restart.
        return Job(kind, task, task.cancel)

    async def _end_job(self) -> None:
        """End what runs: gracefully within the drain timeout, else by force (the guards
        know).
        """
        assert self._job is not None
        job = self._job
        # Both send nothing more from here on. What they have in flight is waited for at the
        # same time: a store that is dead holds a pause up for one bound, not for two.
        job.stop()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._engine.parts.settings.stream.drain_timeout
        await self._operations.end_holding("the stream stops")
        await asyncio.wait([job.task], timeout=max(0.0, until - loop.time()))
        if not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task])
        await self._finish_job()

    async def _finish_job(self) -> None:
        assert self._job is not None
        task, kind = self._job.task, self._job.kind
        await self._operations.end_holding("the stream ended")
        self._job = None
        self._engine.forget_stream()
        if kind == "explain":
            self._ahead = None  # where nothing came of it, the stream meets it again
        self._idle.set()
        if kind == self._wanted():
            self._not_before = asyncio.get_running_loop().time() + _AGAIN_S
        error = None if task.cancelled() else task.exception()
        if error is not None:
            await self.failed(error)

    async def failed(self, error: BaseException) -> None:
        """
        What a job's failure leads to: BLOCKED where a person can mend it, a question to the
        switch for an event of a later epoch; everything else is raised, and ends the process.
        """
        cause = first_cause(error)
        if isinstance(cause, EpochAhead):
            self._ahead = cause
            self._not_before = 0.0
            return
        if not isinstance(cause, Blocked):
            raise cause
        await self._block(cause)

    async def _explain(self) -> None:
        assert self.explain is not None, "crossing was put together"
        if self._ahead is not None:
            await self.explain(self._ahead)

    async def _block(self, cause: Blocked) -> None:
        record = self._engine.journal.record
        if record.phase not in WORKING:
            return
        back_to = Phase.STREAMING if record.phase is Phase.FENCING else record.phase
        await self._engine.journal.move(
            Phase.BLOCKED,
            cause.message,
            only_from=record.phase,
            reason_code=cause.code,
            back_to=back_to,
        )
        self._attention.set()

    async def probe_regularly(self) -> None:
        """Watch the log for as long as the migration runs."""
        while self._engine.observer is not None:
            await self.probe()
            await asyncio.sleep(_PROBE_S)

    async def probe(self) -> None:
        """Ask once, and do what the answer asks for: BLOCKED, or the end of REPLAY."""
        observer = self._engine.observer
        assert observer is not None
        record = self._engine.journal.record
        expected = record.capture.partitions if record.capture is not None else None
        was_away = observer.trouble is not None
        try:
            await observer.probe(self._engine.stream, expected)
            if observer.trouble is not None and self._engine.stream is not None:
                self._engine.stream.doubt()
            if was_away and observer.trouble is None:
                # Who answers after an outage may be another one under the same name.
                async with asyncio.timeout(ANSWER_S):
                    await self._engine.identity.look_at_log()
        except Blocked as error:
            await self._block(error)
            return
        except (Retryable, Refused) as error:
            observer.trouble = Blocker(error.code, error.message)
            return
        except TimeoutError:
            message = f"the log did not answer within {ANSWER_S:.0f} s"
            observer.trouble = Blocker("feed-unavailable", message)
            return
        if observer.intruders:
            await self._engine.journal.latch(FactCode.INTRUDER, observer.intruders[0])
        record = self._engine.journal.record
        if record.phase is Phase.REPLAY and not record.paused:
            committed = self._engine.committed
            if all(committed.get(p, -1) >= end for p, end in record.replay_until.items()):
                await failpoints.reached("replay.before-end")
                await self._engine.journal.move(
                    Phase.STREAMING,
                    "everything up to the copy's end is applied",
                    only_from=Phase.REPLAY,
                )
                await failpoints.reached("replay.ended")
                self._attention.set()
