"""The line that carries out a write."""

from __future__ import annotations

import msgspec

from replicator.codecs.keys import canonical_id
from replicator.codecs.points import point_to_json
from replicator.codecs.validation import validate_vectors
from replicator.connectors.jsonl.line import LINE_BYTES_MAX, deletion
from replicator.connectors.jsonl.log import CollectionLog
from replicator.errors import Rejected
from replicator.model.point import Point
from replicator.model.write import Delete, Patch, Upsert, Write


def line_of(log: CollectionLog, write: Write) -> bytes | None:
    """
    The line to append; None when there is nothing to delete, or nothing to patch. Raises
    Rejected for what the collection cannot hold.
    """
    point_id = canonical_id(write.id)
    match write:
        case Delete():
            return deletion(point_id) if point_id in log.offsets else None
        case Upsert(point):
            pass
        case Patch():
            present = log.point(point_id)
            if present is None:
                return None
            point = _patched(present, write)
    # NaN and wrong dimensions too: nothing here would complain of them before a search does.
    validate_vectors(point.vectors, log.layout.vectors, whole=True)
    line = point_to_json(msgspec.structs.replace(point, id=point_id))
    if len(line) >= LINE_BYTES_MAX - 1:
        raise Rejected("value-too-large", f"a line of {len(line)} bytes could not be read back")
    return line


def _patched(point: Point, patch: Patch) -> Point:
    vectors = {
        name: vector
        for name, vector in point.vectors.items()
        if name not in patch.unset_vectors
    }
    payload = {name: value for name, value in point.payload.items() if name not in patch.unset}
    payload |= patch.set
    for name, value in patch.set.items():
        if value is None:  # at the top level a null removes; in an image it is a value
            del payload[name]
    return Point(point.id, vectors | patch.vectors, payload)
