"""
Search quality: how alike the answers of two stores to one query are.

Scores are not compared, as each store has its own. All three measures lie between 0.0, for
answers without a common point, and 1.0, for equal answers, two empty ones among them.
"""

from __future__ import annotations

from collections.abc import Sequence

from replicator.model.point import PointId

_PERSISTENCE = 0.9
"""Of rank agreement: the weight of a depth is 0.9 of that before it, so the first ten ranks
carry two thirds of what an endless list would weigh. Nearer to 1, the top counts no more than
the tail; nearer to 0, little but the first hit counts."""


def recall(expected: Sequence[PointId], actual: Sequence[PointId], k: int) -> float:
    """
    recall@k: the share of the first k expected points that are among the first k actual ones.
    1.0 when nothing was expected, as then nothing was missed.
    """
    wanted = set(expected[:k])
    return len(wanted.intersection(actual[:k])) / len(wanted) if wanted else 1.0


def overlap(first: Sequence[PointId], second: Sequence[PointId]) -> float:
    """Points in both answers over points in either (Jaccard). Symmetric."""
    either = set(first).union(second)
    return len(set(first).intersection(second)) / len(either) if either else 1.0


def rank_agreement(first: Sequence[PointId], second: Sequence[PointId]) -> float:
    """
    Rank-biased overlap down to the longer answer's depth (Webber, Moffat and Zobel 2010).

    At each depth d, the share of points that the first d of both have in common, averaged with
    weights 0.9 ** (d - 1) that sum to one: two swapped points at the top cost more than at the
    end. Of answers of unequal length the shorter counts as empty below its end. Symmetric.
    """
    seen_first: set[PointId] = set()
    seen_second: set[PointId] = set()
    agreed = weights = 0.0
    for depth in range(max(len(first), len(second))):
        seen_first.update(first[depth : depth + 1])
        seen_second.update(second[depth : depth + 1])
        weight = _PERSISTENCE**depth
        agreed += weight * len(seen_first & seen_second) / (depth + 1)
        weights += weight
    return agreed / weights if weights else 1.0
