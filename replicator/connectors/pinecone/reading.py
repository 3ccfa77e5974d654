"""
Reading records: ids are listed, and what they hold is fetched by them.

A list has ids alone, a hundred a page. What was deleted between the list and the fetch is
absent, and left out. Ids travel in the address of a fetch, which has a length. A page is as
large as its records let it be.

A cursor carries the token of the next page of the list, and the last id that was read. How long
a token lives nobody says: one that is refused is let go of, and the prefix listed from its
beginning, past what was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from urllib.parse import quote

import msgspec
from pinecone.models.vectors.vector import Vector as Record

from replicator.connectors.pinecone.index import PAGE_IDS, Ids, Index
from replicator.connectors.pinecone.kind import PINECONE
from replicator.connectors.pinecone.prefixes import (
    LOOKS_MAX,
    Seen,
    Step,
    read_spec,
    split,
    steps_of,
    write_spec,
)
from replicator.connectors.pinecone.records import point_of, raw_of
from replicator.errors import Fatal, Refused, Rejected
from replicator.model.pages import PageSize, size_of
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.ports.store import Page, RejectedRow

_ADDRESS_BYTES = 6_000
"""Of the ids in an address. The vendor gives no figure; front ends refuse addresses of 8 KiB
and more, with what stands in them besides."""

_FETCH_IDS = 1_000
"""By the vendor's client."""

_IDS_A_LOOK = 500
"""A look, with the listing of what is empty that comes of it, is two requests or so; this many
ids are five pages. Half of it cuts small namespaces that are read sooner whole; twice it cuts
none below 95,000 ids."""

_SIDE_BY_SIDE = 16
"""Looks at prefixes at once, of a split; more would not be faster at the pace of lists."""

_UNFOLDED = 8
"""A component is a Python float for a moment, in a list: 32 bytes instead of 4."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a scan stands: before the page `token` of a step, or at its beginning."""

    step: int = 0
    token: str | None = None
    last: str = ""
    """The id that was read last in this step."""
    again: bool = False
    """The step is listed once more, and what is not behind `last` was read."""


