"""
The meddler: a second person, who gives any command at any moment, above all in the middle of
what another one began.

He knows nothing of the story. What he gives is refused or done; whatever comes of it, the
oracle holds at the end. He tells no lies: who owns the data he says as it is, and he gives up
only dead letters that a broken producer caused. A command that ends the story (`complete`,
`abort`) he gives seldom where it would be taken, and where the story cannot bear a command he
is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, Any

from replicator.errors import Refused, ReplicatorError
from replicator.migration.migration import Migration
from replicator.model.command import Command, refusal
from replicator.model.letter import LetterState
from replicator.model.phase import Phase
from replicator.ports.control import CutoverRequest, VerifyRequest
from tests.simulation.process import RESTART, Killed, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

_SOON_S = 150.0
"""A command that only changes the record ends within it, whoever is away."""
_LATE_S = 600.0
"""A long operation ends within so many seconds in which nothing keeps it from going on."""
_LONG = frozenset(
    {Command.VERIFY, Command.REPAIR, Command.RETRY, Command.CUTOVER, Command.REVERT}
)
_ENDS = frozenset({Command.COMPLETE, Command.ABORT})
_OTHERS = ("misplaced-keys", "group-foreign", "fence-lapsed", "nonsense")
"""What he acknowledges. Another log or another mark is meant by nobody here."""

Ask = Callable[[Migration], Coroutine[Any, Any, Any]]


class Meddler:
    """Gives commands when he is nudged, and now and then by himself."""

    def __init__(self, world: World) -> None:
        self.forbidden: set[Command] = set()
        """What the story could not bear just now."""
        self.is_here = world.plan.meddles > 0
        self._world = world
        self._left = world.plan.meddles
        self._random = Random(f"meddler {world.plan.seed}")
        self._given: dict[asyncio.Task[None], None] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether some command of his is not answered."""
        return bool(self._given)

    def go(self) -> None:
        """Give no more commands. What is given is waited for by whoever sent him away."""
        self.is_here = False

    def come(self) -> None:
        """Meddle again."""
        self.is_here = self._left > 0 and not self._world.calm

    def close(self) -> None:
        """The run is over."""
        self.is_here = False
        for task in list(self._given):
            task.cancel()

    async def wander(self) -> None:
        """Give a command now and then."""
        while True:
            await asyncio.sleep(self._random.expovariate(1 / 3.0))
            self.nudge(0.7)

    def nudge(self, chance: float, within_s: float = 0.05) -> None:
        """Something happens just now that it might be well to disturb."""
        if self.is_here and self._left > 0 and self._random.random() < chance:
            self._left -= 1
            self._soon(within_s)

    def seize(self, times: int, within_s: float) -> None:
        """It is seldom so: what he gives now is given besides all else."""
        for _ in range(times):
            if self.is_here and self._random.random() < 0.8:
                self._soon(within_s)

    def shake(self) -> None:
        """Pause and resume in the middle of what has just begun."""
        if self.is_here and self._random.random() < 0.4:
            loop, at_s = asyncio.get_running_loop(), self._random.random() * 0.05
            for command in (Command.PAUSE, Command.RESUME):
                loop.call_later(at_s, self._begin, False, command, context=Context())
                at_s += self._random.random() * 0.2

    def part(self) -> None:
        """The migration is over, and its process about to end: one command more."""
        if self._world.plan.meddles and self._random.random() < 0.8:
            self._soon(0.0, parting=True)

    def _soon(self, within_s: float, *, parting: bool = False) -> None:
        delay_s = self._random.choice([0.0, 0.004, self._random.random() * within_s])
        # In no process's name: what he has sent does not die with the one that he disturbed.
        asyncio.get_running_loop().call_later(
            0.0 if parting else delay_s, self._begin, parting, context=Context()
        )

    def _begin(self, parting: bool, wanted: Command | None = None) -> None:
        process = self._world.process
        if process is None or not process.alive or not (self.is_here or parting):
            return
        choice = wanted or self._random.choice([*Command, RESTART])
        if choice is RESTART:
            process.noted(RESTART, "done")
            self._world.trace.add(self._world.now, "meddler", "restart")
            (self._world.crash if self._random.random() < 0.5 else self._world.drain)()
            return
        assert isinstance(choice, Command)
        if self._would_harm(choice, process):
            return
        work = self._give(choice, process, self._ask(choice))
        task = asyncio.get_running_loop().create_task(work)
        self._given[task] = None
        task.add_done_callback(lambda task: self._given.pop(task, None))

    def _would_harm(self, command: Command, process: Process) -> bool:
        if command in self.forbidden:
            return True
        at = process.situation()
        if at is None or refusal(command, at) is not None:
            return False  # it will be refused, and that is to be seen
        if command is Command.OWN and self._world.application.switches_under_way:
            return True  # he cannot tell the truth just now
        return command in _ENDS and self._random.random() < 0.9

    # -- what he asks ---------------------------------------------------------------------
    def _ask(self, command: Command) -> Ask:
        random, world = self._random, self._world
        request = CutoverRequest(
            yes=random.random() < 0.6,
            waive_dead_letters=random.random() < 0.6,
            timeout_s=random.choice([None, 3.0, 20.0]),
        )
        collection = random.choice([None, world.plan.collections[0].source, "nowhere"])
        level = random.choice(["full", "full", "counts", "sample"])
        code = random.choice(_OTHERS)
        yes = random.random() < 0.8
        changes = random.choice(
            [{"stream.in_flight_max": "2"}, {"stream.linger": "30ms"}, {"nonsense": "1"}, {}]
        )
        numbers = random.choice([None, [1], [1, 2, 10_000]])
        asks: dict[Command, Ask] = {
            Command.PAUSE: lambda migration: migration.pause(),
            Command.RESUME: lambda migration: migration.resume(),
            Command.TUNE: lambda migration: migration.tune(changes),
            Command.VERIFY: lambda migration: migration.verify(VerifyRequest(level=level)),
            Command.CANCEL: _cancel,
            Command.REPAIR: lambda migration: migration.repair(collection),
            Command.RETRY: lambda migration: migration.retry_letters(numbers),
            Command.DISCARD: self._discard,
            Command.CUTOVER: lambda migration: migration.cutover(request),
            Command.REVERT: lambda migration: migration.revert(request),
            Command.COMPLETE: lambda migration: migration.complete(),
            Command.ABORT: lambda migration: migration.abort(),
            Command.OWN: lambda migration: migration.own(world.application.active),
            Command.ACKNOWLEDGE: lambda migration: migration.acknowledge(code, "he says"),
            Command.ANSWER: lambda migration: migration.answer(yes),
        }
        return asks[command]

    async def _discard(self, migration: Migration) -> None:
        letters = await migration.letters(LetterState.OPEN, 1000, 0)
        numbers = [x.number for x in letters if self._world.is_producers_fault(x)]
        if not await migration.discard_letters(numbers[:2]):
            raise Refused("not-found", "no dead letter of these is open")

    async def _give(self, command: Command, process: Process, ask: Ask) -> None:
        world = self._world
        world.trace.add(world.now, "meddler", command.value)
        call = asyncio.ensure_future(process.give(command, ask))
        try:
            await self._in_time(command, call)
        except Killed:
            return
        except Refused as error:
            world.trace.add(world.now, "refused him", command.value, error.code, error.message)
            if not error.message:
                world.violate(f"{command.value} was refused without a reason")
        except ReplicatorError as error:
            world.trace.add(world.now, "failed him", command.value, error.code, error.message)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
            world.violate(f"{command.value} raised {error!r}", error)
        finally:
            call.cancel()

    async def _in_time(self, command: Command, call: asyncio.Future[Any]) -> None:
        """Every command ends, in its time."""
        waited_s = 0.0
        while not call.done():
            await asyncio.wait([call], timeout=1.0)
            waited_s += 1.0 if command not in _LONG or self._goes_on() else 0.0
            if waited_s > (_LATE_S if command in _LONG else _SOON_S):
                self._world.violate(f"{command.value} does not end")
                return
        call.result()

    def _goes_on(self) -> bool:
        """Whether nothing keeps an operation from going on."""
        record, world = self._world.record, self._world
        away = world.source.away or world.target.away or world.log.away
        if record is None or record.paused or away:
            return False
        return record.phase in {Phase.STREAMING, Phase.FENCING, Phase.SWITCHING}


async def _cancel(migration: Migration) -> None:
    if not await migration.cancel_verification():
        raise Refused("phase-refused", "no verification is under way")
