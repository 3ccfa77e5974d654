"""
Reading an event field by field: slower than the typed decoder, and precise about what is wrong.

Here the event contract is spelled out in full. A record comes this way when the typed decoder
refused it, and every JSON event does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replicator.codecs.keys import canonical_id, check_scope
from replicator.codecs.numeric import is_finite
from replicator.codecs.payload import check_payload, join
from replicator.codecs.vectors import vector_from_wire
from replicator.codecs.wire import VERSION_MAX, unknown_fields
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import BareId, SparseVector, Vectors, bare, scope_of

_OPS = {op.value: op for op in Op}


def walk(fields: dict[Any, Any], key: Key, *, uuids: bool = False) -> ChangeEvent:
    """
    The event of a decoded value, whose record has this key. `uuids`: the collection's texts are
    UUIDs, in whatever spelling. Raises Rejected with the code and path of the first field that
    breaks the contract.
    """
    version = fields.get("v")
    if "v" not in fields:
        raise _missing("v")
    if type(version) is not int:
        raise _wrong("v", "an integer", version)
    if version != 1:
        raise Rejected("field-invalid", f"v is {version}; this release reads 1", "v")
    op = _OPS.get(name := text_of(fields, "op"))
    if op is None:
        raise Rejected("field-invalid", f"op is {name!r}, not upsert, patch or delete", "op")
    _same_key(fields, key, uuids=uuids)
    if "ts" not in fields:
        raise _missing("ts")
    vectors = _vectors(fields)
    payload = _payload(fields, "payload")
    set_ = _payload(fields, "set")
    unset = _names(fields, "unset")
    unset_vectors = _names(fields, "unset_vectors")
    _belongs(op, set=set_, unset=unset, unset_vectors=unset_vectors, payload=payload)
    clash = conflict(set_, unset, vectors, unset_vectors)
    if clash is not None:
        raise Rejected("field-invalid", f"{clash} is both given and removed", clash)
    set_, unset = without_nulls(set_, unset)
    deleted = op is Op.DELETE
    return ChangeEvent(
        op=op,
        key=key,
        ts_ms=_count(fields, "ts") or 0,
        vectors={} if deleted else vectors,
        payload={} if deleted else payload,
        set=set_,
        unset=unset,
        unset_vectors=unset_vectors,
        version=_count(fields, "version", optional=True),
        epoch=_count(fields, "epoch", optional=True),
        writer=_optional_text(fields, "writer"),
        traceparent=_optional_text(fields, "traceparent"),
        unknown=unknown_fields(fields),
    )


def _same_key(fields: dict[Any, Any], key: Key, *, uuids: bool) -> None:
    collection = text_of(fields, "collection")
    point_id = id_of(fields)
    if collection != key.collection:
        raise Rejected(
            "key-mismatch",
            f"the key says collection {key.collection!r}, the value {collection!r}",
            "collection",
        )
    scope, known, known_scope = scope_in(fields), bare(key.id), scope_of(key.id)
    check_scope(scope, known_scope is not None, "the value")
    if scope != known_scope:
        raise Rejected(
            "key-mismatch",
            f"the key says scope {known_scope!r}, the value {scope!r}",
            "scope",
        )
    if type(point_id) is not type(known):
        expected = "an integer" if isinstance(known, int) else "a string"
        raise Rejected("field-type", f"id is not {expected}, as the collection's ids are", "id")
    if canonical_id(point_id, uuids=uuids) != known:
        raise Rejected("key-mismatch", "the ids of key and value differ", "id")


def scope_in(fields: dict[Any, Any]) -> str | None:
    """The scope as the value has it. Raises Rejected."""
    return _optional_text(fields, "scope")


def id_of(fields: dict[Any, Any]) -> BareId:
    """The id as the value has it. Raises Rejected."""
    if "id" not in fields:
        raise _missing("id")
    point_id = fields["id"]
    if type(point_id) is not int and type(point_id) is not str:
        raise _wrong("id", "an integer or a string", point_id)
    assert isinstance(point_id, (int, str))
    return point_id


def _vectors(fields: dict[Any, Any]) -> Vectors:
    vectors: Vectors = {}
    for name, value in _map(fields, "vectors").items():
        path = join("vectors", name)
        vector = vector_from_wire(value, path)
        data = (
            vector
            if isinstance(vector, bytes)
            else vector.values
            if isinstance(vector, SparseVector)
            else vector.data
        )
        if not is_finite(data):
            raise Rejected("vector-not-finite", f"{path} holds NaN or Infinity", path)
        vectors[name] = vector
    return vectors


def _payload(fields: dict[Any, Any], name: str) -> dict[str, Any]:
    payload = _map(fields, name)
    check_payload(payload, name)
    return payload


def _map(fields: dict[Any, Any], name: str) -> dict[str, Any]:
    value = fields.get(name, {})
    if type(value) is not dict:
        raise _wrong(name, "a map", value)
    for key in value:
        if type(key) is not str:
            raise _wrong(f"{name}, a key,", "a string", key, name)
    return value


def _names(fields: dict[Any, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name, [])
    if type(value) is not list:
        raise _wrong(name, "a list", value)
    for index, item in enumerate(value):
        if type(item) is not str:
            raise _wrong(join(name, index), "a string", item)
    return tuple(value)


def _belongs(op: Op, **given: object) -> None:
    """Refuse what would otherwise be lost without a word."""
    for name, value in given.items():
        belongs = op is Op.PATCH if name != "payload" else op is not Op.PATCH
        if value and not belongs:
            hint = (
                "a patch gives payload keys in `set`"
                if op is Op.PATCH
                else "only a patch has it"
            )
            raise Rejected(
                "field-invalid", f"{name} does not belong in op {op.value}: {hint}", name
            )


def text_of(fields: dict[Any, Any], name: str) -> str:
    """A string that must be there. Raises Rejected."""
    if name not in fields:
        raise _missing(name)
    value = fields[name]
    if type(value) is not str:
        raise _wrong(name, "a string", value)
    assert isinstance(value, str)
    return value


def _optional_text(fields: dict[Any, Any], name: str) -> str | None:
    return None if fields.get(name) is None else text_of(fields, name)


def _count(fields: dict[Any, Any], name: str, *, optional: bool = False) -> int | None:
    value = fields.get(name)
    if value is None and optional:
        return None
    if type(value) is not int:
        raise _wrong(name, "an integer", value)
    assert isinstance(value, int)
    if not 0 <= value <= VERSION_MAX:
        raise Rejected("field-invalid", f"{name} is not within 0 and 2^53", name)
    return value


def conflict(
    set_: Mapping[str, Any],
    unset: tuple[str, ...],
    vectors: Mapping[str, Any],
    unset_vectors: tuple[str, ...],
) -> str | None:
    """The path of a name that a patch both gives and removes."""
    for name in unset:
        if name in set_:
            return join("unset", name)
    for name in unset_vectors:
        if name in vectors:
            return join("unset_vectors", name)
    return None


def without_nulls(
    set_: dict[str, Any], unset: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a patch sets and removes, with each null at the top level said as a removal."""
    removed = tuple(name for name, value in set_.items() if value is None)
    if not removed:
        return set_, unset
    return {name: set_[name] for name in set_ if set_[name] is not None}, unset + removed


def _missing(name: str) -> Rejected:
    return Rejected("field-missing", f"{name} is missing", name)


def _wrong(name: str, expected: str, value: object, path: str | None = None) -> Rejected:
    kind = "null" if value is None else type(value).__name__
    return Rejected("field-type", f"{name} is {kind}, not {expected}", path or name)
