"""What a collection looks like: vectors, ids, indexes; and which ids a store can hold."""

from __future__ import annotations

import re
from enum import Enum, Flag, auto
from functools import cache
from typing import Any

import msgspec

from replicator.model.point import BareId, PointId, bare, scope_of

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class VectorKind(Enum):
    """The shape of a vector."""

    DENSE = "dense"
    SPARSE = "sparse"
    MULTI = "multi"


class Distance(Enum):
    """How vectors are compared. Cosine stores may normalise on write."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLID = "euclid"
    MANHATTAN = "manhattan"


class Precision(Enum):
    """What a store keeps of a component. `turbo` is Qdrant's own quantised storage."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    UINT8 = "uint8"
    TURBO16 = "turbo16"
    TURBO8 = "turbo8"
    TURBO4 = "turbo4"

    @property
    def tolerance(self) -> float:
        """
        The largest difference that keeping makes to a component, relative to the vector's
        largest one. Of a half float by its 11 bits; of the others twice what was measured on
        random vectors; whole numbers are cut off instead, which comparison does as well.
        """
        return _TOLERANCES[self]

    def coarser(self, other: Precision) -> Precision:
        """The one of two that keeps less."""
        return other if self.holds(other) else self

    def holds(self, other: Precision) -> bool:
        """Whether every vector kept in the other one can be kept in this one as it is."""
        return self in (Precision.FLOAT32, other) or (
            self is Precision.FLOAT16 and other is Precision.UINT8
        )


_TOLERANCES = {
    Precision.FLOAT32: 0.0,
    Precision.FLOAT16: 2.0**-10,
    Precision.UINT8: 0.0,
    Precision.TURBO16: 1e-4,
    Precision.TURBO8: 0.02,
    Precision.TURBO4: 0.3,
}


class IndexKind(Enum):
    """How the nearest vectors are found."""

    HNSW = "hnsw"
    IVF = "ivf"
    FLAT = "flat"
    """By looking at every one."""


class Quantization(Enum):
    """What is kept of a vector beside itself, to be searched by."""

    SCALAR = "scalar"
    PRODUCT = "product"
    BINARY = "binary"


class VectorIndex(msgspec.Struct, frozen=True, kw_only=True):
    """
    What most stores say of the index of a vector, in words that any of them may translate. None
    where nothing is said, or where the store does not have it.
    """

    kind: IndexKind | None = None
    m: int | None = None
    """Links of a point of an HNSW graph."""
    ef_construction: int | None = None
    """Candidates that are looked at for them."""
    lists: int | None = None
    """Of an IVF index."""
    quantization: Quantization | None = None
    quantization_bits: float | None = None
    """Of a component, on average."""
    on_disk: bool | None = None
    """Whether the vectors themselves stay on disk."""


class VectorSchema(msgspec.Struct, frozen=True):
    """
    One named vector. `size` is the dimension; None for sparse vectors, and where it is not
    known. `native`: what else its store says of it, in the store's own words; `index` what of
    that there are neutral words for, and `restated` the paths within `native` that it stands
    for. Between stores of one kind `native` counts, and `index` between others.
    """

    kind: VectorKind = VectorKind.DENSE
    size: int | None = None
    distance: Distance | None = None
    required: bool = False
    """The store refuses a point without it."""
    precision: Precision = Precision.FLOAT32
    native: dict[str, Any] = {}
    index: VectorIndex = VectorIndex()
    restated: tuple[str, ...] = ()
    """As in `hnsw_config.m`."""


class IdKinds(Flag):
    """Kinds of point ids that a store accepts, or that a collection holds."""

    UINT64 = auto()
    UUID = auto()
    STRING = auto()


class IdLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far the ids go, of the kinds that there are."""

    integer_min: int = 0
    integer_max: int = (1 << 64) - 1
    text_bytes_max: int = 512
    """No key of an event holds a longer one."""
    alphabet: str | None = None
    """The characters of a text, as a regular expression has them in brackets. None: any."""

    def hold(self, kinds: IdKinds, point_id: BareId) -> bool:
        """Whether an id is of these kinds and within the limits."""
        if isinstance(point_id, int):
            within = self.integer_min <= point_id <= self.integer_max
            return within and bool(kinds & IdKinds.UINT64)
        if not kinds & IdKinds.STRING:
            return bool(kinds & IdKinds.UUID) and is_uuid(point_id)
        if not 0 < len(point_id.encode()) <= self.text_bytes_max:
            return False
        return self.alphabet is None or bool(_written_in(self.alphabet).fullmatch(point_id))

    def in_words(self, kinds: IdKinds) -> str:
        """Which ids there can be, for a message."""
        words = {
            IdKinds.UINT64: f"integers from {power(self.integer_min)} to"
            f" {power(self.integer_max)}",
            IdKinds.UUID: "UUIDs",
            IdKinds.STRING: "texts",
        }
        return " and ".join(words[kind] for kind in kinds) or "no ids"


@cache
def _written_in(alphabet: str) -> re.Pattern[str]:
    return re.compile(f"[{alphabet}]*")


def power(number: int) -> str:
    """A number as a person writes it, where it is next to a power of two: `2^64-1`."""
    for bits in (53, 63, 64):
        for least, sign in ((1 << bits, ""), (-1 << bits, "-")):
            if 0 <= least - number <= 1:
                return f"{sign}2^{bits}{'-1' if number < least else ''}"
    return str(number)


class Mark(msgspec.Struct, frozen=True):
    """What a replicator leaves beside a target collection, to know it again."""

    capture_id: str
    epoch: int = 0
    incarnation: int = 0
    """Of the daemon that wrote it last; it only rises."""


class CollectionSchema(msgspec.Struct, frozen=True, kw_only=True):
    """
    A collection as its store describes it.

    `vectors` is None where the store keeps no schema (files). `ids` are the kinds the store can
    hold there, and `id_limits` how far they go. `indexes`: payload field → the store-neutral
    type (`keyword`, `integer`, `float`, `bool`, `text`, `datetime`, `geo`, `uuid`).
    `capture_id` is the mark that a replicator left there, if any. Connectors take ids,
    `normalises` and `null_is_absence` from their traits (`Traits.facts`), where their meaning
    stands.

    What only stores of one kind know travels between them as it is: `native` of the collection,
    of each vector, and `index_options` of each payload index are documents in the words of
    `native_kind`, and mean nothing to another kind. `restated` are the paths within `native`
    that the `index` of each vector says as well.
    """

    name: str
    vectors: dict[str, VectorSchema] | None
    ids: IdKinds
    id_limits: IdLimits = IdLimits()
    indexes: dict[str, str] = {}
    points: int | None = None
    capture_id: str | None = None
    mark_epoch: int = 0
    mark_incarnation: int = 0
    scoped: bool = False
    """An id is unique only within a tenant, a partition or a shard key, which every id says."""
    normalises: bool = False
    null_is_absence: bool = False
    native_kind: str | None = None
    native: dict[str, Any] = {}
    restated: tuple[str, ...] = ()
    index_options: dict[str, dict[str, Any]] = {}
    chosen: tuple[tuple[str, ...], ...] = ()
    """Settings that a person chose for the target, as paths: a wish is no loss."""
    physical: str | None = None
    """The collection itself, where `name` is an alias; None where the store does not say."""
    aliases: tuple[str, ...] = ()
    """Other names that lead to it."""
    made: bool = False
    """A replicator created it, so that its configuration is the plan's."""
    unfinished: bool = False
    """Settings are put in force at the end of the bulk load, which is still to come."""
    details: dict[str, Any] = {}

    @property
    def mark(self) -> Mark | None:
        """The mark that a replicator left there, if any."""
        if self.capture_id is None:
            return None
        return Mark(self.capture_id, self.mark_epoch, self.mark_incarnation)

    @property
    def texts_are_uuids(self) -> bool:
        """Whether an id that is a text is a UUID, so that its spelling means nothing."""
        return bool(self.ids & IdKinds.UUID) and not self.ids & IdKinds.STRING

    @property
    def ids_in_words(self) -> str:
        """Which ids there can be, for a message."""
        scopes = ", each in a scope" if self.scoped else ""
        return self.id_limits.in_words(self.ids) + scopes

    def holds(self, point_id: PointId) -> bool:
        """Whether the store can hold this id as it is."""
        if (scope_of(point_id) is not None) is not self.scoped:
            return False
        return self.id_limits.hold(self.ids, bare(point_id))


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID in its canonical lower-case spelling."""
    return len(text) == 36 and _UUID.fullmatch(text) is not None
