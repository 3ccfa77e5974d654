"""
Where the application is, and under which epoch: what was declared, what the switch says, and
what a person says when nobody else can.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from replicator.errors import EpochAhead, Refused, ReplicatorError, Unavailable
from replicator.migration.process.engine import Engine
from replicator.model.fact import FactCode
from replicator.model.phase import WORKING, Direction, Phase
from replicator.model.position import Positions
from replicator.model.record import MigrationRecord
from replicator.ports.traffic import Pointer, Switch

_EXPLAIN_S = 60.0
"""How long the switch or the broker may be away before a person is asked instead: an ordinary
restart of either."""


class Whereabouts:
    """Asks the switch, and keeps in the record what it or a person said."""

    def __init__(self, engine: Engine, switch: Switch) -> None:
        self._engine = engine
        self._parts = engine.parts
        self._switch = switch

    @property
    def _record(self) -> MigrationRecord:
        return self._engine.journal.record

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
