"""
Crossing: cutover and revert on a person's word, the gate before them, and the writer fence.

The fence is opened in one place only, by a task that looks at the record: whenever the record
says that it is closed while the phase is one in which the application may write.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import msgspec

from replicator import failpoints
from replicator.errors import (
    Blocked,
    OwnershipUnknown,
    Refused,
    ReplicatorError,
)
from replicator.migration.cutover.cutover import Cutover, StepHooks
from replicator.migration.cutover.gate import GateFacts, closed_by
from replicator.migration.process.engine import Engine
from replicator.migration.process.observe import ANSWER_S
from replicator.migration.process.operations import Operations
from replicator.migration.process.supervisor import Supervisor
from replicator.model.command import Cross
from replicator.model.fence import FenceAnswer
from replicator.model.finding import Blocker
from replicator.model.phase import Direction, Phase
from replicator.model.record import MigrationRecord
from replicator.model.status import FenceStatus, VerifyStatus
from replicator.ports.traffic import Fence, Switch

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

    async def cross(self, request: Cross) -> list[Blocker]:
        """One attempt; with `dry_run` the gate's reasons. Raises Refused, and why it failed."""
        blockers = await self.asked(request)
        if request.dry_run:
            return blockers
        if blockers:
            raise Refused("gate-closed", "; ".join(blocker.message for blocker in blockers))
        waived = await self._waived(request)
        await self._operations.run(request.name, lambda: self._cross_over(request, waived))
        return []

    async def _waived(self, request: Cross) -> list[Blocker]:
        """What would have closed the gate but for a person's word."""
        if not (request.waive_dead_letters or request.waive_recall):
            return []
        strict = msgspec.structs.replace(request, waive_dead_letters=False, waive_recall=False)
        return await self.blockers(strict)

    async def asked(self, request: Cross) -> list[Blocker]:
        """The gate's reasons, with everything that can be asked asked anew."""
        identity: list[Blocker] = []
        if self._engine.observer is not None:
            await self._supervisor.probe()
            identity = await self._identity()
        blockers = identity + await self.blockers(request)
        if self._record.direction is not request.leaves:
            place = "source" if self._record.direction is Direction.FORWARD else "target"
            blockers.append(Blocker("phase", f"the application is on the {place} already"))
        return blockers

    async def _identity(self) -> list[Blocker]:
        """What the look at log and collections says; an answer that does not come is one."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._engine.identity.look()
        except TimeoutError:
            return [Blocker("store-away", f"no answer within {ANSWER_S:.0f} s")]
        except Blocked as error:
            # It is no matter of the gate alone: the stream must not write on either.
            await self._supervisor.failed(error)
            return [Blocker("identity", error.message)]
        except ReplicatorError as error:
            return [Blocker("store-away", error.message)]
        return []

    async def _cross_over(self, request: Cross, waived: list[Blocker]) -> None:
        if waived:
            reasons = {blocker.code: blocker.message for blocker in waived}
            await self._engine.journal.note("gate", "open on a person's word", waived=reasons)
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
            clock=self._parts.clock,
            waits=self._engine.waits,
            timeout_s=timeout_s or float(self._parts.settings.cutover.timeout),
        )
        return self._cutover

    async def _fence_opened(self) -> None:
        """
        Wait until the application may write again. Raises OwnershipUnknown where a person must
        first say which store it writes: he could not while we wait.
        """
        while self._record.fence_closed:
            if self._record.phase is Phase.HELD:
                raise OwnershipUnknown(self._record.reason_code, self._record.reason)
            await self._engine.journal.changes()

    async def resume_switch(self) -> None:
        """Go on in SWITCHING after a restart; HELD where a person must decide."""
        cutover = self._attempt(None)
        try:
            await cutover.resume()
        except OwnershipUnknown:
            return  # HELD is journalled; a person decides

    # -- the gate --------------------------------------------------------------------------

    async def blockers(self, request: Cross) -> list[Blocker]:
        """Why the gate is closed; empty when it is open."""
        parts, engine, record = self._parts, self._engine, self._record
        if engine.observer is None:
            return [Blocker("no-feed", "a plain copy has nothing to cut over")]
        settings = parts.settings.cutover
        # The last full one, and what one of another level has found since.
        verified, verification = engine.verified, self._verification
        shows_after_s = engine.show_after_s if engine.may_wait_for_images else 0.0
        facts = GateFacts(
            phase=record.phase,
            direction=record.direction,
            paused=record.paused,
            lag=engine.lag(),
            latched=record.facts,
            open_letters=engine.letters.open_in(record.direction),
            waive_dead_letters=request.waive_dead_letters,
            verified_at=verification.at if self._counts() else None,
            findings=sum((await parts.state.finding_counts()).values()),
            misconfigured=max(
                verification.configuration or 0,
                verified.misconfigured if verified is not None else 0,
            ),
            below=list(
                dict.fromkeys(
                    [
                        *(verified.below if verified is not None else ()),
                        *verification.recall_below,
                    ]
                )
            ),
            waive_recall=request.waive_recall,
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

    def _counts(self) -> bool:
        """Whether the last verification was gathered in the context in force."""
        verified = self._engine.verified
        return verified is not None and verified.context == self._record.context

    async def open_when_due(self) -> None:
        """Open the fence whenever the record asks for it; runs as long as the process."""
        while True:
            record = self._record
            if record.fence_closed and not _stays_closed(record):
                try:
                    await failpoints.reached("crossing.before-open")
                    answer = await self._fence.open(record.fence_attempt)
                    await failpoints.reached("crossing.after-open")
                except ReplicatorError as error:
                    self._engine.patience.saw(self, error)
                    await asyncio.sleep(_OPEN_RETRY_S)
                    continue
                self._engine.patience.over(self)
                # What a script answered in advance was for this attempt, its way back included.
                self._person.assume_yes = False
                await self._opened(record, answer)
                if self._cutover is not None and self._cutover.status.outcome is None:
                    await self._cutover.opened()
            else:
                await self._engine.journal.changes()

    async def _opened(self, record: MigrationRecord, answer: FenceAnswer) -> None:
        stopped_s = None
        if record.fenced_at is not None:
            stopped_s = max(0.0, self._parts.clock() - record.fenced_at)
            moved = self._cutover is not None and self._cutover.status.outcome is None
            operation = self._cutover.status.operation if self._cutover is not None else "open"
            self._parts.metrics.fenced(operation if moved else "failed", stopped_s)
        await self._engine.journal.update(
            "open",
            "the writer fence is open",
            lambda now: msgspec.structs.replace(now, fence_closed=False, fenced_at=None),
            stopped_s=stopped_s,
            **answer.evidence,
        )
        if self._cutover is not None:
            self._cutover.status.stopped_s = stopped_s

    async def leave_open(self) -> None:
        """Give the opener a moment: an application should not wait for its fence's deadline."""
        if self._fence.rests_on_word or _stays_closed(self._record):
            return
        with contextlib.suppress(TimeoutError, OwnershipUnknown):
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
            since = self._record.fenced_at
            if since is not None:
                status.stopped_s = max(0.0, self._parts.clock() - since)
        return status


def _stays_closed(record: MigrationRecord) -> bool:
    """Whether the application must not write yet. One that is HELD while it streams was never
    fenced.
    """
    return record.phase in (Phase.FENCING, Phase.SWITCHING, Phase.HELD)
