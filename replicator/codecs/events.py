"""
Change events: bytes of the feed to ChangeEvent and back.

The usual event is MessagePack with its vectors as bytes, and decodes in one pass (see `wire`)
plus the comparison of key and value. Every other path is about saying precisely what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import msgspec

from replicator.codecs.keys import (
    canonical_id,
    collection_prefix,
    decode_key,
    encode_key,
    spells,
)
from replicator.codecs.numeric import is_ascending, is_finite
from replicator.codecs.payload import check_payload
from replicator.codecs.vectors import vector_to_json
from replicator.codecs.walk import conflict, id_of, scope_in, text_of, walk, without_nulls
from replicator.codecs.wire import (
    DECODE_ERRORS,
    FIELDS,
    OutEvent,
    WireEvent,
    WireShape,
    decode_wire_event,
    read_loosely,
    read_plain,
    unknown_fields,
)
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import (
    BareId,
    MultiVector,
    SparseVector,
    Vector,
    Vectors,
    bare,
    scope_of,
    within,
)
from replicator.model.position import Record
from replicator.model.scopes import Scopes

_PATCH = Op.PATCH
_UPSERT = Op.UPSERT
_MEANT = {
    "embedding": "vectors",
    "embeddings": "vectors",
    "metadata": "payload",
    "meta": "payload",
    "properties": "payload",
    "namespace": "collection",
    "tenant": "scope",
    "shard_key": "scope",
    "partition": "scope",
    "class": "collection",
    "timestamp": "ts",
    "time": "ts",
    "operation": "op",
    "type": "op",
}
"""Words of other programs, for what the contract calls otherwise."""
_MAP_FIRST = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])


class EventDecoder:
    """
    Decode records of the collections that the migration lists: a `ports.feed.Decoder` of our
    own events.

    `integer_ids`: source collection → whether its ids are integers; None where it holds
    integers and UUIDs. `scopes`: those whose keys hold a scope, and which scopes travel. Values
    above `value_bytes_max` bytes are rejected unread.
    """

    def __init__(
        self,
        integer_ids: Mapping[str, bool | None],
        value_bytes_max: int,
        scopes: Mapping[str, Scopes] = MappingProxyType({}),
    ) -> None:
        self._listed = {
            collection_prefix(name): (name, integer, scopes.get(name))
            for name, integer in integer_ids.items()
        }
        self._integer_ids = integer_ids
        self._scopes = scopes
        self._value_bytes_max = value_bytes_max

    def key(self, record: Record) -> Key | None:
        """See `Decoder.key`."""
        if record.key is None:
            return None
        collection = None
        try:
            collection = decode_key(record.key, None, scoped=None).collection
            integer = self._integer_ids.get(collection)
            return decode_key(record.key, integer, scoped=collection in self._scopes)
        except Rejected:
            return None

    def decode(self, record: Record) -> ChangeEvent | None:
        """
        The event, or None when its collection, or its scope, is not listed. A null value is a
        delete, which takes the log's time for its own.

        Raises Rejected with the code and the path of what is wrong.
        """
        raw_key = record.key
        if not raw_key:
            raise Rejected("key-missing", "the record has no key")
        prefix, _, raw_id = raw_key.partition(b"/")
        listed = self._listed.get(prefix)
        if listed is None:
            decode_key(raw_key, None, scoped=None)
            return None
        collection, integer, scopes = listed
        key = None
        if scopes is not None:
            # Which scope it is decides whether it is looked at, so there is no quicker way.
            key = decode_key(raw_key, integer, scoped=True)
            if not scopes.hold(key.id):
                return None
        value = record.value
        if value is None:
            key = key or decode_key(raw_key, integer)
            return ChangeEvent(op=Op.DELETE, key=key, ts_ms=max(record.at_ms, 0))
        if len(value) > self._value_bytes_max:
            raise Rejected(
                "value-too-large",
                f"the value has {len(value)} bytes, over the limit of {self._value_bytes_max}",
            )
        if value and value[0] in _MAP_FIRST:
            wire, unknown = _typed(value)
            if (
                wire is not None
                and wire.collection == collection
                and (
                    within(wire.scope, wire.id) == key.id
                    if key is not None
                    else wire.scope is None and _spelled(raw_id, wire.id, integer)
                )
            ):
                event = _quick(wire, key or Key(collection, wire.id), unknown)
                if event is not None:
                    return event
        read = key or decode_key(raw_key, integer)
        return read_plain(value, lambda fields: walk(fields, read, uuids=integer is None))


def _spelled(raw_id: bytes, point_id: BareId, integer: bool | None) -> bool:
    """Whether a key ends in this id, by the type and the spelling of the collection's ids."""
    whole = type(point_id) is int
    if integer is None:
        # Integers and UUIDs: which of them, and whether in canonical spelling.
        kind = raw_id.isdigit() if whole else len(raw_id) == 36
    else:
        kind = whole is integer
    return kind and spells(raw_id, point_id)


