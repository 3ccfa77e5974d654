"""The nearest points, by looking at every one."""

from __future__ import annotations

import math
from collections.abc import Iterable

from replicator.errors import Refused
from replicator.model.point import Point
from replicator.model.schema import Distance
from replicator.model.search import Hit, Query


def nearest(points: Iterable[Point], query: Query, distance: Distance) -> list[Hit]:
    """The best first; a larger score is nearer. Raises Refused for what a shelf cannot."""
    if query.filter is not None:
        raise Refused("unsupported", "a shelf is searched without a filter")
    if query.using or not isinstance(query.vector, bytes):
        raise Refused("unsupported", "a shelf is searched by its one dense vector")
    wanted = _floats(query.vector)
    hits = [Hit(p.id, _score(distance, wanted, _floats(p.vectors[""]))) for p in points]
    hits.sort(key=lambda hit: -hit.score)
    return hits[: query.limit]


def _floats(vector: object) -> list[float]:
    assert isinstance(vector, bytes)
    return list(map(float, memoryview(vector).cast("f")))


def _score(distance: Distance, one: list[float], other: list[float]) -> float:
    match distance:
        case Distance.EUCLID:
            return -math.dist(one, other)
        case Distance.MANHATTAN:
            return -sum(abs(a - b) for a, b in zip(one, other, strict=True))
        case Distance.DOT | Distance.COSINE:
            dot = sum(a * b for a, b in zip(one, other, strict=True))
            lengths = math.hypot(*one) * math.hypot(*other)
            return dot if distance is Distance.DOT else dot / lengths if lengths else 0.0
