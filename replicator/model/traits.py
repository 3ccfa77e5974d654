"""
What a kind of store is, as one value that is known before any connection.

Each fact about a store that others rely on stands here once: the engine, the preflight, the
generated page of connectors and the conformance suite read it from the traits.
"""

from __future__ import annotations

import msgspec

from replicator.model.limits import Limits
from replicator.model.schema import IdKinds, VectorKind


class IdRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which point ids the store takes as they are."""

    kinds: IdKinds
    text_bytes_max: int | None = None
    """Of an id that is a text; None where texts are not taken."""


class VectorRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which vectors a point can have."""

    kinds: frozenset[VectorKind] = frozenset({VectorKind.DENSE})
    several: bool = False
    """More than one, each under its name."""
    none: bool = False
    """A point may have no vector at all."""
    schema: bool = True
    """A collection says which vectors it has; files do not."""


class PayloadRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the payload of a point can hold."""

    nested: bool = True
    """Objects within objects."""
    null_is_absence: bool = False
    """A field that is null cannot be told from one that is not there."""


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of store."""

    ids: IdRules
    vectors: VectorRules
    payload: PayloadRules = PayloadRules()
    marks: bool
    """It keeps a mark of ours beside a collection."""
    creates_on_write: bool = False
    """A write to a collection that is not there creates it."""
    live: bool = True
    """Others may write it while it is copied, so that a feed makes sense."""
    aliases: bool = False
    """A name can lead to a collection, and be moved to another at once."""
    indexes: bool = False
    """Fields of the payload can have an index."""
    limits: Limits = Limits()
    exact_search: bool = False
    """It answers a search from every point, not from an index alone, when it is asked to."""
