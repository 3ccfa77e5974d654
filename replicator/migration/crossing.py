"""
Crossing: cutover and revert on a person's word, the gate before them, and the writer fence.

The fence is opened in one place only, by a task that looks at the record: whenever the record
says that it is closed while the phase is one in which the application may write.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from replicator import failpoints
from replicator.errors import OwnershipUnknown, Refused, ReplicatorError
from replicator.migration.cutover import Cutover, StepHooks
from replicator.migration.engine import Engine
from replicator.migration.gate import GateFacts, closed_by
from replicator.migration.operations import Operations
from replicator.migration.supervisor import Supervisor
from replicator.model.finding import Blocker
from replicator.model.phase import Direction, Phase
from replicator.model.record import MigrationRecord
from replicator.model.status import FenceStatus, VerifyStatus
from replicator.ports.control import CutoverRequest
from replicator.ports.store import Fence, Switch

_OPEN_RETRY_S = 2.0
_LEAVE_S = 5.0
"""How long a process that ends waits for its fence to open. Its holder opens it in any case."""


class Question(Protocol):
    """What a person is asked."""

    @property
    def text(self) -> str:
        """In words."""
        ...


class Person(Protocol):
    """Somebody who answers questions."""

    assume_yes: bool

    @property
    def question(self) -> Question | None:
        """What is asked now."""
        ...

    def answer(self, yes: bool) -> None:
        """The answer. Raises Refused("not-found") when nothing is asked."""
        ...


class Crossing:
    """Moves the application between the stores, one attempt at a time."""

    def __init__(
        self,
        engine: Engine,
        supervisor: Supervisor,
        operations: Operations,
        verification: VerifyStatus,
        *,
        fence: Fence,
        switch: Switch,
        hooks: StepHooks,
        person: Person,
    ) -> None:
        self._engine = engine
        self._supervisor = supervisor
        self._parts = engine.parts
        self._operations = operations
        self._verification = verification
        self._fence = fence
        self._switch = switch
        self._hooks = hooks
        self._person = person
        self._cutover: Cutover | None = None
        supervisor.resume_switch = self.resume_switch

    @property
    def _record(self) -> MigrationRecord:
        return self._engine.journal.record

    async def cross(
        self, request: CutoverRequest, direction: Direction, name: str
    ) -> list[Blocker]:
        """One attempt; with `dry_run` the gate's reasons. Raises Refused, and why it failed."""
        if self._engine.observer is not None:
            await self._supervisor.probe()
        blockers = await self.blockers(request)
        if self._record.direction is not direction:
            place = "source" if self._record.direction is Direction.FORWARD else "target"
            blockers.append(Blocker("phase", f"the application is on the {place} already"))
        if request.dry_run:
            return blockers
        if blockers:
            raise Refused("gate-closed", "; ".join(blocker.message for blocker in blockers))
        await self._operations.run(name, lambda: self._cross_over(request))
        return []

    async def _cross_over(self, request: CutoverRequest) -> None:
        cutover = self._attempt(request.timeout_s)
        self._person.assume_yes = request.yes
        self._supervisor.switch_is_owned = True
        try:
            await cutover.run()
            await self._fence_opened()
        finally:
            self._supervisor.switch_is_owned = False
            self._supervisor.wake()

    def _attempt(self, timeout_s: float | None) -> Cutover:
        feed = self._parts.feed
        assert feed is not None, "the gate demands a feed"
        self._cutover = Cutover(
            journal=self._engine.journal,
            feed=feed,
            fence=self._fence,
            switch=self._switch,
            hooks=self._hooks,
            path=self._supervisor,
            settings=self._parts.settings.cutover,
            metrics=self._parts.metrics,
            clock=self._parts.clock,
            timeout_s=timeout_s or float(self._parts.settings.cutover.timeout),
        )
        return self._cutover

    async def _fence_opened(self) -> None:
        """Wait until the application may write again."""
        while self._record.fence_closed:
            await self._engine.journal.changes()

    async def resume_switch(self) -> None:
        """Go on in SWITCHING after a restart; HELD where a person must decide."""
        cutover = self._attempt(None)
        try:
            await cutover.resume()
        except OwnershipUnknown:
            return  # HELD is journalled; a person decides

    async def blockers(self, request: CutoverRequest) -> list[Blocker]:
        """Why the gate is closed; empty when it is open."""
        parts, engine, record = self._parts, self._engine, self._record
        if engine.observer is None:
            return [Blocker("no-feed", "a plain copy has nothing to cut over")]
        settings = parts.settings.cutover
        shows_after_s = engine.show_after_s if engine.may_wait_for_images else 0.0
        facts = GateFacts(
            phase=record.phase,
            direction=record.direction,
            paused=record.paused,
            lag=engine.lag(),
            misplaced=engine.counters.misplaced,
            intruders=engine.observer.intruders,
            open_letters=engine.letters.open,
            waive_dead_letters=request.waive_dead_letters,
            verified_at=self._verification.at,
            findings=sum((await parts.state.finding_counts()).values()),
            lossy=engine.lossy,
            shows_after_s=shows_after_s,
            needed_s=shows_after_s
            + (
                max(float(settings.delivery_timeout), engine.show_after_s)
                if self._fence.rests_on_word
                else 1.0
            ),
            timeout_s=request.timeout_s or float(settings.timeout),
            now=parts.clock(),
            trouble=engine.trouble,
        )
        blockers = closed_by(facts, settings)
        if not self._operations.idle:
            blockers.append(Blocker("busy", f"{self._operations.name} is under way"))
        if record.fence_closed and record.phase is Phase.STREAMING:
            blockers.append(Blocker("busy", "the writer fence is not open yet"))
        return blockers

    async def open_when_due(self) -> None:
        """Open the fence whenever the record asks for it; runs as long as the process."""
        closed_in = (Phase.FENCING, Phase.SWITCHING, Phase.HELD)
        while True:
            record = self._record
            if record.fence_closed and record.phase not in closed_in:
                try:
                    await failpoints.reached("crossing.before-open")
                    await self._fence.open()
                    await failpoints.reached("crossing.after-open")
                except ReplicatorError as error:
                    self._engine.patience.saw(self, error)
                    await asyncio.sleep(_OPEN_RETRY_S)
                    continue
                self._engine.patience.over(self)
                # What a script answered in advance was for this attempt, its way back included.
                self._person.assume_yes = False
                await self._engine.journal.change(
                    "open", "the writer fence is open", fence_closed=False
                )
                if self._cutover is not None and self._cutover.status.outcome is None:
                    await self._cutover.opened()
            else:
                await self._engine.journal.changes()

    async def leave_open(self) -> None:
        """Give the opener a moment: an application should not wait for its fence's deadline."""
        closed_on_purpose = (Phase.SWITCHING, Phase.HELD)
        if self._fence.rests_on_word or self._record.phase in closed_on_purpose:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._fence_opened()

    def status(self) -> FenceStatus | None:
        """The attempt under way or the last one, and what a person is asked."""
        question = self._person.question
        status = self._cutover.status if self._cutover is not None else None
        if status is None and question is not None:
            record = self._record
            status = FenceStatus(operation="cutover", step="open", since=record.since)
        if status is not None:
            status.question = question.text if question is not None else None
        return status
