"""
Applying works: image or transform, one write for each collection, and the dead letters for what
cannot be carried.

A work may stand for several records that were folded. When the store or the transform refuses
it, the records are read again from the log and applied one by one, so that only the one to
blame goes to the dead letters and the others take effect. The same is done where a newer image
became durable while a work waited: what it outranks is void, and the patches behind it are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Point, PointId
from replicator.model.position import Partition, Record
from replicator.model.write import Delete, Write
from replicator.ports.feed import ChangeFeed
from replicator.ports.transform import Item, Row
from replicator.stream.coalesce import VersionWindow
from replicator.stream.intake import Intake
from replicator.stream.lane import Whole, Work
from replicator.stream.letters import DeadLetters
from replicator.stream.ownership import Lease
from replicator.stream.patience import Patience
from replicator.stream.reading import Reader
from replicator.stream.route import Route
from replicator.stream.writing import Writer


class Applier:
    """Shared by the stream and by the retry of dead letters. The caller keeps the keys to
    itself.
    """

    def __init__(
        self,
        *,
        routes: Mapping[str, Route],
        writer: Writer,
        images: Reader,
        feed: ChangeFeed,
        intake: Intake,
        letters: DeadLetters,
        patience: Patience,
        show_after_s: float,
        versions: VersionWindow | None = None,
    ) -> None:
        """
        `show_after_s`: from an event to its being visible at the source. `versions`: of what
        the store written holds, and longer-lived than this; by default none is remembered.
        """
        self.absent = 0
        self.discarded = 0
        """Events found older than what the store holds, when their turn came."""
        self.versions = versions if versions is not None else VersionWindow(0)
        self._routes = routes
        self._writer = writer
        self._images = images
        self._feed = feed
        self._intake = intake
        self._letters = letters
        self._patience = patience
        self._show_after_s = show_after_s

    async def apply(
        self, lease: Lease, changes: Sequence[tuple[Key, ChangeEvent | None]]
    ) -> dict[Key, Rejected]:
        """
        Make changes of different keys durable; None stands for the source's image as it is now.
        Returns those that cannot be carried, and why. Images are read and written some at a
        time: a repair asks for those of thousands of keys, of which nobody knows the size.
        Raises Revoked once the lease is.
        """
        refused: dict[Key, Rejected] = {}
        begin = 0
        while begin < len(changes):
            page, end = 0.0, begin
            while end < len(changes) and (page < 1 or changes[end][1] is not None):
                key, event = changes[end]
                if event is None:
                    page += 1 / self._images.room(key.collection, len(changes))
                end += 1
            refused.update(await self._apply(lease, changes[begin:end]))
            begin = end
        return refused

    async def _apply(
        self, lease: Lease, changes: Sequence[tuple[Key, ChangeEvent | None]]
    ) -> dict[Key, Rejected]:
        images: dict[Key, Point] = {}
        refused: dict[Key, Rejected] = {}
        wanted = [key for key, event in changes if event is None]
        if wanted:
            images, refused = await lease.while_held(self._fetch(wanted))
        items = [
            Row(key, images.get(key)) if event is None else event
            for key, event in changes
            if key not in refused
        ]
        writes, keys = await self._writes(lease, items, refused)
        groups = {collection: list(group.values()) for collection, group in writes.items()}
        for collection, written in (await self._writer.write_each(lease, groups)).items():
            self.absent += written.absent
            for point_id, reason in written.rejected.items():
                refused[keys[collection][point_id]] = reason
        for key, event in changes:
            if event is not None:
                note = self.versions.refused if key in refused else self.versions.applied
                note(event)
        return refused

    async def _writes(
        self, lease: Lease, items: Sequence[Item], refused: dict[Key, Rejected]
    ) -> tuple[dict[str, dict[PointId, Write]], dict[str, dict[PointId, Key]]]:
        """What to write to each collection, by id, and of which keys; adds to `refused`."""
        by_collection: dict[str, list[Item]] = {}
        for item in items:
            by_collection.setdefault(item.key.collection, []).append(item)
        writes: dict[str, dict[PointId, Write]] = {}
        keys: dict[str, dict[PointId, Key]] = {}
        for collection, ours in by_collection.items():
            route = self._routes[collection]
            group = writes.setdefault(route.store, {})
            places = keys.setdefault(route.store, {})
            for item, write in zip(ours, await route.writes(ours, lease), strict=True):
                if isinstance(write, Rejected):
                    refused[item.key] = write
                elif isinstance(write, Delete) and write.id in group:
                    # A stray point was taken for an extra one, and a repaired key leads to it.
                    continue
                else:
                    group[write.id] = write
                    places[write.id] = item.key
        return writes, keys

    def is_void(self, work: Work) -> bool:
        """Whether the image in it is older than what became durable while it waited."""
        return work.event is not None and not work.anew and self.versions.is_stale(work.event)

    async def one_by_one(
        self, lease: Lease, partition: Partition, work: Work, error: Rejected | None
    ) -> list[Whole]:
        """
        Apply what can be of a work that was refused with this error, or is void (None), record
        by record; the rest goes to the dead letters, each with its own reason. Returns the
        whole images and deletes that took effect, in order.
        """
        wholes: list[Whole] = []
        if error is None and len(work.tickets) == 1:
            self.discarded += 1
            return wholes
        reading = self._patience.until_answered(lambda: self._records(partition, work))
        records = await lease.while_held(reading)
        alone = len(work.tickets) == 1 or work.event is None
        for record in records:
            reason = error
            if error is None or not alone:
                event = self._intake.event(record)
                assert isinstance(event, ChangeEvent), "it was read well when it came"
                if self.versions.is_stale(event):
                    # What a refused image outranks was counted when it came.
                    self.discarded += error is None
                    continue
                reason = await self._alone(lease, event)
                if reason is None and event.op is not Op.PATCH:
                    wholes.append(Whole(event.version, record.offset + 1))
            if reason is not None:
                letter = self._letters.of_record(record, reason, work.key)
                await self._letters.keep([letter], lease)
        return wholes

    async def _alone(self, lease: Lease, event: ChangeEvent) -> Rejected | None:
        """Apply one record of a work that was folded; why it cannot be carried, if so."""
        change: ChangeEvent | None = event
        if self._routes[event.key.collection].transform.needs_image(event):
            # Folded into an image it needed no other. Alone it takes the source's, as any patch
            # of its kind, and no sooner than the source must show it.
            await lease.sleep(self._show_after_s)
            change = None
        return (await self.apply(lease, [(event.key, change)])).get(event.key)

    async def _records(self, partition: Partition, work: Work) -> list[Record]:
        wanted = {ticket.next_offset - 1 for ticket in work.tickets}
        return [
            record
            async for records in self._feed.read(partition, min(wanted), max(wanted) + 1)
            for record in records
            if record.offset in wanted
        ]

    async def _fetch(self, keys: Sequence[Key]) -> tuple[dict[Key, Point], dict[Key, Rejected]]:
        """The source's images of these keys, and the keys whose rows are no points."""
        images: dict[Key, Point] = {}
        refused: dict[Key, Rejected] = {}
        by_collection: dict[str, list[PointId]] = {}
        for key in keys:
            by_collection.setdefault(key.collection, []).append(key.id)
        for collection, ids in by_collection.items():
            found, bad = await self._images.fetch(collection, ids)
            images.update(
                (Key(collection, point_id), point) for point_id, point in found.items()
            )
            refused.update(
                (Key(collection, point_id), error) for point_id, error in bad.items()
            )
        return images, refused
