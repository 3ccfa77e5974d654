"""
How a collection is cut into chunks, and what a chunk's pages hold.

Chunks are cut by the id, not by byte ranges: a point that is changed while it is copied moves
to the end of its file, and a copy by ranges that had already passed the end would miss it. The
cut covers ids to come, and a file that is compacted meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from zlib import crc32

import msgspec

from replicator.connectors.jsonl.line import LINE_BYTES_MAX, encode
from replicator.connectors.jsonl.log import CollectionLog
from replicator.errors import Rejected
from replicator.model.point import Point, PointId, bare, id_order, scope_of
from replicator.model.record import Chunk
from replicator.model.scopes import Scopes
from replicator.ports.store import Page, RejectedRow

_SHOWN_BYTES = 4096
"""As much as is kept of a line that is too long; its place tells where the rest is."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chunk's spec: the ids whose checksum, divided by `of`, leaves the remainder `part`."""

    part: int
    of: int
    scopes: frozenset[str] | None = None
    """Of these scopes alone."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of a scan, and the cursor behind it: an id, or the offset of a line without one."""

    id: PointId | None = None
    line: int | None = None


def cut(collection: str, count: int, scopes: Collection[str] | None = None) -> list[Chunk]:
    """This many chunks; of these scopes alone, where they are named."""
    named = None if scopes is None else frozenset(scopes)
    return [
        Chunk(number, collection, encode(Part(number, count, named)).decode())
        for number in range(count)
    ]


def rows_of(log: CollectionLog, chunk: Chunk, after: str | None) -> list[Row]:
    """
    What is left of a chunk behind a cursor: its ids, integers first; then, in the first chunk,
    the lines without an id.
    """
    part = msgspec.json.decode(chunk.spec, type=Part)
    scopes = Scopes(part.scopes)
    begin = Row() if after is None else msgspec.json.decode(after, type=Row)
    rows: list[Row] = []
    if begin.line is None:
        ids = [
            point_id
            for point_id in log.offsets
            if _checksum(point_id) % part.of == part.part
            and scopes.hold(point_id)
            and (begin.id is None or id_order(point_id) > id_order(begin.id))
        ]
        rows += [Row(id=point_id) for point_id in sorted(ids, key=id_order)]
    if part.part == 0:
        lines = sorted(log.unreadable())
        rows += [Row(line=at) for at in lines if begin.line is None or at > begin.line]
    return rows


def page_of(
    log: CollectionLog, rows: Sequence[Row], rows_max: int, bytes_max: int
) -> tuple[Page, int]:
    """
    The first of these rows as they are now, without what was deleted since the scan began; and
    how many rows they stand for. A row that would make the page too large waits for the next.
    """
    points: list[Point] = []
    rejected: list[RejectedRow] = []
    unreadable = log.unreadable()
    taken = size = 0
    for row in rows[:rows_max]:
        at = row.line if row.id is None else log.offsets.get(row.id)
        if at is None:
            taken += 1
            continue
        # A line that is too long to be read is too long for any dead-letter log as well.
        error = unreadable.get(at)
        too_long = error is not None and error.code == "value-too-large"
        raw = log.raw(at, _SHOWN_BYTES if too_long else LINE_BYTES_MAX)
        size += len(raw)
        if taken and size > bytes_max:
            break
        taken += 1
        try:
            if error is not None:
                raise error
            points.append(log.parse(at, raw))
        except Rejected as exc:
            place = f"{log.path.name}, byte {at}"
            rejected.append(RejectedRow(id=row.id, place=place, error=exc, raw=raw))
    cursor = None if taken == len(rows) else encode(rows[taken - 1]).decode()
    return Page(points, cursor, tuple(rejected)), taken


def keys_of(rows: Sequence[Row], last: bool) -> Page:
    """These rows as points of which only the id is known."""
    points = [Point(row.id, {}, {}) for row in rows if row.id is not None]
    return Page(points, None if last else encode(rows[-1]).decode())


def _checksum(point_id: PointId) -> int:
    return crc32(f"{scope_of(point_id) or ''}{bare(point_id)}".encode())
