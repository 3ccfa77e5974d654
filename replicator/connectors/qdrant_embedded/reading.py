"""
Reading a shard: pages in the order of ids, and points by their ids. Plain blocking code.

The engine gives nothing of a page with a point that it cannot read (a payload that is nested
deeper than its decoder goes). Then each point of the page is asked for alone, so that the one
is told by its id and the others come.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import qdrant_edge as edge

from replicator.connectors.qdrant_embedded.points import holdable, id_of, point_of
from replicator.connectors.qdrant_embedded.shard import EmbeddedShard
from replicator.errors import Fatal, Refused, Rejected
from replicator.model.point import BareId, Point, PointId
from replicator.ports.store import Page, RejectedRow


def count(shard: EmbeddedShard) -> int:
    """Points, exact."""
    return shard.read(lambda e: e.count(edge.CountRequest(exact=True)))


def present(shard: EmbeddedShard, ids: Sequence[PointId]) -> set[PointId]:
    """Which of these ids exist."""
    return set(_ids(shard, holdable(ids)))


def fetch(shard: EmbeddedShard, ids: Sequence[PointId]) -> dict[PointId, Point]:
    """The points that exist. Raises Rejected for one that cannot be read."""
    asked = holdable(ids)
    try:
        found = shard.read(lambda e: list(map(point_of, e.retrieve(list(asked), True, True))))
    except Refused as exc:
        if exc.code != "file-damaged":
            raise
        found = []
        for each in _ids(shard, asked):
            point = _alone(shard, each, vectors=True)
            if isinstance(point, RejectedRow):
                raise point.error from exc
            found.append(point)
    return {point.id: point for point in found}


def page(
    shard: EmbeddedShard, after: str | None, rows: int, *, vectors: bool, payload: bool
) -> Page:
    """
    Points after the cursor, the id of the last one before. Asked for is one more, and the last
    one as well, which may still be there.
    """
    last = None if after is None else _read_cursor(after)
    limit = rows + 1 + (last is not None)
    try:
        wanted = edge.ScrollRequest(
            offset=last, limit=limit, with_payload=payload, with_vector=vectors
        )
        found: list[Point | RejectedRow] = shard.read(
            lambda e: list(map(point_of, e.scroll(wanted)[0]))
        )
    except Refused as exc:
        if exc.code != "file-damaged" or not payload:
            raise
        keys = edge.ScrollRequest(
            offset=last, limit=limit, with_payload=False, with_vector=False
        )
        ids = shard.read(lambda e: list(map(id_of, e.scroll(keys)[0])))
        found = [_alone(shard, each, vectors=vectors) for each in ids]
    if last is not None and found and found[0].id == last:
        del found[0]
    given = found[:rows]
    return Page(
        [each for each in given if isinstance(each, Point)],
        msgspec.json.encode(given[-1].id).decode() if len(found) > rows else None,
        tuple(each for each in given if isinstance(each, RejectedRow)),
    )


def _alone(shard: EmbeddedShard, point_id: BareId, *, vectors: bool) -> Point | RejectedRow:
    """One point, which may be unreadable."""
    try:
        [point] = shard.read(
            lambda e: list(map(point_of, e.retrieve([point_id], True, vectors)))
        )
    except Refused as exc:
        if exc.code != "file-damaged":
            raise
        place = f"{shard.folder}, point {point_id}"
        error = Rejected("field-invalid", f"{place} cannot be read: {exc.message}", "payload")
        return RejectedRow(id=point_id, place=place, error=error, raw=b"")
    return point


def _ids(shard: EmbeddedShard, asked: Sequence[BareId]) -> list[BareId]:
    return shard.read(lambda e: list(map(id_of, e.retrieve(list(asked), False, False))))


def _read_cursor(cursor: str) -> BareId:
    try:
        last: BareId = msgspec.json.decode(cursor, type=BareId)
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a cursor of another connector was read: {exc}") from exc
    return last
