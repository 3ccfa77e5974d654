"""
The last comparison of a cutover: every key that was written since the verified generation
began.

The writers are fenced, the stream has applied everything and rests. The keys are read from the
log between two persisted positions (`touched`), never from memory, so a restart in between
loses none.

What a key ought to hold is the log's own last image, by a reference fold of its own, and the
source's where the source shows its own writes. A patch alone says only which fields it set.
What differs, by the same law as in a verification (`likeness`), is written once more and read
again; what differs even then stops the cutover. A row that cannot be read is a difference, and
no reason to fail before it was written again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from replicator.errors import Refused, Rejected
from replicator.migration.equality.likeness import Likeness
from replicator.migration.equality.reference_fold import size_of
from replicator.migration.equality.touched import Touched, Touches
from replicator.model.event import ChangeEvent, Key
from replicator.model.pages import PageSize
from replicator.model.phase import Direction
from replicator.model.point import PointId
from replicator.model.position import Positions
from replicator.model.write import Write
from replicator.ports.feed import ChangeFeed
from replicator.ports.state import StateStore
from replicator.ports.transform import Item, Row
from replicator.stream.coalesce import VersionWindow
from replicator.stream.intake import Intake
from replicator.stream.ownership import Lease
from replicator.stream.reading import Reader
from replicator.stream.route import Route
from replicator.stream.writing import Writer

_BATCH = 256


class Rechecked(msgspec.Struct):
    """What the comparison did; evidence for the journal."""

    keys: int = 0
    passes: int = 0
    repaired: int = 0
    unreadable: int = 0
    """Keys whose row at the owner cannot be read, and of which the log holds no image."""


class _Look(msgspec.Struct):
    """At some keys of one collection."""

    route: Route
    like: Likeness
    touched: Touched
    done: Rechecked
    said: dict[Key, ChangeEvent] = {}
    """The log's last word, where it is what a key ought to hold."""
    bytes_read: int = 0


