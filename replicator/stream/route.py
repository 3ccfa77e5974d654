"""Where the events of one source collection go, and what they become on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from replicator.codecs.validation import Demand, validate_point
from replicator.errors import Rejected
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

    async def writes(
        self, items: Sequence[Item], lease: Lease | None = None
    ) -> list[Write | Rejected]:
        """
        What events and rows become at the store written, in their order, as `Transform.writes`
        says. Rows are judged first: stores accept what no event may carry, NaN for one.
        `lease`: no answer is waited for longer than it is held; raises Revoked.
        """
        answers: list[Write | Rejected | None] = [self._judge(item) for item in items]
        sound = [item for item, bad in zip(items, answers, strict=True) if bad is None]
        carrying = self.transform.writes(sound)
        if lease is None or self.transform.pure:
            carried = iter(await carrying)
        else:
            carried = iter(await lease.while_held(carrying))
        return [next(carried) if bad is None else bad for bad in answers]

    def _judge(self, item: Item) -> Rejected | None:
        if isinstance(item, Row) and item.point is not None:
            try:
                validate_point(item.point, self.vectors)
            except Rejected as error:
                return error
        return None
