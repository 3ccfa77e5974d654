"""Queries: how near records are to a vector, by the index's metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from replicator.testing.pinecone.records import Record, Sparse

Score = Callable[[Record], float | None]


def best(
    records: Iterable[Record], score: Score, top_k: int, *, ascending: bool
) -> list[tuple[float, Record]]:
    """The `top_k` nearest, best first; of equal ones the lower id, so that it is the same each
    time. A record without a score is not found.
    """
    found = [(each, record) for record in records if (each := score(record)) is not None]
    sign = 1.0 if ascending else -1.0
    return sorted(found, key=lambda pair: (sign * pair[0], pair[1].id))[:top_k]


def dense_score(metric: str, query: list[float]) -> Score:
    """`euclidean` is the square of the distance, and less is better; else more is."""
    if metric == "euclidean":
        return lambda record: (
            sum((a - b) ** 2 for a, b in zip(query, record.values, strict=True))
            if record.values
            else None
        )
    if metric == "cosine":
        length = math.hypot(*query)
        return lambda record: (
            _dot(query, record.values) / (length * math.hypot(*record.values))
            if record.values and length
            else None
        )
    return lambda record: _dot(query, record.values) if record.values else None


def sparse_score(query: Sparse) -> Score:
    """The dot product, of records that share an index with the query."""
    wanted = dict(zip(query.indices, query.values, strict=True))

    def score(record: Record) -> float | None:
        if record.sparse is None:
            return None
        held = _shared(wanted, record.sparse)
        return sum(held) if held else None

    return score


def added(dense: Score, sparse: Score) -> Score:
    """A hybrid query: the sum, by dot product alone."""
    return lambda record: (
        None if (of_dense := dense(record)) is None else of_dense + (sparse(record) or 0.0)
    )


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _shared(wanted: Mapping[int, float], held: Sparse) -> list[float]:
    pairs = zip(held.indices, held.values, strict=True)
    return [wanted[index] * value for index, value in pairs if index in wanted]
