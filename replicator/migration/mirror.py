"""
The mirror: both stores' images of the same keys, side by side, in target terms.

Everything that asks "are they equal?" asks here: verification, repair's re-read and the last
comparison of a cutover. The source side goes through the transform, so what is compared is what
the target ought to hold with what it holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicator.errors import Rejected
from replicator.migration.compare import compare, precisions, scale_free
from replicator.migration.routes import Atlas
from replicator.model.event import Key
from replicator.model.finding import Difference
from replicator.model.point import Point, PointId
from replicator.model.schema import Precision
from replicator.model.write import Upsert
from replicator.ports.store import StoreReader
from replicator.settings.settings import VerifySettings
from replicator.stream.images import fetch_images
from replicator.stream.patience import Patience


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
        source: StoreReader,
        target: StoreReader,
        atlas: Atlas,
        settings: VerifySettings,
        patience: Patience,
    ) -> None:
        self._source = source
        self._target = target
        self._atlas = atlas
        self._settings = settings
        self._patience = patience
        self._scale_free: dict[str, frozenset[str]] = {}
        self._precisions: dict[str, dict[str, Precision]] = {}

    async def unknown(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """Which of these ids the source does not have at all."""
        found, unreadable = await fetch_images(self._patience, self._source, collection, ids)
        return set(ids) - found.keys() - unreadable.keys()

    async def gaps(self, keys: Sequence[Key]) -> list[Gap]:
        """The keys on which both stores differ, read now."""
        gaps: list[Gap] = []
        by_collection: dict[str, list[PointId]] = {}
        for key in keys:
            by_collection.setdefault(key.collection, []).append(key.id)
        for collection, ids in by_collection.items():
            points, unreadable = await fetch_images(
                self._patience, self._source, collection, ids
            )
            rows = [(x, points.get(x)) for x in ids if x not in unreadable]
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
        expected: list[tuple[Key, PointId, Point | None]] = []
        for point_id, point in rows:
            key = Key(collection, point_id)
            try:
                write = route.row(key, point)
            except Rejected:
                continue
            expected.append((key, write.id, write.point if isinstance(write, Upsert) else None))
        held, broken = await fetch_images(
            self._patience, self._target, route.store, [place for _, place, _ in expected]
        )
        gaps = []
        for key, target_id, wanted in expected:
            if target_id in broken:
                gaps.append(Gap(key, Difference.DIFFERENT, broken[target_id].message))
                continue
            gap = self.gap(key, wanted, held.get(target_id))
            if gap is not None:
                gaps.append(gap)
        return gaps, len(rows) - len(expected)

    def _directions(self, collection: str) -> frozenset[str]:
        """Vectors of which either store keeps only the direction, in target names."""
        if collection not in self._scale_free:
            route = self._atlas.forward[collection]
            at_source = (
                route.transform.target_vector(name)
                for name in scale_free(self._atlas.sources[collection])
            )
            self._scale_free[collection] = scale_free(self._atlas.targets[collection]).union(
                name for name in at_source if name is not None
            )
        return self._scale_free[collection]

    def _kept(self, collection: str) -> dict[str, Precision]:
        """What the store that keeps less keeps of each vector, in target names."""
        if collection not in self._precisions:
            route = self._atlas.forward[collection]
            kept = precisions(self._atlas.targets[collection])
            for name, precision in precisions(self._atlas.sources[collection]).items():
                at_target = route.transform.target_vector(name)
                if at_target is not None:
                    known = kept.get(at_target, Precision.FLOAT32)
                    kept[at_target] = known.coarser(precision)
            self._precisions[collection] = kept
        return self._precisions[collection]

    def gap(self, key: Key, wanted: Point | None, actual: Point | None) -> Gap | None:
        """What the target ought to hold, against what it holds."""
        if wanted is None:
            return None if actual is None else Gap(key, Difference.EXTRA)
        if actual is None:
            return Gap(key, Difference.MISSING)
        detail = compare(
            wanted,
            actual,
            self._atlas.targets[key.collection],
            float_tolerance=self._settings.float_tolerance,
            payload_tolerance=self._settings.payload_tolerance,
            directions=self._directions(key.collection),
            kept=self._kept(key.collection),
        )
        return None if detail is None else Gap(key, Difference.DIFFERENT, detail)
