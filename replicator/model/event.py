"""Change events: one for each change of a point, in the source's terms."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from replicator.model.point import Payload, PointId, Vectors, bare, scope_of


class Op(Enum):
    """What a change event does to its key."""

    UPSERT = "upsert"
    PATCH = "patch"
    DELETE = "delete"


class Key(msgspec.Struct, frozen=True):
    """
    The event key: the source's word for the collection, and the id, which holds the scope where
    there are any. The key everywhere.

    Hashed natively: a `__hash__` in Python costs three times as much, for every record.
    """

    collection: str
    id: PointId

    @property
    def shown(self) -> str:
        """For people: `articles/5`, or `articles/tenant/5`."""
        scope = scope_of(self.id)
        return "/".join(
            str(part) for part in (self.collection, scope, bare(self.id)) if part is not None
        )


class ChangeEvent(msgspec.Struct, kw_only=True):
    """
    A decoded change.

    `upsert` carries `vectors` and `payload` (the full image); `patch` carries `vectors` to
    replace, `set` and `unset` (top-level payload keys) and `unset_vectors`; `delete` carries
    neither.

    A top-level null in an image is a value. In a patch it removes the key: the decoder moves it
    from `set` to `unset`, so that everything behind it knows one way to say so.
    """

    op: Op
    key: Key
    ts_ms: int
    """When the application made the change, in milliseconds since the epoch; 0 when unknown."""
    vectors: Vectors = {}
    payload: Payload = {}
    set: dict[str, Any] = {}
    unset: tuple[str, ...] = ()
    unset_vectors: tuple[str, ...] = ()
    version: int | None = None
    epoch: int | None = None
    writer: str | None = None
    traceparent: str | None = None
    unknown: tuple[str, ...] = ()
    """Names of fields that the event contract does not know; some of them, where many."""
