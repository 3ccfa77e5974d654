"""What a collection looks like: vectors, ids, indexes; and which ids a store can hold."""

from __future__ import annotations

import re
from enum import Enum, Flag, auto
from typing import Any

import msgspec

from replicator.model.point import PointId

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


class VectorSchema(msgspec.Struct, frozen=True):
    """One named vector. `size` is the dimension; None for sparse vectors, and where it is not
    known.
    """

    kind: VectorKind = VectorKind.DENSE
    size: int | None = None
    distance: Distance | None = None
    required: bool = False
    """The store refuses a point without it."""


class IdKinds(Flag):
    """Kinds of point ids that a store accepts, or that a collection holds."""

    UINT64 = auto()
    UUID = auto()
    STRING = auto()


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
    hold there. `indexes`: payload field → the store-neutral type (`keyword`, `integer`,
    `float`, `bool`, `text`, `datetime`, `geo`, `uuid`). `capture_id` is the mark that a
    replicator left there, if any. `normalises`: dense vectors under cosine come back with
    length one.
    """

    name: str
    vectors: dict[str, VectorSchema] | None
    ids: IdKinds
    string_bytes_max: int = 512
    indexes: dict[str, str] = {}
    points: int | None = None
    capture_id: str | None = None
    mark_epoch: int = 0
    mark_incarnation: int = 0
    normalises: bool = False
    details: dict[str, Any] = {}

    @property
    def mark(self) -> Mark | None:
        """The mark that a replicator left there, if any."""
        if self.capture_id is None:
            return None
        return Mark(self.capture_id, self.mark_epoch, self.mark_incarnation)

    def holds(self, point_id: PointId) -> bool:
        """Whether the store can hold this id as it is."""
        if isinstance(point_id, int):
            return bool(self.ids & IdKinds.UINT64) and 0 <= point_id < 1 << 64
        if self.ids & IdKinds.STRING:
            return 0 < len(point_id.encode()) <= self.string_bytes_max
        return bool(self.ids & IdKinds.UUID) and is_uuid(point_id)


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID in its canonical lower-case spelling."""
    return len(text) == 36 and _UUID.fullmatch(text) is not None
