"""
A WriteBatch as one UpdateBatch request.

No id stands in a batch twice, so operations may be grouped by kind: all upserts in one, all
deletes in one, and the patches one by one, because each sets other values. What cannot be
encoded is set aside with its reason, and the rest goes on.

Points are written into the request where they will be sent from: protobuf copies a message by
encoding and decoding it, which for vectors is most of the cost of a write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from replicator.connectors.qdrant.points import write_id, write_point, write_vectors
from replicator.connectors.qdrant.values import write_payload
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Rejected
from replicator.model.point import Point, PointId
from replicator.model.write import Delete, Patch, Upsert, Write


class EncodedPatch(msgspec.Struct, frozen=True):
    """One patch: its operations, each of which fails when the point is absent."""

    id: PointId
    operations: tuple[Message, ...]


class EncodedBatch:
    """What to send: a request with the upserts and the deletes, and the patches beside it."""

    def __init__(self, writes: Iterable[Write]) -> None:
        self.patches: list[EncodedPatch] = []
        self.rejected: list[tuple[PointId, Rejected]] = []
        self._request = wire().UpdateBatchPoints()
        self._upserts: Message = None
        self._deletes: Message = None
        for write in writes:
            try:
                self._add(write)
            except Rejected as exc:
                self.rejected.append((write.id, exc))
        self._ends = len(self._request.operations)

    def request(self, patches: Sequence[EncodedPatch]) -> Message:
        """The upserts, the deletes, and these patches."""
        del self._request.operations[self._ends :]
        for patch in patches:
            self._request.operations.extend(patch.operations)
        return self._request

    def _add(self, write: Write) -> None:
        match write:
            case Upsert(point=point):
                self._upsert(point)
            case Delete(id=point_id):
                encoded = wire().PointId()
                write_id(encoded, point_id)
                if self._deletes is None:
                    operation = self._request.operations.add()
                    self._deletes = operation.delete_points.points.points.ids
                self._deletes.append(encoded)
            case Patch():
                self.patches.append(EncodedPatch(write.id, tuple(_patch(write))))

    def _upsert(self, point: Point) -> None:
        if self._upserts is None:
            self._upserts = self._request.operations.add().upsert.points
        try:
            write_point(self._upserts.add(), point)
        except Rejected:
            del self._upserts[-1]
            raise


def _patch(patch: Patch) -> list[Message]:
    made: list[Message] = []

    def operation() -> Message:
        made.append(wire().PointsUpdateOperation())
        return made[-1]

    # First, and even when there is nothing to set: it fails where the point is absent.
    setting = operation().set_payload
    setting.SetInParent()
    write_id(setting.points_selector.points.ids.add(), patch.id)
    write_payload(setting.payload, patch.set, "set")
    if patch.unset:
        unsetting = operation().delete_payload
        unsetting.keys.extend(json_path(key) for key in patch.unset)
        write_id(unsetting.points_selector.points.ids.add(), patch.id)
    if patch.vectors:
        vectors = operation().update_vectors.points.add()
        write_id(vectors.id, patch.id)
        write_vectors(vectors.vectors, patch.vectors)
    if patch.unset_vectors:
        removing = operation().delete_vectors
        removing.vectors.names.extend(patch.unset_vectors)
        write_id(removing.points_selector.points.ids.add(), patch.id)
    return made


def json_path(key: str) -> str:
    """A top-level key as the path that names just it: `a.b` would name `b` within `a`."""
    if '"' in key:
        raise Rejected(
            "field-invalid",
            f'Qdrant cannot remove the payload key {key!r}: its paths know no escape for `"`',
            f"unset.{key}",
        )
    return f'"{key}"'
