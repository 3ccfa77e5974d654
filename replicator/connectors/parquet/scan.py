"""
How a collection is cut into chunks, and what a chunk's pages hold.

Chunks are ranges of row groups, in the order of the parts: each row is read once, by one of
them. The last one has no end, so that together they cover parts to come. A place is a part and
a row, which stay what they are while rows come and go; only where small parts are gathered do
rows move, behind all others.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator

import msgspec

from replicator.connectors.parquet.collection import ParquetCollection, Where
from replicator.connectors.parquet.columns import Rows
from replicator.connectors.parquet.part import Part
from replicator.errors import Rejected
from replicator.model.pages import size_of
from replicator.model.point import Point
from replicator.model.record import Chunk
from replicator.model.scopes import Scopes
from replicator.ports.store import Page, RejectedRow

_SHOWN_BYTES = 4096
"""As much as is kept of a row that is no point; its place tells where the rest is."""

_BATCH_ROWS = 256
"""Rows that are decoded at once, where pages are smaller and the bytes of a page allow it: what
a batch costs is mostly the same for one row as for a hundred."""

_encode = msgspec.json.Encoder().encode


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chunk's spec: from a row group on, and up to another one. None: no bound."""

    begin: Where | None = None
    end: Where | None = None
    scopes: frozenset[str] | None = None
    """Of these scopes alone."""


def cut(
    collection: ParquetCollection, count: int, scopes: Collection[str] | None = None
) -> list[Chunk]:
    """About this many chunks, alike in bytes; of these scopes alone, where they are named."""
    groups = [
        ((part.name, group), size)
        for part in collection.parts.values()
        for group, size in enumerate(part.sizes)
    ]
    share = sum(size for _, size in groups) / max(count, 1)
    bounds: list[Where] = []
    read = 0.0
    for where, size in groups:
        if read and read >= share * (len(bounds) + 1) and len(bounds) < count - 1:
            bounds.append(where)
        read += size
    named = None if scopes is None else frozenset(scopes)
    return [
        Chunk(number, collection.name, _encode(Range(begin, end, named)).decode())
        for number, (begin, end) in enumerate(
            zip([None, *bounds], [*bounds, None], strict=True)
        )
    ]


class Walk:
    """The rows of a chunk behind a cursor, page by page."""

    def __init__(self, collection: ParquetCollection, chunk: Chunk, after: str | None) -> None:
        self._collection = collection
        spec = msgspec.json.decode(chunk.spec, type=Range)
        self._scopes = Scopes(spec.scopes)
        begin = None if after is None else msgspec.json.decode(after, type=Where)
        self._ranges = [*_ranges(collection.parts.values(), spec, begin)]
        self._left = sum(last - first for _, first, last in self._ranges)
        """Rows that were not looked at."""
        self._batches: Generator[tuple[Part, Rows]] | None = None
        self._rows: tuple[Part, Rows, int] | None = None
        """Of the batch that was begun: its part, its rows, and the number of the next one."""

    def page(self, rows_max: int, bytes_max: int) -> Page:
        """The next page; the last one has no cursor."""
        if self._batches is None:
            self._batches = self._read(rows_max, bytes_max)
        points: list[Point] = []
        rejected: list[RejectedRow] = []
        size = 0
        cursor: str | None = None
        while self._left and len(points) + len(rejected) < rows_max and size < bytes_max:
            part, rows, number = self._rows or (*next(self._batches), 0)
            at = rows.first + number
            if self._wants(part, at):
                found = self._point(part, rows, number)
                if isinstance(found, Point):
                    points.append(found)
                    size += size_of(found)
                else:
                    rejected.append(found)
                    size += len(found.raw)
            self._left -= 1
            self._rows = (part, rows, number + 1) if number + 1 < rows.count else None
            cursor = _encode((part.name, at + 1)).decode()
        return Page(points, cursor if self._left else None, tuple(rejected))

    def keys(self, rows_max: int) -> Generator[Page]:
        """The pages, of points of which only the id is known. Rows without one are none."""
        points: list[Point] = []
        for part, first, last in self._ranges:
            for row in range(first, last):
                point_id = part.ids[row]
                if point_id is not None and self._wants(part, row):
                    points.append(Point(point_id, {}, {}))
                self._left -= 1
                if self._left and len(points) == rows_max:
                    yield Page(points, _encode((part.name, row + 1)).decode())
                    points = []
        yield Page(points, None)

    def close(self) -> None:
        """Let go of the file that is open."""
        if self._batches is not None:
            self._batches.close()

    def _read(self, rows_max: int, bytes_max: int) -> Generator[tuple[Part, Rows]]:
        for part, first, last in self._ranges:
            row_bytes = max(sum(part.sizes) // part.rows, 1)
            rows = max(1, min(max(rows_max, _BATCH_ROWS), bytes_max // row_bytes))
            for batch in part.batches(first, last, rows):
                yield part, batch

    def _wants(self, part: Part, row: int) -> bool:
        point_id = part.ids[row]
        if point_id is not None and not self._scopes.hold(point_id):
            return False
        return self._collection.counts(part, row)

    def _point(self, part: Part, rows: Rows, number: int) -> Point | RejectedRow:
        try:
            return rows.point(number)
        except Rejected as error:
            return RejectedRow(
                id=part.ids[rows.first + number],
                place=f"{part.path}, row {rows.first + number}",
                error=error,
                raw=rows.shown(number, _SHOWN_BYTES),
            )


def _ranges(
    parts: Collection[Part], spec: Range, after: Where | None
) -> Iterator[tuple[Part, int, int]]:
    """Which rows of which parts."""
    for part in parts:
        first, last = 0, part.rows
        if spec.begin is not None:
            first = max(first, _row(part, *spec.begin))
        if spec.end is not None:
            last = min(last, _row(part, *spec.end))
        if after is not None and part.name <= after[0]:
            first = max(first, after[1] if part.name == after[0] else part.rows)
        if first < last:
            yield part, first, last


def _row(part: Part, name: str, group: int) -> int:
    """The row of a part at which a row group of this or another part begins."""
    if part.name != name:
        return part.rows if part.name < name else 0
    return part.begins[min(group, len(part.begins) - 1)]
