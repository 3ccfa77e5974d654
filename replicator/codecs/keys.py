"""
Event keys: `<collection>/<id>`, or `<collection>/<scope>/<id>` where the ids of a collection
are unique only within a scope; each part percent-encoded.

A key has exactly one spelling. Producers place a record by the bytes of its key, so two
spellings of one key could lie in two partitions and lose their order; what is not spelled
canonically is refused with the spelling that is meant. One exception: UUIDs in upper case, as
some platforms print them, are read as the same UUID in lower case; and where all texts of a
collection are UUIDs, so are those without dashes, in braces, or as `urn:uuid:…`.
"""

from __future__ import annotations

import re
import string
from urllib.parse import quote_from_bytes, unquote_to_bytes
from uuid import UUID

from replicator.errors import Rejected
from replicator.model.event import Key
from replicator.model.point import BareId, PointId, ScopedId, bare, scope_of, within

ID_BYTES_MAX = 512
"""The longest id that stores of string ids hold; a longer one could not be carried."""

INTEGER_MIN = -(1 << 63)
INTEGER_MAX = (1 << 64) - 1
"""What MessagePack and the stores can hold: int64 and uint64 together."""

_UNRESERVED = (string.ascii_letters + string.digits + "-._~").encode()
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,19}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SPELLED_UUID = re.compile(
    r"(?:urn:uuid:)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|\{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}"
    r"|([0-9a-f]{32})",
    re.IGNORECASE | re.ASCII,
)
_SHOWN_MAX = 120


def encode_key(key: Key) -> bytes:
    """Spell a key canonically. Raises Rejected("id-invalid") for an id that no key can hold."""
    return _spelled(key.collection, scope_of(key.id), str(canonical_id(bare(key.id))))


def decode_key(
    raw: bytes | None, integer_ids: bool | None, *, scoped: bool | None = False
) -> Key:
    """
    Read a record's key, of a collection with scopes or without; None where that is not known.

    `integer_ids` is the type of the collection's ids. With None, what reads as an integer is
    taken for one: right where the collection's texts never do, for they are UUIDs, and no
    ground to apply an event on where the type is simply not known.

    Raises Rejected: `key-missing`, `key-invalid` (no slash, not the canonical spelling, not the
    type of id), `scope-missing`, `scope-unexpected`, `id-invalid` (too long, out of range).
    """
    if not raw:
        raise Rejected("key-missing", "the record has no key")
    parts = raw.split(b"/")
    if len(parts) == 1:
        raise _invalid(raw, "has no slash between collection and id")
    if len(parts) > 3:
        raise _invalid(raw, "has more than collection, scope and id; a slash within is `%2F`")
    texts = [_decoded(part, raw) for part in parts]
    collection, text = texts[0], texts[-1]
    scope = texts[1] if len(parts) == 3 else None
    if (meant := _spelled(collection, scope, text)) != raw:
        raise _invalid(raw, f"is not percent-encoded canonically: {_shown(meant)} is meant")
    if not text:
        raise _invalid(raw, "has an empty id")
    check_scope(scope, scoped, f"the key {_shown(raw)}")
    if integer_ids is False or (integer_ids is None and not _INTEGER.fullmatch(text)):
        return Key(collection, within(scope, _canonical(text, uuids=integer_ids is None)))
    if not _INTEGER.fullmatch(text):
        raise _invalid(raw, "does not end in a decimal integer, as the collection's ids are")
    return Key(collection, within(scope, _canonical(int(text))))


def check_scope(scope: str | None, scoped: bool | None, who: str) -> None:
    """
    Whether an id says a scope where its collection has scopes, and there alone; None where that
    is not known. Raises Rejected("scope-missing", "scope-unexpected").
    """
    if scoped and not scope:
        raise Rejected(
            "scope-missing", f"{who} says no scope, and the collection has them", "scope"
        )
    if scope is not None and scoped is False:
        raise Rejected(
            "scope-unexpected",
            f"{who} says a scope, and the collection was declared without; a slash within an id"
            " is `%2F`",
            "scope",
        )


def collection_prefix(collection: str) -> bytes:
    """What stands before the slash in every key of a collection."""
    return _encoded(collection, "collection")


def spells(raw_id: bytes, point_id: BareId) -> bool:
    """
    Whether `raw_id` is, as it stands, the canonical spelling of an id. Quick, and False in
    doubt (escapes, what may be an upper-case UUID): then `decode_key` says.
    """
    if type(point_id) is int:
        return b"%d" % point_id == raw_id
    assert isinstance(point_id, str)
    return (
        point_id.encode("utf-8", "replace") == raw_id
        and 0 < len(raw_id) <= ID_BYTES_MAX
        and not raw_id.translate(None, _UNRESERVED)
        and (len(raw_id) != 36 or raw_id == raw_id.lower())
    )


def canonical_id(point_id: PointId, *, uuids: bool = False) -> PointId:
    """
    The id as keys and points spell it: UUIDs in lower case, everything else as it is. `uuids`:
    all texts here are UUIDs, and so every spelling of one is meant (elsewhere 32 hexadecimal
    digits may be anything, and in braces they are another text). Raises
    Rejected("id-invalid") for an empty or overlong text, and an integer beyond 64 bits. A scope
    has one spelling, and stays.
    """
    if isinstance(point_id, ScopedId):
        return ScopedId(point_id.scope, _canonical(point_id.id, uuids=uuids))
    return _canonical(point_id, uuids=uuids)


def _canonical(point_id: BareId, *, uuids: bool = False) -> BareId:
    if isinstance(point_id, bool):
        raise Rejected("id-invalid", "a truth value is not an id", "id")
    if isinstance(point_id, int):
        if not INTEGER_MIN <= point_id <= INTEGER_MAX:
            raise Rejected("id-invalid", "the integer id does not fit in 64 bits", "id")
        return point_id
    if not point_id:
        raise Rejected("id-invalid", "the id is empty", "id")
    # A character takes at most 4 bytes, so most ids need not be encoded to be measured.
    if len(point_id) * 4 > ID_BYTES_MAX and len(_utf8(point_id, "id")) > ID_BYTES_MAX:
        raise Rejected("id-invalid", f"the id is longer than {ID_BYTES_MAX} bytes", "id")
    if len(point_id) == 36 and _UUID.fullmatch(point_id):
        return point_id.lower()
    if uuids and (spelled := _SPELLED_UUID.fullmatch(point_id)):
        return str(UUID(spelled[1] or spelled[2] or spelled[3]))
    return point_id


def _spelled(collection: str, scope: str | None, text: str) -> bytes:
    middle = b"/" if scope is None else b"/" + _encoded(scope, "scope") + b"/"
    return _encoded(collection, "collection") + middle + _encoded(text, "id")


def _encoded(text: str, path: str) -> bytes:
    raw = _utf8(text, path)
    if not raw.translate(None, _UNRESERVED):
        return raw
    return quote_from_bytes(raw, safe="").encode("ascii")


def _utf8(text: str, path: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        code = "id-invalid" if path == "id" else "field-invalid"
        raise Rejected(code, f"the {path} is not Unicode text", path) from exc


def _decoded(part: bytes, raw: bytes) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError as exc:
        raise _invalid(raw, "is not UTF-8") from exc


def _invalid(raw: bytes, complaint: str) -> Rejected:
    return Rejected("key-invalid", f"the key {_shown(raw)} {complaint}")


def _shown(raw: bytes) -> str:
    text = raw[:_SHOWN_MAX].decode("utf-8", "backslashreplace")
    return repr(text + "…" if len(raw) > _SHOWN_MAX else text)
