"""What is written to a store, and what the store said."""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.errors import Rejected
from replicator.model.event import ChangeEvent
from replicator.model.point import Point, PointId, Vectors


class Upsert(msgspec.Struct, frozen=True):
    """Replace the whole point, or create it."""

    point: Point

    @property
    def id(self) -> PointId:
        """The id at the store written."""
        return self.point.id


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """
    Change parts of a point that exists. Of an absent point it writes nothing.

    `set` and `unset` name top-level payload keys. A null in `set` removes the key; what is
    nested in a value replaces the old value whole, and nulls within it are values.
    """

    id: PointId
    vectors: Vectors = {}
    set: dict[str, Any] = {}
    unset: tuple[str, ...] = ()
    unset_vectors: tuple[str, ...] = ()


class Delete(msgspec.Struct, frozen=True):
    """Remove the point; of an absent one, nothing."""

    id: PointId


Write = Upsert | Patch | Delete


class WriteBatch(msgspec.Struct, frozen=True):
    """Writes to one collection of the store written. No id stands in it twice."""

    collection: str
    writes: tuple[Write, ...]


class Receipt(msgspec.Struct, frozen=True):
    """
    Everything in the batch is durable, but for what is named here.

    `rejected`: points the store refused, each with its own words. `absent`: patches that found
    no point.
    """

    rejected: tuple[tuple[PointId, Rejected], ...] = ()
    absent: tuple[PointId, ...] = ()


def apply_patch(image: Point, patch: ChangeEvent | Patch) -> Point:
    """
    The image after the patch, as a new point with the image's id. Neither is changed.

    What a patch both removes and sets is set: the decoder rejects it for payload keys, and for
    vectors to name one twice can only mean its new value.
    """
    payload = merged(image.payload, patch.set, patch.unset)
    for name, value in patch.set.items():
        if value is None:
            del payload[name]
    return Point(image.id, merged(image.vectors, patch.vectors, patch.unset_vectors), payload)


def merged(
    base: dict[str, Any], changes: dict[str, Any], removed: tuple[str, ...]
) -> dict[str, Any]:
    """The base without what is removed, and with the changes."""
    left = base.copy()
    for name in removed:
        left.pop(name, None)
    left.update(changes)
    return left
