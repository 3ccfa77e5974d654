"""Reading points back: by id, and in chunks that cover every key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.errors import Refused
from replicator.model.filter import parse_filter
from replicator.model.point import PointId, bare
from replicator.model.record import Chunk
from replicator.model.write import Delete, Upsert
from replicator.ports.store import ConsistentReader, Narrower, Store
from replicator.stream.filter import Filter
from replicator.testing.store_conformance.examples import fresh_name
from replicator.testing.store_conformance.suite import Suite, scanned, write


class Reads(Suite):
    """Fetching, cutting, scanning, counting."""

    async def test_fetch_leaves_out_what_is_absent(self, store: Store) -> None:
        collection = await self.made(store)
        await write(store, collection, Upsert(self.point(1)), Upsert(self.point(3)))
        found = await store.fetch(collection, self.ids([1, 2, 3, 4]))
        assert found.keys() == set(self.ids([1, 3]))
        assert await store.fetch(collection, []) == {}

    @pytest.mark.parametrize("parts", [1, 2, 5, 200])
    async def test_chunks_cover_every_key_once_those_included_that_come_later(
        self, store: Store, parts: int
    ) -> None:
        collection = await self.made(store)
        ids = self.some_ids()
        early, late = ids[::2], ids[1::2]
        await write(store, collection, *(Upsert(self.at(each)) for each in early))
        chunks = await store.split(collection, parts)
        assert {chunk.collection for chunk in chunks} == {collection}
        assert len({chunk.number for chunk in chunks}) == len(chunks)
        # Chunks live in a database between a crash and the next run.
        chunks = [
            msgspec.json.decode(msgspec.json.encode(chunk), type=Chunk) for chunk in chunks
        ]
        await write(store, collection, *(Upsert(self.at(each)) for each in late))
        found = await scanned(store, chunks)
        assert len(found) == len(set(found))
        assert set(found) == set(ids)

    async def test_an_empty_collection_is_cut_too(self, store: Store) -> None:
        collection = await self.made(store)
        chunks = await store.split(collection, 4)
        assert await scanned(store, chunks) == []
        await write(store, collection, *(Upsert(self.at(each)) for each in self.some_ids()))
        assert set(await scanned(store, chunks)) == set(self.some_ids())

    @pytest.mark.parametrize("page_rows", [1, 3, 1000])
    async def test_a_scan_goes_on_from_every_cursor(self, store: Store, page_rows: int) -> None:
        collection = await self.made(store)
        await write(store, collection, *(Upsert(self.at(each)) for each in self.some_ids()))
        for chunk in await store.split(collection, 2):
            pages = [page async for page in store.scan(chunk, None, page_rows)]
            assert all(len(page.points) <= page_rows for page in pages)
            assert [page.cursor is None for page in pages[:-1]] == [False] * (len(pages) - 1)
            assert not pages or pages[-1].cursor is None
            for number, page in enumerate(pages[:-1], 1):
                rest = await scanned(store, [chunk], page_rows, page.cursor)
                assert rest == [point.id for later in pages[number:] for point in later.points]

    async def test_a_scan_keeps_its_place_while_other_keys_come_and_go(
        self, store: Store
    ) -> None:
        collection = await self.made(store)
        ids = self.some_ids()
        await write(store, collection, *(Upsert(self.at(each)) for each in ids))
        lasting, victims = (
            set(ids[::3]),
            [point_id for point_id in ids if point_id not in ids[::3]],
        )
        found: list[PointId] = []
        for chunk in await store.split(collection, 2):
            cursor: str | None = None
            while True:
                # A page a scan: the cursor alone carries the place, as after a crash.
                page = await anext(aiter(store.scan(chunk, cursor, 2)), None)
                if page is None:
                    break
                found += [point.id for point in page.points]
                # The key that the cursor stands on, too, and one far away.
                gone = [point.id for point in page.points if point.id in victims][-1:]
                gone += victims[-1:]
                victims = [point_id for point_id in victims if point_id not in gone]
                await write(store, collection, *map(Delete, dict.fromkeys(gone)))
                cursor = page.cursor
                if cursor is None:
                    break
        assert len(found) == len(set(found))
        assert lasting <= set(found) <= set(ids)

    async def test_a_missing_collection_is_described_as_none_and_not_scanned(
        self, store: Store
    ) -> None:
        name = fresh_name()
        assert await store.describe(name) is None
        with pytest.raises(Refused):
            await store.split(name, 2)
        collection = await self.made(store)
        for chunk in await store.split(collection, 1):
            with pytest.raises(Refused):
                await scanned(store, [Chunk(chunk.number, name, chunk.spec)])

    async def test_a_narrowed_scan_leaves_out_nothing_that_matches(self, store: Store) -> None:
        if not isinstance(store, Narrower):
            return
        collection = await self.made(store)
        points = [self.point(n, n=n, tag=f"t{n % 3}") for n in range(90)]
        await write(store, collection, *map(Upsert, points))
        few: dict[str, Any] = {
            "must": [
                {"key": "tag", "match": {"value": "t1"}},
                {"has_id": [bare(each) for each in self.ids(range(60))]},
            ],
            "must_not": [{"key": "n", "range": {"lt": 30}}],
        }
        where, passing = parse_filter(few), Filter(few)
        matching = {point.id for point in points if passing.matches(point.id, point.payload)}
        assert len(matching) == 10
        chunks = await store.split(collection, 3)
        shown: list[PointId] = []
        for chunk in chunks:
            pages = [page async for page in store.scan_where(chunk, None, 4, where)]
            shown += [point.id for page in pages for point in page.points]
            assert all(len(page.points) <= 4 for page in pages)
            assert not pages or pages[-1].cursor is None
            for number, page in enumerate(pages[:-1], 1):
                # A crash in between: another release may go on without the filter.
                later = [point.id for rest in pages[number:] for point in rest.points]
                again = await scanned(store, [chunk], 4, page.cursor)
                assert [each for each in again if each in later] == later
        assert len(shown) == len(set(shown))
        assert matching <= set(shown) < {point.id for point in points}
        count = await store.count_where(collection, where)
        assert count == (len(shown) if self.traits.counts else None)

    async def test_fields_are_read_by_their_names(self, store: Store) -> None:
        if not isinstance(store, Narrower):
            return
        collection = await self.made(store)
        payload = self.fitting({"a": 1, "b": "x", "c.d": "dotted", "c": {"d": 2}, "e[]": 5})
        await write(store, collection, Upsert(self.at(self.id(1), **payload)))
        for name in payload:
            found = await store.fetch_fields(collection, self.ids([1, 2]), [name])
            assert found.keys() == {self.id(1)}
            assert self.same(found[self.id(1)].payload.get(name), payload[name]), name

    async def test_a_careful_reading_shows_the_same(self, store: Store) -> None:
        if not isinstance(store, ConsistentReader):
            return
        collection = await self.made(store)
        await write(store, collection, *(Upsert(self.point(n)) for n in range(20)))
        careful = store.consistent()
        assert careful.staleness_s <= store.staleness_s
        chunks = await careful.split(collection, 2)
        assert await scanned(careful, chunks) == await scanned(store, chunks)
        some = self.ids(range(15, 25))
        assert await careful.fetch(collection, some) == await store.fetch(collection, some)

    async def test_the_count_is_exact_or_there_is_none(self, store: Store) -> None:
        collection = await self.made(store)
        assert await store.count(collection) == (0 if self.traits.counts else None)
        await write(store, collection, *(Upsert(self.point(n)) for n in range(300)))
        await write(store, collection, *(Delete(self.id(n)) for n in range(100)))
        await write(store, collection, Upsert(self.point(150, again=True)))
        count = 200 if self.traits.counts else None
        assert await store.count(collection) == count
        assert (await self.described(store, collection)).points == count
        assert await self.counted(store, collection) == 200
