"""
The world of one seed: stores, log, state and application, all of which outlive every process;
the process itself, which is started, killed at any step and started again; and the checks that
hold at every moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from copy import deepcopy
from functools import partial
from random import Random

import msgspec

from replicator.codecs.partition import murmur2_partition
from replicator.errors import Fatal, Refused, Rejected, ReplicatorError
from replicator.model.command import Answer
from replicator.model.letter import DeadLetter
from replicator.model.phase import TERMINAL, Direction, Phase
from replicator.model.point import Point, PointId
from replicator.model.record import MigrationRecord
from replicator.model.schema import CollectionSchema, VectorSchema
from replicator.model.traits import IdRules, Lists, PayloadRules
from replicator.model.write import Patch, Upsert, Write
from replicator.state.encoding import record_of
from replicator.testing.faults import Fault, Faults
from replicator.testing.loop import VirtualLoop
from replicator.testing.memory_feed import MemoryLog
from replicator.testing.memory_letters import MemoryDeadLetters
from replicator.testing.memory_state import MemoryStateStore
from replicator.testing.memory_store import MEMORY, MemoryStore
from tests.simulation.application import Application
from tests.simulation.coverage import Coverage
from tests.simulation.meddling import Meddler
from tests.simulation.oracle import differences, expected_source, expected_target, target_id
from tests.simulation.plan import NO_OTHER_EPOCH, SOURCE_IDS, TARGET_IDS, CollectionPlan, Plan
from tests.simulation.process import Killed, Process
from tests.simulation.trace import Trace

_DISTURBS = {"send": 0.01, "commit": 0.005, "advance": 0.02, "keep": 0.05, "switch": 0.5}
"""How likely somebody disturbs what passes a named point."""
FLAT = PayloadRules(nested=False, lists=Lists.NONE, integer_max=None)


class Violation(AssertionError):
    """What must never happen has happened."""


class World:
    """Made on the loop that it lives on."""

    def __init__(self, plan: Plan, loop: VirtualLoop, coverage: Coverage) -> None:
        self.plan = plan
        self.loop = loop
        self.coverage = coverage
        self.trace = Trace()
        self.random = Random(f"world {plan.seed}")
        self.failed: asyncio.Future[None] = loop.create_future()
        self.faults = self._faults("faults")
        self.log = MemoryLog(
            "changes",
            partitions=plan.partitions,
            partitioner=murmur2_partition,
            faults=self.faults,
            wall=loop.wall,
            identified=plan.identified,
        )
        self.source = self._store("source", Direction.FORWARD, plan.source_staleness_s)
        self.target = self._store("target", Direction.REVERSE, plan.target_staleness_s)
        self.target.refuses = self._refuses
        self.letters = MemoryDeadLetters(self.faults)
        self.state = MemoryStateStore(self._state_latency)
        self.application = Application(
            plan,
            random=Random(f"application {plan.seed}"),
            faults=self.faults,
            log=None if plan.story == "plain" else self.log,
            source=self.source,
            target=self.target,
            trace=self.trace,
        )
        self.meddler = Meddler(self)
        self.process: Process | None = None
        self.exits: list[BaseException] = []
        """What ended processes, other than a crash."""
        self.wipe = False
        """The next process is started with permission to wipe the target."""
        self.calm = False
        self.log_taken_away = False
        """No more crashes, and nothing fails by itself."""
        self.may_start = asyncio.Event()
        """Clear while the process is to stay down."""
        self.may_start.set()
        self.stale = False
        """The state is one from before, and the process has not stopped yet."""
        self.second: Process | None = None
        """Another process beside ours, on a copy of the state."""
        self.two_wrote = False
        """There is or was another."""
        self.repaired = False
        """Somebody asked for a repair: letters may be settled without a later event."""
        self.wanted = asyncio.Event()
        """Somebody starts the process again, though it ended well."""
        self._glitched = False
        self._switch_calls = 0
        self._moves_on = False
        """Somebody gives the route another epoch when the next crossing begins."""
        self._told: dict[int, tuple[int, int]] = {}
        """Epoch → the attempt in which the switch was told it."""
        self._points: Counter[str] = Counter()
        for step in sorted(set(plan.drains)):
            loop.interrupt(step, self.drain)
        for name, count in plan.crashes:
            if name == "step" and count not in plan.drains:
                loop.interrupt(count, self.crash)
        self._create_sources()

    # -- the process ----------------------------------------------------------------------
    async def supervise(self) -> None:
        """Keep a process running, as an orchestrator would."""
        while True:
            await self.may_start.wait()
            self.process = Process(self)
            ended = await self.process.ended
            self.trace.add(self.now, "process", "ended:", repr(ended))
            if ended is None and phase_of(self.record) in TERMINAL:
                await self.wanted.wait()
                self.wanted.clear()
            if isinstance(ended, BaseException):
                self.exits.append(ended)
                if not isinstance(ended, ReplicatorError) or isinstance(ended, Fatal):
                    self.violate(f"the process ended by {ended!r}", ended)
                    return
            await asyncio.sleep(self.random.choice([0.0, 0.0, 0.2, 0.2, 3.0, 25.0]))

    def crash(self) -> None:
        """Kill the process between two steps."""
        if self.process is not None and self.process.alive and not self.calm:
            self.faults.fire(Fault.CRASH)
            self.trace.add(self.now, "process", "killed")
            self.process.kill()

    def restart(self) -> None:
        """A person stops the process for another to be started, with other options."""
        if self.process is not None and self.process.alive:
            self.process.kill()

    def point(self, name: str) -> None:
        """The process passes a named point; perhaps it dies a few steps later."""
        self._points[name] += 1
        self.meddler.nudge(_DISTURBS.get(name, 0.3))
        if (name, self._points[name]) in self.plan.crashes:
            self.coverage.crashes[name] += 1
            step = self.loop.steps + self.random.randint(1, 8)
            self.loop.interrupt(step, self.drain if self.random.random() < 0.2 else self.crash)

    def drain(self) -> None:
        """Ask the process to end, as an orchestrator does before it starts another."""
        if self.process is not None and self.process.alive and not self.calm:
            self.trace.add(self.now, "process", "asked to end")
            self.process.migration.request_drain()

    async def weather(self) -> None:
        """What goes wrong by the clock: an outage, somebody else in our group."""
        plan = self.plan
        events: list[tuple[float, Callable[[], None]]] = []
        if plan.outage is not None:
            who, at, length = plan.outage
            fault = Fault.BROKER_OUTAGE if who == "broker" else Fault.STORE_OUTAGE
            parts: dict[str, MemoryLog | MemoryStore] = {
                "broker": self.log,
                "source": self.source,
                "target": self.target,
            }
            part = parts[who]
            events.append((at, partial(self._away, part, fault)))
            events.append((at + length, partial(self._back, part)))
        if plan.moved_on_at_s is not None:
            events.append((plan.moved_on_at_s, self._move_on))
        if plan.foreign_at_s is not None:
            events.append((plan.foreign_at_s, self._intrude))
            events.append((plan.foreign_at_s + 20, self.log.members.clear))
        # Every seed meets a fault: if none was drawn by then, the process dies.
        events.append((4.0, lambda: None if self.faults.fired else self.crash()))
        for at, event in sorted(events, key=lambda timed: timed[0]):
            await asyncio.sleep(max(0.0, at - self.now))
            if not self.calm:
                event()

    def _away(self, part: MemoryStore | MemoryLog, fault: Fault) -> None:
        self.faults.fire(fault)
        part.away = True

    def _back(self, part: MemoryStore | MemoryLog) -> None:
        part.away = part is self.log and self.log_taken_away

    def take_log_away(self) -> None:
        """Until `give_log_back`, whatever outage of the weather's ends meanwhile."""
        self.log.away = self.log_taken_away = True

    def give_log_back(self) -> None:
        """An outage of the weather's ends with it."""
        self.log.away = self.log_taken_away = False

    def _move_on(self) -> None:
        """Somebody gives the route another epoch, in good order: no change is under way."""
        application = self.application
        record = self.record
        crossing = record is not None and record.phase in {Phase.FENCING, Phase.SWITCHING}
        if self.calm:
            return
        if self.plan.seed % 2 and not self._moves_on:
            self._moves_on = True  # as a crossing begins
            return
        if application.writing or application.fenced or crossing or record is None:
            self.loop.call_later(0.05, self._move_on, context=Context())
            return
        self.faults.fire(Fault.LATER_EPOCH)
        application.route(application.active, application.epoch + 1)

    def _intrude(self) -> None:
        self.faults.fire(Fault.FOREIGN_COMMIT)
        if self.random.random() < 0.5:
            self.log.members.append("somebody")
        self.log.group[self.log.name(0)] = 0

    @property
    def refused_by(self) -> str | None:
        """The code that refused the last process before it had captured, if one did."""
        last = self.exits[-1] if self.exits else None
        if not isinstance(last, Refused) or phase_of(self.record) is not Phase.PLANNED:
            return None
        return last.code

    @property
    def record(self) -> MigrationRecord | None:
        """What is persisted, however the process is."""
        text = self.state._data.record
        return None if text is None else record_of(text)

    def lose_state(self) -> None:
        """The state file is gone, and the process with it."""
        self.faults.fire(Fault.LOST_STATE)
        self.trace.add(self.now, "state", "lost")
        if self.process is not None and self.process.alive:
            self.process.kill()
        self.state = MemoryStateStore(self._state_latency)

    def copy_state(self) -> MemoryStateStore:
        """What lies on the disk now, for another process or a later time."""
        data = self.state._data
        holder, data.holder = data.holder, None
        copied = MemoryStateStore(self._state_latency)
        copied._data = deepcopy(data)
        data.holder = holder
        return copied

    def shows_older(self, other: MemoryStateStore) -> bool:
        """Whether the target's marks tell that this state is not the newest."""
        schemas = [self.target.collections[c.target].schema for c in self.plan.collections]
        told = record_of(other._data.record or "").incarnation
        return all(schema.mark_incarnation > told for schema in schemas)

    def put_state(self, other: MemoryStateStore) -> MemoryStateStore:
        """Put another state in its place; returns what was there."""
        ours, theirs = self.record, record_of(other._data.record or "")
        assert ours is not None
        self.faults.fire(Fault.STATE_RESTORED)
        self.trace.add(self.now, "state", "another one is put in its place")
        if self.process is not None and self.process.alive:
            self.process.kill()
        replaced, self.state = self.state, other
        self.stale = theirs.incarnation < ours.incarnation
        return replaced

    def remake_log(self) -> None:
        """The log is gone, and another one has its name."""
        self.faults.fire(Fault.LOG_REPLACED)
        self.trace.add(self.now, "log", "made anew")
        # Only a record proves that it is another one: no gap may lie where ours was.
        self.faults.spare(Fault.GAP, Fault.TRANSACTION)
        self.log.make_anew()
        for place in (self.application.poisoned, self.application.images):
            place.clear()
        self.application.stragglers.clear()

    def heal(self) -> None:
        """The target is mended, and holds from now on what it refused."""
        self.trace.add(self.now, "target", "mended")
        self.target.refuses = None
        self.application.mended = True

    def quieten(self) -> None:
        """From now on nothing fails by itself."""
        if not self.calm:
            self.trace.add(self.now, "world", "calm from here on")
        self.calm = self.application.quiet = True
        self.meddler.go()
        self.application.fence_away_until = 0.0
        self.faults.calm()
        self.source.away = self.target.away = False
        self.give_log_back()
        self.log.members.clear()

    def saved(self, before: MigrationRecord | None, after: MigrationRecord) -> None:
        """The record was persisted."""
        same_attempt = before is not None and before.attempt == after.attempt
        if before is not None and same_attempt and before.phase is not after.phase:
            self.coverage.moved(before.phase, after.phase)
        if before is None or before.phase is not after.phase:
            if after.phase is Phase.SWITCHING:
                self._switch_calls = 0
                self._look_at_evidence(after)
                self._look_at_rest()
            if after.phase in TERMINAL:
                self.meddler.part()
            self._seldom(before, after)
            self._look_at_lapse(before, after)
            application = self.application
            still = not application.fenced and not application.writing
            if self._moves_on and after.phase is Phase.FENCING and still and not self.calm:
                self._moves_on = False
                self.faults.fire(Fault.LATER_EPOCH)
                application.route(application.active, application.epoch + 1)
            self.trace.add(
                self.now, "phase", after.phase.value, after.direction.value, after.reason
            )
        glitch = self.plan.story == "glitch" and not self._glitched
        if glitch and after.phase is self.plan.glitch_at and not self.calm:
            self._glitched = True
            self.faults.fire(Fault.GLITCH)
            # Before the capture another topic would be captured: there it cannot be read.
            self.log.damaged = after.phase is Phase.PLANNED
            self.log.glitch = not self.log.damaged
            self.trace.add(self.now, "broker", "answers for another topic, or not at all")
        self.point(f"save {after.phase.value}")

    # -- checks that hold always ----------------------------------------------------------
    def violate(self, message: str, cause: BaseException | None = None) -> None:
        """Fail the run, wherever the caller is."""
        self.trace.add(self.now, "VIOLATION", message)
        if not self.failed.done():
            violation = Violation(message)
            violation.__cause__ = cause
            self.failed.set_exception(violation)

    async def look(self) -> None:
        """Read the status now and then: it must not lie, and memory must be bounded."""
        while True:
            await asyncio.sleep(self.random.random() * 3)
            process = self.process
            if process is None or not process.alive:
                continue
            was_stale = self.stale
            try:
                status = await process.call(lambda migration: migration.status())
            except (Killed, ReplicatorError):
                continue
            owner = {Direction.FORWARD: "source", Direction.REVERSE: "target"}
            if not was_stale and status.application_may_write not in {
                None,
                owner[self.application.active],
            }:
                self.violate(f"the status says {status.application_may_write} is written")
            stream = process.migration.engine.stream
            if stream is not None:
                held = sum(lane.watermark.pending for lane in stream.lanes.values())
                if held > self.plan.settings.stream.buffer_records:
                    self.violate(f"{held} records are held, more than the buffer may")

    def _seldom(self, before: MigrationRecord | None, after: MigrationRecord) -> None:
        """Let the second person make use of situations that last for a moment only."""
        back = after.direction is Direction.REVERSE
        match after.phase:
            case Phase.HELD:
                self.meddler.seize(4, 1.0)
            case Phase.BLOCKED:
                self.meddler.seize(1, 0.3)
            case Phase.FENCING:
                self.meddler.seize(3 if back else 1, 0.5)
            case Phase.SWITCHING:
                self.meddler.seize(3 if back else 1, 0.02)
            case Phase.STREAMING if before is not None and before.phase is Phase.SWITCHING:
                self.meddler.seize(1 if back else 3, 0.01)
            case _:
                return

    def _look_at_lapse(self, before: MigrationRecord | None, after: MigrationRecord) -> None:
        """What was written in a lapse is on the store left behind: a person has to know."""
        if not self.application.moved_past_lapse or after.phase is Phase.SWITCHING:
            return
        self.application.moved_past_lapse = False
        went_on = before is not None and before.phase is Phase.SWITCHING
        if went_on and after.phase is not Phase.HELD:
            self.violate(f"{after.phase.value} past writes that a lapse of the fence let in")

    def _look_at_rest(self) -> None:
        """Nothing is written while traffic moves: the stream has come to rest before."""
        process = self.process
        if process is not None and process.alive:
            stream = process.migration.engine.stream
            if stream is not None:
                self.violate("the stream runs while traffic moves")

    def _look_at_evidence(self, after: MigrationRecord) -> None:
        """Traffic leaves the source only after a verification of the epoch in force."""
        kept = msgspec.json.decode(self.state._data.documents.get("verified", b"{}"))
        context = msgspec.to_builtins(after.context)
        if after.direction is Direction.FORWARD and kept.get("context") != context:
            self.violate(f"switched without a verification in {after.context}")

    def on_switch_call(self, epoch: int) -> None:
        """
        What cannot be repeated must not be asked for twice; and no number of an epoch is told
        in two attempts, for some writer may have heard it.
        """
        record = self.record
        if record is not None and self.plan.story not in NO_OTHER_EPOCH:
            attempt = (record.attempt, record.tries)
            if self._told.setdefault(epoch, attempt) != attempt:
                self.violate(f"epoch {epoch} is told twice, in {attempt} as well")
        self._switch_calls += 1
        if self._switch_calls > 1 and not self.plan.repeatable_switch:
            self.violate("a switch that cannot be repeated was asked twice")

    def on_switch(self, direction: Direction) -> None:
        """At the instant traffic moves, the store it moves to must be equal to the oracle."""
        told = self.differences_of(direction.other)
        if told:
            self.violate(f"switched to a store that differs: {told}")

    def differences_of(self, written: Direction) -> list[str]:
        """How the store that is written in a direction differs from the oracle."""
        application = self.application
        told = []
        unsure = application.unsure | application.broken | application.late
        for plan in self.plan.collections:
            if written is Direction.FORWARD:
                but = {
                    target_id(plan, point_id)
                    for collection, point_id in unsure | application.refused
                    if collection == plan.source
                }
                expected = expected_target(plan, application.model)
                found = self._at_target(plan)
            else:
                but = {pid for collection, pid in unsure if collection == plan.source}
                expected = expected_source(plan, application.model)
                found = self.source.points(plan.source)
            told += [
                f"{'target' if written is Direction.FORWARD else 'source'}/{plan.source} {line}"
                for line in differences(expected, found, plan.distance, but)
            ]
        return told

    def _at_target(self, plan: CollectionPlan) -> dict[PointId, Point]:
        """The points there that say they are the collection's; of several, the first has those
        that say nothing.
        """
        every = self.target.points(plan.target)
        if not plan.shared:
            return every
        first = plan.source == self.plan.collections[0].source
        named = {other.source for other in self.plan.collections}
        return {
            point_id: point
            for point_id, point in every.items()
            if (said := point.payload.get("_source_collection")) == plan.source
            or (first and said not in named)
        }

    def _landed(self, side: Direction, collection: str, write: Write) -> None:
        name = "source" if side is Direction.FORWARD else "target"
        self.trace.add(self.now, f"land {name}", type(write).__name__, _brief(write))
        if self.application.active is side:
            self.violate(f"the {name} was written while the application owned it: {write}")

    def _overtaken(self, collection: str, write: Write) -> None:
        if self.two_wrote:
            return  # they know nothing of each other's writes, and one may land much later
        # Invariant 5: nothing is written to a key while an earlier write of it may still land.
        self.violate(f"a later write of {collection}/{write.id} was overtaken by {write}")

    def is_producers_fault(self, letter: DeadLetter) -> bool:
        """Whether the letter is of a record that a broken producer emitted."""
        if letter.partition is None or letter.offset is None:
            return False
        place = int(letter.partition.rpartition("/")[2]), letter.offset
        return place in self.application.poisoned

    async def answer(self) -> None:
        """Somebody reads what the status asks, and says that it is so."""
        while True:
            await asyncio.sleep(0.3 + self.random.random())
            process = self.process
            if process is None or not process.alive or process.person.question is None:
                continue
            with contextlib.suppress(Killed, Refused):
                await process.give(Answer(True))

    # -- parts ----------------------------------------------------------------------------
    @property
    def now(self) -> float:
        return self.loop.time()

    def _faults(self, name: str) -> Faults:
        return Faults(
            Random(f"{name} {self.plan.seed}"),
            self.plan.rates,
            latency_s=(0.001, 0.02),
            on_fire=lambda fault: self.trace.add(self.now, "fault", fault.value),
        )

    def _store(self, name: str, side: Direction, staleness_s: float) -> MemoryStore:
        return MemoryStore(
            name,
            faults=self.faults,
            staleness_s=staleness_s,
            late_write_bound_s=self.plan.late_write_bound_s,
            traits=msgspec.structs.replace(
                MEMORY,
                ids=IdRules(kinds=SOURCE_IDS if side is Direction.FORWARD else TARGET_IDS),
                marks=self.plan.marks,
                scopes=side is Direction.FORWARD or self.plan.target_scopes,
                patches=self.plan.source_patches
                if side is Direction.FORWARD
                else self.plan.target_patches,
                payload=FLAT
                if side is Direction.REVERSE and self.plan.collections[0].flat
                else MEMORY.payload,
            ),
            on_land=partial(self._landed, side),
            on_send=lambda: self.point("send"),
            on_overtaken=self._overtaken,
        )

    def _create_sources(self) -> None:
        for plan in self.plan.collections:
            self.source.create(
                CollectionSchema(
                    name=plan.source,
                    vectors={
                        name: VectorSchema(size=size, distance=plan.distance)
                        for name, size in plan.vectors.items()
                    },
                    ids=SOURCE_IDS,
                    scoped=plan.scoped,
                )
            )

    def _refuses(self, _collection: str, write: Write) -> tuple[Fault, Rejected] | None:
        """The target will not hold a certain field."""
        fields = write.point.payload if isinstance(write, Upsert) else {}
        if isinstance(write, Patch):
            fields = write.set
        poison = fields.get("poison")
        if poison is None:
            return None
        error = Rejected("target-rejected", "the target will not hold this", "payload.poison")
        fault = Fault.BATCH_REJECTED if poison == "batch" else Fault.POINT_REJECTED
        return fault, error

    def _state_latency(self) -> float:
        draw = self.random.random()
        return 0.3 if draw > 0.99 else draw * 0.004


def _brief(write: Write) -> str:
    point_id: PointId = write.id
    if isinstance(write, Upsert):
        return f"{point_id} {write.point.payload}"
    if isinstance(write, Patch):
        return f"{point_id} set {write.set} unset {write.unset}"
    return str(point_id)


def phase_of(record: MigrationRecord | None) -> Phase | None:
    """The phase of a record, if there is one."""
    return None if record is None else record.phase
