"""
Likeness: what counts as equal between the stores of one collection.

Everything that asks "are they equal?" asks here: verification, a repair's re-read, and the last
comparison of a cutover. They read what is expected from different places, the source or the
log, but may not differ in what they call a difference: what one repairs, another would find.
"""

from __future__ import annotations

import msgspec

from replicator.migration.equality.compare import (
    compare,
    compare_partial,
    precisions,
    scale_free,
)
from replicator.migration.preflight.routes import Atlas
from replicator.model.finding import Difference
from replicator.model.phase import Direction
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, Precision
from replicator.model.write import Delete, Patch, Upsert, Write
from replicator.settings.settings import VerifySettings


class Unlike(msgspec.Struct, frozen=True):
    """How a store differs from what it ought to hold."""

    kind: Difference
    detail: str = ""

    @property
    def sentence(self) -> str:
        """For people."""
        match self.kind:
            case Difference.MISSING:
                return "it is missing"
            case Difference.EXTRA:
                return "it should be gone"
            case _:
                return self.detail


class Likeness(msgspec.Struct, frozen=True, kw_only=True):
    """
    Of one collection. `directions`: vectors of which either store keeps only the direction.
    `null_is_absence`: one of them cannot tell a null field from an absent one.
    """

    schema: CollectionSchema
    """Of the store written."""
    directions: frozenset[str]
    kept: dict[str, Precision]
    """What the store that keeps less keeps of each vector."""
    null_is_absence: bool
    float_tolerance: float
    payload_tolerance: float

    def judge(self, wanted: Write, actual: Point | None) -> Unlike | None:
        """What is held, against the write that would make it right; None when it is."""
        match wanted:
            case Delete():
                return None if actual is None else Unlike(Difference.EXTRA)
            case Upsert(point):
                if actual is None:
                    return Unlike(Difference.MISSING)
                detail = compare(
                    point,
                    actual,
                    self.schema,
                    float_tolerance=self.float_tolerance,
                    payload_tolerance=self.payload_tolerance,
                    directions=self.directions,
                    kept=self.kept,
                    null_is_absence=self.null_is_absence,
                )
            case Patch():
                if actual is None:  # a patch of an absent key writes nothing
                    return None
                detail = compare_partial(
                    wanted,
                    actual,
                    self.schema,
                    float_tolerance=self.float_tolerance,
                    payload_tolerance=self.payload_tolerance,
                    directions=self.directions,
                    kept=self.kept,
                )
        return None if detail is None else Unlike(Difference.DIFFERENT, detail)


def likeness(
    atlas: Atlas, collection: str, direction: Direction, settings: VerifySettings
) -> Likeness:
    """
    Forward what is expected comes from the source, which may normalise or drop nulls itself, in
    target terms. In reverse it comes from the log alone, and only the old store's ways matter.
    """
    source, target = atlas.sources[collection], atlas.targets[collection]
    if direction is Direction.REVERSE:
        written, directions, nulls = source, scale_free(source), source.null_is_absence
        kept = precisions(source)
    else:
        transform = atlas.forward[collection].transform
        at_source = (transform.target_vector(name) for name in scale_free(source))
        written = target
        directions = scale_free(target).union(name for name in at_source if name is not None)
        nulls = source.null_is_absence or target.null_is_absence
        kept = precisions(target)
        for name, precision in precisions(source).items():
            if (there := transform.target_vector(name)) is not None:
                kept[there] = kept.get(there, Precision.FLOAT32).coarser(precision)
    return Likeness(
        schema=written,
        directions=directions,
        kept=kept,
        null_is_absence=nulls,
        float_tolerance=settings.float_tolerance,
        payload_tolerance=settings.payload_tolerance,
    )
