"""
Nearest points by looking at every one: exact, and as slow as there are many. Stores of files
search so, to compare a copy's search results with its store's, not to answer an application.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replicator.errors import Refused
from replicator.model.point import Point, PointId, SparseVector
from replicator.model.schema import Distance
from replicator.model.search import Hit, Query

_BLOCK_POINTS = 1024
"""Points compared at once. At 1536 dimensions a block has 6 MB; larger ones gain nothing."""

Floats = npt.NDArray[np.floating[Any]]


def nearest(
    points: Iterable[Point], queries: Sequence[Query], distances: Sequence[Distance]
) -> list[list[Hit]]:
    """
    The best of each query first, each by its distance, in one pass over the points. Scores are
    similarities under cosine and dot (and for sparse vectors, which know only dot), distances
    under the others. Raises Refused ("unsupported") for a filter and for multi-vectors.
    """
    searches = [
        _SparseSearch(query, query.vector)
        if isinstance(query.vector, SparseVector)
        else _DenseSearch(query, distance)
        for query, distance in zip(queries, distances, strict=True)
    ]
    for point in points:
        for search in searches:
            search.look(point)
    return [search.hits() for search in searches]


class _Search:
    """The best so far."""

    def __init__(self, query: Query, *, closest: bool) -> None:
        if query.filter is not None:
            raise Refused("unsupported", "files are searched without a filter")
        self._query = query
        self._closest = closest
        self._best: list[tuple[float, PointId]] = []

    def _take(self, ids: Iterable[PointId], scores: Iterable[float]) -> None:
        self._best += zip((float(score) for score in scores), ids, strict=True)
        self._best.sort(key=lambda hit: hit[0], reverse=not self._closest)
        del self._best[self._query.limit :]

    def hits(self) -> list[Hit]:
        return [Hit(point_id, score) for score, point_id in self._best]


class _SparseSearch(_Search):
    def __init__(self, query: Query, vector: SparseVector) -> None:
        super().__init__(query, closest=False)
        self._weights = _weights(vector)

    def look(self, point: Point) -> None:
        vector = point.vectors.get(self._query.using)
        if isinstance(vector, SparseVector):
            self._take([point.id], [_sparse_dot(self._weights, vector)])


class _DenseSearch(_Search):
    def __init__(self, query: Query, distance: Distance) -> None:
        super().__init__(query, closest=distance in (Distance.EUCLID, Distance.MANHATTAN))
        if not isinstance(query.vector, bytes):
            raise Refused("unsupported", "files are not searched by multi-vectors")
        self._distance = distance
        self._size = len(query.vector)
        self._target = np.frombuffer(query.vector, dtype="<f4")
        self._ids: list[PointId] = []
        self._block: list[bytes] = []

    def look(self, point: Point) -> None:
        vector = point.vectors.get(self._query.using)
        if isinstance(vector, bytes) and len(vector) == self._size:
            self._ids.append(point.id)
            self._block.append(vector)
            if len(self._ids) == _BLOCK_POINTS:
                self._compare()

    def hits(self) -> list[Hit]:
        if self._ids:
            self._compare()
        return super().hits()

    def _compare(self) -> None:
        data = np.frombuffer(b"".join(self._block), dtype="<f4")
        matrix = data.reshape(len(self._ids), len(self._target))
        self._take(self._ids, _scores(matrix, self._target, self._distance))
        self._ids, self._block = [], []


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
