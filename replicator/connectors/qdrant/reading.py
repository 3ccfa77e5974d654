"""
Reading points: pages of a scan, and points by their ids, each reply bounded in bytes.

How many rows a request asks for follows the size of the rows seen before (`model.pages`). A
reply above the largest that is taken in is refused before it is read, and asked for in parts; a
single point above it is named, not repeated. A limit that the server names is kept from then
on.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import grpc
import msgspec

from replicator.connectors.qdrant import failures, ranges
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.filters import sure_of, write_filter
from replicator.connectors.qdrant.points import can_hold, read_id, read_point, write_id
from replicator.connectors.qdrant.ranges import IdRange
from replicator.connectors.qdrant.schema import read_indexes
from replicator.connectors.qdrant.scopes import (
    ShardKeys,
    all_of,
    by_scope,
    can_be,
    select,
    some,
)
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Refused, Rejected
from replicator.model.filter import Filter
from replicator.model.narrowing import at_least
from replicator.model.pages import PageSize
from replicator.model.point import BareId, Point, PointId, bare, scope_of, within
from replicator.model.record import Chunk
from replicator.ports.store import Page, RejectedRow

_PLAIN = re.compile(r"[A-Za-z0-9_]+")
_KEY_BYTES = 64
"""An id in a reply with all that goes with it, and what little payload is asked for."""


SCOPES_AT_ONCE = 16
"""Scopes that are asked at a time, of points by their ids. One after the other, a hundred would
take as many round trips."""


class ScopeGone(Exception):
    """The shard key of a request is not there."""


class _Want(msgspec.Struct, frozen=True):
    collection: str
    page_rows: int
    keys_only: bool
    fields: Sequence[str]
    where: Filter | None


class Reading:
    """Reads over one channel."""

    def __init__(
        self, channel: Channel, keys: ShardKeys, page_bytes: int, *, consistent: bool = False
    ) -> None:
        """
        `consistent`: only what a quorum of the replicas agrees on is read. All of them would
        be more, and would not answer while one is away.
        """
        self._channel = channel
        self._keys = keys
        self._page_bytes = page_bytes
        self._consistent = consistent
        self._sizes: dict[tuple[str, bool], PageSize] = {}

    async def scan(
        self,
        chunk: Chunk,
        after: str | None,
        page_rows: int,
        *,
        keys_only: bool = False,
        fields: Sequence[str] = (),
        where: Filter | None = None,
    ) -> AsyncIterator[Page]:
        """
        Pages in the order of ids; `keys_only`: no vectors, and these payload fields. `where`:
        without points that are sure not to match.
        """
        part = ranges.read_spec(chunk.spec)
        last = None if after is None else ranges.read_cursor(after)
        want = _Want(chunk.collection, page_rows, keys_only, fields, where)
        if part.besides is None:
            reading = self._scan(want, part, None if last is None else bare(last))
        else:
            reading = self._scan_besides(want, part.besides, last)
        async with aclosing(reading) as pages:
            async for page in pages:
                yield page
                # Not to be held while the next one is read.
                del page

    async def _scan_besides(
        self, want: _Want, besides: Sequence[str], after: PointId | None
    ) -> AsyncGenerator[Page, None]:
        """One scope after the other, those that there are now."""
        begun = None if after is None else scope_of(after)
        scopes = [
            scope
            for scope in await self._keys.list(want.collection)
            if scope not in besides and (begun is None or scope >= begun)
        ]
        for scope in scopes:
            last = bare(after) if after is not None and scope == begun else None
            async with aclosing(self._scan(want, IdRange(scope=scope), last)) as pages:
                async for page in pages:
                    # The end of a scope is not that of the chunk.
                    if (cursor := page.cursor or _cursor_behind(page)) is not None:
                        yield msgspec.structs.replace(page, cursor=cursor)
                    del page
        yield Page([], None)

    async def _scan(
        self, want: _Want, part: IdRange, after: BareId | None
    ) -> AsyncGenerator[Page, None]:
        """Pages of a range of ids, of one scope where there are scopes."""
        start = part.start if after is None else ranges.successor(after)
        if after is not None and start is None:
            return
        where = want.where
        indexes = await self._indexes(want.collection) if where is not None else {}
        while True:
            narrowed = None if where is None else at_least(where, sure_of(indexes))
            request = self._scroll(want, part, start, narrowed)
            try:
                page, following = await self._page(request, part, want)
            except ScopeGone:
                yield Page([], None)  # and with it all that is left of the range
                return
            except Refused:
                if narrowed is None:
                    raise
                # Strict mode may want an index of what is filtered by. It only saves reading.
                where = None
                continue
            if narrowed is not None:
                before, indexes = indexes, await self._indexes(want.collection)
                if indexes != before:
                    # What answered is not known: an index that came meanwhile may not hold all
                    # that matches.
                    continue
            start = following
            ends = page.cursor is None
            yield page
            # Not to be held while the next one is read.
            del page
            if ends:
                return

    def _scroll(
        self, want: _Want, part: IdRange, start: BareId | None, narrowed: Filter | None
    ) -> Message:
        request = wire().ScrollPoints(
            collection_name=want.collection, timeout=self._channel.timeout_s
        )
        self._want(request, want.keys_only, want.fields)
        select(request, part.scope)
        if start is not None:
            write_id(request.offset, start)
        if narrowed is not None:
            write_filter(request.filter, narrowed)
        return request

    async def _page(
        self, request: Message, part: IdRange, want: _Want
    ) -> tuple[Page, BareId | None]:
        """A page, and where the next one starts. Raises ScopeGone."""
        size = self._size(request.collection_name, want.keys_only)
        rejected: tuple[RejectedRow, ...] = ()
        while True:
            request.limit = size.rows(want.page_rows)
            try:
                reply = await self._read("Scroll", request)
            except Rejected as exc:
                if exc.code != "value-too-large":
                    raise
                size.was_too_large(request.limit)
                if request.limit > 1:
                    continue
                self._want(request, True, ())
                reply = await self._read("Scroll", request)
                rejected = tuple(
                    RejectedRow(
                        id=within(part.scope, read_id(point.id)),
                        place=request.collection_name,
                        error=Rejected("value-too-large", f"the point is too large: {exc}"),
                        raw=b"",
                    )
                    for point in reply.result
                    if part.holds(read_id(point.id))
                )
                del reply.result[:]
            except Refused as exc:
                if not _keeps(size, exc, request.limit):
                    raise
                continue
            size.saw(len(reply.result), reply.ByteSize())
            return _read_page(reply, part, rejected)

    async def _read(self, method: str, request: Message) -> Message:
        """Raises ScopeGone where the shard key of the request is not there."""
        try:
            return await self._channel.call("Points", method, request)
        except grpc.aio.AioRpcError as exc:
            if failures.is_absent_scope(exc):
                raise ScopeGone from exc
            raise failures.of_read(exc, self._channel.address) from exc

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """
        The points that exist; no reply is larger than may be taken in, their sum may be. Raises
        Rejected for a point that is too large by itself.
        """
        found: dict[PointId, Point] = {}
        parts = [(scope, part) for scope, part in by_scope(ids).items() if _can_be(scope)]
        for some_parts in some(parts, SCOPES_AT_ONCE):
            for points in await all_of(
                [self._fetch(collection, scope, part) for scope, part in some_parts]
            ):
                found |= {point.id: point for point in points}
        return found

    async def _fetch(
        self, collection: str, scope: str | None, ids: Sequence[BareId]
    ) -> list[Point]:
        size = self._size(collection, False)
        wanted = [point_id for point_id in ids if can_hold(point_id)]
        found: list[Point] = []
        begin = 0
        while begin < len(wanted):
            some = wanted[begin : begin + size.rows(len(wanted) - begin)]
            request = wire().GetPoints(
                collection_name=collection, timeout=self._channel.timeout_s
            )
            self._want(request, False, ())
            select(request, scope)
            for point_id in some:
                write_id(request.ids.add(), point_id)
            try:
                reply = await self._read("Get", request)
            except ScopeGone:
                return []
            except Rejected as exc:
                if exc.code != "value-too-large":
                    raise
                size.was_too_large(len(some))
                if len(some) > 1:
                    continue
                raise Rejected(
                    exc.code, f"{collection!r}, id {some[0]!r} is too large: {exc}"
                ) from exc
            except Refused as exc:
                if not _keeps(size, exc, len(some)):
                    raise
                continue
            size.saw(len(reply.result), reply.ByteSize())
            ours = (point for point in reply.result if _is_of(point, scope))
            found += [read_point(point, scope) for point in ours]
            begin += len(some)
        return found

    async def glance(
        self, collection: str, ids: Sequence[PointId], fields: Sequence[str] = ()
    ) -> dict[PointId, Point]:
        """The points of these ids that exist, with these payload fields and no vectors."""
        there: dict[PointId, Point] = {}
        parts = [(scope, part) for scope, part in by_scope(ids).items() if _can_be(scope)]
        for some_parts in some(parts, SCOPES_AT_ONCE):
            for points in await all_of(
                [self._glance(collection, scope, part, fields) for scope, part in some_parts]
            ):
                there |= {point.id: point for point in points}
        return there

    async def _glance(
        self, collection: str, scope: str | None, ids: Sequence[BareId], fields: Sequence[str]
    ) -> list[Point]:
        size = self._size(collection, True)
        wanted = [point_id for point_id in ids if can_hold(point_id)]
        there: list[Point] = []
        while wanted:
            some = wanted[: size.rows(len(wanted))]
            request = wire().GetPoints(
                collection_name=collection, timeout=self._channel.timeout_s
            )
            self._want(request, True, fields)
            select(request, scope)
            for point_id in some:
                write_id(request.ids.add(), point_id)
            try:
                reply = await self._read("Get", request)
            except ScopeGone:
                return []
            except Refused as exc:
                if not _keeps(size, exc, len(some)):
                    raise
                continue
            ours = (point for point in reply.result if _is_of(point, scope))
            there += [read_point(point, scope) for point in ours]
            wanted = wanted[len(some) :]
        return there

    async def narrowed(self, collection: str, where: Filter) -> Filter | None:
        """What a scan by `where` asks for; None where that is every point."""
        return at_least(where, sure_of(await self._indexes(collection)))

    async def _indexes(self, collection: str) -> dict[str, str]:
        request = wire().GetCollectionInfoRequest(collection_name=collection)
        reply = await self._channel.read("Collections", "Get", request)
        return read_indexes(reply.result)

    def _want(self, request: Message, keys_only: bool, fields: Sequence[str]) -> None:
        if keys_only and fields:
            request.with_payload.include.fields[:] = map(_path_of, fields)
        else:
            request.with_payload.enable = not keys_only
        request.with_vectors.enable = not keys_only
        if self._consistent:
            request.read_consistency.type = wire().enum("ReadConsistencyType")["Quorum"]

    async def sample(
        self, collection: str, count: int, scope: str | None = None
    ) -> list[BareId]:
        """
        About so many ids at random, of one scope where there are scopes; fewer where the server
        gives no more at once.
        """
        size = self._size(collection, True)
        request = wire().QueryPoints(
            collection_name=collection, limit=count, timeout=self._channel.timeout_s
        )
        request.query.sample = wire().enum("Sample")["Random"]
        select(request, scope)
        while True:
            if size.rows_max is not None:
                request.limit = min(count, size.rows_max)
            try:
                reply = await self._read("Query", request)
            except ScopeGone:
                return []
            except Refused as exc:
                if not _keeps(size, exc, request.limit):
                    raise
                continue
            return [read_id(point.id) for point in reply.result]

    def _size(self, collection: str, keys_only: bool) -> PageSize:
        """Ids are known to be small, so that their pages need not begin small."""
        size = self._sizes.get((collection, keys_only))
        if size is None:
            size = PageSize(self._page_bytes)
            if keys_only:
                size.saw(self._page_bytes // _KEY_BYTES, self._page_bytes)
            self._sizes[collection, keys_only] = size
        return size


def _keeps(size: PageSize, error: Refused, asked: int) -> bool:
    """Whether the server named a limit on what is asked for at once, which we keep now."""
    limit = failures.named_limit(error.message)
    if limit is None or limit.name != "limit" or not 0 < limit.most < asked:
        return False
    size.rows_max = limit.most
    return True


def _path_of(field: str) -> str:
    """A top-level field as the path that leads to it: what is no plain name is in quotes."""
    return field if _PLAIN.fullmatch(field) else f'"{field}"'


def _is_of(point: Message, scope: str | None) -> bool:
    """Whether a point is what was asked for: an id without a scope is none where there are."""
    return scope is not None or not point.HasField("shard_key")


def _can_be(scope: str | None) -> bool:
    return scope is None or can_be(scope)


def _read_page(
    reply: Message, part: IdRange, rejected: tuple[RejectedRow, ...]
) -> tuple[Page, BareId | None]:
    points = [
        read_point(point, part.scope) for point in reply.result if part.holds(read_id(point.id))
    ]
    following = read_id(reply.next_page_offset) if reply.HasField("next_page_offset") else None
    if following is None or not part.holds(following):
        return Page(points, None, rejected), None
    # The cursor is not what the server offers to go on from: that point may be deleted, and one
    # may be written before it, ere this cursor is used.
    page = Page(points, None, rejected)
    return msgspec.structs.replace(page, cursor=_cursor_behind(page)), following


def _cursor_behind(page: Page) -> str | None:
    """The cursor of its last row; None of an empty page."""
    rows = page.points or page.rejected
    if not rows:
        return None
    last = rows[-1].id
    assert last is not None
    return ranges.write_cursor(last)
