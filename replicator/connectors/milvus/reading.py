"""
Reading points: pages of a scan in the order of keys, and points by their ids.

A page is what follows the last key of the one before it. Rows come in the order of keys only
where a query says that it is an iterator's; without it they come as they lie, and a page would
skip what it did not bring. So the order is asked for, and looked at.

Every read asks for the level Strong: it waits until the server has seen whatever was written
before. The first page of a scan tells the moment that it shows, and those after it are asked
for the same one, at which the server waits no more. No moment is kept for long: what was
replaced since then may be compacted away, and with it the only row of its key that shows then.

The chunk ends with an empty page, and not with a short one: a server that drops the second of
two rows of one key gives fewer than it was asked for, though there are more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from replicator.connectors.milvus.columns import Rows, read_rows, wanted_fields
from replicator.connectors.milvus.cuts import bounds
from replicator.connectors.milvus.expressions import between, listed
from replicator.connectors.milvus.field_types import Type
from replicator.connectors.milvus.filters import held_ids
from replicator.connectors.milvus.layout import Layout
from replicator.connectors.milvus.layouts import Layouts
from replicator.connectors.milvus.ranges import (
    KeyRange,
    ranges_of,
    read_cursor,
    read_spec,
    write_cursor,
    write_spec,
)
from replicator.connectors.milvus.wire import Message, wire
from replicator.errors import Refused, Rejected
from replicator.model.pages import PageSize
from replicator.model.point import BareId, Point, PointId
from replicator.model.record import Chunk
from replicator.ports.store import Page, RejectedRow

MOMENT_S = 60.0
"""How long pages are asked for one moment. A compaction that takes an old row away begins
minutes after it was replaced; half of it only waits once more a minute."""

_ROWS_MAX = 16_384
"""Of one query, as the vendor's client has it."""

_ROWS_A_CHUNK = 50_000
"""Of a chunk at least. A bound costs some ten counts; a tenth as many rows are read sooner."""

_KEY_BYTES = 64
"""A key in a reply with all that goes with it."""


class _Moment:
    """The moment that the pages of a scan show, and since when."""

    def __init__(self) -> None:
        self._at = 0
        self._since = 0.0

    def asked(self) -> int:
        """What to ask for; 0: whatever is there now."""
        now = asyncio.get_running_loop().time()
        return self._at if now - self._since < MOMENT_S else 0

    def saw(self, asked: int, told: int) -> None:
        """What a reply showed; 0 where the server does not say."""
        if not asked:
            self._at, self._since = told, asyncio.get_running_loop().time()


