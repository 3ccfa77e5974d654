"""
The operator: what a person does to one migration, from its start to a terminal phase.

A person does not know what the oracle knows. The operator here reads the status and the errors,
does what they ask for, and tries again; only which store the application really writes (asked
in HELD) and which keys the application has to write anew are known otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from replicator.model.phase import Direction, Phase
from replicator.testing.faults import Fault
from tests.simulation.asking import Over
from tests.simulation.mishaps import Mishaps


class Operator(Mishaps):
    """Plays the plan's story."""

    async def play(self) -> None:
        """The whole story; returns in a terminal phase with everything compared."""
        stories: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "cutover": self.cutover_story,
            "held": self.cutover_story,
            "revert": self.revert_story,
            "abort-again": self.again_story,
            "lost-state": self.lost_story,
            "grown": self.grown_story,
            "truncated": self.truncated_story,
            "glitch": self.glitch_story,
            "plain": self.plain_story,
            "abort": self.abort_story,
            "unstarted": self.unstarted_story,
            "remade": self.remade_story,
            "restored": self.restored_story,
            "second": self.second_story,
        }
        try:
            await stories[self.world.plan.story]()
        except Over:
            await self.completed()

    # -- stories --------------------------------------------------------------------------
    async def cutover_story(self) -> None:
        await self.early()
        await self.crossed()

    async def revert_story(self) -> None:
        await self.early()
        await self.to(Direction.REVERSE)
        await self.linger()
        await self.to(Direction.FORWARD)
        await self.linger()
        if self.random.random() < 0.5:
            await self.crossed()
        else:
            await self.settled(Direction.FORWARD)
            await self.equal()
            await self.finish(Phase.ABORTED)

    async def abort_story(self) -> None:
        await self.early()
        if self.random.random() < 0.5:
            await self.settled(Direction.FORWARD)
            await self.equal()
        await self.forward()
        await self.finish(Phase.ABORTED)
        await self.sources_equal()

    async def again_story(self) -> None:
        await self.early()
        if self.random.random() < 0.5:
            await self.reach(Phase.STREAMING)
        await self.linger()
        await self.forward()
        await self.finish(Phase.ABORTED)
        await self.linger()
        await self.second_capture()
        self.world.meddler.come()
        await self.early()
        await self.crossed()

    async def unstarted_story(self) -> None:
        """The broker is away from the beginning, and the operator has second thoughts."""
        self.world.faults.fire(Fault.BROKER_OUTAGE)
        self.world.take_log_away()
        await self.until(lambda: self.phase is Phase.PLANNED, "PLANNED")
        await self.finish(Phase.ABORTED)
        await self.sources_equal()

    async def plain_story(self) -> None:
        """A plain copy of a store that nobody writes."""
        try:
            await self.until(lambda: self.phase is Phase.BLOCKED, "COMPLETE", blocked=True)
        except Over:
            self.compare(Direction.FORWARD)
        else:
            raise AssertionError(f"a plain copy is blocked: {self.record}")
