"""
The last comparison of a cutover: every key that was written since the verified generation
began.

The writers are fenced, the stream has applied everything and rests. The keys are read from the
log between two persisted positions, never from memory, so a restart in between loses none. When
they are more than may be held at once, the log is read in several passes, each for the keys of
one residue of a hash.

What a key ought to hold is the log's own last image, and the source's where the source shows
its own writes. A patch alone says only which fields it set. What differs is written once more
and read again; what differs even then stops the cutover.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial

import msgspec

from replicator.codecs.keys import encode_key
from replicator.errors import Blocked, Refused, Rejected
from replicator.migration.compare import compare, compare_partial
from replicator.model.event import ChangeEvent, Key
from replicator.model.phase import Direction
from replicator.model.point import Point, PointId
from replicator.model.position import Partition, Positions
from replicator.model.schema import CollectionSchema
from replicator.model.write import Delete, Patch, Upsert, Write
from replicator.ports.feed import ChangeFeed
from replicator.ports.state import StateStore
from replicator.ports.store import Store
from replicator.settings.settings import VerifySettings
from replicator.stream.coalesce import is_older
from replicator.stream.fold import fold
from replicator.stream.images import fetch_images
from replicator.stream.intake import Intake
from replicator.stream.ownership import Lease
from replicator.stream.patience import Patience
from replicator.stream.route import Route
from replicator.stream.writing import Writer

_BATCH = 256


class Rechecked(msgspec.Struct):
    """What the comparison did; evidence for the journal."""

    keys: int = 0
    passes: int = 0
    repaired: int = 0


class TooMany(Exception):
    """More keys than one pass may hold."""


class Recheck:
    """Compares the store written with the log. The stream must rest."""

    def __init__(
        self,
        *,
        direction: Direction,
        feed: ChangeFeed,
        intake: Intake,
        written: Store,
        owner: Store,
        schemas: dict[str, CollectionSchema],
        writer: Writer,
        lease: Lease,
        state: StateStore,
        patience: Patience,
        settings: VerifySettings,
        keys_max: int,
    ) -> None:
        """
        `written` is the store that the stream writes, `owner` the one that the application
        writes; `schemas` are the written store's, by the source's word.
        """
        self._direction = direction
        self._feed = feed
        self._intake = intake
        self._written = written
        self._owner = owner
        self._schemas = schemas
        self._writer = writer
        self._lease = lease
        self._state = state
        self._patience = patience
        self._settings = settings
        self._keys_max = keys_max

    async def run(self, begin: Positions, end: Positions) -> Rechecked:
        """Raises Refused("recheck-mismatch"), and Refused("log-truncated") when the log lost
        `begin`.
        """
        done = Rechecked()
        passes = 1
        await asyncio.sleep(self._written.staleness_s)  # until it shows what was written last
        while True:
            try:
                done.keys = done.passes = 0
                for residue in range(passes):
                    await self._one_pass(begin, end, residue, passes, done)
            except TooMany:
                passes *= 2
            else:
                return done

    async def _one_pass(
        self, begin: Positions, end: Positions, residue: int, passes: int, done: Rechecked
    ) -> None:
        last: dict[Key, ChangeEvent] = {}
        for partition, stop in end.items():
            async for event in self._events(partition, begin.get(partition, stop), stop):
                key = event.key
                if passes > 1 and zlib.crc32(encode_key(key)) % passes != residue:
                    continue
                known = last.get(key)
                if known is None and len(last) >= self._keys_max:
                    raise TooMany
                if known is None or not is_older(event, known.version):
                    last[key] = fold(known, event)
        done.passes += 1
        done.keys += len(last)
        events = list(last.values())
        for start in range(0, len(events), _BATCH):
            await self._compare(events[start : start + _BATCH], done)

    async def _events(
        self, partition: Partition, start: int, stop: int
    ) -> AsyncIterator[ChangeEvent]:
        if start >= stop:
            return
        try:
            async for records in self._feed.read(partition, start, stop):
                for record in records:
                    event = self._intake.event(record)
                    if isinstance(event, ChangeEvent):
                        yield event
        except Blocked as error:
            raise Refused(
                "log-truncated", f"{error.message}; verify again, then try again"
            ) from error

    async def _compare(self, events: list[ChangeEvent], done: Rechecked) -> None:
        lettered = {
            letter.event_key for letter in await self._state.letters_of([e.key for e in events])
        }
        by_collection: dict[str, list[ChangeEvent]] = {}
        for event in events:
            if event.key not in lettered:  # waived by name, or the gate had not opened
                by_collection.setdefault(event.key.collection, []).append(event)
        for collection, group in by_collection.items():
            wanted = await self._wanted(self._intake.routes[collection], group)
            for key, detail in (await self._mend(collection, group, wanted, done)).items():
                raise Refused(
                    "recheck-mismatch",
                    f"{key.collection}/{key.id} differs after it was written again: {detail}",
                )

    async def _wanted(self, route: Route, events: list[ChangeEvent]) -> dict[Key, Write]:
        """What each key ought to hold, as the write that would make it so."""
        if self._direction is Direction.REVERSE:
            return _writes((event.key, partial(route.write, event)) for event in events)
        if self._owner.staleness_s == 0:
            return await self._images(route, events)
        of_image = [event for event in events if route.transform.needs_image(event)]
        of_log = [event for event in events if not route.transform.needs_image(event)]
        wanted = await self._settled_images(route, of_image)
        return wanted | _writes((e.key, partial(route.write, e)) for e in of_log)

    async def _settled_images(
        self, route: Route, events: list[ChangeEvent]
    ) -> dict[Key, Write]:
        """The source's images, of a source that does not show its writes at once."""
        if not events:
            return {}
        # Its writers are fenced: from here on it shows all they wrote.
        await asyncio.sleep(self._owner.staleness_s)
        return await self._images(route, events)

    async def _images(self, route: Route, events: list[ChangeEvent]) -> dict[Key, Write]:
        ids = [event.key.id for event in events]
        images, unreadable = await fetch_images(
            self._patience, self._owner, route.collection, ids
        )
        return _writes(
            (event.key, partial(route.row, event.key, images.get(event.key.id)))
            for event in events
            if event.key.id not in unreadable
        )

    async def _mend(
        self,
        collection: str,
        events: list[ChangeEvent],
        wanted: dict[Key, Write],
        done: Rechecked,
    ) -> dict[Key, str]:
        """Write once more what differs; what differs even then."""
        differing = await self._differing(collection, wanted)
        route = self._intake.routes[collection]
        if self._direction is Direction.FORWARD and self._owner.staleness_s > 0:
            # The stream may have discarded an event for a version applied before the range:
            # there the log's last image is not the word, the source's is.
            doubtful = [e for e in events if e.key in differing and e.version is not None]
            images = await self._settled_images(route, doubtful)
            settled = await self._differing(collection, images)
            wanted = wanted | images
            differing = {
                key: settled.get(key, detail) if key in images else detail
                for key, detail in differing.items()
                if key not in images or key in settled
            }
        if differing:
            again = [wanted[key] for key in differing]
            await self._writer.write(self._lease, route.store, again)
            await asyncio.sleep(self._written.staleness_s)
            done.repaired += len(again)
            differing = await self._differing(
                collection, {key: wanted[key] for key in differing}
            )
        return differing

    def _compare_points(
        self, wanted: Upsert | Patch, actual: Point, schema: CollectionSchema
    ) -> str | None:
        floats, payloads = self._settings.float_tolerance, self._settings.payload_tolerance
        if isinstance(wanted, Patch):
            return compare_partial(
                wanted, actual, schema, float_tolerance=floats, payload_tolerance=payloads
            )
        return compare(
            wanted.point, actual, schema, float_tolerance=floats, payload_tolerance=payloads
        )

    async def _differing(self, collection: str, wanted: dict[Key, Write]) -> dict[Key, str]:
        store = self._intake.routes[collection].store
        ids: list[PointId] = [write.id for write in wanted.values()]
        held = await self._patience.until_answered(lambda: self._written.fetch(store, ids))
        schema = self._schemas[collection]
        differing: dict[Key, str] = {}
        for key, write in wanted.items():
            actual = held.get(write.id)
            detail: str | None = None
            match write:
                case Delete():
                    detail = None if actual is None else "it should be gone"
                case Upsert():
                    detail = (
                        "it is missing"
                        if actual is None
                        else self._compare_points(write, actual, schema)
                    )
                case Patch() if actual is not None:  # a patch of an absent key writes nothing
                    detail = self._compare_points(write, actual, schema)
            if detail is not None:
                differing[key] = detail
        return differing


def _writes(makers: Iterable[tuple[Key, Callable[[], Write]]]) -> dict[Key, Write]:
    writes: dict[Key, Write] = {}
    for key, make in makers:
        try:
            writes[key] = make()
        except Rejected:
            continue  # it is among the dead letters, which the gate has judged
    return writes