class Reading:
    """Reads of one database."""

    def __init__(
        self, layouts: Layouts, page_bytes: int, rows_a_chunk: int = _ROWS_A_CHUNK
    ) -> None:
        self._layouts = layouts
        self._page_bytes = page_bytes
        self._rows_a_chunk = rows_a_chunk
        self._sizes: dict[tuple[str, bool], PageSize] = {}

    async def split(self, name: str, parts: int) -> list[Chunk]:
        """Ranges of keys of about equal shares."""
        layout = await self._layouts.source(name)
        total = await self.count(name)
        parts = max(1, min(parts, total // self._rows_a_chunk))
        texts = layout.key.type is Type.VARCHAR

        async def counted(key: BareId) -> int:
            where = between(layout.key.name, None, key, texts=texts)
            return await self._count(layout, where)

        found = await bounds(total, parts, texts=texts, counted=counted) if parts > 1 else []
        return [
            Chunk(number, name, write_spec(part))
            for number, part in enumerate(ranges_of(found))
        ]

    async def scan(
        self,
        chunk: Chunk,
        after: str | None,
        page_rows: int,
        *,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """Pages in the order of keys. `fields`: no vectors, and these fields of the payload."""
        part = read_spec(chunk.spec)
        last = part.after if after is None else read_cursor(after)
        moment = _Moment()
        while True:
            rest = KeyRange(last, part.to)
            page, last = await self._page(chunk.collection, rest, page_rows, fields, moment)
            ends = page.cursor is None
            yield page
            # Not to be held while the next one is read.
            del page
            if ends:
                return

    async def _page(
        self,
        name: str,
        part: KeyRange,
        page_rows: int,
        fields: Sequence[str] | None,
        moment: _Moment,
    ) -> tuple[Page, BareId | None]:
        layout = await self._layouts.source(name)
        size = self._size(name, small=fields is not None)
        texts = layout.key.type is Type.VARCHAR
        where = between(layout.key.name, part.after, part.to, texts=texts)
        asked = moment.asked()
        while True:
            limit = size.rows(page_rows)
            request = self._query(layout, where, fields, at=asked, limit=limit)
            try:
                reply = await self._layouts.read(name, "Query", request)
            except Rejected as exc:
                if exc.code != "value-too-large":
                    raise
                size.was_too_large(limit)
                if limit > 1:
                    continue
                return await self._passed_over(layout, where, exc)
            break
        moment.saw(asked, reply.session_ts)
        rows = _read(layout, reply, fields)
        size.saw(len(rows.keys), rows.size)
        if not rows.keys:
            return Page([], None), None
        _check_order(part.after, rows.keys)
        return Page(rows.points, write_cursor(rows.keys[-1]), rows.rejected), rows.keys[-1]

    async def _passed_over(
        self, layout: Layout, where: str, error: Rejected
    ) -> tuple[Page, BareId | None]:
        """A page of one point that is too large to be read: its id alone."""
        request = self._query(layout, where, (), limit=1)
        reply = await self._layouts.read(layout.name, "Query", request)
        [key] = _read(layout, reply, ()).keys
        row = RejectedRow(id=key, place=layout.name, error=error, raw=b"")
        return Page([], write_cursor(key), (row,)), key

    async def fetch(
        self, name: str, ids: Sequence[PointId], *, fields: Sequence[str] | None = None
    ) -> dict[PointId, Point]:
        """The points that exist; `fields` as of `scan`. Raises Rejected for a row that is no
        point, or too large to be read.
        """
        layout = await self._layouts.source(name)
        size = self._size(name, small=fields is not None)
        wanted = held_ids(layout, ids)
        found: dict[PointId, Point] = {}
        while wanted:
            some = wanted[: size.rows(len(wanted))]
            where = f"{layout.key.name} in {listed(some)}"
            request = self._query(layout, where, fields)
            try:
                reply = await self._layouts.read(name, "Query", request)
            except Rejected as exc:
                if exc.code != "value-too-large" or len(some) == 1:
                    raise
                size.was_too_large(len(some))
                continue
            wanted = wanted[len(some) :]
            rows = _read(layout, reply, fields)
            size.saw(len(rows.keys), rows.size)
            for row in rows.rejected:
                raise row.error
            found |= {point.id: point for point in rows.points}
        return found

    async def count(self, name: str) -> int:
        """Exact, of rows: two of one key are two."""
        layout = await self._layouts.source(name)
        texts = layout.key.type is Type.VARCHAR
        # milvus-lite counts all partitions where there is no condition.
        parted = layout.partition is not None
        where = between(layout.key.name, None, None, texts=texts) if parted else ""
        return await self._count(layout, where)

    async def is_empty(self, layout: Layout) -> bool:
        """Whether there is no row at all, in whichever partition."""
        whole = msgspec.structs.replace(layout, partition=None)
        return await self._count(whole, "") == 0

    async def _count(self, layout: Layout, where: str) -> int:
        request = _strong(layout, wire().QueryRequest(expr=where))
        request.output_fields.append("count(*)")
        reply = await self._layouts.read(layout.name, "Query", request)
        [column] = reply.fields_data
        return int(column.scalars.long_data.data[0])

    def _query(
        self,
        layout: Layout,
        where: str,
        fields: Sequence[str] | None,
        *,
        at: int = 0,
        limit: int | None = None,
    ) -> Message:
        """`at`: as of this moment; `limit`: so many, in the order of keys."""
        request = _strong(layout, wire().QueryRequest(expr=where, guarantee_timestamp=at))
        request.output_fields.extend(
            wanted_fields(layout, vectors=fields is None, fields=fields)
        )
        if limit is not None:
            told = {
                "limit": str(limit),
                "iterator": "True",
                # Else a reply may have more rows than asked for, and fewer than there are.
                "reduce_stop_for_best": "False",
                "collection_id": str(layout.number),
            }
            for key, value in told.items():
                request.query_params.add(key=key, value=value)
        return request

    def _size(self, name: str, *, small: bool) -> PageSize:
        """Ids are known to be small, so that their pages need not begin small."""
        size = self._sizes.get((name, small))
        if size is None:
            size = self._sizes[name, small] = PageSize(self._page_bytes)
            size.rows_max = _ROWS_MAX
            if small:
                size.saw(self._page_bytes // _KEY_BYTES, self._page_bytes)
        return size


def _strong(layout: Layout, request: Message) -> Message:
    """A read of one partition, where one is named, at the level Strong, which is 0."""
    request.use_default_consistency = False
    if layout.partition is not None:
        request.partition_names.append(layout.partition)
    return request


def _read(layout: Layout, reply: Message, fields: Sequence[str] | None) -> Rows:
    return read_rows(layout, reply.fields_data, vectors=fields is None, fields=fields)


def _check_order(after: BareId | None, keys: Sequence[BareId]) -> None:
    """Raises Refused where a page does not ascend: the next would skip what lies between."""
    last = after
    for key in keys:
        if last is not None and not last < key:  # type: ignore[operator] # keys of one type
            raise Refused(
                "unsupported",
                "this Milvus does not give rows in the order of their keys when it is asked to,"
                " so that a scan would skip some; a newer release does",
            )
        last = key
