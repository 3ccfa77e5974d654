"""How the nouns of a state become text and bytes. The in-memory store speaks the same, so that
what one cannot hold the other cannot either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from replicator.model.event import Key
from replicator.model.letter import RejectedRecord
from replicator.model.point import ScopedId, bare, scope_of
from replicator.model.record import JournalEntry, MigrationRecord

_record = msgspec.json.Decoder(MigrationRecord)
_entry = msgspec.json.Decoder(JournalEntry)


def record_text(record: MigrationRecord) -> str:
    """The migration record as JSON."""
    return msgspec.json.encode(record).decode()


def record_of(text: str) -> MigrationRecord:
    """Raises msgspec.MsgspecError on what is no record."""
    return _record.decode(text)


def entry_text(entry: JournalEntry) -> str:
    """A journal entry as JSON."""
    return msgspec.json.encode(entry).decode()


def entry_of(text: str) -> JournalEntry:
    """Raises msgspec.MsgspecError on what is no entry."""
    return _entry.decode(text)


def key_text(key: Key) -> str:
    """
    `["articles",5]`: the integer 5 and the string "5" stay two keys.

    Plain ASCII through the standard library, because a dead letter's key may hold what no
    UTF-8 encoder takes (a lone surrogate), and a letter that cannot be indexed stops a lane.
    An id in a scope is `["articles",["tenant",5]]`.
    """
    scope = scope_of(key.id)
    written = bare(key.id) if scope is None else [scope, bare(key.id)]
    return json.dumps([key.collection, written], separators=(",", ":"))


def key_of(text: str) -> Key:
    """The key that `key_text` wrote."""
    collection, written = json.loads(text)
    return Key(collection, ScopedId(*written) if isinstance(written, list) else written)


def keys_text(keys: Iterable[Key]) -> str:
    """Several keys as one JSON array of their texts."""
    return json.dumps([key_text(key) for key in keys])


def plain(text: str) -> str:
    """Text that every encoder takes: lone surrogates become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def row_digest(record: RejectedRecord) -> str | None:
    """
    What a copied row without an id is known by: its bytes, its place (which the message names)
    and what is wrong with it. None for records that have a place in the log or a key.
    """
    if record.partition is not None or record.event_key is not None:
        return None
    digest = blake2b(digest_size=16)
    texts = (record.code, plain(record.path), plain(record.message))
    for part in (*(text.encode() for text in texts), record.key, record.value):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.hexdigest()


def letter_values(ref: str, record: RejectedRecord) -> dict[str, str | int | float | None]:
    """The columns of a dead letter, but for its number and state."""
    return {
        "ref": plain(ref),
        "code": record.code,
        "path": plain(record.path),
        "message": plain(record.message),
        "at": record.at,
        "partition": record.partition,
        "log_offset": record.offset,
        "event_key": None if record.event_key is None else key_text(record.event_key),
        "direction": record.direction.value,
        "row_digest": row_digest(record),
    }
