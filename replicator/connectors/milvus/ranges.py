"""
Ranges of keys, by which a collection is cut: `after` < key <= `to`. The first begins before
every key and the last ends behind every one, so that whatever key comes later lies in one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicator.errors import Fatal
from replicator.model.point import BareId


class KeyRange(msgspec.Struct, frozen=True):
    """A part of a collection."""

    after: BareId | None = None
    to: BareId | None = None


class Cursor(msgspec.Struct, frozen=True):
    """The last key that was read."""

    last: BareId


def ranges_of(bounds: Sequence[BareId]) -> list[KeyRange]:
    """Those that lie between bounds, which ascend."""
    return [
        KeyRange(after, to) for after, to in zip([None, *bounds], [*bounds, None], strict=True)
    ]


def write_spec(part: KeyRange) -> str:
    """The text of a chunk."""
    return msgspec.json.encode(part).decode()


def read_spec(spec: str) -> KeyRange:
    """Raises Fatal for a text that is not ours."""
    try:
        return msgspec.json.decode(spec, type=KeyRange)
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a chunk of another connector was read: {exc}") from exc


def write_cursor(last: BareId) -> str:
    """The text of a cursor."""
    return msgspec.json.encode(Cursor(last)).decode()


def read_cursor(cursor: str) -> BareId:
    """Raises Fatal for a text that is not ours."""
    try:
        return msgspec.json.decode(cursor, type=Cursor).last
    except msgspec.MsgspecError as exc:
        raise Fatal("internal", f"a cursor of another connector was read: {exc}") from exc
