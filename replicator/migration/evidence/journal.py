"""
The journal: the one place where the migration's record changes.

Every change is persisted together with an entry that says why, before anyone acts on it
(Invariant 7), and only in the place of the record that it was made from. A write to the state
store is never left half done by a cancellation: whoever is cancelled in the middle learns
afterwards, from `record`, whether the step was taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from replicator.clock import Clock
from replicator.model.fact import Fact, FactCode
from replicator.model.phase import Phase, may_follow
from replicator.model.record import JournalEntry, MigrationRecord
from replicator.ports.state import StateStore


class Journal:
    """Holds the record in memory; safe for use from several tasks."""

    def __init__(self, state: StateStore, record: MigrationRecord, clock: Clock) -> None:
        self.record = record
        self._state = state
        self._clock = clock
        self._changing = asyncio.Lock()
        self._changed = asyncio.Event()

    async def begin(self, record: MigrationRecord, message: str) -> None:
        """Start a new attempt; what the one before it left behind is forgotten."""
        async with self._changing:
            record.since = self._clock()
            record.revision = self.record.revision + 1
            await _to_the_end(
                self._state.begin(record, self._entry(record, "phase", message, {}))
            )
            self.record = record

    async def move(
        self,
        phase: Phase,
        message: str,
        *,
        only_from: Phase,
        when: Callable[[MigrationRecord], bool] | None = None,
        evidence: dict[str, Any] | None = None,
        **changes: Any,
    ) -> bool:
        """
        Enter a phase that may follow `only_from`, with other changes of the record. False, and
        nothing is changed, when somebody else has left that phase meanwhile, or the record is
        not as `when` asks.
        """
        async with self._changing:
            current = self.record.phase
            if current is not only_from or (when is not None and not when(self.record)):
                return False
            assert may_follow(current, phase), f"{current.value} → {phase.value} is no step"
            changed = msgspec.structs.replace(
                self.record, phase=phase, since=self._clock(), reason=message, **changes
            )
            if "reason_code" not in changes:
                changed.reason_code = ""
            await self._save(changed, "phase", message, evidence or {})
            return True

    async def change(self, step: str, message: str, **changes: Any) -> None:
        """Change the record within its phase."""
        async with self._changing:
            changed = msgspec.structs.replace(self.record, **changes)
            await self._save(changed, step, message, {})

    async def update(
        self,
        step: str,
        message: str,
        make: Callable[[MigrationRecord], MigrationRecord | None],
        **evidence: Any,
    ) -> bool:
        """
        Change the record within its phase to what `make` makes of the one in force; None
        changes nothing. Whether it changed.
        """
        async with self._changing:
            changed = make(self.record)
            if changed is None:
                return False
            assert changed.phase is self.record.phase, "a phase is entered by `move`"
            await self._save(changed, step, message, evidence)
            return True

    async def latch(self, code: FactCode, message: str, **evidence: Any) -> bool:
        """Keep a fact, with what was seen first; whether it is new."""
        if self.record.fact(code) is not None:
            return False
        fact = Fact(code=code, message=message, at=self._clock(), evidence=evidence)

        def with_it(record: MigrationRecord) -> MigrationRecord | None:
            if record.fact(code) is not None:
                return None
            return msgspec.structs.replace(record, facts=(*record.facts, fact))

        return await self.update("latched", f"{code.value}: {message}", with_it, **evidence)

    async def changes(self) -> None:
        """Wait until the record has changed."""
        await self._changed.wait()

    async def note(self, step: str, message: str, **evidence: Any) -> None:
        """Write down a step that changes nothing of the record."""
        await self._state.note(self._entry(self.record, step, message, evidence))

    async def _save(
        self, record: MigrationRecord, step: str, message: str, evidence: dict[str, Any]
    ) -> None:
        # Whoever changed the record beside us must show, and not be written over.
        record.revision = self.record.revision + 1

        async def save() -> None:
            await self._state.save(record, self._entry(record, step, message, evidence))
            self.record = record
            self._changed.set()
            self._changed = asyncio.Event()

        await _to_the_end(save())

    def _entry(
        self, record: MigrationRecord, step: str, message: str, evidence: dict[str, Any]
    ) -> JournalEntry:
        return JournalEntry(
            at=self._clock(),
            phase=record.phase,
            direction=record.direction,
            step=step,
            message=message,
            evidence=evidence,
        )


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end even when the caller is cancelled; the cancellation is raised
    afterwards.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
