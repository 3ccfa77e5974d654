"""
Reading points: pages of a scan in the order of UUIDs, and points by their ids.

The server's cursor goes on behind a UUID and takes no filter, so that a scan cannot be
narrowed. How many rows a request asks for follows the size of those seen before
(`model.pages`); a reply that is too large is asked for in parts.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing

import msgspec

from replicator.connectors.weaviate import ranges
from replicator.connectors.weaviate.channel import Channel
from replicator.connectors.weaviate.classes import Class
from replicator.connectors.weaviate.collection import Collections, Options, want_vectors
from replicator.connectors.weaviate.failures import TenantGone, TenantInactive
from replicator.connectors.weaviate.messages import CONTAINS_ANY, Message, wire
from replicator.connectors.weaviate.objects import point_of
from replicator.connectors.weaviate.ranges import NIL, UuidRange
from replicator.connectors.weaviate.tenants import Tenants, all_of, by_scope, can_be
from replicator.connectors.weaviate.values import asked
from replicator.errors import Rejected
from replicator.model.pages import PageSize
from replicator.model.point import Point, PointId, bare, scope_of, within
from replicator.model.record import Chunk
from replicator.model.schema import is_uuid
from replicator.ports.store import Page, RejectedRow

_KEY_BYTES = 64
"""A key in a reply with all that goes with it."""

_ROWS_MAX = 1_000
"""Rows of one request. The server refuses more than QUERY_MAXIMUM_RESULTS, 10,000 unless it is
told otherwise; half as many cost scans of keys twice the requests."""

_PROBES_MAX = 140
"""Questions for the last UUID that there is: one a bit, and a few."""


class _Want(msgspec.Struct, frozen=True):
    kept: Class
    page_rows: int
    fields: Sequence[str] | None
    """No vectors, and these fields of the payload; None for whole points."""


class Reading:
    """Reads of one server."""

    def __init__(
        self,
        channel: Channel,
        collections: Collections,
        tenants: Tenants,
        options: Options,
        *,
        page_bytes: int,
        level: int | None = None,
    ) -> None:
        """`level`: how many replicas must agree; None for the server's default."""
        self._channel = channel
        self._collections = collections
        self._tenants = tenants
        self._options = options
        self._page_bytes = page_bytes
        self._level = level
        self._sizes: dict[tuple[str, bool], PageSize] = {}

    # -- chunks -----------------------------------------------------------------------------

    async def split(
        self, name: str, parts: int, scopes: Sequence[str] | None = None
    ) -> list[Chunk]:
        """Ranges of UUIDs; of each tenant, where there are, and one of those to come."""
        kept = await self._collections.present(name, "source-missing")
        if not kept.tenants:
            found = await self._cut(kept, parts, None)
        else:
            there = await self._tenants.of(name)
            tenants = sorted(there if scopes is None else scopes)
            share = max(1, parts // max(1, len(tenants)))
            found = [each for scope in tenants for each in await self._cut(kept, share, scope)]
            if scopes is None:
                found.append(UuidRange(besides=tuple(tenants)))
        return [
            Chunk(number, name, ranges.write_spec(part)) for number, part in enumerate(found)
        ]

    async def _cut(self, kept: Class, parts: int, scope: str | None) -> list[UuidRange]:
        if parts <= 1:
            return [UuidRange(scope=scope)]
        want = _Want(kept, 1, ())
        try:
            first = await self._behind(want, scope, 0)
            if first is None:
                return ranges.cut(parts, 0, 1 << 128, scope)
            last = await self._last(want, scope, first, parts)
        except (TenantGone, TenantInactive):
            return [UuidRange(scope=scope)]
        return ranges.cut(parts, first, last, scope)

    async def _last(self, want: _Want, scope: str | None, first: int, parts: int) -> int:
        """The last UUID, nearly: ids that count up (v7) lie in a corner of all there can be."""
        last, beyond = first, 1 << 128
        for _ in range(_PROBES_MAX):
            if beyond - last <= max(1, (last - first) // (4 * parts)):
                break
            middle = (last + beyond) // 2
            found = await self._behind(want, scope, middle)
            last, beyond = (last, middle) if found is None else (found, beyond)
        return last

    async def _behind(self, want: _Want, scope: str | None, number: int) -> int | None:
        reply = await self._search(want, scope, str(uuid.UUID(int=number)), 1)
        return uuid.UUID(reply.results[0].metadata.id).int if reply.results else None

    # -- scans ------------------------------------------------------------------------------

    async def scan(
        self,
        chunk: Chunk,
        after: str | None,
        page_rows: int,
        *,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Page]:
        """Pages in the order of ids. `fields`: no vectors, and these fields of the payload."""
        part = ranges.read_spec(chunk.spec)
        last = None if after is None else ranges.read_cursor(after)
        kept = await self._collections.present(chunk.collection, "source-missing")
        want = _Want(kept, page_rows, fields)
        if part.besides is not None:
            reading = self._scan_besides(want, part.besides, last)
        else:
            reading = self._scan(want, part, None if last is None else str(bare(last)))
        async with aclosing(reading) as pages:
            async for page in pages:
                yield page
                # Not to be held while the next one is read.
                del page

    async def _scan_besides(
        self, want: _Want, besides: Sequence[str], after: PointId | None
    ) -> AsyncGenerator[Page, None]:
        """One tenant after the other, those that there are now."""
        begun = None if after is None else scope_of(after)
        for scope in await self._tenants.of(want.kept.name):
            if scope in besides or (begun is not None and scope < begun):
                continue
            last = str(bare(after)) if after is not None and scope == begun else None
            async with aclosing(self._scan(want, UuidRange(scope=scope), last)) as pages:
                async for page in pages:
                    # The end of a tenant is not that of the chunk.
                    if (cursor := page.cursor or _cursor_behind(page)) is not None:
                        yield msgspec.structs.replace(page, cursor=cursor)
                    del page
        yield Page([], None)

    async def _scan(
        self, want: _Want, part: UuidRange, after: str | None
    ) -> AsyncGenerator[Page, None]:
        """Pages of a range, of one tenant where there are tenants."""
        last = part.after if after is None else after
        async with AsyncExitStack() as awake:
            while True:
                try:
                    page = await self._page(want, part, last)
                except TenantGone:
                    yield Page([], None)  # and with it all that is left of the range
                    return
                except TenantInactive:
                    assert part.scope is not None
                    options = self._options(want.kept.name)
                    try:
                        await awake.enter_async_context(
                            self._tenants.reading(
                                want.kept.name, part.scope, activate=options.activate
                            )
                        )
                    except TenantGone:
                        yield Page([], None)
                        return
                    continue
                ends = page.cursor is None
                if not ends:
                    last = str(bare(ranges.read_cursor(str(page.cursor))))
                yield page
                # Not to be held while the next one is read.
                del page
                if ends:
                    return

    async def _page(self, want: _Want, part: UuidRange, last: str | None) -> Page:
        """The page behind an id; None for the first of all."""
        results: list[Message] = []
        size = self._size(want)
        if last is None:
            # Behind the nil UUID comes every other: it is asked for by itself.
            results += (await self._get(want, part.scope, [NIL])).results
            if results and want.page_rows == 1:
                return self._read(want, part, results, more=True)
            last = NIL
        while True:
            rows = size.rows(max(1, want.page_rows - len(results)))
            try:
                reply = await self._search(want, part.scope, last, rows)
            except Rejected as exc:
                if exc.code != "value-too-large":
                    raise
                size.was_too_large(rows)
                if rows > 1:
                    continue
                return await self._beside(want, part, last, exc)
            size.saw(len(reply.results), reply.ByteSize())
            found = [
                each for each in reply.results if part.to is None or each.metadata.id <= part.to
            ]
            more = len(found) == rows
            return self._read(want, part, [*results, *found], more=more)

    def _read(
        self, want: _Want, part: UuidRange, results: Sequence[Message], *, more: bool
    ) -> Page:
        read = [point_of(each, want.kept, part.scope) for each in results]
        cursor = None
        if more and results:
            cursor = ranges.write_cursor(within(part.scope, results[-1].metadata.id))
        return Page(
            [each for each in read if isinstance(each, Point)],
            cursor,
            tuple(each for each in read if isinstance(each, RejectedRow)),
        )

    async def _beside(self, want: _Want, part: UuidRange, last: str, error: Rejected) -> Page:
        """A page of one object that is too large to be taken in, by its name alone."""
        names = msgspec.structs.replace(want, fields=())
        reply = await self._search(names, part.scope, last, 1)
        if not reply.results or (
            part.to is not None and reply.results[0].metadata.id > part.to
        ):
            return Page([], None)
        point_id = within(part.scope, reply.results[0].metadata.id)
        row = RejectedRow(
            id=point_id,
            place=want.kept.name,
            error=Rejected("value-too-large", f"the point is too large: {error}"),
            raw=b"",
        )
        return Page([], ranges.write_cursor(point_id), (row,))

    # -- by id ------------------------------------------------------------------------------

    async def fetch(
        self, name: str, ids: Sequence[PointId], *, fields: Sequence[str] | None = None
    ) -> dict[PointId, Point]:
        """
        The points that exist; `fields` as of `scan`. Raises Rejected for one that is too large
        by itself, or that is no point.
        """
        kept = await self._collections.present(name, "source-missing")
        want = _Want(kept, 1, fields)
        parts = [
            (scope, [str(each) for each in some if is_uuid(str(each))])
            for scope, some in by_scope(ids).items()
            if (can_be(scope) if kept.tenants else scope is None)
        ]
        found: dict[PointId, Point] = {}
        for points in await all_of([self._fetch(want, *part) for part in parts if part[1]]):
            found |= {point.id: point for point in points}
        return found

    async def _fetch(self, want: _Want, scope: str | None, ids: Sequence[str]) -> list[Point]:
        size = self._size(want)
        found: list[Point] = []
        left = list(dict.fromkeys(ids))
        while left:
            some = left[: size.rows(len(left))]
            try:
                reply = await self._awake(want, scope, some)
            except TenantGone:
                return []
            except Rejected as exc:
                if exc.code != "value-too-large":
                    raise
                size.was_too_large(len(some))
                if len(some) > 1:
                    continue
                message = f"{want.kept.name!r}, id {some[0]!r} is too large: {exc}"
                raise Rejected(exc.code, message) from exc
            size.saw(len(reply.results), reply.ByteSize())
            for each in reply.results:
                read = point_of(each, want.kept, scope)
                if isinstance(read, RejectedRow):
                    raise read.error
                found.append(read)
            left = left[len(some) :]
        return found

    async def _awake(self, want: _Want, scope: str | None, ids: Sequence[str]) -> Message:
        if scope is None:
            return await self._get(want, None, ids)
        return await self._tenants.read(
            want.kept.name,
            scope,
            lambda: self._get(want, scope, ids),
            activate=self._options(want.kept.name).activate,
        )

    async def _get(self, want: _Want, scope: str | None, ids: Sequence[str]) -> Message:
        request = self._request(want, scope, len(ids))
        request.filters.operator = CONTAINS_ANY
        request.filters.target.property = "_id"
        request.filters.value_text_array.values[:] = ids
        return await self._channel.read("Search", request)

    # -- requests ---------------------------------------------------------------------------

    async def _search(self, want: _Want, scope: str | None, after: str, limit: int) -> Message:
        request = self._request(want, scope, limit)
        request.after = after
        return await self._channel.read("Search", request)

    def _request(self, want: _Want, scope: str | None, limit: int) -> Message:
        kept = want.kept
        request = wire().SearchRequest(collection=kept.name, limit=limit, uses_127_api=True)
        if scope is not None:
            request.tenant = scope
        if self._level is not None:
            request.consistency_level = self._level
        request.metadata.uuid = True
        properties = kept.properties
        if want.fields is None:
            want_vectors(request, kept)
        else:
            properties = {name: properties[name] for name in want.fields if name in properties}
        request.properties.CopyFrom(asked(properties))
        if kept.rest is not None and (want.fields is None or want.fields):
            request.properties.non_ref_properties.append(kept.rest)
        return request

    def _size(self, want: _Want) -> PageSize:
        """Ids are known to be small, so that their pages need not begin small."""
        small = want.fields is not None
        size = self._sizes.get((want.kept.name, small))
        if size is None:
            size = self._sizes[want.kept.name, small] = PageSize(self._page_bytes)
            size.rows_max = _ROWS_MAX
            if small:
                size.saw(self._page_bytes // _KEY_BYTES, self._page_bytes)
        return size


def _cursor_behind(page: Page) -> str | None:
    """The cursor of its last row; None of an empty page."""
    ids = [point.id for point in page.points]
    ids += [row.id for row in page.rejected if row.id is not None]
    if not ids:
        return None
    return ranges.write_cursor(max(ids, key=lambda each: str(bare(each))))
