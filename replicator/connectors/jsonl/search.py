"""
Nearest points by looking at every one: exact, and as slow as the file is long. It serves to
compare a copy's search results with its store's, not to answer an application.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from replicator.errors import Refused
from replicator.model.point import Point, PointId, SparseVector, Vector
from replicator.model.schema import Distance
from replicator.model.search import Hit, Query

_BLOCK_POINTS = 1024
"""Points compared at once. At 1536 dimensions a block has 6 MB; larger ones gain nothing."""

Floats = npt.NDArray[np.floating[Any]]


def nearest(points: Iterable[Point], query: Query, distance: Distance) -> list[Hit]:
    """
    The best first. Scores are similarities under cosine and dot (and for sparse vectors, which
    know only dot), distances under the others. Raises Refused ("unsupported") for a filter and
    for multi-vectors.
    """
    if query.filter is not None:
        raise Refused("unsupported", "a JSONL file is searched without a filter")
    closest = isinstance(query.vector, bytes) and distance in (
        Distance.EUCLID,
        Distance.MANHATTAN,
    )
    best: list[tuple[float, PointId]] = []
    for ids, scores in _scored(points, query, distance):
        best += zip((float(score) for score in scores), ids, strict=True)
        best.sort(key=lambda hit: hit[0], reverse=not closest)
        del best[query.limit :]
    return [Hit(point_id, score) for score, point_id in best]


def _scored(
    points: Iterable[Point], query: Query, distance: Distance
) -> Iterator[tuple[list[PointId], Iterable[float]]]:
    wanted = query.vector
    if isinstance(wanted, SparseVector):
        weights = _weights(wanted)
        for point in points:
            vector = point.vectors.get(query.using)
            if isinstance(vector, SparseVector):
                yield [point.id], [_sparse_dot(weights, vector)]
        return
    if not isinstance(wanted, bytes):
        raise Refused("unsupported", "a JSONL file is not searched by multi-vectors")
    target = np.frombuffer(wanted, dtype="<f4")
    rows = (
        (point.id, vector)
        for point in points
        if _comparable(vector := point.vectors.get(query.using), len(wanted))
    )
    while block := list(islice(rows, _BLOCK_POINTS)):
        data: Any = b"".join(vector for _, vector in block)  # type: ignore[misc]
        matrix = np.frombuffer(data, dtype="<f4").reshape(len(block), len(target))
        yield [point_id for point_id, _ in block], _scores(matrix, target, distance)


def _comparable(vector: Vector | None, size: int) -> bool:
    return isinstance(vector, bytes) and len(vector) == size


def _scores(matrix: Floats, target: Floats, distance: Distance) -> Floats:
    match distance:
        case Distance.DOT:
            return np.asarray(matrix @ target)
        case Distance.COSINE:
            lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(target)
            # A vector of length zero is like nothing, itself included.
            return np.asarray(matrix @ target / np.where(lengths > 0, lengths, np.inf))
        case Distance.EUCLID:
            return np.asarray(np.linalg.norm(matrix - target, axis=1))
        case Distance.MANHATTAN:
            return np.asarray(np.abs(matrix - target).sum(axis=1))


def _weights(vector: SparseVector) -> dict[int, float]:
    indices = np.frombuffer(vector.indices, dtype="<u4").tolist()
    return dict(zip(indices, np.frombuffer(vector.values, dtype="<f4").tolist(), strict=True))


def _sparse_dot(weights: dict[int, float], vector: SparseVector) -> float:
    return sum(weights.get(index, 0.0) * value for index, value in _weights(vector).items())
