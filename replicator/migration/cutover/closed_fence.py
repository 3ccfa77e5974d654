"""
The fence that an attempt has closed, and whether it has been closed ever since.

Its holder opens it by itself at a deadline, should this process die. A deadline that passed
before it was extended is a *lapse*: that the fence is closed again says nothing of the writes
in between. It is latched for the attempt.
"""

from __future__ import annotations

import asyncio

import msgspec

from replicator.errors import ReplicatorError
from replicator.migration.evidence.journal import Journal
from replicator.model.fact import FactCode
from replicator.model.fence import FenceAnswer
from replicator.model.record import MigrationRecord
from replicator.ports.traffic import Fence

GRACE_S = 60.0
"""How long the fence stays closed beyond the attempt, and by how much it is extended while the
switch takes its time. Shorter lets writers in while traffic moves; longer leaves the
application without writes for so long should this process die just then."""


class ClosedFence:
    """Of one attempt."""

    def __init__(self, fence: Fence, journal: Journal) -> None:
        self._fence = fence
        self._journal = journal
        self._closed_until: float | None = None

    @property
    def rests_on_word(self) -> bool:
        """As of the fence."""
        return self._fence.rests_on_word

    async def close(self, deadline_s: float) -> FenceAnswer:
        """Close the fence, or move its deadline. A deadline that had passed by then is a
        lapse.
        """
        loop = asyncio.get_running_loop()
        asked_at, before = loop.time(), self._closed_until
        answer = await self._fence.close(deadline_s, self._journal.record.fence_attempt)
        # The holder may have taken the request in at any time until its answer.
        if before is not None and loop.time() >= before:
            await self.latch_lapse("the fence's deadline passed before it was extended")
        # A holder may hold for less than it was asked, and says so.
        held_s = deadline_s if answer.held_s is None else min(deadline_s, answer.held_s)
        self._closed_until = asked_at + held_s
        return answer

    @property
    def may_be_open(self) -> bool:
        """Whether the holder may have opened the fence by itself by now."""
        if self._fence.rests_on_word or self._closed_until is None:
            return False
        return asyncio.get_running_loop().time() >= self._closed_until

    @property
    def has_lapsed(self) -> bool:
        """Whether it may have been open at any time since the attempt closed it."""
        return self.may_be_open or self._journal.record.fact(FactCode.LAPSE) is not None

    async def latch_lapse(self, message: str) -> None:
        """Keep that it may have been open, for as long as the attempt lasts."""
        if not self._fence.rests_on_word:
            await self._journal.latch(
                FactCode.LAPSE, message, attempt=self._journal.record.fence_attempt
            )

    async def forget_lapse(self) -> None:
        """The attempt is over."""
        await self._journal.update("lapse", "the attempt and its lapse are over", _unlapsed)

    async def keep_closed(self) -> None:
        """Extend the holder's deadline while the switch, or a person, takes time."""
        while not self._fence.rests_on_word:
            await asyncio.sleep(GRACE_S / 4)
            try:
                await self.close(GRACE_S)
            except ReplicatorError as error:
                await self._journal.note(
                    "switch", f"the fence was not extended: {error.message}"
                )


def _unlapsed(record: MigrationRecord) -> MigrationRecord | None:
    left = tuple(fact for fact in record.facts if fact.code is not FactCode.LAPSE)
    if len(left) == len(record.facts):
        return None
    return msgspec.structs.replace(record, facts=left)
