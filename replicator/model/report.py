"""What a verification found."""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.model.finding import Finding, SettingDifference


class Report(msgspec.Struct, kw_only=True):
    """The result of a verification, kept as the document `report`."""

    level: str
    generation: int
    started_at: float
    finished_at: float
    compared: int
    missing: int
    extra: int
    different: int
    uncarried: int = 0
    """Source rows that cannot be carried at all; they are in the dead letters, not compared."""
    hot: int = 0
    """Keys that changed at every look: no findings, and not proven equal either."""
    counts: dict[str, list[int | None]] = {}
    """Source collection → points at the source, points at the target; None of a target that
    others share, which counts all points, whosever they are."""
    together: dict[str, list[int | None]] = {}
    """Target collection that several share → points of all its sources, points there."""
    configuration: dict[str, list[SettingDifference]] = {}
    """Source collection, of several with one target the first → settings of its target that
    are not as planned."""
    findings: list[Finding] = []
    """The first of them; the state holds all."""
    search: dict[str, dict[str, Any]] = {}
    """Source collection → queries, k, method (`exact`: both stores looked at every point;
    `index`), recall with its 95% interval recall_low and recall_high, overlap, rank_agreement,
    latency_ms of both stores; classes: recall by the queries' class; not_compared: vector →
    why."""
    below: list[str] = []
    """Of which collections the recall certainly lies below `verify.recall_min`."""
    warnings: list[str] = []
    """What is worth a look and is no finding, such as the stores' own counts."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.extra or self.different or self.misconfigured)

    @property
    def misconfigured(self) -> int:
        """How many settings of target collections are not as planned, nor accepted."""
        return sum(
            difference.blocks for each in self.configuration.values() for difference in each
        )
