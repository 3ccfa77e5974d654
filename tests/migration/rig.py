"""
A whole migration on parts in memory, on virtual time; an application that writes the source and
emits; and a fence, a switch and hooks that do as they are told, well or badly.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any

from replicator.codecs.events import encode
from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.errors import Refused
from replicator.migration.migration import Migration
from replicator.migration.parts import Parts
from replicator.model.command import Level, Verify
from replicator.model.event import ChangeEvent, Op
from replicator.model.fence import FenceAnswer
from replicator.model.phase import Direction, Phase
from replicator.model.point import Point, PointId, id_order
from replicator.model.position import Partition
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.model.report import Report
from replicator.model.write import Delete, Patch, Upsert, Write
from replicator.ports.traffic import Pointer
from replicator.settings.cutover import CutoverSettings, HttpSettings
from replicator.settings.feeds import KafkaSettings, NoFeedSettings
from replicator.settings.settings import (
    BackfillSettings,
    Settings,
    StreamSettings,
    VerifySettings,
)
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.settings.units import Duration
from replicator.testing.loop import VirtualLoop
from replicator.testing.memory_feed import MemoryLog
from replicator.testing.memory_letters import MemoryDeadLetters
from replicator.testing.memory_state import MemoryStateStore
from replicator.testing.memory_store import MemoryStore
from replicator.traffic.person import Person
from tests.stream.rig import BOOKS, METRICS, Door, Images, now, point

SETTLE_S = 0.5


class Fence:
    """Opens by itself at its deadline, unless it rests on a word."""

    def __init__(self, *, rests_on_word: bool = False) -> None:
        self.rests_on_word = rests_on_word
        self.errors: deque[Exception] = deque()
        """Of the next closings."""
        self.open_errors: deque[Exception] = deque()
        self.closed_until: float | None = None
        self.calls: list[str] = []
        self.attempts: list[str] = []
        """Of the closings."""
        self.takes_s = 0.0
        self.holds_s = inf
        """It stays closed no longer, whatever it is asked."""
        self.closed_for = ""
        self.opened_for: set[str] = set()
        self.on_close: Callable[[], object] | None = None

    @property
    def is_closed(self) -> bool:
        return self.closed_until is not None and now() < self.closed_until

    async def close(self, deadline_s: float, attempt: str) -> FenceAnswer:
        self.calls.append("close")
        self.attempts.append(attempt)
        await asyncio.sleep(self.takes_s)
        if self.errors:
            raise self.errors.popleft()
        if attempt in self.opened_for:
            raise Refused("fence-failed", "the fence was opened for this attempt")
        self.closed_for = attempt
        held_s = inf if self.rests_on_word else min(deadline_s, self.holds_s)
        self.closed_until = now() + held_s
        if self.on_close is not None:
            self.on_close()
        return FenceAnswer(
            holder="the rig", held_s=None if self.rests_on_word else held_s, writers=3
        )

    async def open(self, attempt: str) -> FenceAnswer:
        self.calls.append("open")
        if self.open_errors:
            raise self.open_errors.popleft()
        if self.is_closed and attempt != self.closed_for:
            raise Refused("fence-held", f"the fence is closed for {self.closed_for}")
        self.opened_for.add(attempt)
        self.closed_until = None
        return FenceAnswer(holder="the rig")


class Switch:
    """Moves at once, or as it is told to."""

    def __init__(self, *, repeatable: bool = True, readable: bool = True) -> None:
        self.repeatable = repeatable
        self.readable = readable
        self.at = Direction.FORWARD
        self.epoch: int | None = 0
        """None: of a switch that keeps no epoch."""
        self.errors: deque[Exception] = deque()
        """Raised by the next calls, which then move nothing."""
        self.lost: deque[Exception] = deque()
        """Raised by the next calls, which have moved the traffic."""
        self.takes_s = 0.0
        self.calls: list[tuple[Direction, int]] = []
        self.on_switch: Callable[[], None] | None = None

    async def to(self, direction: Direction, epoch: int) -> None:
        self.calls.append((direction, epoch))
        await asyncio.sleep(self.takes_s)
        if self.errors:
            raise self.errors.popleft()
        self.at = direction
        self.epoch = None if self.epoch is None else epoch
        if self.on_switch is not None:
            self.on_switch()
        if self.lost:
            raise self.lost.popleft()

    async def current(self) -> Pointer | None:
        return Pointer(self.at, self.epoch) if self.readable else None


class Hooks:
    """Each step may fail, or do something first."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.work: dict[str, Callable[[], Awaitable[None]]] = {}
        self.ran: list[str] = []

    async def run(self, step: str, direction: Direction) -> None:
        self.ran.append(f"{step} {direction.value}")
        if step in self.work:
            await self.work[step]()
        if step in self.errors:
            raise self.errors[step]


