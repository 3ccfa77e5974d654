"""
The data path put together from its real parts on stores, a log and a state in memory, on
virtual time; and a door before the store written, which a test opens and shuts.
"""

from __future__ import annotations

import asyncio
import functools
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

from replicator.codecs.events import EventDecoder, encode
from replicator.errors import Rejected
from replicator.metrics import Metrics
from replicator.model.epoch import Epochs
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.letter import DeadLetter
from replicator.model.phase import Direction
from replicator.model.point import Point, PointId
from replicator.model.position import Partition, Record
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.traits import Traits
from replicator.model.write import Patch, Receipt, Upsert, Write, WriteBatch
from replicator.settings.settings import StreamSettings
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.settings.units import Duration
from replicator.stream.apply import Applier
from replicator.stream.coalesce import VersionWindow
from replicator.stream.counters import Counters
from replicator.stream.intake import Intake
from replicator.stream.letters import DeadLetters
from replicator.stream.ownership import Ownership, Purpose
from replicator.stream.patience import Patience
from replicator.stream.reading import Reader
from replicator.stream.route import Route
from replicator.stream.stream import Stream
from replicator.stream.transform import FieldTransform
from replicator.stream.writing import Writer
from replicator.testing.faults import Fault
from replicator.testing.loop import VirtualLoop, run_virtual
from replicator.testing.memory_feed import MemoryLog
from replicator.testing.memory_letters import MemoryDeadLetters
from replicator.testing.memory_state import MemoryStateStore
from replicator.testing.memory_store import MEMORY, MemoryStore

P = ParamSpec("P")

METRICS = Metrics("test", "0")
"""Shared: making one costs more than most tests, and none looks at it."""

BOOKS = CollectionSchema(
    name="books",
    vectors={"v": VectorSchema(size=2, distance=Distance.DOT)},
    ids=IdKinds.UINT64,
)

PAPERBACKS: dict[str, Any] = {"must": [{"key": "kind", "match": {"value": "paper"}}]}
"""A filter: a patch of `kind` needs the source's image."""


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a virtual-time loop. What a callback raised fails it too."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        loop = VirtualLoop(limit_s=3600.0)  # what waits in vain fails within seconds
        run_virtual(test(*args, **kwargs), loop=loop)
        assert loop.errors == []

    return run


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def vector(x: float = 1.0) -> bytes:
    """A vector of the collection `books`."""
    return struct.pack("<2f", x, 0.0)


def key(number: int) -> Key:
    """A key of the collection `books`."""
    return Key("books", number)


def point(number: int, **payload: Any) -> Point:
    """A point of the collection `books`."""
    return Point(number, {"v": vector()}, payload)


def upsert(number: int, *, version: int | None = None, **payload: Any) -> ChangeEvent:
    """The event of a full image."""
    return ChangeEvent(
        op=Op.UPSERT,
        key=key(number),
        ts_ms=1,
        vectors={"v": vector()},
        payload=payload,
        version=version,
    )


def patch(number: int, **fields: Any) -> ChangeEvent:
    """The event of a patch."""
    return ChangeEvent(op=Op.PATCH, key=key(number), ts_ms=1, set=fields)


def delete(number: int) -> ChangeEvent:
    """The event of a delete."""
    return ChangeEvent(op=Op.DELETE, key=key(number), ts_ms=1)


def refuses_poison(_collection: str, write: Write) -> tuple[Fault, Rejected] | None:
    """A store that will not hold the field `poison`; `poison: "batch"` spoils its batch."""
    fields = write.point.payload if isinstance(write, Upsert) else {}
    if isinstance(write, Patch):
        fields = write.set
    if "poison" not in fields:
        return None
    fault = Fault.BATCH_REJECTED if fields["poison"] == "batch" else Fault.POINT_REJECTED
    return fault, Rejected("target-rejected", "the target will not hold this", "payload.poison")


