"""
Acknowledgements: a person's word that a latched fact was looked at, or that another log or
another mark is meant. Journalled with the evidence; what was verified before may count no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from replicator.errors import Refused
from replicator.migration.evidence.journal import Journal
from replicator.model.fact import ACKNOWLEDGED, VOIDS_EVIDENCE, Fact, FactCode
from replicator.model.phase import Phase
from replicator.model.record import MigrationRecord

if TYPE_CHECKING:
    from replicator.migration.process.engine import Engine


def latched(record: MigrationRecord, code: str) -> Fact | None:
    """The latched fact of a code. Raises Refused for one that no word can clear."""
    fact = next((fact for fact in record.facts if fact.code.value == code), None)
    if fact is not None and fact.code not in ACKNOWLEDGED:
        raise Refused("phase-refused", "a lapse ends with its attempt, not before")
    return fact


def not_latched(record: MigrationRecord, code: str) -> Refused:
    """Why a code cannot be acknowledged."""
    there = ", ".join(fact.code.value for fact in record.facts) or "nothing"
    return Refused("not-found", f"{code!r} is not latched; {there} is")


async def acknowledge_fact(journal: Journal, fact: Fact, note: str) -> None:
    """Clear a fact, with a daemon or without one."""

    def acknowledged(record: MigrationRecord) -> MigrationRecord:
        left = tuple(each for each in record.facts if each.code is not fact.code)
        voided = record.voided + (fact.code in VOIDS_EVIDENCE)
        return msgspec.structs.replace(record, facts=left, voided=voided)

    await journal.update(
        "acknowledge",
        f"{fact.code.value}: {note or 'no note'}",
        acknowledged,
        seen=fact.message,
        at=fact.at,
        **fact.evidence,
    )


class Acknowledgement:
    """One process's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def give(self, code: str, note: str) -> None:
        """Raises Refused: "not-found" for a code that is not latched, "phase-refused" while its
        cause goes on.
        """
        record = self._engine.journal.record
        fact = latched(record, code)
        if fact is not None:
            await self._fact(fact, note)
        elif record.phase is Phase.BLOCKED and record.reason_code == code == "mark-newer":
            await self._mark(note)
        elif record.phase is Phase.BLOCKED and record.reason_code == code == "log-replaced":
            await self._engine.identity.adopt_log(note)
        else:
            raise not_latched(record, code)

    async def _fact(self, fact: Fact, note: str) -> None:
        observer = self._engine.observer
        if fact.code is FactCode.INTRUDER and observer is not None and observer.intruders:
            raise Refused("phase-refused", f"it goes on: {observer.intruders[0]}")
        await acknowledge_fact(self._engine.journal, fact, note)

    async def _mark(self, note: str) -> None:
        """This state is the right one, whatever the target's mark says."""
        highest = await self._engine.identity.highest_mark()

        def adopted(record: MigrationRecord) -> MigrationRecord:
            return msgspec.structs.replace(
                record,
                incarnation=max(record.incarnation, highest),
                voided=record.voided + 1,
            )

        self._engine.identity.disclaim()
        await self._engine.journal.update(
            "acknowledge", f"mark-newer: {note or 'no note'}", adopted, incarnation=highest
        )
