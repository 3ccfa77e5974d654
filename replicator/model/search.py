"""Searches and their results, for comparing the quality of two stores."""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.model.point import PointId, Vector


class Query(msgspec.Struct, frozen=True):
    """The `limit` nearest to `vector` under the named vector, with an optional filter (Qdrant's
    form).
    """

    vector: Vector
    using: str = ""
    limit: int = 10
    filter: dict[str, Any] | None = None


class Hit(msgspec.Struct, frozen=True):
    """One result. Scores are the store's own and are not compared across stores."""

    id: PointId
    score: float
