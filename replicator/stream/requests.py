"""
A batch cut into requests, none larger than the store written takes.

Every store bounds what one request may hold, in records, in bytes or both, and refuses the
whole of a larger one. Cutting is cheap and keeps the order; to find the bound by halving what
was refused costs a round trip each time. A record that is too large by itself goes alone: the
store says so, and only it is to blame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replicator.model.pages import size_of
from replicator.model.point import Point
from replicator.model.traits import Limits
from replicator.model.write import Delete, Patch, Upsert, Write

_ID_BYTES = 64
"""An id in a request with all that goes with it."""


def requests_of(writes: Sequence[Write], limits: Limits) -> Iterator[tuple[Write, ...]]:
    """The writes in their order, in as few requests as the limits allow."""
    records_max, bytes_max = limits.records_max, limits.bytes_max
    request: list[Write] = []
    held = 0
    for write in writes:
        size = 0 if bytes_max is None else request_bytes(write)
        is_full = records_max is not None and len(request) >= records_max
        is_heavy = bytes_max is not None and held + size > bytes_max
        if request and (is_full or is_heavy):
            yield tuple(request)
            request, held = [], 0
        request.append(write)
        held += size
    if request:
        yield tuple(request)


def request_bytes(write: Write) -> int:
    """Bytes of a write in a request, about."""
    match write:
        case Upsert(point=point):
            return _ID_BYTES + size_of(point)
        case Patch():
            names = sum(map(len, (*write.unset, *write.unset_vectors)))
            return _ID_BYTES + size_of(Point(write.id, write.vectors, write.set)) + names
        case Delete():
            return _ID_BYTES
