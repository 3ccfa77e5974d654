"""
A WriteBatch as Qdrant's operations.

No id stands in a batch twice, so operations may be grouped by kind: all upserts in one, all
deletes in one, and the patches one by one, because each sets other values. What cannot be
encoded is set aside with its reason, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from replicator.connectors.qdrant.points import write_id, write_point, write_vectors
from replicator.connectors.qdrant.values import write_payload
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Rejected
from replicator.model.point import PointId
from replicator.model.write import Delete, Patch, Upsert, Write


class EncodedPatch(msgspec.Struct, frozen=True):
    """One patch: its operations, each of which fails when the point is absent."""

    id: PointId
    operations: tuple[Message, ...]


class EncodedBatch(msgspec.Struct, frozen=True):
    """What to send. `upserts` are PointStructs, `deletes` PointIds."""

    upserts: list[Message]
    deletes: list[Message]
    patches: list[EncodedPatch]
    rejected: list[tuple[PointId, Rejected]]


def encode(writes: Iterable[Write]) -> EncodedBatch:
    """Encode every write, or set it aside."""
    encoded = EncodedBatch([], [], [], [])
    for write in writes:
        try:
            _encode(write, encoded)
        except Rejected as exc:
            encoded.rejected.append((write.id, exc))
    return encoded


def _encode(write: Write, encoded: EncodedBatch) -> None:
    match write:
        case Upsert(point=point):
            upsert = wire().PointStruct()
            write_point(upsert, point)
            encoded.upserts.append(upsert)
        case Delete(id=point_id):
            delete = wire().PointId()
            write_id(delete, point_id)
            encoded.deletes.append(delete)
        case Patch():
            encoded.patches.append(EncodedPatch(write.id, tuple(_patch(write))))


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


def operations(encoded: EncodedBatch, patches: Sequence[EncodedPatch]) -> list[Message]:
    """Upserts and deletes of a batch, and some of its patches, for one UpdateBatch."""
    made: list[Message] = []
    if encoded.upserts:
        made.append(wire().PointsUpdateOperation())
        made[-1].upsert.points.extend(encoded.upserts)
    if encoded.deletes:
        made.append(wire().PointsUpdateOperation())
        made[-1].delete_points.points.points.ids.extend(encoded.deletes)
    for patch in patches:
        made.extend(patch.operations)
    return made
