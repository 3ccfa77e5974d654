"""
A scan that is narrowed at the store leaves out nothing that matches here. Payloads hold what
the agreement of both languages leaves out: whole floats, truth values, and numbers at the edge
of float64.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from replicator.connectors.qdrant.filters import sure_of, write_filter
from replicator.connectors.qdrant.points import read_id
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.wire import wire
from replicator.model.filter import Filter as Tree
from replicator.model.filter import parse_filter
from replicator.model.narrowing import at_least
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.write import Upsert, WriteBatch
from replicator.stream.filter import Filter
from replicator.testing.store_conformance import PLAIN, floats, fresh_name
from tests.stream.test_filter_engine import SCALARS, random_filter

POINTS = 120
FILTERS = 60
VALUES = [*SCALARS, 1.0, 2.0, False, -0.0, 2**53, 2**53 + 1, float(2**53), "x"]


def value(random: Random, depth: int = 2) -> Any:
    kind = random.random()
    if depth and kind < 0.25:
        return [value(random, depth - 1) for _ in range(random.randrange(4))]
    if depth and kind < 0.45:
        return {key: value(random, depth - 1) for key in "ab" if random.random() < 0.6}
    return random.choice(VALUES)


async def matching(store: QdrantStore, name: str, tree: Tree) -> set[Any]:
    request = wire().ScrollPoints(collection_name=name, limit=POINTS)
    request.with_payload.enable = False
    write_filter(request.filter, tree)
    reply = await store._channel.read("Points", "Scroll", request)
    return {read_id(point.id) for point in reply.result}


@pytest.mark.parametrize("kind", [None, "keyword", "float", "integer"])
async def test_nothing_that_matches_is_left_out(store: QdrantStore, kind: str | None) -> None:
    random = Random(f"narrowing {kind}")
    name = fresh_name()
    keys = ["a", "b", "a.b", "b[].a"]
    indexes = {} if kind is None else dict.fromkeys(keys, kind)
    made = CollectionSchema(name=name, vectors=PLAIN, ids=IdKinds.UINT64, indexes=indexes)
    await store.ensure(made)
    payloads = {
        number: {key: value(random) for key in "ab" if random.random() < 0.8}
        for number in range(1, POINTS + 1)
    }
    points = [Point(n, {"": floats(1, 2)}, payload) for n, payload in payloads.items()]
    await store.apply(WriteBatch(name, tuple(map(Upsert, points))))
    await store.finish_bulk(name)
    narrowed = left_out = 0
    for _ in range(FILTERS):
        spec = random_filter(random)
        ours = {n for n, payload in payloads.items() if Filter(spec).matches(n, payload)}
        tree = at_least(Filter(spec).tree, sure_of(indexes))
        if tree is None:
            continue
        narrowed += 1
        theirs = await matching(store, name, tree)
        missed = sorted(ours - theirs)
        assert not missed, (spec, tree, {n: payloads[n] for n in missed[:3]})
        left_out += len(theirs) < POINTS
    assert left_out > FILTERS // 10, f"{narrowed} were narrowed: they prove little"


@pytest.mark.parametrize(
    ("condition", "trusted"),
    [
        ({"key": "a.b", "match": {"value": "x"}}, {None, "keyword"}),
        ({"key": "a.b", "match": {"any": [1, 2.0]}}, {None, "float"}),
        ({"key": "a.b", "match": {"any": ["x", 1]}}, set()),
        ({"key": "a.b", "match": {"value": True}}, set()),
        ({"key": "a.b", "match": {"any": []}}, {None, "keyword"}),
        ({"key": "a.b", "range": {"gt": 1}}, {None, "float"}),
        ({"key": "a.b", "range": {"gt": 2**53 + 2}}, set()),
        ({"key": "a.b", "range": {"gt": "2024-01-01T00:00:00Z"}}, set()),
        ({"key": "a.b", "match": {"except": ["x"]}}, set()),
        ({"key": "a.b", "match": {"text": "x"}}, set()),
        ({"key": "a.b", "values_count": {"gt": 1}}, set()),
        ({"is_empty": {"key": "a.b"}}, {None}),
        ({"is_null": {"key": "a.b"}}, {None}),
        ({"nested": {"key": "a", "filter": {"must": []}}}, set()),
        ({"has_id": [1]}, {None, "keyword", "float", "integer", "text"}),
    ],
)
def test_an_index_is_trusted_with_its_own_type_alone(
    condition: dict[str, Any], trusted: set[str | None]
) -> None:
    tree = parse_filter({"must": [condition]})
    found = {
        kind
        for kind in (None, "keyword", "float", "integer", "text")
        if at_least(tree, sure_of({} if kind is None else {'a[]."b"': kind}))
    }
    assert found == trusted


async def some_points(store: QdrantStore, **given: Any) -> str:
    name = fresh_name()
    made = CollectionSchema(name=name, vectors=PLAIN, ids=IdKinds.UINT64, **given)
    await store.ensure(made)
    points = [Point(n, {"": floats(1, 2)}, {"n": n, "t": f"t{n % 2}"}) for n in range(40)]
    await store.apply(WriteBatch(name, tuple(map(Upsert, points))))
    await store.configure(store.plan(made))
    await store.finish_bulk(name)
    return name


async def shown(store: QdrantStore, name: str, where: Tree) -> set[Any]:
    [chunk] = await store.split(name, 1)
    pages = store.scan_where(chunk, None, 7, where)
    return {point.id async for page in pages for point in page.points}


ODD = parse_filter({"must": [{"key": "t", "match": {"value": "t1"}}]})
HIGH = parse_filter({"must": [{"key": "n", "range": {"gte": 30}}]})


async def test_a_server_that_wants_an_index_to_filter_by_is_read_whole(
    store: QdrantStore,
) -> None:
    strict = {"enabled": True, "unindexed_filtering_retrieve": False}
    name = await some_points(
        store,
        native_kind="qdrant",
        native={"strict_mode_config": strict},
        indexes={"t": "keyword"},
    )
    assert await shown(store, name, ODD) == set(range(1, 40, 2))
    assert await shown(store, name, HIGH) == set(range(40))
    assert (await store.count_where(name, ODD), await store.count_where(name, HIGH)) == (20, 40)


async def test_an_index_that_comes_while_a_scan_goes_on_is_not_trusted(
    store: QdrantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await some_points(store)
    looks, requests = 0, []
    right, reading = store._reading._indexes, store._reading

    async def indexes(collection: str) -> dict[str, str]:
        nonlocal looks
        looks += 1
        # It is there after the second page was asked for.
        return await right(collection) if looks < 3 else {"n": "integer"}

    page = reading._page

    async def asked(request: Any, *more: Any) -> Any:
        requests.append((request.HasField("filter"), request.offset.num))
        return await page(request, *more)

    monkeypatch.setattr(reading, "_indexes", indexes)
    monkeypatch.setattr(reading, "_page", asked)
    where = parse_filter({"must": [{"key": "n", "range": {"gte": 20}}]})
    assert await shown(store, name, where) >= set(range(20, 40))
    filtered = [offset for with_filter, offset in requests if with_filter]
    plain = [offset for with_filter, offset in requests if not with_filter]
    assert len(filtered) == 2
    assert plain[0] == filtered[1]  # the page that could not be trusted is asked for again


async def test_a_careful_reading_asks_a_quorum_of_the_replicas(
    store: QdrantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await some_points(store)
    asked: dict[str, set[int]] = {}
    call = store._channel.call

    async def noting(service: str, method: str, request: Any) -> Any:
        if method in ("Scroll", "Get") and service == "Points":
            asked.setdefault(method, set()).add(request.read_consistency.type)
        return await call(service, method, request)

    monkeypatch.setattr(store._channel, "call", noting)
    quorum = wire().enum("ReadConsistencyType")["Quorum"]
    for reading, level in ((store.consistent(), quorum), (store, 0)):
        asked.clear()
        await shown(reading, name, ODD)
        await reading.fetch(name, [1])
        assert asked == {"Scroll": {level}, "Get": {level}}
