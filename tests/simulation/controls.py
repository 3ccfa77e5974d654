"""The fence and the switch of the simulated application, as the migration sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

from replicator.errors import OutcomeUnknown, Refused, Retryable
from replicator.model.fence import FenceAnswer
from replicator.model.phase import Direction
from replicator.ports.traffic import Pointer
from replicator.testing.faults import Fault, Faults
from replicator.traffic.person import Person
from tests.simulation.application import Application


class SimulatedFence:
    """
    One incarnation's client of the application's fence.

    Resting on a word, it closes when a person says so: changes under way may still be emitted,
    and nothing opens it but a person. Else it waits for every writer and opens by itself at its
    deadline.
    """

    def __init__(
        self,
        application: Application,
        faults: Faults,
        *,
        word: Person | None,
        point: Callable[[str], None],
    ) -> None:
        self.attached = True
        self._application = application
        self._faults = faults
        self._word = word
        self._point = point

    @property
    def rests_on_word(self) -> bool:
        return self._word is not None

    async def close(self, deadline_s: float, attempt: str) -> FenceAnswer:
        await self._travel()
        if self._word is not None and not await self._word.ask("fence-close", "stopped?"):
            raise Refused("declined", "the writers were not stopped")
        if self._word is None and attempt in self._application.opened_for:
            # A request that comes late, after the fence was opened for this attempt.
            raise Refused("fence-failed", "the fence was opened for this attempt")
        self._reachable()
        if self._faults.strikes(Fault.FENCE_REFUSED):
            raise Refused("fence-failed", "the application will not stop")
        if self._faults.strikes(Fault.FENCE_IGNORED):
            self._application.ignores.add(0)
        self._application.stalls = self._faults.strikes(Fault.LATE_BATCH)
        application = self._application
        application.close_fence(attempt)
        application.deadline(None if self._word is not None else deadline_s)
        self._point("fence close")
        if self._word is None:
            await application.idle()
        if self._faults.strikes(Fault.FENCE_ACK_LOST):
            raise Retryable("fence-failed", "the fence did not answer")
        held_s = application.held_s
        await self._travel()
        return FenceAnswer(holder="the application", held_s=held_s)

    async def open(self, attempt: str) -> FenceAnswer:
        await self._travel()
        if self._word is not None and not await self._word.ask("fence-open", "run again?"):
            raise Refused("declined", "the writers were not started again")
        self._reachable()
        if self._application.fenced and attempt != self._application.closed_for:
            raise Refused("fence-held", "the fence is closed for another attempt")
        self._application.opened_for.add(attempt)
        self._point("fence open")
        self._application.open_fence()
        self._application.ignores.clear()
        await self._travel()
        return FenceAnswer(holder="the application")

    def _reachable(self) -> None:
        if asyncio.get_running_loop().time() < self._application.fence_away_until:
            raise Retryable("fence-failed", "the fence does not answer")

    async def _travel(self) -> None:
        if not self.attached:
            raise asyncio.CancelledError
        await asyncio.sleep(self._faults.latency())
        if not self.attached:
            raise asyncio.CancelledError


class SimulatedSwitch:
    """
    One incarnation's client of the application's traffic switch. A request that was sent takes
    effect whether or not anyone lives to hear the reply.
    """

    def __init__(
        self,
        application: Application,
        faults: Faults,
        *,
        repeatable: bool,
        readable: bool,
        point: Callable[[str], None],
        on_call: Callable[[int], None],
        on_switch: Callable[[Direction], None],
    ) -> None:
        self.attached = True
        self._application = application
        self._faults = faults
        self._repeatable = repeatable
        self._readable = readable
        self._point = point
        self._on_call = on_call
        self._on_switch = on_switch

    @property
    def repeatable(self) -> bool:
        return self._repeatable

    async def to(self, direction: Direction, epoch: int) -> None:
        self._alive()
        self._on_call(epoch)
        self._point("switch")
        loop = asyncio.get_running_loop()
        failed = self._faults.strikes(Fault.SWITCH_FAILED)
        lost = self._faults.strikes(Fault.SWITCH_REPLY_LOST)
        there = self._faults.latency()
        if self._faults.strikes(Fault.SWITCH_SLOW):
            there += self._faults.within(40.0)
        if self._faults.strikes(Fault.FENCE_AWAY):
            self._application.fence_away_until = loop.time() + self._faults.within(250.0)
            there += self._faults.within(150.0)
        if not failed:
            self._application.switches_under_way += 1
            loop.call_later(there, self._switched, direction, epoch, context=Context())
        await asyncio.sleep(there + self._faults.latency())
        self._alive()
        if lost:
            raise OutcomeUnknown("switch-failed", "the switch did not answer")
        if failed:
            raise Refused("switch-failed", "the switch will not move")
        # The effect and this task may be due at the same instant; the effect came first.
        while self._application.switches_under_way:
            await asyncio.sleep(0.001)
        if epoch < self._application.epoch:
            raise Refused("switch-failed", "the route was given a later epoch meanwhile")

    async def current(self) -> Pointer | None:
        self._alive()
        await asyncio.sleep(self._faults.latency())
        self._alive()
        if not self._readable:
            self._faults.fire(Fault.SWITCH_UNREADABLE)
            return None
        return Pointer(self._application.active, self._application.epoch)

    def _switched(self, direction: Direction, epoch: int) -> None:
        self._application.switches_under_way -= 1
        if epoch < self._application.epoch:
            return  # asked for before another switch took place: the route knows better
        if self._application.active is not direction:
            self._on_switch(direction)
        self._application.route(direction, epoch)

    def _alive(self) -> None:
        if not self.attached:
            raise asyncio.CancelledError


class SimulatedHooks:
    """Hooks that mostly do nothing, and sometimes fail."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def run(self, step: str, direction: Direction) -> None:
        """Fail, or not."""
        await asyncio.sleep(self._faults.latency())
        if self._faults.strikes(Fault.HOOK_FAILED):
            raise Refused("hook-failed", f"the hook {step} failed ({direction.value})")
