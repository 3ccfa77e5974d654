"""
The proof that both stores hold what they must: the operation log is replayed into a plain
dictionary, and each store is read back through plain qdrant-client and compared with it, point
by point. Nothing of the replicator takes part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from qdrant_client import AsyncQdrantClient, models

from replicator.demo.oplog import Image
from replicator.demo.schema import (
    SOURCE,
    SOURCE_VECTOR,
    TARGET,
    TARGET_VECTOR,
    Vector,
    belongs_at_target,
    target_payload,
)

_PAGE_ROWS = 500
_COMPONENT_TOLERANCE = 1e-5
"""Stores with cosine distance normalise what was normalised; float32 has 7 digits."""
_FLOAT_TOLERANCE = 1e-9
_SCORE_TOLERANCE = 1e-5
_EXAMPLES_MAX = 5


class Comparison(msgspec.Struct, kw_only=True):
    """One store against the operation log."""

    points: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    examples: list[str] = []

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.extra or self.different)


def expected_at_source(images: Mapping[int, Image]) -> dict[int, Image]:
    """What the source must hold: everything."""
    return dict(images)


def expected_at_target(images: Mapping[int, Image]) -> dict[int, Image]:
    """What the target must hold: the public documents, in its own terms."""
    return {
        key: Image(image.vector, target_payload(image.payload))
        for key, image in images.items()
        if belongs_at_target(image.payload)
    }


async def read_source(client: AsyncQdrantClient) -> dict[int, Image]:
    """Every point of the source."""
    return await _read(client, SOURCE, SOURCE_VECTOR)


async def read_target(client: AsyncQdrantClient) -> dict[int, Image]:
    """Every point of the target."""
    return await _read(client, TARGET, TARGET_VECTOR)


def compare(expected: Mapping[int, Image], found: Mapping[int, Image]) -> Comparison:
    """Both ways, every point."""
    outcome = Comparison(points=len(found))
    for key, image in expected.items():
        other = found.get(key)
        if other is None:
            outcome.missing += 1
            _example(outcome, f"{key} is missing")
        elif reason := _difference(image, other):
            outcome.different += 1
            _example(outcome, f"{key} differs in {reason}")
    for key in found.keys() - expected.keys():
        outcome.extra += 1
        _example(outcome, f"{key} should not be there")
    return outcome


async def recall(
    source: AsyncQdrantClient, target: AsyncQdrantClient, vectors: Iterable[Vector], limit: int
) -> float:
    """
    recall@limit of the target against the source, for public documents. A hit counts when it is
    as near as the source's last one: documents with one text tie, and either may come.
    """
    public = models.Filter(
        must=[
            models.FieldCondition(key="visibility", match=models.MatchValue(value="public")),
        ]
    )
    hits = wanted = 0
    for vector in vectors:
        query = vector.tolist()
        best = (
            await source.query_points(SOURCE, query, limit=limit, query_filter=public)
        ).points
        seen = (
            await target.query_points(TARGET, query, using=TARGET_VECTOR, limit=limit)
        ).points
        if not best:
            continue
        wanted += len(best)
        hits += sum(point.score >= best[-1].score - _SCORE_TOLERANCE for point in seen)
    return hits / wanted if wanted else math.nan


async def _read(client: AsyncQdrantClient, collection: str, name: str) -> dict[int, Image]:
    images: dict[int, Image] = {}
    offset: Any = None
    while True:
        records, offset = await client.scroll(
            collection, limit=_PAGE_ROWS, offset=offset, with_payload=True, with_vectors=True
        )
        for record in records:
            vector: Any = record.vector
            dense = vector.get(name) if isinstance(vector, dict) else vector
            images[int(record.id)] = Image(
                np.asarray(dense, dtype="<f4").tobytes(), record.payload or {}
            )
        if offset is None:
            return images


def _difference(one: Image, other: Image) -> str:
    first, second = np.frombuffer(one.vector, "<f4"), np.frombuffer(other.vector, "<f4")
    if first.shape != second.shape:
        return f"the vector's dimension ({first.size}, {second.size})"
    if not np.allclose(first, second, rtol=0, atol=_COMPONENT_TOLERANCE):
        return "the vector"
    for name in one.payload.keys() | other.payload.keys():
        if name not in one.payload or name not in other.payload:
            return f"the presence of `{name}`"
        if not _same(one.payload[name], other.payload[name]):
            return f"`{name}` ({one.payload[name]!r}, {other.payload[name]!r})"
    return ""


def _same(one: Any, other: Any) -> bool:
    """Equal in type too: 5, 5.0 and True are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=_FLOAT_TOLERANCE)
    return bool(one == other)


def _example(outcome: Comparison, text: str) -> None:
    if len(outcome.examples) < _EXAMPLES_MAX:
        outcome.examples.append(text)
