"""
The shape of an event's value on the wire, as types that msgspec checks while it decodes.

Two paths lead in. The quick one decodes into `WireEvent` and succeeds for every valid event of
ordinary shape. Whatever it refuses is decoded again into plain maps and lists, and walked field
by field (`events`), which finds the precise fault, or that there is none: the types here are
narrower than the contract in rare places (payloads nested deeply, sparse vectors as arrays in
MessagePack), never wider.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from replicator.errors import Rejected
from replicator.model.event import Op
from replicator.model.point import Vector

T = TypeVar("T")

VERSION_MAX = (1 << 53) - 1
"""Versions are compared as float64 by some stores: beyond 2^53 neighbours would be equal."""

Time = Annotated[int, Meta(ge=0, le=VERSION_MAX)]
Version = Annotated[int, Meta(ge=0, le=VERSION_MAX)]

_Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_Scalar = None | bool | int | str | _Finite
# Four levels by hand, as msgspec has no recursive types but structs; each level doubles the
# type, and what is nested deeper takes the slower path.
_Level4 = _Scalar | list[_Scalar] | dict[str, _Scalar]
_Level3 = _Scalar | list[_Level4] | dict[str, _Level4]
_Level2 = _Scalar | list[_Level3] | dict[str, _Level3]
_Level1 = _Scalar | list[_Level2] | dict[str, _Level2]
_Payload = dict[str, _Level1]


class WireShape(msgspec.Struct, gc=False):
    """A sparse or a multi-vector in bytes; which of them, its fields tell."""

    indices: bytes | None = None
    values: bytes | None = None
    rows: int | None = None
    data: bytes | None = None


class WireEvent(msgspec.Struct, kw_only=True, gc=False, forbid_unknown_fields=True):
    """
    An event's value as the quick path accepts it, from MessagePack. That nothing is unknown in
    it costs nothing to know here; where something is, the value is read once more as
    `LooseEvent`.
    """

    v: Literal[1]
    op: Op
    collection: str
    id: int | str
    scope: str | None = None
    ts: Time
    vectors: dict[str, bytes | WireShape] = {}
    payload: _Payload = {}
    set: _Payload = {}
    unset: tuple[str, ...] = ()
    unset_vectors: tuple[str, ...] = ()
    version: Version | None = None
    epoch: Time | None = None
    writer: str | None = None
    traceparent: str | None = None


class LooseEvent(WireEvent, kw_only=True, gc=False, forbid_unknown_fields=False):
    """As `WireEvent`, of a producer that adds fields of its own."""


FIELDS = frozenset(WireEvent.__struct_fields__)
"""What the event contract knows."""

_UNKNOWN_MAX = 20
"""Names of unknown fields that an event is asked for; more only tell the same story."""
_NAME_MAX = 60


class OutEvent(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """An event's value as it is written. `v`, and what else the contract demands, is always
    there.
    """

    v: int
    op: Op
    collection: str
    id: int | str
    scope: str | None = None
    ts: int
    vectors: dict[str, Vector] | dict[str, Any] = {}
    payload: dict[str, Any] = {}
    set: dict[str, Any] = {}
    unset: tuple[str, ...] = ()
    unset_vectors: tuple[str, ...] = ()
    version: int | None = None
    epoch: int | None = None
    writer: str | None = None
    traceparent: str | None = None


decode_wire_event = msgspec.msgpack.Decoder(WireEvent).decode
decode_loose_event = msgspec.msgpack.Decoder(LooseEvent).decode
_decode_names = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that do not decode."""

_JSON_FIRST = frozenset(b"{ \t\r\n")
_BOM = b"\xef\xbb\xbf"
"""What some platforms put before UTF-8. It says nothing, and is passed over."""


def is_json(value: bytes) -> bool:
    """Whether a value is JSON by its first byte. Raises Rejected when it is neither a JSON nor
    a MessagePack map.
    """
    first = value[0] if value else 0
    if first in _JSON_FIRST or value.startswith(_BOM):
        return True
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        return False
    raise Rejected("value-malformed", "the value is neither a JSON nor a MessagePack map")


def unknown_fields(names: Iterable[object]) -> tuple[str, ...]:
    """Those of a value's fields that the event contract does not know."""
    unknown = sorted({str(name)[:_NAME_MAX] for name in names if name not in FIELDS})
    return tuple(unknown[:_UNKNOWN_MAX])


def read_loosely(value: bytes) -> tuple[LooseEvent, tuple[str, ...]]:
    """An event with fields that nobody knows, and their names. Raises DECODE_ERRORS."""
    return decode_loose_event(value), unknown_fields(_decode_names(value))


def read_plain(value: bytes, read: Callable[[dict[Any, Any]], T]) -> T:
    """
    Decode a value of either format into plain maps, lists and scalars, and `read` it, which
    raises Rejected for what is wrong with it. Raises Rejected("value-malformed") when it does
    not decode.

    Many producers write NaN, Infinity or numbers beyond float64 into JSON, which has none.
    Such a value is read all the same, so that the error names the field, and never accepted.
    """
    plain, malformed = _decode(value)
    result = read(plain)
    if malformed is not None:
        raise malformed
    return result


def decode_plain(value: bytes) -> dict[Any, Any]:
    """
    Decode a value of either format for a look at some of its fields; what `read_plain` would
    refuse for NaN elsewhere in it decodes too. Raises Rejected("value-malformed").
    """
    return _decode(value)[0]


def version_of(value: bytes | None) -> int | None:
    """
    The version of the image, or of the delete, in a value, sound otherwise or not; None where
    it has no place in the order of versions.
    """
    try:
        fields = {} if value is None else decode_plain(value)
    except Rejected:
        return None
    version = fields.get("version")
    return version if type(version) is int and fields.get("op") != Op.PATCH.value else None


def _decode(value: bytes) -> tuple[dict[Any, Any], Rejected | None]:
    """The map; and the complaint about it, where it is JSON only by a loose reading."""
    as_json = is_json(value)
    value = value.removeprefix(_BOM)
    malformed = None
    try:
        plain = msgspec.json.decode(value) if as_json else msgspec.msgpack.decode(value)
    except DECODE_ERRORS as exc:
        malformed = Rejected("value-malformed", f"the value does not decode: {exc}")
        plain = _decode_loosely(value) if as_json else None
        if plain is None:
            raise malformed from exc
    if not isinstance(plain, dict):
        raise Rejected("value-malformed", "the value is not a map")
    return plain, malformed


def _decode_loosely(value: bytes) -> Any:
    try:
        return json.loads(value.decode())
    except (ValueError, RecursionError):
        return None
