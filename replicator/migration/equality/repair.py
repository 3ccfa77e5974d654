"""
Repair and retry: heal keys while the stream runs, without ever writing a stored image.

*Repair* copies the source's image of a key anew. The key is held: no event of it is written
meanwhile. Then the time passes after which the source must show every event that was written
before, the source is read, and the image, or the delete, is written. Events that came meanwhile
follow it in order.

*Retry* of a dead letter holds its key and replays that key's own events from the log, from the
dead letter to what was read last. The letter's stored bytes are never written: the key may have
changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from replicator import failpoints
from replicator.errors import EpochAhead, Rejected
from replicator.migration.equality.mirror import Mirror
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.letter import DeadLetter, LetterState
from replicator.model.position import Partition, Positions
from replicator.ports.feed import ChangeFeed
from replicator.ports.state import StateStore
from replicator.stream.coalesce import is_older
from replicator.stream.fold import fold
from replicator.stream.holds import Holds
from replicator.stream.letters import DeadLetters
from replicator.stream.ownership import Lease
from replicator.stream.patience import Patience
from replicator.stream.stream import Stream


class Repair:
    """
    Works beside a running stream, under a lease of its own, on keys that it holds. One at a
    time: the caller sees to it. Everything raises Revoked once the lease is.
    """

    def __init__(
        self,
        *,
        stream: Stream,
        lease: Lease,
        holds: Holds,
        feed: ChangeFeed,
        mirror: Mirror,
        state: StateStore,
        letters: DeadLetters,
        patience: Patience,
        show_after_s: float,
    ) -> None:
        self._stream = stream
        self._lease = lease
        self._holds = holds
        self._feed = feed
        self._mirror = mirror
        self._state = state
        self._letters = letters
        self._patience = patience
        self._show_after_s = show_after_s

    async def keys(self, keys: Sequence[Key]) -> dict[Key, Rejected]:
        """
        Copy the source's images of these keys, as many as a few thousand at once; forward only.
        Returns those that cannot be carried. Their findings are forgotten and their open
        letters settled.
        """
        async with self._holding(keys):
            await failpoints.reached("repair.holding")
            # One that is kept from here on may concern what the image does not show yet.
            letters = await self._state.letters_of(keys)
            # Whatever was applied to these keys, the source shows it from here on.
            await self._lease.sleep(self._show_after_s)
            refused = await self._stream.applier.apply(
                self._lease, [(key, None) for key in keys]
            )
            # Still to ourselves: a later event that makes up for a letter must find it there.
            await self._letters.keep_rows(
                [self._letters.of_row(key, refused[key], None, "repair") for key in refused],
                self._lease,
            )
        await failpoints.reached("repair.after-write")
        healed = [key for key in keys if key not in refused]
        await self._state.clear_findings(healed)
        made_up_for = [
            letter
            for letter in letters
            if letter.event_key not in refused and letter.code != "epoch-stale"
        ]
        await self._close(made_up_for, "repair")
        return refused

    @asynccontextmanager
    async def _holding(self, keys: Sequence[Key]) -> AsyncIterator[None]:
        """Hold keys, but wait for them no longer than the lease is held."""
        async with AsyncExitStack() as stack:
            held = stack.enter_async_context(self._holds.holding(keys))
            await self._lease.while_held(held)
            yield

    async def retry(self, letter: DeadLetter, fenced_at: Positions) -> str:
        """
        Retry one open letter; returns `settled`, or why it stays open. `fenced_at` is the last
        switch's fence vector: what lies before it concerns a store that the application owns
        now.
        """
        if letter.event_key is None:
            return "its key cannot be read: mend the producer, then discard it"
        if letter.partition is None or letter.offset is None:
            refused = await self.keys([letter.event_key])
            return refused[letter.event_key].message if refused else "settled"
        if letter.offset < fenced_at.get(letter.partition, 0):
            return (
                "it is older than the switch: the application owns that store now; discard it"
            )
        return await self._replay(letter, letter.event_key)

    async def _replay(self, letter: DeadLetter, key: Key) -> str:
        assert letter.partition is not None
        lane = self._stream.lanes[letter.partition]
        async with self._holding([key]):
            await failpoints.reached("retry.holding")
            end = lane.watermark.tracked_to
            reading = self._patience.until_answered(
                lambda: self._folded(letter, key, lane.partition, end)
            )
            try:
                event = await self._lease.while_held(reading)
            except Rejected as error:
                return error.message
            refused = {} if event is None else await self._apply(key, event)
            if key in refused:
                return refused[key].message
        await failpoints.reached("retry.after-write")
        replayed = [
            other
            for other in await self._state.letters_of([key])
            if other.partition == letter.partition
            and other.offset is not None
            and (letter.offset or 0) <= other.offset < end
        ]
        await self._close(replayed, "retry")
        return "settled"

    async def _apply(self, key: Key, event: ChangeEvent) -> dict[Key, Rejected]:
        transform = self._stream.intake.routes[key.collection].transform
        if event.op is Op.PATCH and transform.needs_image(event):
            await self._lease.sleep(self._show_after_s)
            return await self._stream.applier.apply(self._lease, [(key, None)])
        return await self._stream.applier.apply(self._lease, [(key, event)])

    async def _folded(
        self, letter: DeadLetter, key: Key, partition: Partition, end: int
    ) -> ChangeEvent | None:
        """
        The key's events from the letter to `end`, as one; None when the store holds a newer
        image than any of them. Raises Rejected when one of them still cannot be read and no
        later upsert or delete makes up for it.
        """
        event: ChangeEvent | None = None
        version, void = self._stream.applier.versions.of(key), False
        error: Rejected | None = None
        async for read in self._events(letter, key, partition, end):
            if isinstance(read, Rejected):
                error = read
            elif is_older(read, version):
                void = True
            else:
                event = fold(event, read)
                if read.op is not Op.PATCH:
                    version, error = read.version, None
        if error is not None:
            raise error
        if event is None and not void:
            raise Rejected("field-missing", "the log holds no event of this key there any more")
        return event

    async def _events(
        self, letter: DeadLetter, key: Key, partition: Partition, end: int
    ) -> AsyncIterator[ChangeEvent | Rejected]:
        """The key's events from the letter to `end`, and those that cannot be read."""
        assert letter.offset is not None
        intake = self._stream.intake
        async for records in self._feed.read(partition, letter.offset, end):
            for record in records:
                if intake.key(record) == key and (read := intake.event(record)) is not None:
                    assert not isinstance(read, EpochAhead), "the stream has not gone past it"
                    yield read

    async def _close(self, letters: Sequence[DeadLetter], by: str) -> None:
        if letters:
            numbers = [letter.number for letter in letters]
            await self._state.close_letters(numbers, LetterState.SETTLED, by)
            await self._letters.recount()
