"""
The migration: its process, and what an operator asks of it.

The `supervisor` starts the work of the `engine` that the phase asks for; `crossing` moves the
application between the stores; `upkeep` keeps them equal. Here they are put together, recover
what a process before left, and end when the migration is over or the process drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import msgspec

from replicator import __version__
from replicator.errors import Refused, ReplicatorError, Unavailable, first_cause
from replicator.migration.cutover.advice import advised
from replicator.migration.cutover.crossing import Crossing, Person
from replicator.migration.cutover.steps import StepHooks
from replicator.migration.cutover.whereabouts import Whereabouts
from replicator.migration.evidence.journal import Journal
from replicator.migration.evidence.taken import take
from replicator.migration.evidence.unsettled import keep_unsettled, recall_unsettled
from replicator.migration.parts import Parts
from replicator.migration.process.engine import Engine
from replicator.migration.process.inventory import Inventory
from replicator.migration.process.operations import Operations
from replicator.migration.process.supervisor import Supervisor
from replicator.migration.process.upkeep import Upkeep
from replicator.migration.process.view import view
from replicator.migration.steering import Steering
from replicator.model.command import (
    Command,
    Cross,
    Verify,
)
from replicator.model.finding import Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import Direction, Phase
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.model.report import Report
from replicator.model.situation import possible
from replicator.model.status import Status, VerifyStatus
from replicator.ports.traffic import Fence, Switch
from replicator.settings.feeds import feed_kind

T = TypeVar("T")


class Begun(msgspec.Struct, frozen=True):
    """What there is once `run` has begun."""

    engine: Engine
    supervisor: Supervisor
    upkeep: Upkeep
    crossing: Crossing
    steering: Steering
    inventory: Inventory


class Migration:
    """One migration, from its capture to its end. Implements `ports.control.Control`."""

    def __init__(
        self,
        parts: Parts,
        *,
        fence: Fence,
        switch: Switch,
        hooks: StepHooks,
        person: Person,
    ) -> None:
        self.parts = parts
        self.verification = VerifyStatus()
        self._fence = fence
        self._switch = switch
        self._hooks = hooks
        self._person = person
        self._draining = False
        self._starting = "the migration is still starting; try again"
        self._taking: asyncio.Future[Parts] | None = None
        self._configured = parts.settings
        """With patterns, where there are some; `parts` has names once it runs."""
        self._operations: Operations
        self._have_begun: Begun | None = None

    # -- the process -----------------------------------------------------------------------

    async def run(self) -> None:
        """
        Everything, until the migration is over, or a drain. Raises Refused
        when the record does not fit the settings; Fatal and defects as they come.
        """
        state = self.parts.state
        record = await state.load()
        if not await self._take(record):
            return
        was_clean = await state.mark_running()
        engine = Engine(self.parts, await self._journal(record))
        self._operations = Operations(
            engine.ownership, float(self.parts.settings.stream.drain_timeout)
        )
        upkeep = Upkeep(engine, self._operations, self.verification)
        supervisor = Supervisor(
            engine, self._operations, plain_copy_check=upkeep.check_plain_copy
        )
        upkeep.not_ours = supervisor.failed
        crossing = Crossing(
            engine,
            supervisor,
            self._operations,
            self.verification,
            fence=self._fence,
            switch=self._switch,
            hooks=self._hooks,
            person=self._person,
        )
        whereabouts = Whereabouts(engine, self._switch)
        supervisor.explain = whereabouts.explain
        engine.route_epoch = whereabouts.route_epoch
        steering = Steering(
            engine,
            supervisor,
            self._operations,
            upkeep=upkeep,
            crossing=crossing,
            whereabouts=whereabouts,
            person=self._person,
        )
        inventory = Inventory(engine, self._configured)
        self._have_begun = Begun(engine, supervisor, upkeep, crossing, steering, inventory)
        await recall_unsettled(state, engine.writers, self.parts.clock, was_clean=was_clean)
        engine.absolves = was_clean and engine.is_clear
        await self._recall()
        helpers = [asyncio.create_task(crossing.open_when_due(), name="fence opener")]
        if self.parts.settings.verify.interval > 0:
            helpers.append(
                asyncio.create_task(
                    upkeep.verify_regularly(lambda: self.do(Verify())), name="verifier"
                )
            )
        if self._configured.has_patterns:
            helpers.append(asyncio.create_task(inventory.look_regularly(), name="inventory"))
        if engine.observer is not None:
            helpers.append(asyncio.create_task(supervisor.probe_regularly(), name="probe"))
        main = asyncio.create_task(supervisor.run(), name="supervisor")
        if self._draining:
            self._operations.draining = True
            supervisor.drain()
        try:
            await asyncio.wait([main, *helpers], return_when=asyncio.FIRST_COMPLETED)
            await self._operations.end("the process ends")
            supervisor.drain()
            await asyncio.wait([main])
            await crossing.leave_open()
            await self._end(helpers)
            await keep_unsettled(state, engine.writers, self.parts.clock)
            await state.mark_clean()
        finally:
            await self._end([main, *helpers])
        for task in (main, *helpers):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise first_cause(error)
        left = engine.letters.open
        if self.parts.feed is None and self.record.phase is Phase.COMPLETE and left:
            raise ReplicatorError("rows-left", f"the copy is complete but for {left} rows")

    async def _take(self, record: MigrationRecord | None) -> bool:
        """
        Name the collections; False where a drain came first. Nothing has begun yet: an absent
        source is waited for by whoever runs us.
        """
        if not self.parts.settings.has_patterns:
            return True
        self._taking = asyncio.ensure_future(take(self.parts, record))
        try:
            await asyncio.wait([self._taking])
        finally:
            self._taking.cancel()
        if self._taking.cancelled():
            return False
        try:
            self.parts = self._taking.result()
        except Unavailable as error:
            self._starting = f"the migration is still starting: {error.message}; try again"
            raise
        return True

    def request_drain(self) -> None:
        """Finish what is in flight, persist, and let `run` return."""
        self._draining = True
        if self._taking is not None:
            self._taking.cancel()
        if self._have_begun is not None:
            self._operations.draining = True
            asyncio.get_running_loop().create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        # At the same time: each waits for what it has in flight, and no new job begins.
        self._begun.supervisor.drain()
        await self._operations.end("the process is shutting down")

    @staticmethod
    async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    @property
    def _begun(self) -> Begun:
        if self._have_begun is None:
            raise Refused("phase-refused", self._starting)
        return self._have_begun

    @property
    def engine(self) -> Engine:
        """The engine, once `run` has begun."""
        return self._begun.engine

    @property
    def record(self) -> MigrationRecord:
        """The record in force."""
        return self.engine.journal.record

    async def _journal(self, record: MigrationRecord | None) -> Journal:
        name = self.parts.settings.name
        if record is None:
            journal = Journal(self.parts.state, MigrationRecord(name=name), self.parts.clock)
            await journal.begin(journal.record, "planned")
            return journal
        record = record.upgraded()
        journal = Journal(self.parts.state, record, self.parts.clock)
        if record.phase is Phase.ABORTED:
            following = MigrationRecord(
                name=name,
                attempt=record.attempt + 1,
                # What writers and stores were told outlives the attempt.
                epochs=record.epochs,
                tries=record.tries,
                incarnation=record.incarnation,
                fence_closed=record.fence_closed,
                fence_token=record.fence_attempt,
                fenced_at=record.fenced_at,
            )
            await journal.begin(following, "planned")
        elif record.fingerprint and record.fingerprint != self.parts.fingerprint:
            raise Refused(
                "plan-changed",
                "source, target, collections, transforms or feed are not those of the "
                "migration under way",
            )
        if journal.record.phase is Phase.FENCING:
            await journal.move(
                Phase.STREAMING, "restarted while fenced; going back", only_from=Phase.FENCING
            )
        return journal

    async def _recall(self) -> None:
        """What the status shows of earlier runs."""
        verified = await self.engine.recall_verified()
        if verified is not None:
            self.verification.generation, self.verification.at = (
                verified.generation,
                verified.at,
            )
        report = await self.report()
        if report is not None:
            self.verification.recall_below = report.below
            self.verification.configuration = report.misconfigured
        await self._begun.upkeep.count_findings()
        await self.engine.letters.load()
        self.engine.persisted = await self.parts.state.positions()
        progress = self.engine.pace.progress
        progress.copied = sum(chunk.rows for chunk in await self.parts.state.chunks())
        raw = await self.parts.state.get("estimate")
        progress.estimated = None if raw is None else msgspec.json.decode(raw, type=int | None)

    # -- Control ---------------------------------------------------------------------------

    async def status(self) -> Status:
        """The whole status, from memory."""
        status = view(
            self.engine,
            version=__version__,
            verification=self.verification,
            fence=self._begun.crossing.status(),
        )
        status.possible = possible(self._begun.steering.situation())
        kind = feed_kind(self.parts.settings.feed)
        status.warnings = advised(self._begun.inventory.warnings, kind)
        status.not_ready = advised(status.not_ready, kind)
        status.blockers = advised(await self._begun.crossing.blockers(Cross()), kind)
        status.can_cutover = not status.blockers and self.record.direction is Direction.FORWARD
        return status

    async def journal(self, limit: int) -> list[JournalEntry]:
        """The newest entries, oldest of them first."""
        return await self.parts.state.journal(limit)

    async def report(self) -> Report | None:
        """The last report."""
        raw = await self.parts.state.get("report")
        return None if raw is None else msgspec.json.decode(raw, type=Report)

    async def findings(self) -> AsyncIterator[Finding]:
        """Every finding that is kept."""
        async for finding in self._begun.upkeep.findings():
            yield finding

    async def letters(
        self, state: LetterState | None, limit: int, after: int
    ) -> Sequence[DeadLetter]:
        """Dead letters by number."""
        return await self.parts.state.letters(state, limit, after)

    async def letter_bytes(self, number: int) -> RejectedRecord:
        """The bytes of one."""
        return await self.parts.letter_log.load((await self._begun.upkeep.letter(number)).ref)

    async def do(self, command: Command[T]) -> T:
        """Do what is asked. Raises Refused while the migration is still starting."""
        return await self._begun.steering.do(command)
