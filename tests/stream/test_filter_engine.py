"""The same filters on the same points, here and in Qdrant's engine: one answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import qdrant_edge as edge

from replicator.stream.filter import Filter

POINTS = 250
FILTERS = 200

# Left out: integral floats, where the rule here is wider on purpose; booleans as wanted values,
# which the engine's Python binding reads as integers; and an empty `should`, which the engine
# takes for true at the top and for false in a nested filter.
SCALARS: list[Any] = [
    None,
    True,
    1,
    2,
    3,
    0.5,
    2.5,
    "x",
    "2",
    "Sky blue",
    "2024-05-01",
    "skyline",
]
KEYS = ["a", "b", "a.b", "a[]", "a[].b", "b[0]", "a.b[].a", "b[].a[]"]


def random_value(random: Random, depth: int = 2) -> Any:
    kind = random.random()
    if depth and kind < 0.25:
        return [random_value(random, depth - 1) for _ in range(random.randrange(4))]
    if depth and kind < 0.5:
        return {key: random_value(random, depth - 1) for key in "ab" if random.random() < 0.6}
    return random.choice(SCALARS)


def random_condition(random: Random, depth: int = 2) -> dict[str, Any]:
    key = random.choice(KEYS)
    bounds = {
        n: random.choice([0, 1, 2, 2.5]) for n in random.sample(["gt", "gte", "lt", "lte"], 2)
    }
    some = random.choice([["x", "2"], ["Sky blue"], [1, 2], [3]])
    kinds: list[dict[str, Any]] = [
        {"key": key, "match": {"value": random.choice([1, 2, 3, "x", "2"])}},
        {"key": key, "match": {"any": some}},
        {"key": key, "match": {"except": some}},
        {"key": key, "match": {"text": random.choice(["sky", "blue SKY", "x"])}},
        {"key": key, "match": {"text_any": "blue x"}},
        {"key": key, "match": {"substring": random.choice(["sky", "y b"])}},
        {"key": key, "match": {"prefix": "Sk"}},
        {"key": key, "range": bounds},
        {
            "key": key,
            "range": {"gte": random.choice(["2024-01-01T00:00:00Z", "2024-06-01T00:00:00Z"])},
        },
        {"key": key, "values_count": {name: int(bound) for name, bound in bounds.items()}},
        {"is_empty": {"key": key}},
        {"is_null": {"key": key}},
        {"has_id": random.sample(range(1, POINTS + 1), 20)},
    ]
    if depth:
        inner = random_filter(random, depth - 1, nested=True)
        kinds += [{"nested": {"key": random.choice(["a", "b[]", "a.b"]), "filter": inner}}] * 2
        kinds += [random_filter(random, depth - 1)] * 2
    return random.choice(kinds)


def random_filter(random: Random, depth: int = 2, *, nested: bool = False) -> dict[str, Any]:
    def conditions() -> list[dict[str, Any]]:
        drawn = [random_condition(random, depth) for _ in range(random.randrange(1, 3))]
        plain = {"is_empty": {"key": "a"}}  # nested filters know no ids
        return [plain if nested and "has_id" in str(one) else one for one in drawn]

    clauses = random.sample(
        ["must", "should", "must_not", "min_should"], random.randrange(1, 3)
    )
    return {
        name: {"conditions": conditions(), "min_count": random.randrange(3)}
        if name == "min_should"
        else conditions()
        for name in clauses
    }


def to_edge(spec: dict[str, Any]) -> edge.Filter:
    parts: dict[str, Any] = {
        name: [to_edge_condition(one) for one in body]
        for name, body in spec.items()
        if name != "min_should"
    }
    if some := spec.get("min_should"):
        conditions = [to_edge_condition(one) for one in some["conditions"]]
        parts["min_should"] = edge.MinShould(conditions, some["min_count"])
    return edge.Filter(**parts)


def to_edge_condition(spec: dict[str, Any]) -> Any:
    match spec:
        case {"key": key, "match": matched}:
            [(kind, body)] = matched.items()
            name = "".join(part.capitalize() for part in kind.split("_"))
            return edge.FieldCondition(key, match=getattr(edge, f"Match{name}")(body))
        case {"key": key, "range": bounds}:
            of_dates = isinstance(next(iter(bounds.values())), str)
            kind = edge.RangeDateTime if of_dates else edge.RangeFloat
            return edge.FieldCondition(key, range=kind(**bounds))
        case {"key": key, "values_count": bounds}:
            return edge.FieldCondition(key, values_count=edge.ValuesCount(**bounds))
        case {"is_empty": {"key": key}}:
            return edge.IsEmptyCondition(key)
        case {"is_null": {"key": key}}:
            return edge.IsNullCondition(key)
        case {"has_id": ids}:
            return edge.HasIdCondition(set(ids))
        case {"nested": {"key": key, "filter": inner}}:
            return edge.NestedCondition(key, to_edge(inner))
        case _:
            return to_edge(spec)


@pytest.fixture(scope="module")
def payloads() -> dict[int, dict[str, Any]]:
    random = Random(20240501)
    return {
        number: {key: random_value(random) for key in "ab" if random.random() < 0.8}
        for number in range(1, POINTS + 1)
    }


@pytest.fixture(scope="module")
def shard(
    payloads: dict[int, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[edge.EdgeShard]:
    path: Path = tmp_path_factory.mktemp("shard")
    vectors = edge.EdgeVectorParams(size=1, distance=edge.Distance.Dot)
    shard = edge.EdgeShard.create(str(path), edge.EdgeConfig(vectors=vectors))
    points = [edge.Point(number, [1.0], payload) for number, payload in payloads.items()]
    shard.update(edge.UpdateOperation.upsert_points(points))
    yield shard
    shard.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_filter_matches_what_the_engine_matches(
    seed: int, shard: edge.EdgeShard, payloads: dict[int, dict[str, Any]]
) -> None:
    random = Random(seed)
    telling = 0
    for _ in range(FILTERS // 4):
        spec = random_filter(random)
        request = edge.ScrollRequest(limit=POINTS, filter=to_edge(spec), with_payload=False)
        theirs: set[Any] = {point.id for point in shard.scroll(request)[0]}
        ours = {n for n, payload in payloads.items() if Filter(spec).matches(n, payload)}
        assert ours == theirs, (spec, {n: payloads[n] for n in sorted(ours ^ theirs)[:3]})
        telling += 0 < len(ours) < POINTS
    assert telling > FILTERS // 4 // 5, "most filters matched all or nothing: they prove little"
