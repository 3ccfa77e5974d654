"""
One incarnation of the program: the real migration on clients of its own.

`kill` is SIGKILL: every client is detached first, so that nothing the dead code still does, its
cleanup included, has any effect; then its tasks are cancelled. What the clients had sent lives
on at the servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from replicator.errors import Refused, ReplicatorError
from replicator.metrics import Metrics
from replicator.migration.migration import Migration
from replicator.migration.parts import Parts
from replicator.model.command import CancelVerification, Command, DiscardLetters, Repair
from replicator.model.record import ChunkState, JournalEntry, MigrationRecord
from replicator.model.situation import Situation, situation
from replicator.ports.state import StateStore
from replicator.testing.loop import NumberedTask
from replicator.testing.memory_state import MemoryStateStore
from replicator.traffic.person import Person
from tests.simulation.controls import SimulatedFence, SimulatedHooks, SimulatedSwitch

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

Look = Callable[[Migration], Awaitable[Command[T]]]

RESTART = "restart"
"""What a person does to a process, beside the commands of the table."""

_METRICS = Metrics("simulation", "0")
"""Shared by all: making one costs more than a short run."""

_LAST_STEPS = frozenset({"stragglers", "recheck", "before_switch"})
"""Steps of a crossing in which the stream must rest."""
_LONG = frozenset({"verify", "repair", "dead-letters retry", "cutover", "revert"})
"""Commands in the middle of which another one is of interest."""

_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Killed(Exception):
    """The process that was asked has died before it answered."""


class Process:
    """
    Starts at once; `ended` tells how it ended: None, an error, or True for a kill. With a
    `state` that is not the world's it is a second one beside the world's own.
    """

    def __init__(self, world: World, state: MemoryStateStore | None = None) -> None:
        loop = world.loop
        self.is_second = state is not None
        self._store = state or world.state
        self.person = Person()
        self.alive = True
        self.ended: asyncio.Future[Any] = loop.create_future()
        self._world = world
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._calls: dict[asyncio.Future[Any], None] = {}
        self._context: Context = copy_context()
        self._context.run(_PROCESS.set, self)
        self._source = world.source.attach()
        self._target = world.target.attach()
        feed = None if world.plan.story == "plain" else world.log.attach()
        self._feed = feed
        self._letters = world.letters.attach()
        self._state = self._store.attach()
        self._fence = SimulatedFence(
            world.application,
            world.faults,
            word=self.person if world.plan.word_fence else None,
            point=world.point,
        )
        self._switch = SimulatedSwitch(
            world.application,
            world.faults,
            repeatable=world.plan.repeatable_switch,
            readable=world.plan.readable_switch,
            point=world.point,
            on_call=world.on_switch_call,
            on_switch=world.on_switch,
        )
        self.migration: Migration = self._context.run(self._build)
        self._main = self._spawn(self.migration.run())
        self._main.add_done_callback(self._finished)

    def _build(self) -> Migration:
        world = self._world
        parts = Parts(
            settings=world.plan.settings,
            fingerprint="the same",
            source=self._source,
            target=self._target,
            feed=self._feed,
            state=cast("StateStore", self._watched()),
            letter_log=self._letters,
            metrics=_METRICS,
            clock=world.loop.wall,
            wipe=[c.target for c in world.plan.collections] if world.wipe else [],
        )
        return Migration(
            parts,
            fence=self._fence,
            switch=self._switch,
            hooks=SimulatedHooks(world.faults),
            person=self.person,
        )

    def _watched(self) -> object:
        return self._state if self.is_second else WatchedState(self._state, self._world)

    async def call(self, ask: Callable[[Migration], Coroutine[Any, Any, T]]) -> T:
        """Ask the migration something; raises Killed when the process dies meanwhile."""
        if not self.alive:
            raise Killed
        answer: asyncio.Future[T] = self._world.loop.create_future()
        self._calls[answer] = None
        task = self._spawn(ask(self.migration))

        def told(task: asyncio.Task[T]) -> None:
            self._calls.pop(answer, None)
            if answer.done():
                return
            if task.cancelled():
                answer.set_exception(Killed())
            elif (error := task.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        task.add_done_callback(told)
        return await answer

    def situation(self) -> Situation | None:
        """What decides on a command given now; None while the process is still starting."""
        begun = self.migration._have_begun
        if begun is None:
            return None
        return situation(
            begun.engine.journal.record,
            operation=self.migration._operations.under_way,
            asked=self.person.question is not None,
            feed=self._feed is not None,
            letters=begun.engine.letters.open > 0,
        )

    async def give(self, command: Command[T], look: Look[T] | None = None) -> T:
        """
        Give a command; what comes of it is noted. `look` may say it otherwise, after a look at
        the migration.
        """

        async def do(migration: Migration) -> T:
            return await migration.do(command if look is None else await look(migration))

        at = self.situation()
        self._world.repaired |= isinstance(command, Repair)
        if command.name in _LONG:
            self._world.meddler.nudge(0.3, 0.3)
        try:
            answer = await self.call(do)
        except Refused:
            self.noted(command.name, "refused", at)
            raise
        except ReplicatorError:
            self.noted(command.name, "failed", at)
            raise
        nothing = isinstance(command, CancelVerification | DiscardLetters) and not answer
        self.noted(command.name, "refused" if nothing else "done", at)
        return answer

    def noted(self, command: str, outcome: str, at: Situation | None = None) -> None:
        """Count a command, in the situation in which it was given (none: that of now)."""
        at = at or self.situation()
        if at is not None and not self.is_second:
            operation = at.operation or "nothing"
            self._world.coverage.given(command, at.phase.value, operation, outcome)

    def kill(self) -> None:
        """End the process now, whatever it is doing."""
        if not self.alive:
            return
        self._dead()
        for task in list(self._tasks):
            task.cancel()
        self._tell(True)

    def _dead(self) -> None:
        self.alive = False
        parts = (self._source, self._target, self._feed, self._letters, self._state)
        for part in parts:
            if part is not None:
                part.detach()
        self._fence.attached = self._switch.attached = False
        for answer in list(self._calls):
            if not answer.done():
                answer.set_exception(Killed())
        self._calls.clear()

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not self.alive:
            return
        error = None if task.cancelled() else task.exception()
        if error is None and self._store._data.clean:
            raw = self._store._data.documents.get("unsettled", b"{}")
            unsettled = msgspec.json.decode(raw, type=dict[str, float])
            for store, direction in ((self._target, "forward"), (self._source, "reverse")):
                if store.in_flight and unsettled.get(direction, 0.0) <= self._world.loop.wall():
                    self._world.violate(
                        f"marked clean with {store.in_flight} writes that may still land, "
                        f"and {direction} is not said to be unsettled"
                    )
        self._dead()
        for other in list(self._tasks):
            other.cancel()
        self._tell(error)

    def _tell(self, how: object) -> None:
        if not self.ended.done():
            self.ended.set_result(how)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._context.run(self._world.loop.create_task, work)

    def own(self, task: asyncio.Task[Any]) -> None:
        """A task that this process started."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not self.alive and not task.cancelled():
            task.exception()  # nobody lives to hear of it


