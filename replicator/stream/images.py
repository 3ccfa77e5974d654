"""Reading points that may not be readable: one bad row must not hide the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from replicator.errors import Rejected
from replicator.model.point import Point, PointId
from replicator.ports.store import StoreReader
from replicator.stream.patience import Patience


async def fetch_images(
    patience: Patience, store: StoreReader, collection: str, ids: Sequence[PointId]
) -> tuple[dict[PointId, Point], dict[PointId, Rejected]]:
    """
    The points that exist, however long the store is away; and those that exist and are no
    points, with the reason. An id in neither is absent.
    """
    try:
        found = await patience.until_answered(partial(store.fetch, collection, ids))
    except Rejected as error:
        if len(ids) == 1:
            return {}, {ids[0]: error}
    else:
        return found, {}
    found, unreadable = {}, {}
    for point_id in ids:
        one, bad = await fetch_images(patience, store, collection, [point_id])
        found.update(one)
        unreadable.update(bad)
    return found, unreadable