class Reading:
    """Reads of one index."""

    def __init__(self, index: Index, *, page_bytes: int, sparse: Callable[[str], str]) -> None:
        self._index = index
        self._page_bytes = page_bytes
        self._sparse = sparse
        self._sizes: dict[str, PageSize] = {}

    async def split(self, namespace: str, parts: int) -> list[Chunk]:
        """As `StoreReader.split`; see `prefixes`."""
        await self.check(namespace)
        gate = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(prefix: str) -> Seen:
            async with gate:
                page = await self._index.ids(namespace, prefix, None, PAGE_IDS)
            return Seen(len(page.ids), page.token is not None)

        async def look(prefixes: Sequence[str]) -> list[Seen]:
            return await asyncio.gather(*map(one, prefixes))

        looks = min(LOOKS_MAX, await self._index.count(namespace) // _IDS_A_LOOK)
        chunks = await split(parts, look, looks)
        return [
            Chunk(number, namespace, write_spec(chunk)) for number, chunk in enumerate(chunks)
        ]

    async def scan(
        self,
        chunk: Chunk,
        after: str | None,
        page_rows: int,
        keys_only: bool = False,
        fields: Sequence[str] = (),
    ) -> AsyncIterator[Page]:
        """Pages in the order of ids; `keys_only`: no vectors, and these payload fields."""
        namespace = chunk.collection
        steps = steps_of(read_spec(chunk.spec))
        bare = keys_only and not fields
        place: Place | None = Place() if after is None else read_cursor(after)
        while place is not None:
            rows = page_rows if bare else self._size(namespace).rows(page_rows)
            ids, place = await self._listed(namespace, steps, place, rows)
            if place is None:
                # Of a namespace that went, nothing is listed, as of one that has no more.
                await self.check(namespace)
            cursor = None if place is None else write_cursor(place)
            if bare:
                yield Page([Point(each, {}, {}) for each in ids], cursor)
                continue
            page = self._page(namespace, await self._records(namespace, ids), cursor)
            if keys_only:
                for point in page.points:
                    point.vectors = {}
                    point.payload = {k: v for k, v in point.payload.items() if k in fields}
            yield page
            # Not to be held while the next one is read.
            del page

    async def fetch(self, namespace: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """The points that exist. Raises Rejected for a record that is no point."""
        found = await self._found(namespace, ids)
        return {each.id: point_of(each, self._sparse(namespace)) for each in found}

    async def present(self, namespace: str, ids: Sequence[PointId]) -> set[PointId]:
        """Which of these ids exist. There is no other way to know than to fetch them."""
        return {each.id for each in await self._found(namespace, ids)}

    async def _found(self, namespace: str, ids: Sequence[PointId]) -> list[Record]:
        """The records that there are. Raises Refused where there is no such namespace."""
        possible = _possible(ids)
        found = await self._records(namespace, possible)
        if possible and not found:
            await self.check(namespace)
        return found

    async def check(self, namespace: str) -> None:
        """Raises Refused where there is no such namespace, of which a read shows nothing."""
        if not await self._index.has(namespace):
            raise Refused("source-missing", f"Pinecone has no namespace {namespace!r}")

    async def _listed(
        self, namespace: str, steps: Sequence[Step], place: Place, rows: int
    ) -> tuple[list[str], Place | None]:
        """The next ids, and the place behind them; None at the end of the last step."""
        following: Place | None = place
        while following is not None:
            place = following
            step = steps[place.step]
            if step.alone:
                ids = list((await self._index.fetch(namespace, [step.prefix])).keys())
                token, again = None, False
            else:
                page, place = await self._list(namespace, step, place, rows)
                ids, token = page.ids, page.token
                if place.again:
                    ids = [each for each in ids if each > place.last]
                again = place.again and not ids
            if token is not None:
                last = ids[-1] if ids else place.last
                following = Place(place.step, token, last, again)
            else:
                behind = place.step + 1
                following = Place(behind) if behind < len(steps) else None
            if ids:
                return ids, following
        return [], None

    async def _list(
        self, namespace: str, step: Step, place: Place, rows: int
    ) -> tuple[Ids, Place]:
        try:
            return await self._index.ids(namespace, step.prefix, place.token, rows), place
        except Refused as exc:
            if place.token is None or exc.code != "store-refused":
                raise
        place = Place(place.step, last=place.last, again=True)
        return await self._index.ids(namespace, step.prefix, None, rows), place

    async def _records(self, namespace: str, ids: Sequence[str]) -> list[Record]:
        """In the order asked for."""
        found: list[Record] = []
        size = self._size(namespace)
        for some in _addressable(ids):
            left = some
            while left:
                asked = left[: size.rows(len(left))]
                left = left[len(asked) :]
                records = await self._index.fetch(namespace, asked)
                size.saw(len(records), sum(map(_bytes_of, records.values())))
                found += [records[each] for each in asked if each in records]
        return found

    def _page(self, namespace: str, records: list[Record], cursor: str | None) -> Page:
        points: list[Point] = []
        rejected: list[RejectedRow] = []
        for record in records:
            try:
                points.append(point_of(record, self._sparse(namespace)))
            except Rejected as error:
                row = RejectedRow(
                    id=record.id, place=namespace, error=error, raw=raw_of(record)
                )
                rejected.append(row)
        return Page(points, cursor, tuple(rejected))

    def _size(self, namespace: str) -> PageSize:
        size = self._sizes.get(namespace)
        if size is None:
            size = self._sizes[namespace] = PageSize(self._page_bytes)
            size.rows_max = _FETCH_IDS
        return size


def write_cursor(place: Place) -> str:
    """The text of a cursor."""
    return msgspec.json.encode(place).decode()


def read_cursor(cursor: str) -> Place:
    """Raises Fatal for a text that is not ours."""
    try:
        return msgspec.json.decode(cursor, type=Place)
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a cursor of another connector was read: {exc}") from exc


def _possible(ids: Sequence[PointId]) -> list[str]:
    """The ids that a record can have; the others are absent."""
    rules = PINECONE.traits.ids
    return list(
        dict.fromkeys(
            each
            for each in ids
            if isinstance(each, str) and rules.limits.hold(rules.kinds, each)
        )
    )


def _addressable(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at once as their address holds."""
    begin, length = 0, 0
    for number, each in enumerate(ids):
        needs = len(quote(each, safe="")) + len("&ids=")
        if number > begin and length + needs > _ADDRESS_BYTES:
            yield ids[begin:number]
            begin, length = number, 0
        length += needs
    if begin < len(ids):
        yield ids[begin:]


def _bytes_of(record: Record) -> int:
    sparse = 0 if record.sparse_values is None else 2 * len(record.sparse_values.indices)
    payload = size_of(Point(record.id, {}, record.metadata or {}))
    return 4 * _UNFOLDED * (len(record.values) + sparse) + payload
