"""
How many rows a read may ask for, so that it brings no more bytes than it may.

Nobody knows how large a store's rows are before some were read. So the first page is small, a
page that was too large shrinks the next at once, and pages of small rows let it grow again, by
no more than fourfold a time: rows that are large again after many small ones then make one page
too many bytes, not all of them.
"""

from __future__ import annotations

import msgspec

from replicator.model.point import MultiVector, Point, SparseVector

FIRST_ROWS = 8
"""Rows of a first page. At 1 MB each they are what a page may hold by default; two more pages
are what it costs where rows are small."""

PAGE_BYTES = 8 << 20
"""What a page may hold unless it is said otherwise. A page exists about four times while it is
carried: the reply, its points, the request and what is being sent of it."""

_GROWTH = 4
_FORGET = 0.9
"""Of the largest mean row seen, with each page: one page of large rows is forgotten after about
twenty of small ones."""


class PageSize:
    """For the reads of one collection, in turn or at once. `bytes_max`: of one page, about."""

    def __init__(self, bytes_max: int = PAGE_BYTES) -> None:
        assert bytes_max > 0
        self.bytes_max = bytes_max
        self.rows_max: int | None = None
        """What the store itself allows, where it said so."""
        self._rows = FIRST_ROWS
        self._row_bytes = 0.0

    def rows(self, wanted: int) -> int:
        """How many of the wanted rows to ask for now."""
        most = wanted if self.rows_max is None else min(wanted, self.rows_max)
        return max(1, min(most, self._rows))

    def saw(self, rows: int, size: int) -> None:
        """A page of so many rows had this size."""
        if rows == 0:
            return
        self._row_bytes = max(size / rows, self._row_bytes * _FORGET)
        fit = int(self.bytes_max / self._row_bytes) if self._row_bytes else self._rows * _GROWTH
        self._rows = max(1, min(fit, max(self._rows, rows) * _GROWTH))

    def was_too_large(self, rows: int) -> None:
        """A page of so many rows was more than could be taken in."""
        self._rows = max(1, min(self._rows, rows // 2))


def size_of(point: Point) -> int:
    """Bytes of a point, about: its vectors, and its payload as it travels."""
    size = 0
    for vector in point.vectors.values():
        match vector:
            case SparseVector(indices=indices, values=values):
                size += len(indices) + len(values)
            case MultiVector(data=data):
                size += len(data)
            case _:
                size += len(vector)
    try:
        return size + len(msgspec.msgpack.encode(point.payload))
    except (UnicodeEncodeError, OverflowError, TypeError):
        return size + len(repr(point.payload))  # what nobody can carry is held all the same
