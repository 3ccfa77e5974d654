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
from collections.abc import Callable
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, Any, cast

from replicator.errors import Refused, ReplicatorError
from replicator.migration.migration import Migration
from replicator.model.command import (
    COMMANDS,
    Abort,
    Acknowledge,
    Answer,
    AnyCommand,
    Command,
    Complete,
    Cutover,
    DiscardLetters,
    Level,
    Own,
    Pause,
    Repair,
    Resume,
    RetryLetters,
    Revert,
    Tune,
    Verify,
)
from replicator.model.letter import LetterState
from replicator.model.phase import Phase
from replicator.model.situation import refusal
from tests.simulation.process import RESTART, Killed, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

_SOON_S = 150.0
"""A command that only changes the record ends within it, whoever is away."""
_LATE_S = 600.0
"""A long operation ends within so many seconds in which nothing keeps it from going on."""
_LONG = (Verify, Repair, RetryLetters, Cutover, Revert)
_ENDS = (Complete, Abort)
_OTHERS = ("misplaced-keys", "group-foreign", "fence-lapsed", "nonsense")
"""What he acknowledges. Another log or another mark is meant by nobody here."""


class Meddler:
    """Gives commands when he is nudged, and now and then by himself."""

    def __init__(self, world: World) -> None:
        self.forbidden: set[type[AnyCommand]] = set()
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
            for command in (Pause, Resume):
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

    def _begin(self, parting: bool, wanted: type[AnyCommand] | None = None) -> None:
        process = self._world.process
        if process is None or not process.alive or not (self.is_here or parting):
            return
        choice = wanted or self._random.choice([*COMMANDS, RESTART])
        if choice is RESTART:
            process.noted(RESTART, "done")
            self._world.trace.add(self._world.now, "meddler", "restart")
            (self._world.crash if self._random.random() < 0.5 else self._world.drain)()
            return
        assert not isinstance(choice, str)
        if self._would_harm(choice, process):
            return
        work = self._give(self._value(choice), process)
        task = asyncio.get_running_loop().create_task(work)
        self._given[task] = None
        task.add_done_callback(lambda task: self._given.pop(task, None))

    def _would_harm(self, command: type[AnyCommand], process: Process) -> bool:
        if command in self.forbidden:
            return True
        at = process.situation()
        if at is None or refusal(command, at) is not None:
            return False  # it will be refused, and that is to be seen
        if command is Own and self._world.application.switches_under_way:
            return True  # he cannot tell the truth just now
        return command in _ENDS and self._random.random() < 0.9

    # -- what he asks ---------------------------------------------------------------------
    def _value(self, command: type[AnyCommand]) -> AnyCommand:
        """A command with what he draws for it. He draws for all, so that a seed stays a run."""
        random, world = self._random, self._world
        yes_to_all = random.random() < 0.6
        waive_dead_letters = random.random() < 0.6
        timeout_s = random.choice([None, 3.0, 20.0])
        collection = random.choice([None, world.plan.collections[0].source, "nowhere"])
        levels: list[Level] = ["full", "full", "counts", "sample"]
        level = random.choice(levels)
        code = random.choice(_OTHERS)
        yes = random.random() < 0.8
        changes = random.choice(
            [{"stream.in_flight_max": "2"}, {"stream.linger": "30ms"}, {"nonsense": "1"}, {}]
        )
        numbers = random.choice([None, (1,), (1, 2, 10_000)])
        crossing: dict[str, Any] = {
            "yes": yes_to_all,
            "waive_dead_letters": waive_dead_letters,
            "timeout_s": timeout_s,
        }
        drawn: dict[type[AnyCommand], AnyCommand] = {
            Tune: Tune(changes),
            Verify: Verify(level=level),
            Repair: Repair(collection),
            RetryLetters: RetryLetters(numbers),
            DiscardLetters: DiscardLetters(()),
            Cutover: Cutover(**crossing),
            Revert: Revert(**crossing),
            Own: Own(world.application.owned),
            Acknowledge: Acknowledge(code, "he says"),
            Answer: Answer(yes),
        }
        return (
            drawn[command] if command in drawn else cast("Callable[[], AnyCommand]", command)()
        )

    async def _spoilt(self, migration: Migration) -> DiscardLetters:
        """Some open dead letters that a broken producer caused."""
        letters = await migration.letters(LetterState.OPEN, 1000, 0)
        numbers = [x.number for x in letters if self._world.is_producers_fault(x)]
        return DiscardLetters(tuple(numbers[:2]))

    async def _give(self, command: AnyCommand, process: Process) -> None:
        world = self._world
        world.trace.add(world.now, "meddler", command.name)
        look = self._spoilt if isinstance(command, DiscardLetters) else None
        call = asyncio.ensure_future(process.give(cast("Command[Any]", command), look))
        try:
            await self._in_time(command, call)
        except Killed:
            return
        except Refused as error:
            world.trace.add(world.now, "refused him", command.name, error.code, error.message)
            if not error.message:
                world.violate(f"{command.name} was refused without a reason")
        except ReplicatorError as error:
            world.trace.add(world.now, "failed him", command.name, error.code, error.message)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
            world.violate(f"{command.name} raised {error!r}", error)
        finally:
            call.cancel()

    async def _in_time(self, command: AnyCommand, call: asyncio.Future[Any]) -> None:
        """Every command ends, in its time."""
        waited_s = 0.0
        while not call.done():
            await asyncio.wait([call], timeout=1.0)
            waited_s += 1.0 if not isinstance(command, _LONG) or self._goes_on() else 0.0
            if waited_s > (_LATE_S if isinstance(command, _LONG) else _SOON_S):
                self._world.violate(f"{command.name} does not end")
                return
        call.result()

    def _goes_on(self) -> bool:
        """Whether nothing keeps an operation from going on."""
        record, world = self._world.record, self._world
        away = world.source.away or world.target.away or world.log.away
        if record is None or record.paused or away:
            return False
        return record.phase in {Phase.STREAMING, Phase.FENCING, Phase.SWITCHING}
