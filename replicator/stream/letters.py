"""
Dead letters: the bytes go to their log, the index to the state store, and only then may the
record count as done (Invariant 1). A failure to write them holds the lane; it never drops a
record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from replicator import failpoints
from replicator.clock import Clock
from replicator.codecs.wire import version_of
from replicator.errors import Refused, Rejected, Retryable
from replicator.metrics import Metrics
from replicator.model.event import Key
from replicator.model.finding import Blocker
from replicator.model.letter import LetterState, RejectedRecord
from replicator.model.phase import Direction
from replicator.model.position import Partition, Record
from replicator.ports.feed import DeadLetterLog
from replicator.ports.state import StateStore
from replicator.stream.ownership import Lease
from replicator.stream.waits import Waits

T = TypeVar("T")

_KEYS_MAX = 50_000
"""Keys with open letters that are remembered: some 10 MB. Above it every written key is looked
up."""


class DeadLetters:
    """Keep rejected records, and know which keys have some open."""

    def __init__(
        self,
        log: DeadLetterLog,
        state: StateStore,
        *,
        metrics: Metrics,
        clock: Clock,
        backoff_max_s: float,
        waits: Waits | None = None,
    ) -> None:
        self.log = log
        self.direction = Direction.FORWARD
        """Which way the stream goes whose records are kept. Rows are only copied forward."""
        self.open = 0
        self._open_by_direction = dict.fromkeys(Direction, 0)
        self.trouble: Blocker | None = None
        self._state = state
        self._metrics = metrics
        self._clock = clock
        self._backoff_max_s = backoff_max_s
        self._waits = waits or Waits()
        self._keys: set[Key] | None = set()
        self._counting = asyncio.Lock()

    async def load(self) -> None:
        """Learn what is open. Before anything is applied."""
        keys: set[Key] = set()
        after = 0
        while letters := await self._state.letters(LetterState.OPEN, 1000, after):
            after = letters[-1].number
            keys.update(letter.event_key for letter in letters if letter.event_key is not None)
            if len(keys) > _KEYS_MAX:
                break
        self._keys = keys if len(keys) <= _KEYS_MAX else None
        await self.recount()

    async def recount(self) -> None:
        """Ask the state store how many are open."""
        # One at a time: an answer from before a letter was kept, arriving after the answer from
        # afterwards, would hide the letter from the gate and from what settles it.
        async with self._counting:
            for direction in Direction:
                counts = await self._state.letter_counts(direction)
                self._open_by_direction[direction] = counts.get(LetterState.OPEN.value, 0)
            self.open = sum(self._open_by_direction.values())

    def open_in(self, direction: Direction) -> int:
        """How many are open of those that arose in a direction."""
        return self._open_by_direction[direction]

    def concerns(self, key: Key) -> bool:
        """Whether the key may have an open letter, which a durable upsert or delete settles."""
        return self.open > 0 and (self._keys is None or key in self._keys)

    async def hold_newer(
        self,
        key: Key,
        version: int,
        partition: Partition,
        before: int,
        lease: Lease | None = None,
    ) -> bool:
        """
        Whether an open letter of the key, of a record before an offset, holds an image or a
        delete of a newer version: what was written since then does not make up for it. One
        whose bytes are gone may. A straggler's version counts in a store that the application
        has left, and orders nothing here. Waits for the log of letters as long as that takes,
        as `keep` does.
        """
        for letter in await self._state.letters_of([key]):
            if letter.partition != partition or (letter.offset or 0) >= before:
                continue
            if letter.code == "epoch-stale":
                continue
            try:
                kept = await self._while_held(
                    lease, self._until_answered(partial(self.log.load, letter.ref))
                )
            except Refused:
                return True
            newest = version_of(kept.value)
            if newest is not None and newest > version:
                return True
        return False

    @staticmethod
    async def _while_held(lease: Lease | None, wait: Awaitable[T]) -> T:
        return await (wait if lease is None else lease.while_held(wait))

    async def _until_answered(
        self, ask: Callable[[], Awaitable[T]], *, refused_too: bool = False
    ) -> T:
        """`refused_too`: a refusal is waited out as well; a person mends it meanwhile."""
        who, backoff_s = object(), 0.1
        try:
            while True:
                try:
                    answer = await ask()
                except (Retryable, Refused) as error:
                    if isinstance(error, Refused):
                        if not refused_too:
                            raise
                        backoff_s = self._backoff_max_s
                    self.trouble = Blocker("dead-letters-unavailable", error.message)
                    self._waits.begin(who, "dead-letters-unavailable", error.message)
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(backoff_s * 2, self._backoff_max_s)
                else:
                    self.trouble = None
                    return answer
        finally:
            self._waits.over(who)

    async def keep(
        self, rejected: Sequence[RejectedRecord], lease: Lease | None = None
    ) -> None:
        """
        Keep records; returns when they are durable. Waits as long as that takes, a refusal
        included, but no longer than the lease is held: then it raises Revoked, and the records
        are to be read again.
        """
        keeping = self._until_answered(partial(self.log.keep, rejected), refused_too=True)
        refs = await self._while_held(lease, keeping)
        await failpoints.reached("letters.after-keep")
        await self._state.add_letters(list(zip(refs, rejected, strict=True)))
        await failpoints.reached("letters.after-index")
        for record in rejected:
            self._metrics.rejected(record.code)
            if self._keys is not None and record.event_key is not None:
                self._keys.add(record.event_key)
        if self._keys is not None and len(self._keys) > _KEYS_MAX:
            self._keys = None
        await self.recount()

    def of_record(self, record: Record, error: Rejected, key: Key | None) -> RejectedRecord:
        """A record of the feed with the reason why it cannot be carried."""
        return RejectedRecord(
            key=record.key,
            value=record.value,
            headers=record.headers,
            code=error.code,
            path=error.path,
            message=error.message,
            at=self._clock(),
            partition=record.partition,
            offset=record.offset,
            event_key=key,
            direction=self.direction,
        )

    def of_row(
        self, key: Key | None, error: Rejected, row: bytes | None, place: str
    ) -> RejectedRecord:
        """A row that the copy read, with the reason why it cannot be carried."""
        return RejectedRecord(
            key=None,
            value=row,
            code=error.code,
            path=error.path,
            message=f"{error.message} ({place})" if place else error.message,
            at=self._clock(),
            event_key=key,
        )

    async def keep_rows(
        self, rejected: Sequence[RejectedRecord], lease: Lease | None = None
    ) -> None:
        """As `keep`, for copied rows: a page that is repeated after a crash adds no second
        letter.
        """
        known = await self._state.letters_of(
            [row.event_key for row in rejected if row.event_key is not None]
        )
        keys = {letter.event_key for letter in known if letter.offset is None}
        fresh = [row for row in rejected if row.event_key is None or row.event_key not in keys]
        if fresh:
            await self.keep(fresh, lease)