class Door:
    """
    Before a store: what passes is written down, errors that were laid out are raised instead of
    writing, and batches with an id that is held wait. `clashes` are ids of which two writes
    were under way at once: the defect that must never be.
    """

    def __init__(self, store: Any) -> None:
        self.batches: list[tuple[float, WriteBatch]] = []
        self.errors: deque[Exception] = deque()
        self.held: set[PointId] = set()
        self.takes_s = 0.0
        self.clashes: list[PointId] = []
        self.most = 0
        """Most batches that were under way at once."""
        self._store = store
        self._flying: list[PointId] = []
        self._under_way = 0
        self._moved = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def release(self, *ids: PointId) -> None:
        """Let batches with these ids pass (without ids: all)."""
        self.held = self.held - set(ids) if ids else set()
        self._moved.set()
        self._moved = asyncio.Event()

    @property
    def ids(self) -> list[list[PointId]]:
        """The ids of each batch so far."""
        return [[write.id for write in batch.writes] for _, batch in self.batches]

    async def apply(self, batch: WriteBatch) -> Receipt:
        ids = [write.id for write in batch.writes]
        self.batches.append((now(), batch))
        self.clashes += [point_id for point_id in ids if point_id in self._flying]
        self._flying += ids
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            if self.takes_s:
                await asyncio.sleep(self.takes_s)
            while self.held.intersection(ids):
                await self._moved.wait()
            if self.errors:
                raise self.errors.popleft()
            receipt: Receipt = await self._store.apply(batch)
            return receipt
        finally:
            self._under_way -= 1
            for point_id in ids:
                self._flying.remove(point_id)


