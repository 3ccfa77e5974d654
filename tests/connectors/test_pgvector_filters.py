"""The same filters here and in SQL: one answer; and a narrowed scan leaves nothing out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from replicator.connectors.pgvector.store import PgvectorStore
from replicator.errors import Refused
from replicator.model.filter import parse_filter
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.search import Query
from replicator.model.write import Upsert, WriteBatch
from replicator.stream.filter import Filter
from replicator.testing.store_conformance import PLAIN, floats
from tests.plugins.postgres import Database
from tests.stream.test_filter_engine import POINTS, random_filter, random_value

FILTERS = 60
NOT_ASKED = ("'text'", "'text_any'", "'phrase'", "2024-01-01T", "2024-06-01T")
SPECIALS = [True, False, 1, 0, 1.0, "true", [True], [False, 1], None, "", [], {}, "a\nb", -0.0]


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PgvectorStore]:
    store = PgvectorStore(database.settings())
    yield store
    await store.close()


async def searched(
    store: PgvectorStore, spec: dict[str, Any], name: str = "docs"
) -> set[PointId]:
    query = Query(floats(1, 2), limit=POINTS, filter=spec, exact=True)
    return {hit.id for hit in await store.search(name, query)}


async def scanned(
    store: PgvectorStore, spec: dict[str, Any], name: str = "docs"
) -> set[PointId]:
    where = parse_filter(spec)
    found = store.scan_where(Chunk(0, name, "{}"), None, POINTS, where)
    ids = {point.id for page in [page async for page in found] for point in page.points}
    assert await store.count_where(name, where) == len(ids)
    return ids


async def fill(store: PgvectorStore, payloads: dict[int, dict[str, Any]]) -> None:
    points = [Point(n, {"": floats(1, 2)}, payload) for n, payload in payloads.items()]
    await store.apply(WriteBatch("docs", tuple(map(Upsert, points))))


async def test_a_filter_matches_what_sql_matches(store: PgvectorStore) -> None:
    random = Random(7)
    payloads = {
        n: {key: random_value(random) for key in "ab" if random.random() < 0.8}
        for n in range(1, POINTS - len(SPECIALS))
    }
    payloads |= {1000 + n: {"a": value} for n, value in enumerate(SPECIALS)}
    await store.ensure(CollectionSchema(name="docs", vectors=PLAIN, ids=IdKinds.UINT64))
    await fill(store, payloads)
    telling = asked = 0
    while asked < FILTERS:
        spec = random_filter(random)
        if any(each in str(spec) for each in NOT_ASKED):
            continue
        asked += 1
        ours = {n for n, payload in payloads.items() if Filter(spec).matches(n, payload)}
        theirs = await searched(store, spec)
        assert ours == theirs, (
            spec,
            {n: payloads[int(str(n))] for n in sorted(map(int, map(str, ours ^ theirs)))[:3]},
        )
        assert ours <= await scanned(store, spec)
        telling += 0 < len(ours) < len(payloads)
    assert telling > FILTERS // 5


async def test_a_filter_on_columns_matches_what_sql_matches(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, t text, i int, f real, at timestamptz, l int[],"
        " j jsonb, v vector(2)); CREATE INDEX ON docs USING hnsw (v vector_l2_ops)"
    )
    payloads: dict[int, dict[str, Any]] = {
        1: {"t": "x", "i": 1, "f": 1.0, "at": "2024-01-01T00:00:00Z", "l": [1, 2]},
        2: {"t": "", "i": -5, "f": 0.5, "j": {"a": [1, {"b": 2}]}},
        3: {"t": "x", "l": []},
        4: {},
    }
    await fill(store, payloads)
    conditions: list[dict[str, Any]] = [
        {"key": "t", "match": {"value": "x"}},
        {"key": "t", "match": {"any": ["", "y"]}},
        {"key": "t", "match": {"except": ["x"]}},
        {"key": "i", "match": {"value": 1}},
        {"key": "i", "range": {"gte": -5, "lt": 1}},
        {"key": "i", "range": {"gt": 0.5}},
        {"key": "f", "match": {"value": 1}},
        {"key": "at", "match": {"value": "2024-01-01T00:00:00Z"}},
        {"key": "at", "match": {"prefix": "2024"}},
        {"key": "l", "match": {"value": 2}},
        {"key": "l[0]", "match": {"value": 1}},
        {"key": "l", "values_count": {"gte": 1}},
        {"key": "j.a[].b", "match": {"value": 2}},
        {"is_empty": {"key": "l"}},
        {"is_null": {"key": "t"}},
        {"is_empty": {"key": "gone"}},
        {"has_id": [1, 3, "x", 2**40]},
    ]
    for condition in conditions:
        for clause in ("must", "must_not"):
            spec = {clause: [condition]}
            ours = {n for n, payload in payloads.items() if Filter(spec).matches(n, payload)}
            assert await searched(store, spec) == ours, spec
            assert ours <= await scanned(store, spec), spec


async def test_a_part_of_a_table_costs_no_reading_of_the_whole(store: PgvectorStore) -> None:
    await store.ensure(CollectionSchema(name="docs", vectors=PLAIN, ids=IdKinds.UINT64))
    await fill(store, {n: {"tenant": f"t{n % 5}", "n": n} for n in range(100)})
    tenant = {"key": "tenant", "match": {"value": "t1"}}
    assert len(await scanned(store, {"must": [tenant]})) == 20
    assert len(await scanned(store, {"must_not": [tenant]})) == 80
    few = {"must": [tenant, {"has_id": [1, 2, 6]}, {"key": "n", "range": {"lt": 3}}]}
    assert await scanned(store, few) == {1, 6}, "a number of jsonb is not narrowed by"
    odd = {"must": [{"key": "a\0b", "match": {"value": "x"}}]}
    assert len(await scanned(store, odd)) == 100, "no such text can be asked for"


async def test_ids_are_asked_for_as_the_key_spells_them(store: PgvectorStore) -> None:
    shape = {"": VectorSchema(size=2, distance=Distance.DOT)}
    await store.ensure(CollectionSchema(name="uuids", vectors=shape, ids=IdKinds.UUID))
    ref = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    one = Upsert(Point(ref, {"": floats(1, 2)}, {}))
    await store.apply(WriteBatch("uuids", (one,)))
    spec = {"must": [{"has_id": [ref.upper(), "no uuid", 5]}]}
    assert await searched(store, spec, "uuids") == {ref}
    assert await scanned(store, spec, "uuids") == {ref}
    has = {"must": [{"has_vector": ""}], "must_not": [{"has_vector": "gone"}]}
    assert await searched(store, has, "uuids") == {ref}


@pytest.mark.parametrize(
    "test", [{"match": {"text": "a b"}}, {"range": {"gte": "2024-01-01"}}], ids=str
)
async def test_what_sql_is_not_asked_is_refused(
    store: PgvectorStore, test: dict[str, Any]
) -> None:
    await store.ensure(CollectionSchema(name="docs", vectors=PLAIN, ids=IdKinds.UINT64))
    with pytest.raises(Refused) as caught:
        await searched(store, {"must": [{"key": "a", **test}]})
    assert caught.value.code == "bad-request"
