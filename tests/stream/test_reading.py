"""
A store that is read through its reader: waited for, cut down to the row to blame, measured in
bytes, and never left with a scan that is open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest

from replicator.errors import Fatal, Refused, Rejected, Unavailable
from replicator.migration.copy.pace import Pace
from replicator.model.filter import Filter, parse_filter
from replicator.model.phase import Direction
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.scopes import Scopes
from replicator.model.search import Hit, Query
from replicator.ports.store import Page, RejectedRow
from replicator.settings.settings import StreamSettings
from replicator.settings.units import Duration
from replicator.stream.ownership import Ownership, Purpose, Revoked
from replicator.stream.patience import Patience
from replicator.stream.reading import Reader, Want
from tests.stream.rig import METRICS, now, virtual

AWAY = Unavailable("source-unavailable", "the source is away")
GONE = Refused("source-missing", "no such collection")
MB = 1 << 20
WHOLE = Chunk(0, "books", "all")


class Shelf:
    """A store of numbered rows. Errors that were laid out are raised by the next requests."""

    def __init__(self, rows: int = 10, row_bytes: int = 8) -> None:
        self.ids = list(range(rows))
        self.row_bytes = row_bytes
        self.errors: deque[Exception | None] = deque()
        """None lets one request pass."""
        self.bad: set[PointId] = set()
        """Rows that are no points."""
        self.takes_s = 0.0
        self.open = 0
        """Scans that were not closed."""
        self.scans: list[tuple[str | None, int]] = []
        """After which cursor, and how many rows a page."""
        self.asked: list[tuple[str, list[PointId]]] = []
        self.at: list[float] = []
        """When a page was asked for."""

    async def _request(self) -> None:
        await asyncio.sleep(self.takes_s)
        error = self.errors.popleft() if self.errors else None
        if error is not None:
            raise error

    def _point(self, point_id: PointId) -> Point:
        return Point(point_id, {"": b"x" * self.row_bytes}, {})

    async def scan(
        self, _chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncIterator[Page]:
        self.scans.append((after, page_rows))
        self.open += 1
        try:
            begin = 0 if after is None else int(after) + 1
            while True:
                self.at.append(now())
                await self._request()
                some = self.ids[begin : begin + page_rows]
                begin += page_rows
                cursor = str(some[-1]) if begin < len(self.ids) else None
                points = [self._point(i) for i in some if i not in self.bad]
                rejected = tuple(_row(i) for i in some if i in self.bad)
                yield Page(points, cursor, rejected)
                if cursor is None:
                    await self._request()  # it may ask once more, to know that this was all
                    return
        finally:
            await asyncio.sleep(0)  # closing asks the server
            self.open -= 1

    async def fetch(self, _collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        self.asked.append(("fetch", list(ids)))
        await self._request()
        for point_id in ids:
            if point_id in self.bad:
                raise Rejected("field-type", f"{point_id} is no point", "payload")
        return {i: self._point(i) for i in ids if i in self.ids}

    async def describe(self, _collection: str) -> None:
        await self._request()

    async def count(self, _collection: str) -> int:
        await self._request()
        return len(self.ids)

    async def search(self, _collection: str, _query: Query) -> list[Hit]:
        self.at.append(now())
        await self._request()
        return []


class Index(Shelf):
    """One that knows its keys without reading the rows."""

    async def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncIterator[Page]:
        self.asked.append(("keys", list(fields)))
        async with aclosing(self.scan(chunk, after, page_rows)) as pages:  # type: ignore[type-var]
            async for page in pages:
                yield Page([Point(p.id, {}, {}) for p in page.points], page.cursor)

    async def present(self, _collection: str, ids: Sequence[PointId]) -> set[PointId]:
        self.asked.append(("present", list(ids)))
        await self._request()
        return {i for i in ids if i in self.ids}


def _row(number: PointId) -> RejectedRow:
    return RejectedRow(
        id=number, place="books", error=Rejected("field-type", "no point"), raw=b""
    )


def reader_of(shelf: Shelf, page_bytes: int = 8 * MB) -> Reader:
    settings = StreamSettings(backoff_min=Duration(1), backoff_max=Duration(8))
    return Reader(
        shelf,  # type: ignore[arg-type]
        patience=Patience(settings),
        metrics=METRICS,
        page_bytes=page_bytes,
    )


def trouble(reader: Reader) -> str | None:
    """What somebody waits for just now."""
    assert reader._patience is not None
    blocker = reader._patience.trouble
    return None if blocker is None else blocker.code


async def read(reader: Reader, rows: int = 4, **wanted: Any) -> list[PointId]:
    """The ids of all pages of a scan, in their order."""
    found: list[PointId] = []
    async with aclosing(reader.scan(WHOLE, None, rows, **wanted)) as pages:
        async for page in pages:
            found += [point.id for point in page.points]
    return found


# -- scans --------------------------------------------------------------------------------


@virtual
async def test_a_scan_goes_on_behind_the_last_page_after_an_error() -> None:
    shelf = Shelf(10)
    shelf.errors.extend([None, None, AWAY, AWAY])
    assert await read(reader_of(shelf)) == list(range(10))
    assert shelf.scans == [(None, 4), ("7", 4), ("7", 4)]
    assert now() == 3.0  # the backoff grows


@virtual
async def test_the_wait_of_a_scan_is_shown_until_a_page_has_come() -> None:
    shelf = Shelf(10)
    shelf.errors.extend([None, AWAY, AWAY, None])
    reader = reader_of(shelf)
    assert trouble(reader) is None
    seen = []
    async with aclosing(reader.scan(WHOLE, None, 4)) as pages:
        reading = asyncio.create_task(anext(pages))
        await reading
        reading = asyncio.create_task(anext(pages))
        await asyncio.sleep(0.5)
        seen.append(trouble(reader))
        await reading
        seen.append(trouble(reader))
    assert seen == ["source-unavailable", None]


@virtual
async def test_a_page_that_came_begins_the_backoff_anew() -> None:
    shelf = Shelf(12)
    shelf.errors.extend([AWAY, AWAY, None, AWAY])
    assert len(await read(reader_of(shelf))) == 12
    assert [round(b - a, 3) for a, b in pairwise(shelf.at)] == [1.0, 2.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("error", [GONE, Fatal("store-bug", "what no protocol allows")])
@virtual
async def test_what_no_waiting_mends_ends_a_scan(error: Exception) -> None:
    shelf = Shelf(10)
    shelf.errors.extend([None, error])
    with pytest.raises(type(error)):
        await read(reader_of(shelf))
    assert shelf.open == 0


@virtual
async def test_asked_once_a_scan_raises_what_the_store_does() -> None:
    shelf = Shelf(10)
    shelf.errors.extend([None, AWAY])
    with pytest.raises(Unavailable):
        await read(reader_of(shelf).once)
    assert (len(shelf.scans), shelf.open) == (1, 0)


@virtual
async def test_after_the_last_page_nothing_is_asked_that_could_begin_anew() -> None:
    shelf = Shelf(4)
    shelf.errors.extend([None, AWAY])
    assert await read(reader_of(shelf)) == [0, 1, 2, 3]
    assert len(shelf.errors) == 1


@virtual
async def test_a_scan_that_is_broken_off_is_closed_at_the_store() -> None:
    shelf = Shelf(10)
    async with aclosing(reader_of(shelf).scan(WHOLE, None, 4)) as pages:
        async for _ in pages:
            assert shelf.open == 1
            break
    assert shelf.open == 0


@virtual
async def test_a_scan_whose_reader_fails_is_closed_at_the_store() -> None:
    shelf = Shelf(10)

    async def carry() -> None:
        async with aclosing(reader_of(shelf).scan(WHOLE, None, 4)) as pages:
            async for _ in pages:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await carry()
    assert shelf.open == 0


@pytest.mark.parametrize("takes_s", [0.0, 5.0])
@virtual
async def test_a_scan_that_is_cancelled_is_closed_at_the_store(takes_s: float) -> None:
    """In the middle of a request, and while its pages are carried."""
    shelf = Shelf(10)
    shelf.takes_s = takes_s

    async def carry() -> None:
        async with aclosing(reader_of(shelf).scan(WHOLE, None, 4)) as pages:
            async for _ in pages:
                await asyncio.sleep(60)

    carrying = asyncio.create_task(carry())
    await asyncio.sleep(1)
    assert shelf.open == 1
    carrying.cancel()
    await asyncio.wait([carrying])
    assert (carrying.cancelled(), shelf.open) == (True, 0)


@virtual
async def test_one_who_is_cancelled_in_a_backoff_waits_for_nothing_any_more() -> None:
    shelf = Shelf(10)
    shelf.errors.extend([AWAY] * 9)
    reader = reader_of(shelf)
    reading = asyncio.create_task(read(reader))
    await asyncio.sleep(2)
    assert trouble(reader) == "source-unavailable"
    reading.cancel()
    await asyncio.wait([reading])
    assert (trouble(reader), shelf.open) == (None, 0)


@virtual
async def test_a_backoff_lasts_no_longer_than_the_lease_it_is_for() -> None:
    shelf = Shelf(10)
    shelf.errors.extend([AWAY] * 99)
    lease = Ownership().lease(Direction.FORWARD, Purpose.BACKFILL, 0)
    reading = asyncio.create_task(read(reader_of(shelf), lease=lease))
    await asyncio.sleep(10)
    lease.revoke()
    with pytest.raises(Revoked):
        await reading
    assert (now(), shelf.open) == (10.0, 0)


@virtual
async def test_a_row_that_is_no_point_is_handed_on_with_its_page() -> None:
    shelf = Shelf(8)
    shelf.bad = {5}
    handed: list[PointId | None] = []
    async with aclosing(reader_of(shelf).scan(WHOLE, None, 4)) as pages:
        async for page in pages:
            handed += [row.id for row in page.rejected]
    assert handed == [5]


@virtual
async def test_pages_come_no_faster_than_the_budget_of_rows_allows() -> None:
    shelf = Shelf(40)
    shelf.bad = {3}
    budget = Pace(rate_max=2.0)
    assert len(await read(reader_of(shelf), budget=budget)) == 39
    # Two pages at once, and then one in two seconds: those that are no points count as well.
    assert shelf.at == [0, 0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert budget.status().rate_per_s is not None


@virtual
async def test_the_wait_for_a_budget_lasts_no_longer_than_the_lease() -> None:
    lease = Ownership().lease(Direction.FORWARD, Purpose.BACKFILL, 0)
    budget = Pace(rate_max=0.001)
    reading = asyncio.create_task(read(reader_of(Shelf(40)), budget=budget, lease=lease))
    await asyncio.sleep(3)
    lease.revoke()
    with pytest.raises(Revoked):
        await reading
    assert now() == 3.0


# -- bytes, not rows ----------------------------------------------------------------------


@virtual
async def test_the_pages_of_small_rows_soon_have_as_many_as_were_wanted() -> None:
    shelf = Shelf(1000)
    reader = reader_of(shelf)
    assert await read(reader, 256) == list(range(1000))
    assert [rows for _, rows in shelf.scans] == [8, 32, 128, 256]
    await read(reader, 256)
    assert shelf.scans[4:] == [(None, 256)]  # the next scan knows them


@virtual
async def test_a_scan_of_large_rows_asks_for_as_few_as_a_page_may_hold() -> None:
    shelf = Shelf(64, MB)
    reader = reader_of(shelf, page_bytes=4 * MB)
    async with aclosing(reader.scan(WHOLE, None, 256)) as pages:
        sizes = [len(page.points) async for page in pages]
    assert sizes[0] == 8  # it could not be known
    assert max(sizes[1:]) <= 4
    assert sum(sizes) == 64


@virtual
async def test_points_of_many_ids_come_in_parts_of_a_pages_size() -> None:
    shelf, got, bad = Shelf(100, MB), 0, []
    shelf.bad = {13}
    async with aclosing(reader_of(shelf).fetch_parts("books", range(100))) as parts:
        async for ids, (found, unreadable) in parts:
            assert found.keys() | unreadable.keys() == set(ids)
            assert len(found) <= 8
            got += len(found)
            bad += list(unreadable)
    assert (got, bad) == (99, [13])
    assert max(len(ids) for _, ids in shelf.asked) == 8


# -- by id --------------------------------------------------------------------------------


@virtual
async def test_what_is_fetched_is_halved_until_the_row_that_is_no_point_stands_alone() -> None:
    shelf = Shelf(8)
    shelf.bad = {5}
    found, unreadable = await reader_of(shelf).fetch("books", [0, 1, 2, 3, 4, 5, 6, 99])
    assert set(found) == {0, 1, 2, 3, 4, 6}
    assert [(i, error.code) for i, error in unreadable.items()] == [(5, "field-type")]
    assert [ids for _, ids in shelf.asked if len(ids) == 1] == [[4], [5]]


@virtual
async def test_nothing_to_fetch_asks_nobody() -> None:
    shelf = Shelf(8)
    assert await reader_of(shelf).fetch("books", []) == ({}, {})
    assert shelf.asked == []


@virtual
async def test_a_fetch_waits_for_a_store_that_is_away_or_refuses() -> None:
    shelf = Shelf(8)
    shelf.errors.extend([AWAY, GONE])
    found, _ = await reader_of(shelf).fetch("books", [1])
    assert set(found) == {1}
    assert now() == 9.0  # a refusal is waited out the longest


@virtual
async def test_a_refusal_is_raised_where_that_is_said() -> None:
    shelf = Shelf(8)
    asks: tuple[Callable[[Reader], Awaitable[object]], ...] = (
        lambda r: r.fetch("books", [1], or_refused=True),
        lambda r: r.describe("books", or_refused=True),
    )
    for ask in asks:
        shelf.errors.extend([AWAY, GONE])
        with pytest.raises(Refused):
            await ask(reader_of(shelf))


@virtual
async def test_a_collection_that_is_missing_at_the_source_is_waited_for() -> None:
    reader = reader_of(Shelf())
    waiting = asyncio.create_task(reader.schema("books"))
    await asyncio.sleep(20)
    assert trouble(reader) == "source-missing"
    waiting.cancel()
    await asyncio.wait([waiting])
    with pytest.raises(Refused) as caught:
        await reader.once.schema("books")
    assert caught.value.code == "source-missing"


# -- keys only ----------------------------------------------------------------------------


@virtual
async def test_keys_are_read_without_points_where_the_store_can() -> None:
    shelf = Index(1000)
    shelf.bad = {7}
    reader = reader_of(shelf)
    found = await read(reader, 500, want=Want.KEYS, fields=("origin",))
    assert len(found) == 999
    assert shelf.asked == [("keys", ["origin"])]
    assert [rows for _, rows in shelf.scans] == [500]  # ids are small
    assert await reader.present("books", [1, 7, 5000]) == {1, 7}
    assert shelf.asked[1:] == [("present", [1, 7, 5000])]
    assert shelf.open == 0


@virtual
async def test_a_scan_of_keys_that_is_broken_off_is_closed_at_the_store() -> None:
    shelf = Index(1000)
    async with aclosing(reader_of(shelf).scan(WHOLE, None, 8, want=Want.KEYS)) as pages:
        async for _ in pages:
            break
    assert shelf.open == 0


@virtual
async def test_keys_are_read_with_points_where_the_store_can_do_no_less() -> None:
    shelf = Shelf(100, MB)
    shelf.bad = {7}
    reader = reader_of(shelf, page_bytes=4 * MB)
    assert len(await read(reader, 500, want=Want.KEYS)) == 99
    # A row that is no point is there all the same; nor are all points held for it.
    assert await reader.present("books", [*range(20), 5000]) == set(range(20))
    assert max(len(ids) for _, ids in shelf.asked) <= 4


# -- what a filter excludes ------------------------------------------------------------------

EVEN = parse_filter({"must": [{"key": "even", "match": {"value": "yes"}}]})


class Sorted(Shelf):
    """One that can leave out the odd ones."""

    async def scan_where(
        self, chunk: Chunk, after: str | None, page_rows: int, where: Filter
    ) -> AsyncIterator[Page]:
        self.asked.append(("where", [where is EVEN]))
        async with aclosing(self.scan(chunk, after, page_rows)) as pages:  # type: ignore[type-var]
            async for page in pages:
                even = [p for p in page.points if isinstance(p.id, int) and p.id % 2 == 0]
                yield Page(even, page.cursor, page.rejected)

    async def count_where(self, _collection: str, where: Filter) -> int:
        assert where is EVEN
        return len(self.ids) // 2

    async def fetch_fields(
        self, collection: str, ids: Sequence[PointId], fields: Sequence[str]
    ) -> dict[PointId, Point]:
        self.asked.append(("fields", list(fields)))
        return await self.fetch(collection, ids)


@virtual
async def test_a_store_that_can_leaves_out_what_the_filter_excludes() -> None:
    shelf = Sorted(20)
    shelf.errors.append(AWAY)  # and it goes on as it began
    reader = reader_of(shelf)
    assert reader.narrows
    assert await read(reader, where=EVEN) == list(range(0, 20, 2))
    assert {what for what, _ in shelf.asked} == {"where"}
    assert (await reader.count("books", where=EVEN), await reader.count("books")) == (10, 20)
    assert shelf.open == 0


class Tenants(Sorted):
    """One that has scopes besides."""

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        return [Chunk(part, collection, "all") for part in range(parts)]

    async def split_scopes(
        self, collection: str, parts: int, scopes: Collection[str]
    ) -> list[Chunk]:
        return [Chunk(part, collection, ",".join(sorted(scopes))) for part in range(parts)]

    async def count_scopes(self, _collection: str, scopes: Collection[str]) -> int:
        return 7 * len(scopes)


@virtual
async def test_scopes_by_name_are_cut_and_counted_by_themselves() -> None:
    reader, some = reader_of(Tenants(20)), Scopes(frozenset({"b", "a"}))
    assert [chunk.spec for chunk in await reader.split("books", 2, some)] == ["a,b"] * 2
    # A count that is said to be of some may be of more, and never of fewer.
    assert await reader.count("books", some, EVEN) == await reader.count("books", some) == 14
    assert await reader.count("books", Scopes(), EVEN) == 10
    with pytest.raises(Refused, match="no scopes"):
        await reader_of(Sorted(20)).count("books", some)


@virtual
async def test_a_store_that_cannot_gives_everything_and_counts_it() -> None:
    reader = reader_of(Shelf(20))
    assert not reader.narrows
    assert await read(reader, where=EVEN) == list(range(20))
    assert await reader.count("books", where=EVEN) == 20


@virtual
async def test_who_compares_asks_for_agreement_where_the_store_has_a_choice() -> None:
    class Replicated(Shelf):
        def consistent(self) -> Shelf:
            return careful

    careful, shelf = Sorted(3), Replicated(9)
    reader = reader_of(shelf)
    assert await read(reader.consistent) == list(range(3))
    assert reader.consistent.narrows
    assert await read(reader) == list(range(9))
    alone = reader_of(careful)
    assert await read(alone.consistent) == list(range(3))


# -- search -------------------------------------------------------------------------------


@pytest.mark.parametrize(("tries", "times"), [(1, [0.0]), (3, [0.0, 1.0, 3.0])])
@virtual
async def test_a_search_is_asked_so_often_and_no_more(tries: int, times: list[float]) -> None:
    shelf = Shelf()
    shelf.errors.extend([AWAY] * 9)
    reader = reader_of(shelf)
    with pytest.raises(Unavailable):
        await reader.search("books", Query(b"", "", 10), tries=tries)
    assert shelf.at == times
    assert trouble(reader) is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda reader: reader.count("books"),
        lambda reader: reader.fetch("books", [1]),
        lambda reader: reader.search("books", Query(b"", "", 10)),
    ],
)
@virtual
async def test_asked_once_every_error_is_the_callers(
    ask: Callable[[Reader], Any],
) -> None:
    shelf = Shelf()
    shelf.errors.append(AWAY)
    with pytest.raises(Unavailable):
        await ask(reader_of(shelf).once)
    assert now() == 0.0