def encode(event: ChangeEvent) -> tuple[bytes, bytes]:
    """
    Key and MessagePack value of an event. A delete has a value too: compaction removes null
    values after a while. Raises Rejected for a payload that is not JSON and an id that no key
    can hold; vectors are written as they are.
    """
    value = _out(event, event.vectors)
    try:
        return encode_key(event.key), msgspec.msgpack.encode(value)
    except (OverflowError, TypeError, ValueError, RecursionError) as exc:
        raise Rejected("field-invalid", f"the event cannot be encoded: {exc}") from exc


def encode_json(event: ChangeEvent) -> tuple[bytes, bytes]:
    """Key and JSON value of an event: one line, which decodes to the same event."""
    vectors = {name: vector_to_json(vector) for name, vector in event.vectors.items()}
    value = _out(event, vectors)
    try:
        return encode_key(event.key), msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Rejected("field-invalid", f"the event cannot be encoded: {exc}") from exc


def event_from_json_line(line: bytes | str, *, now_ms: int) -> ChangeEvent:
    """
    An event as people and scripts write it for `replicator emit`: the JSON value of the event
    contract. `v` may be left out, and `ts`, for which `now_ms` stands then. The type of the id
    is as written. Raises Rejected, `field-unknown` for a field that the contract does not know:
    what stands in it would be lost without a word.
    """

    def read(fields: dict[Any, Any]) -> ChangeEvent:
        for name in unknown_fields(fields):
            raise _unknown(name)
        fields.setdefault("v", 1)
        fields.setdefault("ts", now_ms)
        collection = text_of(fields, "collection")
        point_id = within(scope_in(fields), id_of(fields))
        return walk(fields, Key(collection, canonical_id(point_id)))

    return read_plain(line.encode() if isinstance(line, str) else line, read)


def _unknown(name: str) -> Rejected:
    near = _MEANT.get(name.lower()) or next(
        iter(get_close_matches(name.lower(), sorted(FIELDS), 1, cutoff=0.6)), None
    )
    meant = f"; {near!r} is the nearest that there is" if near else ""
    return Rejected("field-unknown", f"an event has no field {name!r}{meant}", name)


def _typed(value: bytes) -> tuple[WireEvent | None, tuple[str, ...]]:
    """What the typed decoder reads, None where it cannot, and the names of unknown fields."""
    try:
        return decode_wire_event(value), ()
    except DECODE_ERRORS as error:
        if "unknown field" not in str(error):
            return None, ()
    try:
        return read_loosely(value)
    except DECODE_ERRORS:
        return None, ()


def _quick(wire: WireEvent, key: Key, unknown: tuple[str, ...]) -> ChangeEvent | None:
    """The event, or None in doubt: the walk finds out then."""
    vectors: Vectors = wire.vectors  # type: ignore[assignment]
    for name, vector in vectors.items():
        if type(vector) is bytes:
            if not vector or len(vector) & 3 or not is_finite(vector):
                return None
        else:
            shaped = _shaped(vector)  # type: ignore[arg-type]
            if shaped is None:
                return None
            vectors[name] = shaped
    op = wire.op
    if op is _UPSERT:
        if wire.set or wire.unset or wire.unset_vectors:
            return None
    elif op is _PATCH:
        if wire.payload or conflict(wire.set, wire.unset, vectors, wire.unset_vectors):
            return None
        wire.set, wire.unset = without_nulls(wire.set, wire.unset)
    elif wire.set or wire.unset or wire.unset_vectors or wire.payload or vectors:
        return None
    return ChangeEvent(
        op=op,
        key=key,
        ts_ms=wire.ts,
        vectors=vectors,
        payload=wire.payload,
        set=wire.set,
        unset=wire.unset,
        unset_vectors=wire.unset_vectors,
        version=wire.version,
        epoch=wire.epoch,
        writer=wire.writer,
        traceparent=wire.traceparent,
        unknown=unknown,
    )


def _shaped(shape: WireShape) -> Vector | None:
    indices, values, rows, data = shape.indices, shape.values, shape.rows, shape.data
    if indices is not None and values is not None and rows is None and data is None:
        if len(indices) != len(values) or len(indices) & 3 or not is_ascending(indices):
            return None
        return SparseVector(indices, values) if is_finite(values) else None
    if rows is not None and data is not None and indices is None and values is None:
        if rows < 1 or not data or len(data) % (4 * rows) or not is_finite(data):
            return None
        return MultiVector(rows, data)
    return None


def _out(event: ChangeEvent, vectors: dict[str, Any]) -> OutEvent:
    # The encoders would write what no decoder takes, and JSON's null for NaN.
    check_payload(event.payload, "payload")
    check_payload(event.set, "set")
    return OutEvent(
        v=1,
        op=event.op,
        collection=event.key.collection,
        id=bare(canonical_id(event.key.id)),
        scope=scope_of(event.key.id),
        ts=event.ts_ms,
        vectors=vectors,
        payload=event.payload,
        set=event.set,
        unset=event.unset,
        unset_vectors=event.unset_vectors,
        version=event.version,
        epoch=event.epoch,
        writer=event.writer,
        traceparent=event.traceparent,
    )
