"""
A scan that is narrowed at the store leaves out nothing that matches here, whatever indexes the
fields have. Payloads hold what the agreement of both languages leaves out: whole floats, truth
values, and numbers at the edge of float64.
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
KINDS = ["keyword", "integer", "float", "bool", "text", "uuid", "datetime"]


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


@pytest.mark.parametrize("kind", [None, *KINDS])
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
