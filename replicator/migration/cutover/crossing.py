"""
Crossing: cutover and revert on a person's word, the gate before them, and the writer fence.

The fence is opened in one place only, by a task that looks at the record: whenever the record
says that it is closed while the phase is one in which the application may write.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

import msgspec

from replicator import failpoints
from replicator.errors import (
    Blocked,
    EpochAhead,
    OwnershipUnknown,
    Refused,
    ReplicatorError,
    Unavailable,
)
from replicator.migration.cutover.cutover import Cutover, StepHooks
from replicator.migration.cutover.gate import GateFacts, closed_by
from replicator.migration.process.engine import Engine
from replicator.migration.process.observe import ANSWER_S
from replicator.migration.process.operations import Operations
from replicator.migration.process.supervisor import Supervisor
from replicator.model.command import Cross
from replicator.model.fact import FactCode
from replicator.model.fence import FenceAnswer
from replicator.model.finding import Blocker
from replicator.model.phase import WORKING, Direction, Phase
from replicator.model.position import Positions
from replicator.model.record import MigrationRecord
from replicator.model.status import FenceStatus, VerifyStatus
from replicator.ports.traffic import Fence, Pointer, Switch

_OPEN_RETRY_S = 2.0
_EXPLAIN_S = 60.0
"""How long the switch or the broker may be away before a person is asked instead: an ordinary
restart of either."""
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
        supervisor.explain = self.explain
        engine.route_epoch = self.route_epoch

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

    # -- the route's epoch -----------------------------------------------------------------

    async def route_epoch(self) -> int:
        """
        The epoch that the route is in before we move it: declared, or what the switch was told
        last. Raises Refused when the switch points to the target: then the application is not
        where a copy would be taken from.
        """
        declared = self._parts.settings.cutover.epoch
        if self._engine.observer is None:
            return declared
        at = await self._where(_EXPLAIN_S)
        if at is not None and at.direction is not Direction.FORWARD:
            raise Refused(
                "switch-at-target", "the switch points to the target before anything was copied"
            )
        return max(declared, at.epoch or 0) if at is not None else declared

    async def explain(self, error: EpochAhead) -> None:
        """
        An event carries a later epoch than any that we know of. The switch tells whether there
        is such an epoch: one that it denies is a dead letter, and one that left the application
        where it was is followed. Everything else is for a person: HELD.
        """
        at = await self._where(_EXPLAIN_S)
        record = self._record
        if at is not None and at.epoch is not None and at.direction is record.direction:
            if at.epoch < error.epoch:
                await self._deny(error)
                return
            ends = await self._ends()
            if ends is not None:
                await self._follow(at.epoch, ends, error.message)
                return
        if record.phase not in WORKING:
            return
        back_to = Phase.STREAMING if record.phase is Phase.FENCING else record.phase
        await self._engine.journal.move(
            Phase.HELD,
            error.message,
            only_from=record.phase,
            reason_code=error.code,
            back_to=back_to,
            shown_epoch=error.epoch,
        )

    async def _deny(self, error: EpochAhead) -> None:
        await self._engine.journal.update(
            "epoch",
            f"the switch does not know epoch {error.epoch}; its events are dead letters",
            lambda record: msgspec.structs.replace(
                record, epochs=record.epochs.deny(error.epoch)
            ),
        )

    async def _follow(self, epoch: int, ends: Positions, message: str) -> None:
        await self._engine.journal.update(
            "epoch",
            f"followed the switch to epoch {epoch}: {message}",
            lambda record: msgspec.structs.replace(
                record, epochs=record.epochs.enter(epoch, ends, moved=False)
            ),
            vector=dict(ends),
        )

    async def own(self, direction: Direction) -> None:
        """
        A person's word on where the application writes. Raises Unavailable where the log's ends
        are needed and the broker is away.
        """
        if direction is Direction.REVERSE and self._record.back_to not in (
            None,  # from SWITCHING
            Phase.STREAMING,
        ):
            raise Refused(
                "phase-refused",
                "the target is not complete yet, so the application cannot be on it for good: "
                "abort, or send it back to the source and say so",
            )
        ends: Positions = {}
        if self._record.shown_epoch is not None:
            found = await self._ends()
            if found is None:
                raise Unavailable("feed-unavailable", "the log's ends cannot be asked just now")
            ends = found
        place = "source" if direction is Direction.FORWARD else "target"
        message = f"a person says: the application is on the {place}"

        def owned(record: MigrationRecord) -> dict[str, Any]:
            epochs = record.epochs
            if record.shown_epoch is not None:
                moved = direction is not record.direction
                epochs = epochs.enter(record.shown_epoch, ends, moved=moved)
            elif direction is not record.direction:
                # What the switch was offered is in force; behind its vector nobody was to
                # write in the old epoch.
                vector = record.fence_vector or self._engine.committed
                told = epochs.offered if epochs.offered > epochs.current else epochs.following
                epochs = epochs.enter(told, vector, moved=True)
            return {
                "direction": direction,
                "epochs": epochs,
                "incarnation": record.incarnation + 1,
                "shown_epoch": None,
                "facts": tuple(f for f in record.facts if f.code is not FactCode.LAPSE),
                "fence_vector": {},
            }

        record = self._record
        if record.phase is Phase.BLOCKED:
            await self._engine.journal.update(
                "own", message, lambda r: msgspec.structs.replace(r, **owned(r))
            )
            return
        if not await self._engine.journal.move(
            record.back_to or Phase.STREAMING,
            message,
            only_from=Phase.HELD,
            **owned(record),
            back_to=None,
        ):
            raise Refused("phase-refused", "the phase is another one by now; look again")

    async def _where(self, within_s: float) -> Pointer | None:
        """What the switch says; None where it cannot say, or does not answer for so long."""
        waits = self._engine.waits
        try:
            with waits.waiting(
                "route-asked", "asking the switch for the route", planned=True, seconds=within_s
            ):
                async with asyncio.timeout(within_s):
                    return await self._engine.patience.until_answered(self._switch.current)
        except (TimeoutError, ReplicatorError):
            return None

    async def _ends(self) -> Positions | None:
        feed = self._parts.feed
        assert feed is not None
        try:
            async with asyncio.timeout(_EXPLAIN_S):
                bounds = await self._engine.patience.until_answered(feed.bounds)
        except TimeoutError:
            return None
        return {partition: at.end for partition, at in bounds.items()}

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
