"""
Bases: the images that patches are applied to, for a store that cannot patch by itself.

Such a store is given whole points only: the image that it holds is fetched, the patch applied,
and the result written. The caller keeps the key to itself from the fetch until the write is
durable, as it does around any write; so nothing comes between, and a write whose reply is lost
can be repeated as it is, for it leaves the same whether its first try lands or not.

What could go wrong is a base that is older than it looks:

* *A write that may still land.* Nothing is fetched before the guard is clear.
* *A store that shows its writes late.* What was written within `staleness_s` is remembered, and
  the patch applied to that, so that a point that is written and patched at once costs no wait.
  What is remembered is bounded in bytes. For a key that is not remembered nothing is fetched
  until a read must show everything that may have been written to it: by whoever wrote before
  the lease was granted, by what was forgotten for its size, by what ended without an answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from replicator.errors import Rejected
from replicator.model.pages import size_of
from replicator.model.point import Point, PointId
from replicator.model.write import Delete, Patch, Upsert, apply_patch
from replicator.stream.guard import WriteGuard
from replicator.stream.ownership import Lease
from replicator.stream.reading import Reader
from replicator.stream.waits import Waits

RECENT_BYTES = 16 << 20
"""Of images remembered. What is written within a staleness of some seconds is about this at a
thousand points of 1,536 dimensions a second; with less of it patches of new points wait, and
more only holds what is shown already."""

_ENTRY_BYTES = 200
"""What remembering costs beside the image."""

_Place = tuple[str, PointId]


class Folded(msgspec.Struct, frozen=True):
    """What patches become, each the one or the other."""

    writes: list[Upsert]
    absent: int
    """Patches of points that are not there."""
    rejected: dict[PointId, Rejected]
    """Patches of rows that cannot be read."""


class _Recent(msgspec.Struct, frozen=True):
    """What was written to a key not long ago; None for a delete."""

    image: Point | None
    size: int
    at: float


class Bases:
    """Of one store. Shared by all who write it, as its `Writer` is."""

    def __init__(self, reads: Reader, guard: WriteGuard, waits: Waits) -> None:
        self._reads = reads
        self._guard = guard
        self._waits = waits
        self._recent: OrderedDict[_Place, _Recent] = OrderedDict()
        """Oldest first; none that a read must show already, once it was looked at."""
        self._bytes = 0
        self._epoch = 0
        """Of the route while all this was written: under another one somebody else wrote."""
        self._shown_at = 0.0
        """Loop time from which on a read shows what was written and is not remembered."""

    def room(self, collection: str, wanted: int) -> int:
        """For how many patches bases may be held at once."""
        return self._reads.room(collection, wanted)

    async def fold(self, lease: Lease, collection: str, patches: Sequence[Patch]) -> Folded:
        """
        The images that these patches make, of keys that the caller keeps to itself. The guard
        must be clear. Raises Revoked once the lease is.
        """
        self._enter(lease)
        held: dict[PointId, Point | None] = {}
        for patch in patches:
            recent = self._recent.get((collection, patch.id))
            if recent is not None:
                held[patch.id] = recent.image
        unreadable: dict[PointId, Rejected] = {}
        unknown = [patch.id for patch in patches if patch.id not in held]
        if unknown:
            await self._until_shown(lease)
            found, unreadable = await lease.while_held(self._reads.fetch(collection, unknown))
            held.update((point_id, found.get(point_id)) for point_id in unknown)
        images = [(patch, held[patch.id]) for patch in patches if patch.id not in unreadable]
        writes = [
            Upsert(apply_patch(image, patch)) for patch, image in images if image is not None
        ]
        return Folded(writes, len(images) - len(writes), unreadable)

    # -- what is remembered ----------------------------------------------------------------

    def sending(
        self, lease: Lease, collection: str, writes: Iterable[Upsert | Delete]
    ) -> dict[PointId, _Recent]:
        """Forget the keys of what is about to be sent, until it is answered. What is returned
        is for `answered`.
        """
        self._enter(lease)
        before: dict[PointId, _Recent] = {}
        if self._reads.staleness_s:
            for write in writes:
                recent = self._recent.pop((collection, write.id), None)
                if recent is not None:
                    self._bytes -= recent.size
                    before[write.id] = recent
        return before

    def answered(
        self,
        collection: str,
        writes: Iterable[Upsert | Delete],
        rejected: Mapping[PointId, Rejected],
        before: Mapping[PointId, _Recent],
    ) -> None:
        """These writes are durable, but for the rejected, of which is true what was before."""
        if not self._reads.staleness_s:
            return
        now = asyncio.get_running_loop().time()
        for write in writes:
            if write.id in rejected:
                recent = before.get(write.id)
                if recent is None:
                    continue
            else:
                image = write.point if isinstance(write, Upsert) else None
                size = _ENTRY_BYTES + (0 if image is None else size_of(image))
                recent = _Recent(image, size, now)
            self._recent[collection, write.id] = recent
            self._bytes += recent.size
        self._forget(now)

    def doubt(self) -> None:
        """What was sent last was not answered, or something else than points was written."""
        now = asyncio.get_running_loop().time()
        self._recent.clear()
        self._bytes = 0
        self._shown_at = max(self._shown_at, now + self._reads.staleness_s)

    def _enter(self, lease: Lease) -> None:
        if lease.epoch != self._epoch:
            self._epoch = lease.epoch
            self._recent.clear()
            self._bytes = 0
        self._forget(asyncio.get_running_loop().time())

    def _forget(self, now: float) -> None:
        staleness_s = self._reads.staleness_s
        while self._recent:
            place, recent = next(iter(self._recent.items()))
            is_shown = recent.at + staleness_s <= now
            if not is_shown and self._bytes <= RECENT_BYTES:
                return
            # Invariant 10: what does not fit is waited for instead.
            del self._recent[place]
            self._bytes -= recent.size
            self._shown_at = max(self._shown_at, recent.at + staleness_s)

    async def _until_shown(self, lease: Lease) -> None:
        staleness_s = self._reads.staleness_s
        if not staleness_s:
            return
        # Writes of an earlier process too: they landed before the guard was clear.
        shown_at = max(lease.began + staleness_s, self._guard.clear_at + staleness_s)
        left_s = max(shown_at, self._shown_at) - asyncio.get_running_loop().time()
        if left_s > 0:
            message = "reads may not show yet what was written before a patch"
            with self._waits.waiting("stale-reads", message, seconds=left_s, planned=True):
                await lease.sleep(left_s)
