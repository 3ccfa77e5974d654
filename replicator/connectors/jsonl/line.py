"""
The lines of a collection's file.

A line is a point, the mark that an id is deleted, or a header, which says whose file this is.
The last line of an id wins, and so does the last header. Other programs' lines are read as long
as they are points; a line that is none keeps its place and its reason.
"""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.codecs.keys import canonical_id, check_scope
from replicator.codecs.layout import Layout
from replicator.codecs.wire import decode_plain
from replicator.errors import Refused, Rejected
from replicator.model.point import PointId, bare, scope_of, within

FORMAT = 1
LINE_BYTES_MAX = 64 << 20
"""A longer line is not read. It bounds memory against a file without line ends; a point of a
thousand 4096-dimension vectors still fits."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A file with a header was written by this program."""

    replicator: int = FORMAT
    collection: str = ""
    capture_id: str | None = None
    mark_epoch: int = 0
    mark_incarnation: int = 0
    schema: Layout = Layout()


class Place(msgspec.Struct, frozen=True):
    """
    A line of a point: of this id. `deleted`: the id is gone. `nested`: its payload stands in a
    field of its own.
    """

    id: PointId
    deleted: bool = False
    nested: bool = False


class _Glance(msgspec.Struct, gc=False):
    """What decides about a line; everything else in it is only checked to be JSON."""

    id: int | str | None = None
    scope: Any = None
    deleted: bool = False
    replicator: int | None = None
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def nested(self) -> bool:
        """Whether the payload stands in a field of its own."""
        return self.payload is not msgspec.UNSET or self.metadata is not msgspec.UNSET


BOM = b"\xef\xbb\xbf"
"""What some programs write before the first line of a text in UTF-8."""

_glance = msgspec.json.Decoder(_Glance).decode
_header = msgspec.json.Decoder(Header).decode
encode = msgspec.json.Encoder().encode


def read_line(line: bytes, scoped: bool) -> Place | Header:
    """
    What a line is, without looking at its vectors and payload; `scoped`: the file's header says
    that there are scopes. Raises Rejected when not even
    the id can be read, Refused ("unsupported") for the header of a newer format.
    """
    try:
        glance = _glance(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        glance = _second_look(line)
    if glance.replicator is not None:
        return _as_header(line, glance.replicator)
    if glance.id is None:
        raise Rejected("field-missing", "id is missing", "id")
    scope = scope_in(glance.scope) if scoped else None
    return Place(canonical_id(within(scope, glance.id)), glance.deleted, glance.nested)


def scope_in(scope: object) -> str:
    """What a line says in `scope`, as one. Raises Rejected where it says none."""
    if scope is not None and type(scope) is not str:
        raise Rejected("field-type", "scope is not a string", "scope")
    check_scope(scope, True, "the line")
    assert isinstance(scope, str)
    return scope


def deletion(point_id: PointId) -> bytes:
    """The line that says an id is gone."""
    scope = scope_of(point_id)
    said = {} if scope is None else {"scope": scope}
    return encode({"id": bare(point_id), **said, "deleted": True})


def _second_look(line: bytes) -> _Glance:
    """A line with NaN, or an odd type, replaces the older lines of its id all the same."""
    fields: dict[Any, Any] = decode_plain(line)
    if "replicator" in fields:
        raise Rejected("value-malformed", "the header cannot be read")
    point_id = fields.get("id")
    if point_id is not None and type(point_id) not in (int, str):
        raise Rejected("field-type", "id is neither an integer nor a string", "id")
    glance = _Glance(point_id, fields.get("scope"), fields.get("deleted") is True)
    if "payload" in fields or "metadata" in fields:
        glance.payload = msgspec.Raw()
    return glance


def _as_header(line: bytes, version: int) -> Header:
    if version > FORMAT:
        raise Refused(
            "unsupported", f"the file has format {version}; this release reads up to {FORMAT}"
        )
    try:
        return _header(line)
    except msgspec.DecodeError as exc:
        raise Rejected("value-malformed", f"the header cannot be read: {exc}") from exc
