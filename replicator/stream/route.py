"""Where the events of one source collection go, and what they become on the way."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from replicator.codecs.validation import Demand, validate_point
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.filter import Filter
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, VectorSchema
from replicator.model.write import Delete, Upsert, Write
from replicator.stream.transform import Transform


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """
    One collection in one direction. `collection` is the source's word, as in event keys;
    `store` the collection of the store written. In reverse the transform is the identity: the
    old store takes events in source terms.
    """

    collection: str
    store: str
    transform: Transform
    vectors: Mapping[str, VectorSchema] | None
    """What the source holds, for validation; None where it keeps no schema."""
    source: CollectionSchema | None = None
    """Tells which ids there are at all; None where that is not known."""
    demand: Demand = Demand()
    """Which vectors an event's image must bring beside those that its store demands."""

    @property
    def where(self) -> Filter | None:
        """What a reading of the source may be narrowed by."""
        passing = self.transform.filter
        return None if passing is None else passing.tree

    def image(self, key: Key, point: Point | None) -> Write:
        """What a full image, or its absence, becomes at the store written. Raises Rejected."""
        moved = None if point is None else self.transform.point(key, point)
        if moved is None:  # gone, or it no longer matches the filter: both are a delete
            return Delete(self.transform.target_id(key))
        return Upsert(moved)

    def row(self, key: Key, point: Point | None) -> Write:
        """
        As `image`, for a point that was read from the source: stores accept what no event may
        carry, NaN for one. Raises Rejected.
        """
        if point is not None:
            validate_point(point, self.vectors)
        return self.image(key, point)

    def write(self, event: ChangeEvent) -> Write:
        """What an event that needs no image becomes at the store written. Raises Rejected."""
        match event.op:
            case Op.UPSERT:
                return self.image(event.key, Point(event.key.id, event.vectors, event.payload))
            case Op.DELETE:
                return self.image(event.key, None)
            case Op.PATCH:
                return self.transform.patch(event.key, event)