class Recheck:
    """Compares the store written with the log. The stream must rest."""

    def __init__(
        self,
        *,
        direction: Direction,
        feed: ChangeFeed,
        intake: Intake,
        written: Reader,
        owner: Reader,
        likeness: Mapping[str, Likeness],
        writer: Writer,
        lease: Lease,
        state: StateStore,
        keys_max: int,
        bytes_max: int,
        versions: VersionWindow | None = None,
    ) -> None:
        """
        `written` is the store that the stream writes, `owner` the one that the application
        writes; `likeness` is told by the source's word. `versions` are those that the store
        written holds, as far as they are known.
        """
        self._direction = direction
        self._feed = feed
        self._intake = intake
        self._written = written.consistent
        self._owner = owner.consistent
        self._likeness = likeness
        self._writer = writer
        self._lease = lease
        self._state = state
        self._keys_max = keys_max
        self._bytes_max = bytes_max
        self._versions = versions if versions is not None else VersionWindow(0)
        self._by_images = direction is Direction.FORWARD and owner.staleness_s == 0
        """The owner shows at once what it holds: of the log only the keys are needed."""
        # Both stores' points are held at once, and an eighth of the budget is for them.
        self._share = max(1, bytes_max // 8)
        self._sizes: dict[str, PageSize] = {}

    async def run(self, begin: Positions, end: Positions) -> Rechecked:
        """Raises Refused("recheck-mismatch"), and Refused("log-truncated") when the log lost
        `begin`.
        """
        done = Rechecked()
        touched = Touched(
            feed=self._feed,
            intake=self._intake,
            begin=begin,
            end=end,
            versions=self._versions,
            keys_max=self._keys_max,
            bytes_max=self._bytes_max,
        )
        await asyncio.sleep(self._written.staleness_s)  # until it shows what was written last
        async for found in touched.passes(words=not self._by_images):
            done.passes += 1
            done.keys += len(found)
            by_collection: dict[str, list[Key]] = {}
            for key in found:
                by_collection.setdefault(key.collection, []).append(key)
            for collection, keys in by_collection.items():
                place = 0
                while place < len(keys):
                    some = keys[place : place + _BATCH]
                    batch = some[: self._count(collection, some, found)]
                    await self._compare(collection, batch, found, touched, done)
                    place += len(batch)
            del found  # the next pass is read before it would be forgotten
        return done

    def _count(self, collection: str, keys: Sequence[Key], found: Touches) -> int:
        """
        How many to compare at once. What was read last tells how large points are; and the log,
        where large ones follow many small ones.
        """
        size = self._sizes.setdefault(collection, PageSize(self._share))
        most, left = size.rows(len(keys)), self._share
        for count, key in enumerate(keys[:most]):
            left -= 2 * found[key].bytes
            if left < 0:
                return max(1, count)
        return most

    async def _compare(
        self,
        collection: str,
        keys: Sequence[Key],
        found: Touches,
        touched: Touched,
        done: Rechecked,
    ) -> None:
        # Waived by name, or the gate had not opened.
        lettered = {letter.event_key for letter in await self._state.letters_of(keys)}
        look = _Look(self._intake.routes[collection], self._likeness[collection], touched, done)
        compared = [key for key in keys if key not in lettered]
        for key, detail in (await self._look_at(look, compared, found)).items():
            raise Refused(
                "recheck-mismatch",
                f"{key.shown} differs after it was written again: {detail}",
            )
        self._sizes[collection].saw(len(compared), look.bytes_read)

    async def _look_at(
        self, look: _Look, keys: Sequence[Key], words: Touches
    ) -> dict[Key, str]:
        """Write once more what differs; what differs even then."""
        wanted = await self._wanted(look, keys, words)
        differing = await self._differing(look, wanted)
        if differing and self._direction is Direction.FORWARD and not self._by_images:
            # The stream may have discarded an event for a version applied before the range:
            # there the log's last image is not the word, the source's is.
            doubtful = [
                key
                for key in differing
                if key in look.said and look.said[key].version is not None
            ]
            images = await self._settled_images(look, doubtful)
            settled = await self._differing(look, images)
            wanted = wanted | images
            differing = {
                key: settled.get(key, detail) if key in images else detail
                for key, detail in differing.items()
                if key not in images or key in settled
            }
        return await self._mend(look, wanted, differing) if differing else {}

    async def _mend(
        self, look: _Look, wanted: dict[Key, Write], differing: dict[Key, str]
    ) -> dict[Key, str]:
        again = [wanted[key] for key in differing]
        written = await self._writer.write(self._lease, look.route.store, again)
        for key in differing:
            if key in look.said and wanted[key].id not in written.rejected:
                self._versions.applied(look.said[key])
        await asyncio.sleep(self._written.staleness_s)
        look.done.repaired += len(again)
        left = await self._differing(look, {key: wanted[key] for key in differing})
        return {
            key: written.rejected[wanted[key].id].message
            if wanted[key].id in written.rejected
            else detail
            for key, detail in left.items()
        }

    async def _wanted(
        self, look: _Look, keys: Sequence[Key], words: Touches
    ) -> dict[Key, Write]:
        """What each key ought to hold, as the write that would make it so."""
        if self._by_images:
            return await self._images(look, keys)
        events = {key: word.event(key) for key in keys if (word := words[key].word) is not None}
        if self._direction is Direction.REVERSE:
            return await self._of_log(look, events)
        of_image = [
            key
            for key, event in events.items()
            if event is None or look.route.transform.needs_image(event)
        ]
        wanted = await self._settled_images(look, of_image)
        return wanted | await self._of_log(
            look, {k: e for k, e in events.items() if k not in of_image}
        )

    async def _of_log(
        self, look: _Look, events: Mapping[Key, ChangeEvent | None]
    ) -> dict[Key, Write]:
        said = {key: event for key, event in events.items() if event is not None}
        look.said |= said
        return await self._writes(look, list(said.values()))

    async def _settled_images(self, look: _Look, keys: Sequence[Key]) -> dict[Key, Write]:
        """The source's images, of a source that does not show its writes at once."""
        if not keys:
            return {}
        # Its writers are fenced: from here on it shows all they wrote.
        await asyncio.sleep(self._owner.staleness_s)
        return await self._images(look, keys)

    async def _images(self, look: _Look, keys: Sequence[Key]) -> dict[Key, Write]:
        images, unreadable = await self._owner.fetch(
            look.route.collection, [key.id for key in keys]
        )
        for key in keys:
            look.said.pop(key, None)
        look.bytes_read += sum(map(size_of, images.values()))
        rows = [Row(key, images.get(key.id)) for key in keys if key.id not in unreadable]
        wanted = await self._writes(look, rows)
        if unreadable:
            wanted |= await self._instead(look, [key for key in keys if key.id in unreadable])
        return wanted

    async def _instead(self, look: _Look, keys: Sequence[Key]) -> dict[Key, Write]:
        """The log's word of keys whose rows at the owner cannot be read."""
        words = await look.touched.words(frozenset(keys))
        events: dict[Key, ChangeEvent | None] = {}
        for key in keys:
            touch = words.get(key)
            event = touch.word.event(key) if touch is not None and touch.word else None
            if event is None or look.route.transform.needs_image(event):
                look.done.unreadable += 1
            else:
                events[key] = event
        return await self._of_log(look, events)

    async def _writes(self, look: _Look, items: Sequence[Item]) -> dict[Key, Write]:
        """What cannot be carried is among the dead letters, which the gate has judged."""
        writes = await look.route.writes(items, self._lease)
        return {
            item.key: write
            for item, write in zip(items, writes, strict=True)
            if not isinstance(write, Rejected)
        }

    async def _differing(self, look: _Look, wanted: Mapping[Key, Write]) -> dict[Key, str]:
        if not wanted:
            return {}
        ids: list[PointId] = [write.id for write in wanted.values()]
        held, broken = await self._written.fetch(look.route.store, ids)
        look.bytes_read += sum(map(size_of, held.values()))
        like = look.like
        differing: dict[Key, str] = {}
        for key, write in wanted.items():
            if write.id in broken:
                differing[key] = f"it cannot be read: {broken[write.id].message}"
                continue
            unlike = like.judge(write, held.get(write.id))
            if unlike is not None:
                differing[key] = unlike.sentence
        return differing
