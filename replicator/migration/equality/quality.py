"""
Search quality: how alike the answers of two stores to one query are.

Scores are not compared, as each store has its own. All three measures lie between 0.0, for
answers without a common point, and 1.0, for equal answers, two empty ones among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from replicator.model.point import PointId
from replicator.model.search import Hit

_PERSISTENCE = 0.9
"""Of rank agreement: the weight of a depth is 0.9 of that before it, so the first ten ranks
carry two thirds of what an endless list would weigh. Nearer to 1, the top counts no more than
the tail; nearer to 0, little but the first hit counts."""


_TIE = 1e-6
"""Scores that differ by less are equal: float32 sums of the same numbers in another order."""


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


def expected(wanted: Sequence[Hit], actual: Sequence[Hit], k: int) -> int:
    """
    How many of the first k wanted hits the first k actual ones stand for, ties counting as
    hits: `wanted` may be longer than k, and what is as near there as the k-th is as good.

    Where even the end of `wanted` is as near as the k-th, there may be any number of such
    points. Then an actual hit also counts if its own store finds it as near as one of them.
    """
    first = {hit.id for hit in wanted[:k]}
    if len(wanted) <= k:
        return len(first.intersection(hit.id for hit in actual[:k]))
    edge = wanted[k - 1].score
    as_good = first | {hit.id for hit in wanted[k:] if _ties(hit.score, edge)}
    on_edge = {hit.id for hit in wanted if _ties(hit.score, edge)}
    endless = _ties(wanted[-1].score, edge)
    scores = [hit.score for hit in actual if endless and hit.id in on_edge]
    found = sum(
        hit.id in as_good or any(_ties(hit.score, score) for score in scores)
        for hit in actual[:k]
    )
    return min(found, len(first))


def _ties(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_TIE, abs_tol=_TIE)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927); all there is when nothing was tried."""
    if not trials:
        return 0.0, 1.0
    z, share = 1.959964, hits / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
