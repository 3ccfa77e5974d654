"""
From the point of no return on: there is only forward, or HELD for a person.

Traffic moves with the fence closed and SWITCHING journalled. What lies behind the vector is
read before traffic counts as moved, and the fence opens only after that is persisted.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from replicator import failpoints
from replicator.errors import Blocked, OwnershipUnknown, ReplicatorError, Retryable
from replicator.migration.cutover.closed_fence import GRACE_S, ClosedFence
from replicator.migration.cutover.steps import Steps
from replicator.migration.evidence.journal import Journal
from replicator.model.phase import Direction, Phase
from replicator.model.position import Positions
from replicator.ports.traffic import Switch
from replicator.stream.waits import Waits

_RETRY_S = 0.5
_SWITCH_TRIES = 5


class Behind(Protocol):
    """What there is to look at behind a vector, and whom to tell."""

    async def straggler_behind(self, vector: Positions, epoch: int) -> str | None:
        """The first record behind a vector that was not written under the epoch that begins
        there, in words. Raises as the feed does.
        """
        ...

    def wake(self) -> None:
        """Look again at what the record asks for."""
        ...


class Switching:
    """Of one attempt."""

    def __init__(
        self,
        *,
        journal: Journal,
        fence: ClosedFence,
        switch: Switch,
        steps: Steps,
        path: Behind,
        waits: Waits,
    ) -> None:
        self._journal = journal
        self._fence = fence
        self._switch = switch
        self._steps = steps
        self._path = path
        self._waits = waits

    async def resume(self) -> None:
        """After a restart in SWITCHING: close the fence again, and go on."""
        record = self._journal.record
        # Nobody knows how long the fence was open while no process was there to extend it.
        await self._fence.latch_lapse("the process was away during the switch")
        there = await self._is_at(record.direction.other)
        if not self._switch.repeatable and not there:
            # It may have been asked for already, and must not be asked for twice.
            await self._hold(
                "the switch cannot be repeated, and does not show that it took place"
            )
        await self._close_again()
        if not there:
            # Traffic has not moved: what was written meanwhile is on the old store.
            await self._read_behind()
        await self.switch(record.direction.other, asked=not self._switch.repeatable)

    async def switch(self, direction: Direction, *, asked: bool = False) -> None:
        """
        Move the traffic, with the fence closed and the point of no return journalled. `asked`:
        it has moved already.
        """
        await self._steps.begin("switch", f"switching traffic to the {store_of(direction)}")
        keeper = asyncio.create_task(self._fence.keep_closed(), name="fence keeper")
        try:
            await failpoints.reached("crossing.switching")
            if not asked:
                await self._move_traffic(direction)
            await failpoints.reached("crossing.switched")
            await self._steps.show_hook("after_switch", direction)
            if self._fence.has_lapsed:
                # Whoever was admitted in the lapse has flushed once the fence is closed anew.
                await self._close_again()
            await self._read_behind()
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
        await self._fence.forget_lapse()
        record = self._journal.record
        await self._journal.move(
            Phase.STREAMING,
            f"the application is on the {store_of(direction)}",
            only_from=Phase.SWITCHING,
            direction=direction,
            epochs=record.epochs.enter(record.epochs.offered, record.fence_vector, moved=True),
            incarnation=record.incarnation + 1,
            fence_vector={},
        )
        await failpoints.reached("crossing.streaming")
        self._path.wake()
        self._steps.status.step = "open"

    async def _move_traffic(self, direction: Direction) -> None:
        epoch = self._journal.record.epochs.offered
        for attempt in range(_SWITCH_TRIES):
            try:
                await self._switch.to(direction, epoch)
                return
            except ReplicatorError as error:
                if await self._is_at(direction):
                    return
                final = error.code == "declined" or attempt == _SWITCH_TRIES - 1
                if final or not self._switch.repeatable:
                    await self._hold(f"the switch did not answer well: {error.message}")
                self._waits.saw(self, error)
                await asyncio.sleep(_RETRY_S * 2**attempt)
            finally:
                self._waits.over(self)

    async def _read_behind(self) -> None:
        """
        What lies behind the vector was written under the new epoch, or passed the fence late:
        then it is on the store left behind, and a person decides.
        """
        record = self._journal.record
        vector, epoch = record.fence_vector, record.epochs.offered
        while True:
            try:
                found = await self._path.straggler_behind(vector, epoch)
                break
            except Retryable as error:
                self._waits.saw(self, error)
                await asyncio.sleep(_RETRY_S)
            except Blocked as error:
                self._waits.over(self)
                await self._hold(f"nobody can read what passed the fence: {error.message}")
        self._waits.over(self)
        if found is not None:
            how = "the fence had lapsed, and " if self._fence.has_lapsed else ""
            await self._hold(f"{how}{found} was written to the store left behind")

    async def _close_again(self) -> None:
        """Close after a lapse: every writer has flushed when it returns. HELD where it cannot
        be closed.
        """
        if self._fence.rests_on_word:
            return  # it does not open by itself, and asking again would prove nothing
        while True:
            try:
                answer = await self._fence.close(GRACE_S)
                break
            except Retryable as error:
                self._waits.saw(self, error)
                await asyncio.sleep(_RETRY_S)
            except ReplicatorError as error:
                self._waits.over(self)
                await self._hold(f"the fence had lapsed, and is not closed: {error.message}")
        self._waits.over(self)
        await self._journal.note("closed", "closed again", **answer.evidence)

    async def _is_at(self, direction: Direction) -> bool:
        """Whether the switch shows that traffic moved there, and not in an earlier switch."""
        try:
            at = await self._switch.current()
        except ReplicatorError:
            return False
        if at is None or at.direction is not direction:
            return False
        return at.epoch is None or at.epoch >= self._journal.record.epochs.offered

    async def _hold(self, message: str) -> None:
        await self._journal.move(
            Phase.HELD, message, only_from=Phase.SWITCHING, reason_code="ownership-unknown"
        )
        self._steps.status.outcome = f"ownership-unknown: {message}"
        raise OwnershipUnknown("ownership-unknown", message)


def store_of(direction: Direction) -> str:
    """The store that the application uses then, in words."""
    return "source" if direction is Direction.FORWARD else "target"
