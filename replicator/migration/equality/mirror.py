"""
The mirror: both stores' images of the same keys, side by side, in target terms.

Verification and a repair's re-read ask here; what counts as equal, `likeness` says. The source
side goes through the transform, so what is compared is what the target ought to hold with what
it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from replicator.errors import Rejected
from replicator.migration.equality.likeness import Likeness, likeness
from replicator.migration.preflight.routes import Atlas
from replicator.model.event import Key
from replicator.model.finding import Difference
from replicator.model.phase import Direction
from replicator.model.point import Point, PointId
from replicator.ports.transform import Row
from replicator.settings.settings import VerifySettings
from replicator.stream.reading import Reader


class Gap(msgspec.Struct, frozen=True):
    """How both stores differ on a key."""

    key: Key
    kind: Difference
    detail: str = ""


class Mirror:
    """Reads both stores. Both must have been written what is compared, up to their
    staleness.
    """

    def __init__(
        self,
        *,
        source: Reader,
        target: Reader,
        atlas: Atlas,
        settings: VerifySettings,
    ) -> None:
        self._source = source.consistent
        self._target = target.consistent
        self._atlas = atlas
        self._settings = settings
        self._like: dict[str, Likeness] = {}

    async def unknown(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """
        Which of these ids the source does not have at all; or has, in points that a scan which
        the filter narrows need not show, because they do not match it.
        """
        name = self._atlas.at_source(collection)
        passing = self._atlas.forward[collection].transform.filter
        if passing is None or not self._source.narrows:
            return set(ids) - await self._source.present(name, ids)
        there = await self._source.fetch_fields(name, ids, sorted(passing.fields))
        return {
            point_id
            for point_id in ids
            if (point := there.get(point_id)) is None
            or not passing.matches(point_id, point.payload)
        }

    async def gaps(self, keys: Sequence[Key]) -> list[Gap]:
        """The keys on which both stores differ, read now."""
        gaps: list[Gap] = []
        by_collection: dict[str, list[PointId]] = {}
        for key in keys:
            by_collection.setdefault(key.collection, []).append(key.id)
        for collection, ids in by_collection.items():
            # Invariant 10: of keys nobody knows how large their images are.
            name = self._atlas.at_source(collection)
            async with aclosing(self._source.fetch_parts(name, ids)) as parts:
                async for some, (points, unreadable) in parts:
                    rows = [(x, points.get(x)) for x in some if x not in unreadable]
                    gaps += (await self.against_target(collection, rows))[0]
        return gaps

    async def against_target(
        self, collection: str, rows: Sequence[tuple[PointId, Point | None]]
    ) -> tuple[list[Gap], int]:
        """
        Compare source rows (None: absent) with what the target holds. A row that cannot be
        carried is in the dead letters, and is not compared; their number is returned as well.
        """
        route = self._atlas.forward[collection]
        items = [Row(Key(collection, point_id), point) for point_id, point in rows]
        expected = [
            (item.key, wanted)
            for item, wanted in zip(items, await route.writes(items), strict=True)
            if not isinstance(wanted, Rejected)
        ]
        ids = [wanted.id for _, wanted in expected]
        held, broken = await self._target.fetch(route.store, ids)
        gaps, like = [], self._likeness(collection)
        for key, wanted in expected:
            if wanted.id in broken:
                gaps.append(Gap(key, Difference.DIFFERENT, broken[wanted.id].message))
                continue
            unlike = like.judge(wanted, held.get(wanted.id))
            if unlike is not None:
                gaps.append(Gap(key, unlike.kind, unlike.detail))
        return gaps, len(rows) - len(expected)

    def _likeness(self, collection: str) -> Likeness:
        if collection not in self._like:
            self._like[collection] = likeness(
                self._atlas, collection, Direction.FORWARD, self._settings
            )
        return self._like[collection]
