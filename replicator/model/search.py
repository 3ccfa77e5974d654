"""Searches and their results, for comparing the quality of two stores."""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.model.point import PointId, Vector


class Query(msgspec.Struct, frozen=True):
    """
    The `limit` nearest to `vector` under the named vector, with an optional filter (Qdrant's
    form). `exact` asks a store to look at every point instead of its index.

    A query that a person gives may name the source `collection` that it is for (None: every one
    that can answer it), stand for a stored point's own vector (`id`, and no vector), and be of
    a `group`, by which the report counts it. One that says what must be found (`expect`, ids of
    the source) is golden: it is asked of the target alone, and may be a `text`.
    """

    vector: Vector = b""
    using: str = ""
    limit: int = 10
    filter: dict[str, Any] | None = None
    exact: bool = False
    collection: str | None = None
    id: PointId | None = None
    group: str = ""
    expect: tuple[PointId, ...] = ()
    text: str = ""


class Hit(msgspec.Struct, frozen=True):
    """One result. Scores are the store's own and are not compared across stores."""

    id: PointId
    score: float
