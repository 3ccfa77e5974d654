"""
Ids: which id a source key has at the target.

With `ids = "auto"` an id that the target holds stays as it is, and any other becomes the UUIDv5
of its event key in a fixed namespace, with the original in the payload field `_source_id`. The
mapping is a function of the key alone (no table to lose, the same on every machine) and
injective: event keys tell 5 from "5" and one collection from another, mapped ids differ by the
hash, and a kept id equals a mapped one only if someone computed it on purpose.

A UUID that the source spells in another way than canonical lower case is a text of its own
there, perhaps beside the canonical one. A target that knows UUIDs would take both for one
point, so `CollectionSchema.holds` says no to it and it is mapped.
"""

from __future__ import annotations

import uuid
from typing import Literal

from replicator.codecs.keys import encode_key
from replicator.errors import Rejected
from replicator.model.event import Key
from replicator.model.point import Payload, PointId
from replicator.model.schema import CollectionSchema, IdKinds

NAMESPACE = uuid.UUID("5f1a7c6e-9a35-5d0c-8c0e-7d2c4b9e61aa")
"""Of every mapped id, for ever: another one would give every mapped point a second identity."""

SOURCE_ID = "_source_id"
"""The payload field that carries the id of a mapped point."""


class IdMap:
    """The mapping of one collection's ids. Pure and immutable."""

    def __init__(
        self, mode: Literal["auto", "keep"], target: CollectionSchema, collection: str
    ) -> None:
        """`collection` is the source's word, as in its event keys."""
        self._mode = mode
        self._target = target
        self._collection = collection
        self._maps = mode == "auto" and bool(target.ids & (IdKinds.UUID | IdKinds.STRING))

    def maps(self, source_id: PointId) -> bool:
        """Whether the point gets another id, and `_source_id` in its payload."""
        return self._maps and not self._target.holds(source_id)

    def to_target(self, key: Key) -> PointId:
        """The id at the target. Raises Rejected("id-invalid") if it cannot have one there."""
        if self._target.holds(key.id):
            return key.id
        if not self._maps:
            raise Rejected(
                "id-invalid",
                "the target cannot hold this id"
                + (" as it is, and `ids` is `keep`" if self._mode == "keep" else ""),
                "id",
            )
        return self._mapped(key.id)

    def to_source(self, target_id: PointId, payload: Payload) -> PointId | None:
        """
        The source's id of a point read from the target; None if no source key leads to it.

        `_source_id` is believed only if it leads back to this very id: it may be a field that
        the application or an earlier migration left there.
        """
        candidates = self.candidates(target_id, payload)
        return candidates[0] if candidates else None

    def candidates(self, target_id: PointId, payload: Payload) -> list[PointId]:
        """
        Every source id that leads to this target id, the likeliest first.

        There are two only where a collection of the same name was mapped before and copied back
        with its `_source_id` and its UUIDs: before such a point is called extra, both must be
        absent from the source.
        """
        found: list[PointId] = []
        original = payload.get(SOURCE_ID)
        if (
            isinstance(original, str | int)
            and not isinstance(original, bool)
            and self.maps(original)
            and self._mapped(original) == target_id
        ):
            found.append(original)
        if self._target.holds(target_id):
            found.append(target_id)
        return found

    def _mapped(self, source_id: PointId) -> str:
        key = encode_key(Key(self._collection, source_id))
        return str(uuid.uuid5(NAMESPACE, key.decode("ascii")))
