"""
Chunks of a class: ranges of UUIDs, `after` < id <= `to`, in the order of their bytes, which is
that of their canonical text.

A scan goes on behind a UUID, whether there is an object of that id or not. Nothing is behind
nothing: the object of the nil UUID is behind no other, so that the first range asks for it by
itself (`reading`).
"""

from __future__ import annotations

import uuid

import msgspec

from replicator.errors import Fatal
from replicator.model.point import PointId

NIL = str(uuid.UUID(int=0))
_ALL = 1 << 128


class UuidRange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a class. None is open; the first one holds the nil UUID."""

    after: str | None = None
    to: str | None = None
    scope: str | None = None
    """Of this tenant."""
    besides: tuple[str, ...] | None = None
    """Of every tenant but these, whichever there are by then."""


def cut(parts: int, first: int, last: int, scope: str | None = None) -> list[UuidRange]:
    """
    Ranges that cover all UUIDs, most of them of equal width between the first that there is
    and the last.
    """
    width = last - first
    bounds = [first + width * number // parts for number in range(1, max(1, parts))]
    told = [str(uuid.UUID(int=each)) for each in dict.fromkeys(bounds) if 0 < each < _ALL - 1]
    return [
        UuidRange(after, to, scope)
        for after, to in zip([None, *told], [*told, None], strict=True)
    ]


def write_spec(part: UuidRange) -> str:
    """The text of a chunk."""
    return msgspec.json.encode(part).decode()


def read_spec(spec: str) -> UuidRange:
    """Raises Fatal for a text that is not ours."""
    try:
        return msgspec.json.decode(spec, type=UuidRange)
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a chunk of another connector was read: {exc}") from exc


def write_cursor(last: PointId) -> str:
    """The text of a cursor: the last id that was read."""
    return msgspec.json.encode(last).decode()


def read_cursor(cursor: str) -> PointId:
    """Raises Fatal for a text that is not ours."""
    try:
        last: PointId = msgspec.json.decode(cursor, type=PointId)
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a cursor of another connector was read: {exc}") from exc
    return last
