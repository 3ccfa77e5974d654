"""The line that carries out a write."""

from __future__ import annotations

import msgspec

from replicator.codecs.keys import canonical_id
from replicator.codecs.points import point_to_json
from replicator.codecs.validation import validate_vectors
from replicator.connectors.jsonl.line import LINE_BYTES_MAX, deletion
from replicator.connectors.jsonl.log import CollectionLog
from replicator.errors import Rejected
from replicator.model.write import Delete, Patch, Write


def line_of(log: CollectionLog, write: Write) -> bytes | None:
    """
    The line to append; None when there is nothing to delete. Raises Rejected for what the
    collection cannot hold.
    """
    assert not isinstance(write, Patch), "a file is given whole points only"
    point_id = canonical_id(write.id)
    if isinstance(write, Delete):
        return deletion(point_id) if point_id in log.offsets else None
    # NaN and wrong dimensions too: nothing here would complain of them before a search does.
    validate_vectors(write.point.vectors, log.layout.vectors, whole=True)
    line = point_to_json(msgspec.structs.replace(write.point, id=point_id))
    if len(line) >= LINE_BYTES_MAX - 1:
        raise Rejected("value-too-large", f"a line of {len(line)} bytes could not be read back")
    return line
