"""Where the events of one source collection go, and what they become on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from replicator.codecs.validation import Demand, validate_point
from replicator.errors import Rejected
from replicator.model.filter import Filter
from replicator.model.schema import CollectionSchema, VectorSchema
from replicator.model.write import Write
from replicator.ports.transform import Item, Row, Transform
from replicator.stream.ownership import Lease


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

    async def writes(
        self, items: Sequence[Item], lease: Lease | None = None
    ) -> list[Write | Rejected]:
        """
        What events and rows become at the store written, in their order, as `Transform.writes`
        says. Rows are judged first: stores accept what no event may carry, NaN for one.
        `lease`: no answer is waited for longer than it is held; raises Revoked.
        """
        unsound = {
            place: error
            for place, item in enumerate(items)
            if isinstance(item, Row) and (error := self._flaw(item)) is not None
        }
        if unsound:
            items = [item for place, item in enumerate(items) if place not in unsound]
        carrying = self.transform.writes(items)
        if lease is None or self.transform.pure:
            writes = await carrying
        else:
            writes = await lease.while_held(carrying)
        for place, error in unsound.items():
            writes.insert(place, error)
        return writes

    def _flaw(self, row: Row) -> Rejected | None:
        if row.point is None:
            return None
        try:
            validate_point(row.point, self.vectors)
        except Rejected as error:
            return error
        return None
