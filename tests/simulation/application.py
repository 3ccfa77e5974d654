"""
The application: writers that change keys, the fence they obey, and the route they follow.

Each key belongs to one writer, which finishes one change before it begins the next: that is the
order the design asks of an application. A change is made at the active store and emitted to the
log, in either order, within `emit_delay_s`. The oracle's model is changed when the change is
admitted.
"""

from __future__ import annotations

import asyncio
import math
from contextvars import Context
from random import Random
from typing import Any, NamedTuple

import msgspec

from replicator.model.command import Store
from replicator.model.phase import Direction
from replicator.model.point import Point, PointId, ScopedId
from replicator.model.write import Delete, Upsert
from replicator.testing.faults import Fault, Faults
from replicator.testing.memory_feed import MemoryLog
from replicator.testing.memory_store import MemoryStore
from tests.simulation.oracle import Image, Model, carried, event_key, patched, target_id
from tests.simulation.plan import CollectionPlan, Plan
from tests.simulation.trace import Trace
from tests.simulation.values import random_image, random_patch, vector_of

Op = tuple[CollectionPlan, PointId, str, dict[str, Any]]
"""Collection, id, op, and the rest of the event's value."""


class Poison(NamedTuple):
    """What a record that cannot be carried must become in the dead letters."""

    code: str
    path: str
    key: tuple[str, PointId] | None
    late: bool
    """Emitted where no writer was to write: it may be refused as late, whatever it holds."""


