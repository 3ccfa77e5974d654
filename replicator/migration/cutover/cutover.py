"""
Cutover, and its mirror image revert: one operation in two directions.

    gate ─► FENCING: close fence ─► vector ─► drain ─► rest ─► re-check ─► stragglers
               │ anything unexpected                                                    │
               ▼                                                                        ▼
      STREAMING, as before           SWITCHING, journalled ─► switch ─► STREAMING, reversed
               └──────────────► open the fence ◄─────────────────────────────┘

Until SWITCHING is journalled every failure goes back; from then on there is only forward, or
HELD for a person. The fence opens only after one of the two is persisted, so that no write is
admitted while nobody knows where it belongs.

The deadline of the attempt is given to the fence's holder too. Should this process die, the
holder opens the fence by itself at that time: the point of no return is therefore never
journalled after it. A fence whose deadline passed before it was extended has *lapsed*: that it
is closed again says nothing of the writes in between. A lapse is latched for the attempt, and
what lies behind the vector is read before traffic counts as moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from replicator import failpoints
from replicator.clock import Clock
from replicator.errors import (
    Blocked,
    OwnershipUnknown,
    Refused,
    ReplicatorError,
    Retryable,
)
from replicator.migration.equality.recheck import Rechecked
from replicator.migration.evidence.journal import Journal
from replicator.model.fact import FactCode
from replicator.model.fence import FenceAnswer
from replicator.model.phase import Direction, Phase
from replicator.model.position import Positions
from replicator.model.record import MigrationRecord
from replicator.model.status import FenceStatus
from replicator.ports.feed import ChangeFeed
from replicator.ports.traffic import Fence, Switch
from replicator.settings.cutover import CutoverSettings
from replicator.stream.ownership import Rest
from replicator.stream.waits import Waits

_LOOK_S = 0.5
"""Between the two looks for stragglers where the fence is enforced and every writer has
flushed.
"""
_POLL_S = 0.05
_SWITCH_TRIES = 5
_GRACE_S = 60.0
"""How long the fence stays closed beyond the attempt, and by how much it is extended while the
switch takes its time. Shorter lets writers in while traffic moves; longer leaves the
application without writes for so long should this process die just then."""


class StepHooks(Protocol):
    """What `traffic.hooks` offers."""

    async def run(self, step: str, direction: Direction) -> None:
        """Run the hook of a step, if there is one. Raises Refused("hook-failed")."""
        ...


class Path(Protocol):
    """The data path, as a cutover needs it."""

    @property
    def committed(self) -> Positions:
        """The persisted positions."""
        ...

    @property
    def show_after_s(self) -> float:
        """From an event to its being visible at the source, or the other way round."""
        ...

    async def commit(self) -> None:
        """Persist now what is applied, sooner than the interval would."""
        ...

    async def quiesce(self, reason: str) -> Rest:
        """
        Stop the stream with nothing in flight and nothing that may still land; it stays so
        until the rest that is returned is released.
        """
        ...

    def wake(self) -> None:
        """Look again at what the record asks for."""
        ...

    async def recheck(self, end: Positions, rest: Rest) -> Rechecked:
        """Compare every key written since the verified generation. Raises Refused."""
        ...

    async def straggler_behind(self, vector: Positions, epoch: int) -> str | None:
        """The first record behind a vector that was not written under the epoch that begins
        there, in words. Raises as the feed does.
        """
        ...


class Cutover:
    """One attempt. `run` returns when the application is on the other store, or raises why
    not.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        feed: ChangeFeed,
        fence: Fence,
        switch: Switch,
        hooks: StepHooks,
        path: Path,
        settings: CutoverSettings,
        clock: Clock,
        waits: Waits,
        timeout_s: float,
    ) -> None:
        record = journal.record
        self.status = FenceStatus(
            operation="cutover" if record.direction is Direction.FORWARD else "revert",
            step="gate",
            since=clock(),
            deadline_s=timeout_s,
        )
        self._journal = journal
        self._feed = feed
        self._fence = fence
        self._switch = switch
        self._hooks = hooks
        self._path = path
        self._settings = settings
        self._clock = clock
        self._waits = waits
        self._timeout_s = timeout_s
        self._ends_at = 0.0
        self._closed_until: float | None = None
        self._rest: Rest | None = None

    async def run(self) -> None:
        """
        The attempt, from an open gate. Raises the error that stopped it; by then the fence is
        open again (or a person is asked to open it) and the phase STREAMING, or HELD.
        """
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + self._timeout_s
        direction = self._journal.record.direction
        try:
            try:
                await self._up_to_no_return(direction)
            except BaseException as error:
                if self._journal.record.phase is not Phase.SWITCHING:
                    await self._go_back(error)
                    raise
                if not isinstance(error, Exception):
                    raise
            await self.switch(direction.other)
        finally:
            self._release()

    def _release(self) -> None:
        if self._rest is not None:
            self._rest.release()
            self._rest = None
        self._path.wake()

    async def _up_to_no_return(self, direction: Direction) -> None:
        try:
            async with asyncio.timeout_at(self._ends_at):
                vector = await self._fence_and_drain(direction)
        except TimeoutError as error:
            raise Refused(
                "cutover-timeout",
                f"the attempt took longer than {self._timeout_s:.0f} s, at step "
                f"{self.status.step}",
            ) from error
        if self._lapsed():
            raise Refused("fence-lapsed", "the fence's deadline passed before the switch")
        epochs = self._journal.record.epochs.offer()
        # Invariant 7: the point of no return is journalled before the switch is touched.
        moved = await self._journal.move(
            Phase.SWITCHING,
            f"switching to the {_store(direction.other)}",
            only_from=Phase.FENCING,
            evidence={"vector": dict(vector), "epoch": epochs.offered},
            fence_vector=vector,
            epochs=epochs,
        )
        if not moved:
            raise self._overtaken()

    # -- before the point of no return -----------------------------------------------------

    async def _fence_and_drain(self, direction: Direction) -> Positions:
        await self._step("before_fence", "running the hook before the fence")
        await self._hooks.run("before_fence", direction)
        tries = self._journal.record.tries + 1
        # Invariant 7: a restart must know that the fence may be closed before it is.
        begun = await self._journal.move(
            Phase.FENCING,
            f"{self.status.operation} begins",
            only_from=Phase.STREAMING,
            # A pause may have come since the gate was judged.
            when=lambda record: not record.paused and record.direction is direction,
            fence_closed=True,
            fenced_at=self._clock(),
            tries=tries,
            fence_token=self._journal.record.attempt_at(tries),
        )
        if not begun:
            raise self._overtaken()
        await failpoints.reached("crossing.fencing")
        await self._step("fence", "closing the writer fence")
        # The holder's deadline leaves room for the switch itself, which the attempt's does not
        # bound.
        answer = await self._close(self._ends_at - asyncio.get_running_loop().time() + _GRACE_S)
        await self._journal.note("closed", "every writer has flushed", **answer.evidence)
        await failpoints.reached("crossing.closed")
        await self._hooks.run("after_fence", direction)
        vector = await self._vector()
        await failpoints.reached("crossing.vector")
        fenced_at = asyncio.get_running_loop().time()
        await self._step("drain", "waiting until everything before the fence is applied")
        while not self._reached(vector):  # bounded by the attempt
            if self._journal.record.phase is not Phase.FENCING:
                raise self._overtaken()
            await self._path.commit()  # the writers wait: not for the interval as well
            await asyncio.sleep(_POLL_S)
        await failpoints.reached("crossing.drained")
        await self._look(vector)
        self._rest = await self._path.quiesce(f"a {self.status.operation} is under way")
        await failpoints.reached("crossing.rested")
        if self._fence.rests_on_word:
            # Nobody flushed. A change whose event is in the log may still be on its way to the
            # store, and one that is in the store may still be on its way to the log.
            span_s = max(self._settings.delivery_timeout, self._path.show_after_s)
            await self._look_for_stragglers(fenced_at + span_s)
        await self._step("recheck", "comparing every key written since the verification")
        done = await self._path.recheck(vector, self._rest)
        await self._journal.note(
            "recheck",
            "both stores agree",
            keys=done.keys,
            passes=done.passes,
            repaired=done.repaired,
        )
        await failpoints.reached("crossing.rechecked")
        if not self._fence.rests_on_word:
            await self._look_for_stragglers(fenced_at + _LOOK_S)
        await self._step("before_switch", "running the hook before the switch")
        await self._hooks.run("before_switch", direction)
        await failpoints.reached("crossing.before-switching")
        await self._look(vector)
        return vector

    async def _look_for_stragglers(self, until: float) -> None:
        await self._step("stragglers", "looking for writers that ignored the fence")
        left_s = max(0.0, until - asyncio.get_running_loop().time())
        with self._waits.waiting(
            "stragglers",
            "looking for writers that ignored the fence",
            seconds=left_s,
            planned=True,
        ):
            await self._unless_overtaken(asyncio.sleep(left_s))

    async def _unless_overtaken(self, wait: Awaitable[None]) -> None:
        """Wait, but not with writers stopped for an attempt that can no longer succeed."""
        waiting = asyncio.ensure_future(wait)
        changes = asyncio.ensure_future(self._journal.changes())
        try:
            while not waiting.done():
                await asyncio.wait({waiting, changes}, return_when=asyncio.FIRST_COMPLETED)
                if self._journal.record.phase is not Phase.FENCING:
                    raise self._overtaken()
                if changes.done():
                    changes = asyncio.ensure_future(self._journal.changes())
            await waiting
        finally:
            waiting.cancel()
            changes.cancel()

    def _overtaken(self) -> Refused:
        phase = self._journal.record.phase.value
        return Refused("phase-refused", f"the migration is in {phase} by now")

    async def _vector(self) -> Positions:
        """The ends of every partition, once no transaction hides records below them."""
        vector: Positions = {}

        async def stable() -> bool:
            bounds = await self._feed.bounds()
            vector.update((partition, at.end) for partition, at in bounds.items())
            return all(at.stable >= at.end for at in bounds.values())

        await self._until(stable)
        return vector

    def _reached(self, vector: Positions) -> bool:
        # The persisted positions count: a restart must not have to apply what was fenced off.
        committed = self._path.committed
        return all(committed.get(partition, -1) >= end for partition, end in vector.items())

    async def _look(self, vector: Positions) -> None:
        moved: list[str] = []

        async def looked() -> bool:
            bounds = await self._feed.bounds()
            moved.extend(p for p, at in bounds.items() if at.end != vector.get(p))
            return True

        await self._until(looked)
        if moved:
            raise Refused(
                "fence-ignored",
                f"records came on {', '.join(sorted(set(moved)))} after the fence",
            )

    async def _until(self, true: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is true, through failures of the feed; the attempt bounds it."""
        try:
            while True:
                try:
                    if await true():
                        return
                except Retryable as error:
                    self._waits.saw(self, error)
                    await asyncio.sleep(_LOOK_S)
                else:
                    self._waits.over(self)
                    await asyncio.sleep(_POLL_S)
        finally:
            self._waits.over(self)

    async def _go_back(self, error: BaseException) -> None:
        """STREAMING as before, then the fence open. In this order: a restart opens it as
        well.
        """
        reason = error.message if isinstance(error, ReplicatorError) else repr(error)
        code = error.code if isinstance(error, ReplicatorError) else "internal"
        self.status.outcome = f"{code}: {reason}"
        self.status.step = "failed"
        await self._journal.update("lapse", "the attempt and its lapse are over", _unlapsed)
        if self._journal.record.phase is Phase.FENCING:
            await self._journal.move(
                Phase.STREAMING,
                f"{self.status.operation} failed: {reason}",
                only_from=Phase.FENCING,
                reason_code=code,
            )
        else:
            await self._journal.note("failed", reason, code=code)

    # -- from the point of no return on ----------------------------------------------------

    async def resume(self) -> None:
        """After a restart in SWITCHING: close the fence again, and go on."""
        record = self._journal.record
        # Nobody knows how long the fence was open while no process was there to extend it.
        await self._latch_lapse("the process was away during the switch")
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
        await self._step("switch", f"switching traffic to the {_store(direction)}")
        keeper = asyncio.create_task(self._keep_closed(), name="fence keeper")
        try:
            await failpoints.reached("crossing.switching")
            if not asked:
                await self._move_traffic(direction)
            await failpoints.reached("crossing.switched")
            await self._show_hook("after_switch", direction)
            if self._has_lapsed():
                # Whoever was admitted in the lapse has flushed once the fence is closed anew.
                await self._close_again()
            await self._read_behind()
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
        await self._journal.update("lapse", "the attempt and its lapse are over", _unlapsed)
        record = self._journal.record
        await self._journal.move(
            Phase.STREAMING,
            f"the application is on the {_store(direction)}",
            only_from=Phase.SWITCHING,
            direction=direction,
            epochs=record.epochs.enter(record.epochs.offered, record.fence_vector, moved=True),
            incarnation=record.incarnation + 1,
            fence_vector={},
        )
        await failpoints.reached("crossing.streaming")
        self._path.wake()
        self.status.step = "open"

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
                await asyncio.sleep(_LOOK_S * 2**attempt)
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
                await asyncio.sleep(_LOOK_S)
            except Blocked as error:
                self._waits.over(self)
                await self._hold(f"nobody can read what passed the fence: {error.message}")
        self._waits.over(self)
        if found is not None:
            how = "the fence had lapsed, and " if self._has_lapsed() else ""
            await self._hold(f"{how}{found} was written to the store left behind")

    async def _close(self, deadline_s: float) -> FenceAnswer:
        """Close the fence, or move its deadline. A deadline that had passed by then is a
        lapse.
        """
        loop = asyncio.get_running_loop()
        asked_at, before = loop.time(), self._closed_until
        answer = await self._fence.close(deadline_s, self._journal.record.fence_attempt)
        # The holder may have taken the request in at any time until its answer.
        if before is not None and loop.time() >= before:
            await self._latch_lapse("the fence's deadline passed before it was extended")
        # A holder may hold for less than it was asked, and says so.
        held_s = deadline_s if answer.held_s is None else min(deadline_s, answer.held_s)
        self._closed_until = asked_at + held_s
        return answer

    async def _close_again(self) -> None:
        """Close after a lapse: every writer has flushed when it returns. HELD where it cannot
        be closed.
        """
        if self._fence.rests_on_word:
            return  # it does not open by itself, and asking again would prove nothing
        while True:
            try:
                answer = await self._close(_GRACE_S)
                break
            except Retryable as error:
                self._waits.saw(self, error)
                await asyncio.sleep(_LOOK_S)
            except ReplicatorError as error:
                self._waits.over(self)
                await self._hold(f"the fence had lapsed, and is not closed: {error.message}")
        self._waits.over(self)
        await self._journal.note("closed", "closed again", **answer.evidence)

    def _lapsed(self) -> bool:
        """Whether the holder may have opened the fence by itself by now."""
        if self._fence.rests_on_word or self._closed_until is None:
            return False
        return asyncio.get_running_loop().time() >= self._closed_until

    def _has_lapsed(self) -> bool:
        return self._lapsed() or self._journal.record.fact(FactCode.LAPSE) is not None

    async def _latch_lapse(self, message: str) -> None:
        if not self._fence.rests_on_word:
            await self._journal.latch(
                FactCode.LAPSE, message, attempt=self._journal.record.fence_attempt
            )

    async def _keep_closed(self) -> None:
        """Extend the holder's deadline while the switch, or a person, takes time."""
        while not self._fence.rests_on_word:
            await asyncio.sleep(_GRACE_S / 4)
            try:
                await self._close(_GRACE_S)
            except ReplicatorError as error:
                await self._journal.note(
                    "switch", f"the fence was not extended: {error.message}"
                )

    async def opened(self) -> None:
        """The fence is open again after a switch that went well."""
        self.status.step, self.status.outcome = "done", "done"
        await self._show_hook("after_open", self._journal.record.direction)

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
        self.status.outcome = f"ownership-unknown: {message}"
        raise OwnershipUnknown("ownership-unknown", message)

    async def _show_hook(self, step: str, direction: Direction) -> None:
        try:
            await self._hooks.run(step, direction)
        except ReplicatorError as error:
            await self._journal.note(step, f"the hook failed: {error.message}")

    async def _step(self, step: str, message: str) -> None:
        self.status.step = step
        await self._journal.note(step, message)


def _unlapsed(record: MigrationRecord) -> MigrationRecord | None:
    left = tuple(fact for fact in record.facts if fact.code is not FactCode.LAPSE)
    if len(left) == len(record.facts):
        return None
    return msgspec.structs.replace(record, facts=left)


def _store(direction: Direction) -> str:
    return "source" if direction is Direction.FORWARD else "target"