def task_factory(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T],
    context: Context | None = None,
) -> asyncio.Task[T]:
    """Let each process know the tasks that it started, down to the last."""
    task: asyncio.Task[T] = NumberedTask(work, loop=loop, context=context)
    owner = _PROCESS.get()
    if owner is not None:
        owner.own(task)
    return task


class WatchedState:
    """A process's state store, with an eye on what is persisted."""

    def __init__(self, state: MemoryStateStore, world: World) -> None:
        self._state = state
        self._world = world
        self._last: MigrationRecord | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    async def load(self) -> MigrationRecord | None:
        self._last = await self._state.load()
        return self._last

    async def save(self, record: MigrationRecord, entry: JournalEntry) -> None:
        await self._state.save(record, entry)
        self._saved(record)

    async def begin(self, record: MigrationRecord, entry: JournalEntry) -> None:
        await self._state.begin(record, entry)
        self._saved(record)

    async def letter(self, number: int) -> Any:
        self._world.meddler.seize(1, 0.0)  # a retry begins
        self._world.meddler.shake()
        return await self._state.letter(number)

    async def findings(self, *arguments: Any) -> Any:
        self._world.meddler.seize(1, 0.0)  # perhaps a repair begins
        self._world.meddler.shake()
        return await self._state.findings(*arguments)

    async def note(self, entry: JournalEntry) -> None:
        await self._state.note(entry)
        self._world.meddler.nudge(0.12)
        if entry.step in _LAST_STEPS:
            self._world.meddler.shake()

    async def commit(self, *arguments: Any, **named: Any) -> None:
        self._world.point("commit")
        await self._state.commit(*arguments, **named)

    async def advance(self, state: ChunkState) -> None:
        self._world.point("advance")
        await self._state.advance(state)

    async def add_letters(self, letters: Sequence[Any]) -> list[int]:
        self._world.point("keep")
        return await self._state.add_letters(letters)

    def _saved(self, record: MigrationRecord) -> None:
        before, self._last = self._last, record
        self._world.saved(before, record)
