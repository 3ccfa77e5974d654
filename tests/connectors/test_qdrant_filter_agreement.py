"""
The same filters here and at the server, asked as the connector asks: one answer. On a real
server when QDRANT_URL is set, which also knows booleans and whole floats.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from replicator.connectors.qdrant.filters import write_filter
from replicator.connectors.qdrant.points import read_id
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.wire import wire
from replicator.model.filter import parse_filter
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.write import Upsert, WriteBatch
from replicator.stream.filter import Filter
from replicator.stream.filter_limits import differences
from replicator.testing.store_conformance import PLAIN, floats, fresh_name
from tests.connectors.conftest import QDRANT_URL
from tests.stream.test_filter_engine import POINTS, random_filter, random_value

FILTERS = 150
WHOLE = {"key": "w", "match": {"value": 1}}
NOT_ASKED = ("substring", "prefix")


async def test_a_filter_matches_what_the_server_matches(store: QdrantStore) -> None:
    random = Random(7)
    name = fresh_name()
    payloads = {
        number: {key: random_value(random) for key in "ab" if random.random() < 0.8}
        for number in range(1, POINTS + 1)
    }
    await store.ensure(CollectionSchema(name=name, vectors=PLAIN, ids=IdKinds.UINT64))
    points = [Point(n, {"": floats(1, 2)}, payload) for n, payload in payloads.items()]
    await store.apply(WriteBatch(name, tuple(map(Upsert, points))))
    telling = asked = 0
    while asked < FILTERS:
        spec = random_filter(random)
        # Of a server of any version what `check` tells is not asked, such as texts without an
        # index, which it compares letter by letter before 1.19.
        if differences(spec) if QDRANT_URL else any(kind in str(spec) for kind in NOT_ASKED):
            continue
        asked += 1
        theirs = await matching(store, name, spec)
        ours = {n for n, payload in payloads.items() if Filter(spec).matches(n, payload)}
        assert ours == theirs, (spec, {n: payloads[n] for n in sorted(ours ^ theirs)[:3]})
        telling += 0 < len(ours) < POINTS
    assert telling > FILTERS // 5


@pytest.mark.skipif(not QDRANT_URL, reason="the engine's binding knows no booleans")
async def test_booleans_are_matched_as_the_server_matches_them(store: QdrantStore) -> None:
    name = fresh_name()
    await store.ensure(CollectionSchema(name=name, vectors=PLAIN, ids=IdKinds.UINT64))
    payloads: dict[int, dict[str, Any]] = {
        n: {"a": value}
        for n, value in enumerate([True, False, 1, 0, "true", [True], [False, 1], None])
    }
    points = [Point(n, {"": floats(1, 2)}, payload) for n, payload in payloads.items()]
    await store.apply(WriteBatch(name, tuple(map(Upsert, points))))
    for wanted in (True, False):
        spec = {"must": [{"key": "a", "match": {"value": wanted}}]}
        ours = {n for n, payload in payloads.items() if Filter(spec).matches(n, payload)}
        assert ours == await matching(store, name, spec)


async def matching(store: QdrantStore, name: str, spec: dict[str, Any]) -> set[Any]:
    request = wire().ScrollPoints(collection_name=name, limit=POINTS)
    request.with_payload.enable = False
    write_filter(request.filter, parse_filter(spec))
    reply = await store._channel.read("Points", "Scroll", request)
    return {read_id(point.id) for point in reply.result}


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"key": "a", "match": {"value": 5}}, "5 and 5.0"),
        ({"key": "a", "match": {"any": ["x", 5.0]}}, "5 and 5.0"),
        ({"key": "a", "match": {"text": "sky"}}, "text index"),
        ({"key": "a", "match": {"prefix": "s"}}, "cannot be asked"),
        ({"key": "a", "values_count": {"lt": 1}}, "without 'a'"),
        ({"key": "a", "range": {"gt": 2**53 + 1}}, "float64"),
        (
            {"nested": {"key": "a", "filter": {"must": [{"key": "b", "match": {"value": 1}}]}}},
            "'b'",
        ),
        (
            {
                "min_should": {
                    "conditions": [{"key": "c", "match": {"value": 1}}],
                    "min_count": 1,
                }
            },
            "'c'",
        ),
        ({"should": []}, "without conditions"),
    ],
)
def test_where_the_store_may_decide_otherwise_is_told(
    condition: dict[str, Any], words: str
) -> None:
    [sentence] = differences({"must": [condition, condition]})
    assert words in sentence


def test_where_both_agree_there_is_nothing_to_tell() -> None:
    agreed = [
        {"key": "a", "match": {"value": "x"}},
        {"key": "a", "match": {"any": ["x", True, 0.5]}},
        {"key": "a", "range": {"gt": 5}},
        {"is_empty": {"key": "a"}},
        {"has_id": [5]},
    ]
    assert differences({"must": agreed, "must_not": agreed[0]}) == []
