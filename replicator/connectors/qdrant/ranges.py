"""
Chunks of a collection: ranges of the id space.

Qdrant scrolls in the order of ids: numbers from 0 to 2^64-1, then UUIDs by their bytes, and an
offset is the id to start from. So `[from, to)` with both ends taken from a sample, and the
outermost ends open, cuts the space into disjoint ranges that cover every id, those included
that are written later. A cursor is the last id read; the scan goes on from the next possible
id, so a point that is deleted meanwhile takes nothing with it.

Where a collection has scopes each is cut for itself, for an id is unique only within one, and
one chunk more is of the scopes that were not there when the others were cut.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import msgspec

from replicator.errors import Fatal
from replicator.model.point import BareId, PointId

_NUM_MAX = (1 << 64) - 1
_UUID_MAX = (1 << 128) - 1


class IdRange(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"start": "from", "end": "to"},
):
    """Ids from `start` (included) to `end` (excluded), in Qdrant's order; None is open."""

    start: BareId | None = None
    end: BareId | None = None
    scope: str | None = None
    """Of this scope."""
    besides: tuple[str, ...] | None = None
    """Of every scope but these, whichever there are by then."""

    def holds(self, point_id: BareId) -> bool:
        """Whether the id lies before the end; scrolling never gives one before the start."""
        return self.end is None or rank(point_id) < rank(self.end)


def rank(point_id: BareId) -> tuple[bool, BareId]:
    """The sort key of an id. Canonical UUIDs sort as text like their bytes."""
    return isinstance(point_id, str), point_id


def cut(sample: Iterable[BareId], parts: int, scope: str | None = None) -> list[IdRange]:
    """At most `parts` ranges that cover all ids, of about equal shares of the sample."""
    ids = sorted(set(sample), key=rank)
    parts = max(1, min(parts, len(ids)))
    ends = [ids[len(ids) * part // parts] for part in range(1, parts)]
    return [
        IdRange(start, end, scope)
        for start, end in zip([None, *ends], [*ends, None], strict=True)
    ]


def successor(point_id: BareId) -> BareId | None:
    """The next possible id, or None after the last."""
    if isinstance(point_id, int):
        return point_id + 1 if point_id < _NUM_MAX else str(uuid.UUID(int=0))
    number = uuid.UUID(point_id).int
    return str(uuid.UUID(int=number + 1)) if number < _UUID_MAX else None


def write_spec(part: IdRange) -> str:
    """The text of a chunk: `{"from": …, "to": …}`, or `{"besides": […]}`."""
    return msgspec.json.encode(part).decode()


def read_spec(spec: str) -> IdRange:
    """Raises Fatal for a text that is not ours."""
    try:
        return msgspec.json.decode(spec, type=IdRange)
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a chunk of another connector was read: {exc}") from exc


def write_cursor(point_id: PointId) -> str:
    """The text of a cursor: the last id read, as JSON, so that 7 and "7" differ."""
    return msgspec.json.encode(point_id).decode()


def read_cursor(cursor: str) -> PointId:
    """Raises Fatal for a text that is not ours."""
    try:
        point_id: PointId = msgspec.json.decode(cursor, type=PointId)
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a cursor of another connector was read: {exc}") from exc
    return point_id
