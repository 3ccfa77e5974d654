"""Reading points that may not be readable: one bad row must not hide the others, and many large
ones must not be held at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from replicator.errors import Rejected
from replicator.model.point import Point, PointId
from replicator.ports.store import StoreReader
from replicator.stream.pages import PageSize, size_of
from replicator.stream.patience import Patience

Images = tuple[dict[PointId, Point], dict[PointId, Rejected]]
"""The points that exist; and those that exist and are no points, with the reason. An id in
neither is absent."""


async def fetch_images(
    patience: Patience, store: StoreReader, collection: str, ids: Sequence[PointId]
) -> Images:
    """
    The images of all these ids at once, however long the store is away. For ids whose images
    are known to be of a page's size; else `image_parts`.
    """
    try:
        found = await patience.until_answered(partial(store.fetch, collection, ids))
    except Rejected as error:
        if len(ids) == 1:
            return {}, {ids[0]: error}
    else:
        return found, {}
    half = len(ids) // 2
    found, unreadable = {}, {}
    for some in (ids[:half], ids[half:]):
        one, bad = await fetch_images(patience, store, collection, some)
        found.update(one)
        unreadable.update(bad)
    return found, unreadable


async def image_parts(
    patience: Patience,
    store: StoreReader,
    collection: str,
    ids: Sequence[PointId],
    size: PageSize,
) -> AsyncIterator[tuple[Sequence[PointId], Images]]:
    """
    The images of these ids, some at a time, each with the ids that were asked for: as many as
    `size` takes for a page. Let go of one part before the next is asked for.
    """
    begin = 0
    while begin < len(ids):
        some = ids[begin : begin + size.rows(len(ids) - begin)]
        images = await fetch_images(patience, store, collection, some)
        if images[0]:
            size.saw(len(images[0]), sum(map(size_of, images[0].values())))
        yield some, images
        del images
        begin += len(some)