class Rig:
    """Made on the loop that it lives on. The stream is made by `stream` or `streaming`."""

    def __init__(
        self,
        *,
        transform: TransformSettings | None = None,
        staleness_s: float = 0.0,
        bound_s: float = 5.0,
        show_after_s: float = 0.0,
        partitions: int = 1,
        partitioner: str = "unchecked",
        epoch: int = 0,
        epochs: Epochs | None = None,
        traits: Traits = MEMORY,
        target_staleness_s: float = 0.0,
        **settings: Any,
    ) -> None:
        """`traits` and `target_staleness_s`: of the store written."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.wall = loop.wall
        self.settings = StreamSettings(
            **{
                "linger": Duration(0),
                "commit_interval": Duration(0.5),
                "backoff_min": Duration(0.1),
                "backoff_max": Duration(2),
                **settings,
            }
        )
        self.log = MemoryLog("changes", partitions=partitions, wall=loop.wall)
        self.feed = self.log.attach()
        self.source = MemoryStore("source", staleness_s=staleness_s)
        self.target = MemoryStore(
            "target",
            late_write_bound_s=bound_s,
            staleness_s=target_staleness_s,
            traits=traits,
        )
        self.source.create(BOOKS)
        self.target.create(BOOKS)
        self.door = Door(self.target.attach())
        self.state = MemoryStateStore()
        self.kept = MemoryDeadLetters()
        self.patience = Patience(self.settings)
        self.show_after_s = show_after_s
        collection = CollectionSettings(
            source="books", target="books", transform=transform or TransformSettings()
        )
        self.routes = {
            "books": Route(
                collection="books",
                store="books",
                transform=FieldTransform(collection, BOOKS, BOOKS, traits.payload),
                vectors=BOOKS.vectors,
            )
        }
        self.intake = Intake(
            decoder=EventDecoder({"books": True}, 4096),
            routes=self.routes,
            epochs=epochs or Epochs(current=epoch, offered=epoch),
            partitioner=partitioner,
        )
        self.bases = Images(self.target.attach())
        self.writer = Writer(
            self.door,
            connector="memory",
            settings=self.settings,
            metrics=METRICS,
            waits=self.patience.waits,
            reads=Reader(self.bases, patience=self.patience),  # type: ignore[arg-type]
        )
        self.letters = DeadLetters(
            self.kept.attach(),
            self.state,
            metrics=METRICS,
            clock=loop.wall,
            backoff_max_s=2.0,
        )
        self.images = Images(self.source.attach())
        self.reader = Reader(self.images, patience=self.patience)  # type: ignore[arg-type]
        self.applier = Applier(
            routes=self.routes,
            writer=self.writer,
            images=self.reader,
            feed=self.feed,
            intake=self.intake,
            letters=self.letters,
            patience=self.patience,
            show_after_s=show_after_s,
            versions=VersionWindow(self.settings.version_window),
        )
        self.counters = Counters()
        self.ownership = Ownership()
        self.lease = self.ownership.lease(Direction.FORWARD, Purpose.STREAM, epoch)
        self.misplaced: list[Record] = []
        self.stream = Stream(
            feed=self.feed,
            intake=self.intake,
            applier=self.applier,
            writer=self.writer,
            letters=self.letters,
            state=self.state,
            patience=self.patience,
            settings=self.settings,
            metrics=METRICS,
            clock=loop.wall,
            counters=self.counters,
            show_after_s=show_after_s,
            lease=self.lease,
            ownership=self.ownership,
            misplaced=self._misplaced,
        )

    async def _misplaced(self, record: Record) -> None:
        self.misplaced.append(record)

    @property
    def first(self) -> Partition:
        """The first partition."""
        return self.log.name(0)

    def emit(self, *events: ChangeEvent, partition: int = 0) -> None:
        """Let a producer append events."""
        for event in events:
            self.log.produce(*encode(event), partition=partition)

    def emit_bad(self, number: int, partition: int = 0) -> None:
        """Let a producer append a record of a key that cannot be carried."""
        self.log.produce(b"books/%d" % number, b"\xff not an event", partition=partition)

    def seed(self, *points: Point, source: bool = True, target: bool = True) -> None:
        """Points that are there already."""
        for store, wanted in ((self.source, source), (self.target, target)):
            for one in points if wanted else ():
                store.write("books", Upsert(one))

    def payloads(self) -> dict[PointId, Any]:
        """What the target holds, by id."""
        return {i: held.payload for i, held in sorted(self.target.points("books").items())}

    async def letters_now(self) -> list[tuple[int | None, str, str]]:
        """Offset, code and state of every dead letter."""
        return [(x.offset, x.code, x.state.value) for x in await self.state.letters()]

    async def letter(self) -> DeadLetter:
        """The only dead letter."""
        [letter] = await self.state.letters()
        return letter

    async def until(self, true: Callable[[], bool]) -> None:
        """Let virtual time pass until it is true; the loop's limits end what never comes."""
        while not true():
            await asyncio.sleep(0.01)

    async def until_written(self) -> None:
        """Until the persisted positions stand at the log's end."""
        await self.until(
            lambda: self.stream.committed == {p: b.end for p, b in self.log.bounds().items()}
        )

    @asynccontextmanager
    async def streaming(
        self, positions: dict[Partition, int] | None = None
    ) -> AsyncIterator[Stream]:
        """The stream at work; ended well afterwards, or failed with its own error."""
        start = positions or dict.fromkeys(self.log.bounds(), 0)
        task = asyncio.create_task(self.stream.run(start))
        try:
            await self.until(lambda: task.done() or bool(self.stream.lanes))
            yield self.stream
        except BaseException:
            task.cancel()
            raise
        self.door.release()
        self.stream.stop()
        await task


class Images:
    """A store's reading side, with the rows that are no points, and when it was asked."""

    def __init__(self, store: Any) -> None:
        self.unreadable: dict[PointId, Rejected] = {}
        self.fetched: list[tuple[float, list[PointId]]] = []
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def fetch(self, collection: str, ids: list[PointId]) -> dict[PointId, Point]:
        self.fetched.append((now(), list(ids)))
        for point_id in ids:
            if point_id in self.unreadable:
                raise self.unreadable[point_id]
        found: dict[PointId, Point] = await self._store.fetch(collection, ids)
        return found
