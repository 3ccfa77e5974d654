"""
What a kind of store is, as one value that is known before any connection.

Each fact about a store that others rely on stands here once: connectors describe their
collections by it, and the engine, `replicator stores`, the page of connectors and the
conformance suite read it. What a collection says of itself may be less, never more.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from replicator.model.schema import IdKinds, IdLimits, Precision, VectorKind


class IdRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which point ids the store takes as they are."""

    kinds: IdKinds
    limits: IdLimits = IdLimits()
    mixed: bool = True
    """One collection holds ids of all these kinds, and not of one of them only."""

    def of_collection(self, wanted: IdKinds) -> IdKinds:
        """
        The kinds that a collection holds which is made for these. Where kinds do not mix: the
        one that is wanted, or else the one that takes the most.
        """
        if self.mixed:
            return self.kinds
        if wanted & IdKinds.UUID and not self.kinds & IdKinds.UUID:
            wanted |= IdKinds.STRING  # what a UUID is where there are none
        if len(wanted & self.kinds) == 1:
            return wanted & self.kinds
        widest = (IdKinds.STRING, IdKinds.UUID, IdKinds.UINT64)
        return next(kind for kind in widest if kind & self.kinds)


class VectorRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which vectors a point can have, and how they come back."""

    kinds: frozenset[VectorKind] = frozenset({VectorKind.DENSE})
    unnamed: bool = True
    """One without a name."""
    several: bool = False
    """More than one, each under its name."""
    partial: bool = True
    """Of several, a point may have some."""
    hybrid: bool = False
    """Beside the dense vector without a name a point may have a sparse one, under the name that
    the collection's options give it."""
    none: bool = False
    """A point may have no vector at all."""
    zero: bool = True
    """A dense vector may be of zeros alone."""
    negative: bool = True
    """A sparse vector may have components below zero."""
    schema: bool = True
    """A collection says which vectors it has; files do not."""
    precisions: frozenset[Precision] = frozenset({Precision.FLOAT32})
    """What a collection may keep of a component."""
    dimensions_max: int | None = None
    """Of a dense vector, and of each row of a multi-vector. None: no known limit."""
    sparse_dimensions_max: int = 1 << 32
    """Of a sparse vector: its indices are below."""
    normalises: bool = False
    """Dense vectors under cosine come back with length one."""
    rounds: bool = False
    """Dense vectors under cosine come back with their length, but rounded: what is lost of a
    component is far less than `verify.float_tolerance` is by default."""
    checks_dimensions: bool = True
    """A vector of another dimension than the collection's is rejected, and not kept."""

    def kept(self, wanted: Precision) -> Precision:
        """The precision of a collection that is made for this one: the same, or else the next
        that loses nothing, or else the finest.
        """
        held = [each for each in Precision if each in self.precisions and each.holds(wanted)]
        finest = next(each for each in Precision if each in self.precisions)
        return wanted if wanted in held else held[-1] if held else finest

    def demanded(self, vectors: int) -> bool:
        """Whether a point must have each of the vectors of a collection that has so many."""
        return not self.none if vectors == 1 else not self.partial


class Lists(Enum):
    """What a list within a payload may hold."""

    NONE = "none"
    """There are no lists."""
    TEXTS = "texts"
    """Texts."""
    ALIKE = "alike"
    """Texts, numbers or truth values, all of one type, and one at least."""
    ANY = "any"
    """Whatever a field may hold."""


class PayloadRules(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the payload of a point can hold. A store rejects what it cannot: a value that became
    another one, or went, would be a loss that nobody sees (`codecs.payload.check_rules`).
    """

    nested: bool = True
    """Maps within the payload."""
    lists: Lists = Lists.ANY
    null_is_absence: bool = False
    """A field that is null cannot be told from one that is not there."""
    integer_max: int | None = (1 << 63) - 1
    """The largest integer; the smallest is one below its negative. None: any."""
    integers_apart: bool = True
    """An integer is told from the float of its value."""
    nul: bool = True
    """A text may hold U+0000."""
    keys: str | None = None
    """The regular expression that every key matches as a whole. None: any text is a key."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one request that writes may carry; None where nothing is known but the store's own
    answer.
    """

    records_max: int | None = None
    bytes_max: int | None = None
    """Of vectors and payloads, as they travel, about."""


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of store."""

    ids: IdRules
    vectors: VectorRules
    payload: PayloadRules = PayloadRules()
    limits: Limits = Limits()
    marks: bool
    """It keeps a mark of ours beside a collection."""
    patches: bool = True
    """It changes parts of a point by itself. Elsewhere it is never given a Patch: the point is
    read, changed and written whole, by the core (`stream.bases`)."""
    counts: bool = True
    """It counts a collection exactly. Elsewhere there is no count."""
    creates_on_write: bool = False
    """A write to a collection that is not there creates it."""
    live: bool = True
    """Others may write it while it is copied, so that a feed makes sense."""
    follows: bool = True
    """It is written change by change, as a feed brings them. Elsewhere it is the target of
    plain copies alone."""
    aliases: bool = False
    """A name can lead to a collection, and be moved to another at once."""
    scopes: bool = False
    """A collection can have tenants, partitions or shard keys, within which ids are unique."""
    indexes: bool = False
    """Fields of the payload can have an index."""
    filters: bool = True
    """A search takes a filter. Elsewhere one is refused."""
    exact_search: bool = False
    """It answers a search from every point, not from an index alone, when it is asked to."""

    def facts(self) -> dict[str, Any]:
        """What each of its collections says of itself, as fields of a CollectionSchema."""
        return {
            "ids": self.ids.kinds,
            "id_limits": self.ids.limits,
            "normalises": self.vectors.normalises,
            "null_is_absence": self.payload.null_is_absence,
        }
