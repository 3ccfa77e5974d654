"""Searching, aliases, and the store's own word on itself."""

from __future__ import annotations

import math

import msgspec
import pytest

from replicator.errors import Refused
from replicator.model.finding import Severity
from replicator.model.point import Point, bare
from replicator.model.schema import Distance, VectorSchema
from replicator.model.search import Query
from replicator.model.write import Upsert
from replicator.ports.store import AliasKeeper, BatchSearcher, SelfCheck, Store
from replicator.testing.store_conformance.examples import floats, fresh_name
from replicator.testing.store_conformance.suite import Suite, write


class Searches(Suite):
    """What is asked of a store beside reading and writing."""

    async def ten(self, store: Store) -> str:
        """A collection of ten points, each a little further from (1, 0) than the last."""
        schema = {self.vector: VectorSchema(size=2, distance=Distance.COSINE)}
        collection = await self.made(store, schema)
        points = (
            Point(
                self.id(n),
                {self.vector: floats(math.cos(n / 10), math.sin(n / 10))},
                {"n": n},
            )
            for n in range(10)
        )
        await write(store, collection, *map(Upsert, points))
        return collection

    async def test_a_search_gives_the_nearest_first(self, store: Store) -> None:
        collection = await self.ten(store)
        query = Query(floats(1, 0), using=self.vector, limit=3)
        hits = await store.search(collection, query)
        assert [hit.id for hit in hits] == self.ids([0, 1, 2])
        exact = msgspec.structs.replace(query, exact=True)
        if self.traits.exact_search:
            hits = await store.search(collection, exact)
            assert [hit.id for hit in hits] == self.ids([0, 1, 2])
        else:
            with pytest.raises(Refused):
                await store.search(collection, exact)

    async def test_several_searches_are_answered_as_each_alone(self, store: Store) -> None:
        if not isinstance(store, BatchSearcher):
            return
        collection = await self.ten(store)
        queries = [
            Query(floats(1, 0), using=self.vector, limit=3),
            Query(floats(0, 1), using=self.vector, limit=2),
            Query(floats(1, 0), using=self.vector, limit=1, exact=self.traits.exact_search),
        ]
        alone = [await store.search(collection, query) for query in queries]
        assert await store.search_many(collection, queries) == alone
        assert await store.search_many(collection, []) == []

    async def test_a_search_takes_a_filter_or_refuses_it(self, store: Store) -> None:
        collection = await self.ten(store)
        only = {
            "must": [{"key": "n", "range": {"gte": 5}}],
            "must_not": [{"has_id": [bare(self.id(6))]}],
        }
        filtered = Query(floats(1, 0), using=self.vector, limit=3, filter=only)
        if self.traits.filters:
            hits = await store.search(collection, filtered)
            # A filter knows no scopes: it leaves out every point of that id.
            left = [n for n in range(5, 10) if bare(self.id(n)) != bare(self.id(6))]
            assert [hit.id for hit in hits] == self.ids(left[:3])
        else:
            with pytest.raises(Refused):
                await store.search(collection, filtered)

    async def test_an_alias_moves_from_one_collection_to_another(self, store: Store) -> None:
        assert isinstance(store, AliasKeeper) is self.traits.aliases
        if isinstance(store, AliasKeeper):
            one, other = await self.made(store), await self.made(store)
            alias = fresh_name()
            assert await store.read_alias(alias) is None
            for collection in (one, other, other, one):
                await store.point_alias(alias, collection)
                assert await store.read_alias(alias) == collection

    async def test_a_store_that_is_up_finds_nothing_in_the_way(self, store: Store) -> None:
        findings = await store.check() if isinstance(store, SelfCheck) else []
        assert [each for each in findings if each.severity is Severity.BLOCKS] == []
