"""
Reading records: pages of a scan, and records by their ids, each reply bounded in bytes.

Chroma has no range of ids to ask for, only places: the oldest record stands at 0, an upsert
leaves a record where it is, and a deletion moves all that are younger one place down. Who reads
upwards, by `limit` and `offset`, misses as many as were deleted behind him. So a scan reads
downwards, from the youngest to the oldest. Whatever has not been read stands below the place
that was reached; it can only go further down, where it is met later.

What has been read can come down with it, and would be met twice. So a page begins a few places
above the one that was reached, and a cursor carries the ids that were read last: what stands at
one of them or above is passed over. By that, too, nothing is missed where a server puts a
record that was deleted and written again back in its old place, and so moves others up.

There is one chunk: the younger records have no bound, and one SQLite database answers no faster
when it is asked twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from replicator.connectors.chroma.api import (
    EVERYTHING,
    Api,
    Found,
    Record,
    Reply,
    Wanted,
)
from replicator.connectors.chroma.collection import Collections
from replicator.connectors.chroma.points import point_of
from replicator.errors import Fatal, Rejected
from replicator.model.pages import PageSize
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.ports.store import Page, RejectedRow

_OVERLAP = 8
"""Places above the one reached that a page begins at, and ids that a cursor carries. Twice as
many cost as much with every page; a key is met twice, and copied twice, where all of these were
deleted between two pages."""

_KEY_BYTES = 64
"""An id in a reply with all that goes with it."""


class Place(msgspec.Struct, frozen=True):
    """Where a scan stands: all at `at` and above was read, these ids as the last of it."""

    at: int
    last: tuple[str, ...] = ()


class Reading:
    """Reads of one database."""

    def __init__(
        self,
        api: Api,
        collections: Collections,
        *,
        page_bytes: int,
        rows_max: int,
        document_field: Callable[[str], str],
    ) -> None:
        self._api = api
        self._collections = collections
        self._page_bytes = page_bytes
        self._rows_max = rows_max
        self._document_field = document_field
        self._sizes: dict[tuple[str, bool], PageSize] = {}

    async def scan(
        self,
        chunk: Chunk,
        after: str | None,
        page_rows: int,
        keys_only: bool = False,
        fields: Sequence[str] = (),
    ) -> AsyncIterator[Page]:
        """Pages from the youngest record to the oldest; `keys_only`: no vectors, and these
        payload fields.
        """
        name, wanted = chunk.collection, EVERYTHING
        if keys_only:
            wanted = EVERYTHING & ~Wanted.VECTORS if fields else Wanted.NOTHING
        place = read_cursor(after) if after is not None else await self._top(name)
        while True:
            place, records = await self._read(name, place, page_rows, wanted)
            ends = place.at == 0
            page = self._page(name, records, None if ends else write_cursor(place))
            if keys_only:
                for point in page.points:
                    point.payload = {k: v for k, v in point.payload.items() if k in fields}
            yield page
            # Not to be held while the next one is read.
            del page, records
            if ends:
                return

    async def fetch(self, name: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """The points that exist. Raises Rejected for a record that is no point."""
        found: dict[PointId, Point] = {}
        for record in await self._by_id(name, ids, EVERYTHING):
            found[record.id] = point_of(record, self._document_field(name))
        return found

    async def present(self, name: str, ids: Sequence[PointId]) -> set[PointId]:
        """Which of these ids exist."""
        return {record.id for record in await self._by_id(name, ids, Wanted.NOTHING)}

    async def _by_id(self, name: str, ids: Sequence[PointId], wanted: Wanted) -> list[Record]:
        asked = list(dict.fromkeys(each for each in ids if isinstance(each, str) and each))
        size = self._size(name, not wanted & Wanted.VECTORS)
        found: list[Record] = []
        while asked:
            some = asked[: size.rows(len(asked))]

            async def get(there: Found, some: list[str] = some) -> Reply:
                return await self._api.get(there.id, wanted, some, bounded=len(some) > 1)

            try:
                reply = await self._collections.using(name, get, "source-missing")
            except Rejected as exc:
                if exc.code != "value-too-large" or len(some) == 1:
                    raise
                size.was_too_large(len(some))
                continue
            size.saw(len(reply.records), reply.size)
            found += reply.records
            asked = asked[len(some) :]
        return found

    async def _top(self, name: str) -> Place:
        async def count(there: Found) -> int:
            return await self._api.count(there.id)

        return Place(await self._collections.using(name, count, "source-missing"))

    async def _read(
        self, name: str, place: Place, page_rows: int, wanted: Wanted
    ) -> tuple[Place, list[Record]]:
        """The next records below a place, the youngest first, and the place reached."""
        size = self._size(name, not wanted & Wanted.VECTORS)
        while True:
            rows = size.rows(min(page_rows, self._rows_max - _OVERLAP))
            begin = max(0, place.at - rows)
            limit = place.at - begin + len(place.last)

            async def page(there: Found, begin: int = begin, limit: int = limit) -> Reply:
                bounded = limit > 1 + len(place.last)
                return await self._api.page(there.id, wanted, begin, limit, bounded=bounded)

            try:
                reply = await self._collections.using(name, page, "source-missing")
            except Rejected as exc:
                if exc.code != "value-too-large" or rows == 1:
                    raise
                size.was_too_large(rows)
                continue
            size.saw(len(reply.records), reply.size)
            return _below(reply.records, place, begin, rows)

    def _page(self, name: str, records: list[Record], cursor: str | None) -> Page:
        points: list[Point] = []
        rejected: list[RejectedRow] = []
        for record in records:
            try:
                points.append(point_of(record, self._document_field(name)))
            except Rejected as error:
                raw = msgspec.json.encode(record)
                rejected.append(RejectedRow(id=record.id, place=name, error=error, raw=raw))
        return Page(points, cursor, tuple(rejected))

    def _size(self, name: str, small: bool) -> PageSize:
        """Ids are known to be small, so that their pages need not begin small."""
        size = self._sizes.get((name, small))
        if size is None:
            size = PageSize(self._page_bytes)
            size.rows_max = self._rows_max
            if small:
                size.saw(self._page_bytes // _KEY_BYTES, self._page_bytes)
            self._sizes[name, small] = size
        return size


def _below(
    records: list[Record], place: Place, begin: int, rows: int
) -> tuple[Place, list[Record]]:
    """Of records from `begin` on: those that were not read, the youngest first."""
    was_read = [number for number, record in enumerate(records) if record.id in place.last]
    end = was_read[0] if was_read else min(len(records), place.at - begin)
    # Where others moved up there may be more than were asked for: the rest is read next.
    start = max(0, end - rows)
    fresh = records[start:end][::-1]
    last = (*(record.id for record in reversed(fresh)), *place.last)
    return Place(begin + start, last[:_OVERLAP]), fresh


def write_cursor(place: Place) -> str:
    """The text of a cursor."""
    return msgspec.json.encode(place).decode()


def read_cursor(cursor: str) -> Place:
    """Raises Fatal for a text that is not ours."""
    try:
        return msgspec.json.decode(cursor, type=Place)
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a cursor of another connector was read: {exc}") from exc