class Application:
    """Everything on the other side of the log, the fence and the switch."""

    def __init__(
        self,
        plan: Plan,
        *,
        random: Random,
        faults: Faults,
        log: MemoryLog | None,
        source: MemoryStore,
        target: MemoryStore,
        trace: Trace,
    ) -> None:
        self.plan = plan
        self.model: Model = {}
        self.active = Direction.FORWARD
        self.epoch = 0
        self.opened_for: set[str] = set()
        """Attempts for which the fence was opened: a request to close it for one of these comes
        late."""
        self.fenced = False
        self.quiet = False
        """Write seldom, and nothing that cannot be carried."""
        self.writing = 0
        """Changes admitted and not finished."""
        self.changes = 0
        self.ignores: set[int] = set()
        """Writers that do not look at the fence."""
        self.stalls = False
        """The first writer's next change is admitted while the fence closes, and made when it
        opens, wherever traffic goes by then."""
        self.poisoned: dict[tuple[int, int], Poison] = {}
        """By (partition, offset): records that cannot be carried."""
        self.stragglers: dict[tuple[str, PointId], tuple[int, int]] = {}
        """Where an upsert lies that arrived again after newer ones of its key."""
        self.images: dict[tuple[str, PointId], tuple[int, int]] = {}
        """Where the last upsert or delete of each key lies."""
        self.unsure: set[tuple[str, PointId]] = set()
        """Keys whose stores may differ through no fault of the engine, until written again."""
        self.broken: set[tuple[str, PointId]] = set()
        """Keys whose row at the source is no point."""
        self.refused: set[tuple[str, PointId]] = set()
        """Keys whose image the target refuses."""
        self.late: set[tuple[str, PointId]] = set()
        """Keys changed behind the closed fence; unsure if traffic is switched all the same."""
        self.fence_away_until = 0.0
        """Until then no request to open or close the fence is heard."""
        self.lapsing: set[tuple[str, PointId]] | None = None
        """Keys changed since the fence opened by itself; None: it did not."""
        self.moved_past_lapse = False
        """Traffic has moved away from changes of a lapse: nobody may go on unasked."""
        self.switches_under_way = 0
        """Requests to switch that were sent and have not taken effect."""
        self.mended = False
        """The target refuses no image any more."""
        self._counter = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._random = random
        self._faults = faults
        self._log = log
        self._source = source
        self._target = target
        self._trace = trace
        self._opened = asyncio.Event()
        self._opened.set()
        self._turns: dict[tuple[str, PointId], asyncio.Lock] = {}
        """Changes of one key follow each other, whoever asks for them."""
        self._versions: dict[tuple[str, PointId], int] = {}
        self._sent: dict[tuple[str, PointId], bytes] = {}
        self.closed_for = ""
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._collections = {plan.source: plan for plan in plan.collections}

    # -- before and after -------------------------------------------------------------------
    def seed_rows(self) -> None:
        """Rows that were there long before: they have no events."""
        for collection in self.plan.collections:
            sound = False  # a collection without one sound row is refused, and rightly
            for point_id in collection.ids:
                if self._random.random() < 0.1 and self.plan.poison and sound:
                    self._faults.fire(Fault.NAN_ROW)
                    self.broken.add((collection.source, point_id))
                    nan = {
                        n: vector_of(size, math.nan) for n, size in collection.vectors.items()
                    }
                    self._source.write(
                        collection.source,
                        Upsert(Point(id=point_id, vectors=dict(nan), payload={})),
                    )
                elif self._random.random() < 0.7:
                    image = random_image(self._random, collection, self._count())
                    self._write(Direction.FORWARD, collection, point_id, image)
                    self.model[collection.source, point_id] = image
                    sound = True

    def start(self) -> None:
        """Let the writers write."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._write_on(number), name=f"writer {number}")
            for number in range(self.plan.writers)
        ]

    async def stop(self) -> None:
        """Let every writer finish its change and end."""
        self._stopping = True
        self._opened.set()
        await asyncio.gather(*self._tasks)
        self._tasks = []

    def restart(self) -> None:
        """Write on after `stop`."""
        self._stopping = False
        if self.fenced:
            self._opened.clear()
        self.start()

    # -- the fence and the switch, as their holders see them --------------------------------
    def close_fence(self, attempt: str) -> None:
        """Admit no more changes, but for writers that do not look."""
        self._trace.add(self._now(), "app", "fence closed")
        if attempt != self.closed_for:
            self.lapsing = None
        self.closed_for = attempt
        self.fenced = True
        self._opened.clear()

    def open_fence(self) -> None:
        """Admit changes again, where the route points."""
        if self.fenced:
            self._trace.add(self._now(), "app", "fence opened")
        self.fenced = False
        self.deadline(None)
        self.late.clear()
        self.lapsing = None
        self._opened.set()

    def _lapse(self) -> None:
        """The deadline has passed: the fence opens by itself."""
        self._trace.add(self._now(), "app", "the fence lapses")
        self.open_fence()
        self.lapsing = set()

    def deadline(self, seconds: float | None) -> None:
        """The fence opens by itself after so long; None: never."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(seconds, self._lapse, context=Context())

    @property
    def held_s(self) -> float | None:
        """How long the fence stays closed if nobody asks again; None: until it is opened."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline.when() - asyncio.get_running_loop().time())

    async def idle(self) -> None:
        """Wait until every change that was admitted is written and emitted."""
        while self.writing:
            self._changed.clear()
            await self._changed.wait()

    @property
    def owned(self) -> Store:
        """The store that it writes, as a person names it."""
        return "source" if self.active is Direction.FORWARD else "target"

    def route(self, direction: Direction, epoch: int) -> None:
        """Switch traffic."""
        self._trace.add(self._now(), "app", "traffic to", direction.value, "epoch", epoch)
        if direction is not self.active:
            self.moved_past_lapse = bool(self.lapsing)
            self.unsure |= self.late
            self.late.clear()
        self.active = direction
        self.epoch = epoch

    # -- changes ----------------------------------------------------------------------------
    async def rewrite(self, collection: str, point_id: PointId) -> None:
        """A person has the application write a key anew."""
        while self.fenced:
            await asyncio.sleep(0.1)
        plan = self._collections[collection]
        image = random_image(self._random, plan, self._count())
        admitted = (self.active, self.epoch)
        self.unsure.discard((collection, point_id))  # unless it comes to that again
        await self._change(
            plan, point_id, "upsert", _fields(image), honest=True, admitted=admitted
        )

    async def _write_on(self, number: int) -> None:
        keys = [
            (collection, point_id)
            for collection in self.plan.collections
            for index, point_id in enumerate(collection.ids)
            if index % self.plan.writers == number
        ]
        while not self._stopping:
            # In time the application is quieter: the slowest lane must be able to follow.
            slower = 1 + self.changes // 100 + (10 if self.quiet else 0)
            await asyncio.sleep(self._random.expovariate(1 / (self.plan.pace_s * slower)))
            honest = number not in self.ignores
            admitted = (self.active, self.epoch)
            stalls = number == 0 and self.stalls and self.fenced
            while self.fenced and honest and not self._stopping:
                await self._opened.wait()
            if self._stopping:
                return
            if not stalls:
                admitted = (self.active, self.epoch)
            hot = self.plan.hot and self._random.random() < 0.6
            collection, point_id = keys[0] if hot else self._random.choice(keys)
            op, fields = self._draw(collection, point_id)
            await self._change(
                collection, point_id, op, fields, honest=honest, admitted=admitted
            )
            if self.plan.poison and not self.quiet and self._random.random() < 0.08:
                self.emit_poison(*self._random.choice(keys))

    def _draw(self, plan: CollectionPlan, point_id: PointId) -> tuple[str, dict[str, Any]]:
        held = self.model.get((plan.source, point_id))
        draw = self._random.random()
        broken = (plan.source, point_id) in self.broken
        if draw < (0.8 if held is None or broken else 0.4):
            image = random_image(self._random, plan, self._count())
            poison = self.plan.poison and not self.quiet and draw < 0.05
            if poison and self.active is Direction.FORWARD:
                image.payload["poison"] = self._random.choice(["point", "batch"])
            return "upsert", _fields(image)
        if broken or (held is not None and draw > 0.8):
            return "delete", {}
        return "patch", random_patch(self._random, plan, held, self._count())

    async def _change(
        self,
        plan: CollectionPlan,
        point_id: PointId,
        op: str,
        fields: dict[str, Any],
        *,
        honest: bool,
        admitted: tuple[Direction, int],
    ) -> None:
        """Write and emit one change, where and as the route was when it was admitted."""
        key = (plan.source, point_id)
        self.writing += 1
        async with self._turns.setdefault(key, asyncio.Lock()):
            await self._in_turn(key, plan, point_id, op, fields, honest, admitted)
        self.writing -= 1
        self._changed.set()

    async def _in_turn(
        self,
        key: tuple[str, PointId],
        plan: CollectionPlan,
        point_id: PointId,
        op: str,
        fields: dict[str, Any],
        honest: bool,
        admitted: tuple[Direction, int],
    ) -> None:
        active, epoch = admitted
        self.changes += 1
        held = self.model.get(key)
        match op:
            case "upsert":
                image: Image | None = Image(fields["vectors"], fields["payload"])
            case "delete":
                image = None
            case _:
                image = None if held is None else patched(held, fields)
        if not honest and self.fenced:
            self._faults.fire(Fault.FENCE_IGNORED)
            self.late.add(key)
        if self.lapsing is not None and active is self.active:
            self.lapsing.add(key)
            self.late.add(key)
        silent = op == "patch" and held is None  # of a key that is not there: no write
        self._trace.add(self._now(), "change", key, op, image and image.payload, active.value)
        delay = self._random.choice([0.0, self._random.random()]) * self.plan.emit_delay_s
        emit_first = self._random.random() < 0.5
        if emit_first:
            self._emit(plan, point_id, op, fields, epoch)
        elif not silent:
            self._set(key, op, image)
            self._write(active, plan, point_id, image)
        if delay:
            await asyncio.sleep(delay)
        if not emit_first:
            self._emit(plan, point_id, op, fields, epoch)
        elif not silent:
            self._set(key, op, image)
            self._write(active, plan, point_id, image)
        if self.active is not active:
            self._faults.fire(Fault.LATE_BATCH)
            self.unsure.add(key)

    def _set(self, key: tuple[str, PointId], op: str, image: Image | None) -> None:
        if op != "patch":
            self.broken.discard(key)
            self.refused.discard(key)
            if image is not None and "poison" in image.payload and not self.mended:
                self.refused.add(key)
        if image is None:
            self.model.pop(key, None)
        else:
            self.model[key] = image

    def _write(
        self, active: Direction, plan: CollectionPlan, point_id: PointId, image: Image | None
    ) -> None:
        """Write at the store that was active when the change was admitted, in its terms."""
        if active is Direction.FORWARD:
            point = image and Point(
                id=point_id, vectors=dict(image.vectors), payload=image.payload
            )
            self._source.write(plan.source, Upsert(point) if point else Delete(point_id))
            return
        moved = None if image is None else carried(plan, point_id, image)
        write = Upsert(moved) if moved else Delete(target_id(plan, point_id))
        self._target.write(plan.target, write)

    def _emit(
        self,
        plan: CollectionPlan,
        point_id: PointId,
        op: str,
        fields: dict[str, Any],
        epoch: int,
    ) -> None:
        if self._log is None:
            return
        key = (plan.source, point_id)
        value: dict[str, Any] = {
            "v": 1,
            "op": op,
            "collection": plan.source,
            **_said(point_id),
            "ts": int(self._now() * 1000) + 1_700_000_000_000,
            "epoch": epoch,
            "writer": "simulation",
            **fields,
        }
        tombstone = op == "delete" and self._random.random() < 0.3
        if plan.versioned and not tombstone:
            value["version"] = self._versions[key] = self._versions.get(key, 0) + 1
        if tombstone:
            # It ends the history: whoever makes the key anew counts its versions anew.
            self._versions.pop(key, None)
            self._sent.pop(key, None)
        encoded = msgspec.msgpack.encode(value)
        partition, offset = self._produce(plan, point_id, None if tombstone else encoded)
        if op != "patch":
            self.images[key] = partition, offset
        if self._faults.strikes(Fault.TRANSACTION):
            self._later_end(partition)
        earlier = self._sent.get(key)
        if earlier is not None and plan.versioned and self._faults.strikes(Fault.OLD_VERSION):
            self.stragglers[key] = self._produce(plan, point_id, earlier)
            self.unsure.add(key)
        if op == "upsert":
            self._sent[key] = encoded

    def _produce(
        self, plan: CollectionPlan, point_id: PointId, value: bytes | None
    ) -> tuple[int, int]:
        assert self._log is not None
        partition, offset = self._log.produce(event_key(plan.source, point_id), value)
        self._trace.add(self._now(), "emit", (plan.source, point_id), f"{partition}:{offset}")
        return partition, offset

    def _later_end(self, partition: int) -> None:
        """Leave a transaction open for a while; what was emitted stays, so it commits."""
        assert self._log is not None
        self._log.begin_transaction(partition)
        delay = self._random.random() * 0.5
        asyncio.get_running_loop().call_later(delay, self._log.end_transaction, partition)

    def emit_poison(self, plan: CollectionPlan, point_id: PointId) -> None:
        """A broken producer emits what cannot be carried. Nothing changed at the store."""
        assert self._log is not None
        self._faults.fire(Fault.POISON)
        key: bytes | None = event_key(plan.source, point_id)
        name, size = next(iter(plan.vectors.items()))
        image = random_image(self._random, plan, -1)
        value: dict[str, Any] = {
            "v": 1,
            "op": "upsert",
            "collection": plan.source,
            **_said(point_id),
            "ts": 1,
            "epoch": self.epoch,
            **_fields(image),
        }
        kind = self._random.randrange(8)
        raw: bytes | None = None
        path = f"vectors.{name}" if name else 'vectors.""'
        match kind:
            case 0:
                expected, raw = ("value-malformed", ""), b"\x83\x01garbage"
            case 1:
                value["vectors"] = {**image.vectors, name: vector_of(size + 1, 1.0)}
                expected = ("vector-dimension", path)
            case 2:
                value["vectors"] = {**image.vectors, name: vector_of(size, float("nan"))}
                expected = ("vector-not-finite", path)
            case 3:
                value["payload"] = [1, 2]
                expected = ("field-type", "payload")
            case 4:
                del value["op"]
                expected = ("field-missing", "op")
            case 5:
                expected, key = ("key-missing", ""), None
            case 6:
                expected, raw = ("value-too-large", ""), b"\x00" * 5000
            case _:
                known = value["id"]
                value["id"] = "another" if isinstance(known, str) else known + 1
                expected = ("key-mismatch", "id")
        body = raw if raw is not None else msgspec.msgpack.encode(value)
        elsewhere = None
        if key is not None and self._log.partitions > 1 and self._random.random() < 0.04:
            self._faults.fire(Fault.MISPLACED)
            elsewhere = self._random.randrange(self._log.partitions)
        partition, offset = self._log.produce(key, body, partition=elsewhere)
        for copy in range(offset, self._log.bounds()[self._log.name(partition)].end):
            named = (plan.source, point_id) if key is not None else None
            late = self.fenced or self.lapsing is not None
            self.poisoned[partition, copy] = Poison(*expected, named, late)
        self._trace.add(
            self._now(), "poison", (plan.source, point_id), f"{partition}:{offset}", expected
        )

    def _count(self) -> int:
        self._counter += 1
        return self._counter

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _said(point_id: PointId) -> dict[str, Any]:
    """The id as an event says it."""
    if isinstance(point_id, ScopedId):
        return {"id": point_id.id, "scope": point_id.scope}
    return {"id": point_id}


def _fields(image: Image) -> dict[str, Any]:
    return {"vectors": image.vectors, "payload": image.payload}