class World:
    """Made on the loop that it lives on; `running` starts a process."""

    def __init__(
        self,
        *,
        transform: TransformSettings | None = None,
        staleness_s: float = 0.0,
        target_staleness_s: float = 0.0,
        bound_s: float = 1.0,
        partitions: int = 1,
        feed: bool = True,
        verify: dict[str, Any] | None = None,
        cutover: dict[str, Any] | None = None,
        stream: dict[str, Any] | None = None,
        rests_on_word: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.wall = loop.wall
        self.log = MemoryLog("changes", partitions=partitions, wall=loop.wall)
        self.source = MemoryStore("source", staleness_s=staleness_s, late_write_bound_s=bound_s)
        self.target = MemoryStore(
            "target", staleness_s=target_staleness_s, late_write_bound_s=bound_s
        )
        self.source.create(BOOKS)
        self.state = MemoryStateStore()
        self.kept = MemoryDeadLetters()
        self.fence = Fence(rests_on_word=rests_on_word)
        self.switch = Switch()
        self.hooks = Hooks()
        self.person = Person()
        self.settings = Settings(
            name="test",
            source=JsonlSettings(path="nowhere"),
            target=JsonlSettings(path="nowhere"),
            collections=[
                CollectionSettings(
                    source="books",
                    target="books_v2",
                    transform=transform or TransformSettings(),
                )
            ],
            feed=KafkaSettings(
                bootstrap_servers="memory:9092",
                topic="changes",
                settle=Duration(max(SETTLE_S, staleness_s)),
                partitioner="unchecked",
            )
            if feed
            else NoFeedSettings(),
            stream=StreamSettings(
                **{
                    "linger": Duration(0),
                    "commit_interval": Duration(0.2),
                    "backoff_min": Duration(0.1),
                    "backoff_max": Duration(1),
                    **(stream or {}),
                }
            ),
            backfill=BackfillSettings(chunks=2, page_rows=50),
            verify=VerifySettings(**{"queries": 0, "page_rows": 50, **(verify or {})}),
            cutover=CutoverSettings(
                **{
                    "fence": HttpSettings(url="http://app/fence"),
                    "switch": HttpSettings(url="http://app/switch"),
                    "timeout": Duration(60),
                    "delivery_timeout": Duration(5),
                    **(cutover or {}),
                }
            ),
        )
        self.door = Door(self.target.attach())
        self.images = Images(self.source.attach())
        self.migration = self._process()

    def _process(self) -> Migration:
        parts = Parts(
            settings=self.settings,
            fingerprint="the same",
            source=self.images,  # type: ignore[arg-type]
            target=self.door,
            feed=self.log.attach()
            if not isinstance(self.settings.feed, NoFeedSettings)
            else None,
            state=self.state,
            letter_log=self.kept.attach(),
            metrics=METRICS,
            clock=self.clock,
        )
        return Migration(
            parts,
            fence=self.fence,
            switch=self.switch,
            hooks=self.hooks,
            person=self.person,
        )

    # -- the application -------------------------------------------------------------------
    def seed(self, *numbers: int, **payload: Any) -> None:
        """Rows of the source, older than the migration."""
        for number in numbers:
            self.source.write("books", Upsert(point(number, **payload)))

    def write(self, *events: ChangeEvent, emit: bool = True) -> None:
        """The application changes the source, and emits."""
        for event in events:
            self.source.write("books", _write(event))
            if emit:
                self.log.produce(*encode(event), partition=0)

    def emit(self, *events: ChangeEvent, partition: int = 0) -> None:
        """Emit without a change of the source."""
        for event in events:
            self.log.produce(*encode(event), partition=partition)

    def spoil(self, write: Write) -> None:
        """Change the target behind everybody's back."""
        self.target.write("books_v2", write)

    def held(self, number: PointId) -> Point | None:
        """What the target holds of a key."""
        return self.target.points("books_v2").get(number)

    def payloads(self) -> dict[PointId, Any]:
        """What the target holds, in the order of ids."""
        points = self.target.points("books_v2")
        return {each: points[each].payload for each in sorted(points, key=id_order)}

    # -- the process -----------------------------------------------------------------------
    @property
    def record(self) -> MigrationRecord:
        return self.migration.record

    @property
    def first(self) -> Partition:
        return self.log.name(0)

    def clock(self) -> float:
        """The wall clock, which a test may set."""
        return self.wall()

    async def until(self, true: Callable[[], bool]) -> None:
        """Let virtual time pass until it is true; the loop's limits end what never comes."""
        while not true():
            await asyncio.sleep(0.01)

    async def until_applied(self) -> None:
        """Until the persisted positions stand at the log's end."""
        await self.until(
            lambda: (
                self.migration.engine.committed
                == {p: b.end for p, b in self.log.bounds().items()}
            )
        )

    async def verify(self, level: Level = "full") -> Report:
        return await self.migration.do(Verify(level=level))

    async def entries(self) -> list[JournalEntry]:
        return await self.state.journal(1000)

    async def steps(self) -> list[str]:
        """The journal: phases by name, everything else by its step."""
        return [
            entry.phase.value if entry.step == "phase" else entry.step
            for entry in await self.entries()
        ]

    @asynccontextmanager
    async def running(self, phase: Phase = Phase.STREAMING) -> AsyncIterator[Migration]:
        """A process, from when it has reached a phase; drained afterwards."""
        task = asyncio.create_task(self.migration.run())
        try:
            await self.until(lambda: task.done() or self._is_in(phase))
            if task.done():
                task.result()
            yield self.migration
        except BaseException:
            task.cancel()
            await asyncio.wait([task])
            raise
        self.door.release()
        self.migration.request_drain()
        await task

    def _is_in(self, phase: Phase) -> bool:
        if self.migration._have_begun is None or self.record.phase is not phase:
            return False
        engine = self.migration.engine
        observer = engine.observer
        if phase is not Phase.STREAMING or observer is None:
            return True
        return engine.stream is not None and bool(engine.stream.lanes) and observer.is_fresh

    def restart(self) -> None:
        """The next process, on what the last one left."""
        self.door = Door(self.target.attach())
        self.migration = self._process()


def _write(event: ChangeEvent) -> Write:
    match event.op:
        case Op.UPSERT:
            return Upsert(Point(event.key.id, event.vectors, event.payload))
        case Op.DELETE:
            return Delete(event.key.id)
        case Op.PATCH:
            return Patch(
                id=event.key.id, set=event.set, unset=event.unset, vectors=event.vectors
            )
