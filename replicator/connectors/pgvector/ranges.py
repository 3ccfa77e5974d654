"""
Ranges of keys, by which a table is cut: `after` < key <= `to`. The first begins before every
key and the last ends behind every one, so that whatever key comes later lies in exactly one.

Keys have the order that their column's index has, which is PostgreSQL's to say: nothing here
compares two. They come from a sample of pages, so that a large table is not read to be cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from replicator.errors import Fatal
from replicator.model.point import BareId


class KeyRange(msgspec.Struct, frozen=True):
    """A part of a table."""

    after: BareId | None = None
    to: BareId | None = None


class Cursor(msgspec.Struct, frozen=True):
    """The last key that was read."""

    last: BareId


def cut(keys: Sequence[BareId], parts: int) -> list[KeyRange]:
    """Ranges of about equal shares, by keys in their order."""
    places = [len(keys) * number // parts for number in range(1, parts)]
    bounds = list(dict.fromkeys(keys[place] for place in places if place < len(keys)))
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
