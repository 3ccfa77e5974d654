"""
Which field of a collection is what: the key, vectors, the payload.

Options say so first, then what we left in the properties of a collection that we made, then the
collection itself: its primary key, the types of its fields. So a collection that a person made
needs neither, and one of ours is read as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from replicator.connectors.milvus.configuration import (
    DISTANCES,
    KIND,
    index_of,
    native_of,
    with_index,
)
from replicator.connectors.milvus.field_types import (
    ELEMENTS,
    SCALARS,
    Field,
    Type,
    told_of,
)
from replicator.connectors.milvus.kind import MILVUS, MilvusOptions
from replicator.connectors.milvus.vectors import DENSE
from replicator.connectors.milvus.wire import Message
from replicator.errors import Refused
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IdLimits,
    Mark,
    Precision,
    VectorKind,
    VectorSchema,
)

KEY = "id"
VECTOR = "vector"
PAYLOAD = "payload"
DYNAMIC = "$meta"
"""How Milvus calls the field that holds what no other one is declared for."""

DEFAULT_PARTITION = "_default"

MADE_KEY = "replicator.made"
MARK_KEY = "replicator.mark"
"""Properties of ours. The first says which vector a field is, of a collection that we made."""

_KEYS = {Type.INT64: IdKinds.UINT64, Type.VARCHAR: IdKinds.STRING}


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """A field of vectors."""

    field: str
    type: Type
    indexed: bool
    schema: VectorSchema

    @property
    def nullable(self) -> bool:
        """A point may be without it."""
        return not self.schema.required


class Marked(msgspec.Struct, frozen=True):
    """Our mark. `collection`: the number of the collection that it was left at."""

    capture_id: str
    epoch: int
    incarnation: int
    collection: int


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """A collection, as it is kept."""

    name: str
    number: int
    """By which the server knows it; another one after it was made anew, or restored."""
    key: Field
    key_is_made: bool
    """By the server (autoID)."""
    vectors: dict[str, Vectors]
    payload: str | None
    """The JSON field that is the payload; None where `fields` are."""
    fields: dict[str, Field]
    dynamic: bool
    """The payload holds what the dynamic field does."""
    left: tuple[str, ...]
    """Fields that are nothing of a point."""
    unwritable: tuple[str, ...]
    """Of these, such as no point can be written without."""
    partition: str | None
    properties: dict[str, str]
    native: dict[str, Any]
    """What else the collection says of itself, in Milvus's words."""
    physical: str
    """The collection itself, where `name` is an alias."""

    @property
    def ids(self) -> IdKinds:
        """Which kind of ids the key has."""
        return _KEYS[self.key.type]

    @property
    def id_limits(self) -> IdLimits:
        """How far the key goes."""
        limits = MILVUS.traits.ids.limits
        most = self.key.length_max
        if most is None or most >= limits.text_bytes_max:
            return limits
        return msgspec.structs.replace(limits, text_bytes_max=most)

    @property
    def made(self) -> bool:
        """A replicator made it."""
        return MADE_KEY in self.properties

    @property
    def mark(self) -> Mark | None:
        """
        Ours, if it is of this very collection: a backup brings properties back, and would vouch
        for rows of another day.
        """
        try:
            told = msgspec.json.decode(self.properties.get(MARK_KEY, ""), type=Marked)
        except msgspec.MsgspecError:
            return None
        if told.collection != self.number:
            return None
        return Mark(told.capture_id, told.epoch, told.incarnation)

    def schema_of(self, points: int | None = None) -> CollectionSchema:
        """What the collection says of itself."""
        facts = MILVUS.traits.facts()
        facts |= {"ids": self.ids, "id_limits": self.id_limits}
        facts["null_is_absence"] = self.payload is None
        mark = self.mark or Mark("")
        return CollectionSchema(
            name=self.name,
            vectors={name: each.schema for name, each in self.vectors.items()},
            points=points,
            capture_id=mark.capture_id or None,
            mark_epoch=mark.epoch,
            mark_incarnation=mark.incarnation,
            made=self.made,
            native_kind=KIND,
            native=self.native,
            physical=self.physical if self.physical != self.name else None,
            **facts,
        )


class _Unfit(Exception):
    """Why a collection cannot be read as points."""


def layout_of(
    name: str,
    described: Message,
    partitions: list[str],
    indexes: Mapping[str, dict[str, str]],
    options: MilvusOptions,
) -> Layout:
    """
    From the answers of the server. `indexes`: vector field → what its index says of itself.
    Raises Refused("unsupported") for what cannot be read as points, and says why.
    """
    try:
        return _layout(name, described, partitions, indexes, options)
    except _Unfit as exc:
        raise Refused("unsupported", f"the collection {name!r} {exc}") from None


def _layout(
    name: str,
    described: Message,
    partitions: list[str],
    indexes: Mapping[str, dict[str, str]],
    options: MilvusOptions,
) -> Layout:
    declared = {each.name: each for each in described.schema.fields if not each.is_dynamic}
    for chosen in filter(None, (options.payload_field, *options.vectors)):
        if chosen not in declared:
            raise _Unfit(f"has no field {chosen!r}, which the options name")
    properties = {each.key: each.value for each in described.properties}
    key, key_is_made = _key(described.schema)
    vectors = _vectors(declared, indexes, options, properties)
    taken = {key.name, *(each.field for each in vectors.values())}
    rest = {name: each for name, each in declared.items() if name not in taken}
    dynamic = bool(described.schema.enable_dynamic_field)
    payload = _payload(rest, dynamic, options.payload_field)
    fields = {} if payload is not None else dict(_fields(rest))
    left = [name for name in rest if name != payload and name not in fields]
    if payload is not None and dynamic:
        left.append(DYNAMIC)
    return Layout(
        name=name,
        number=described.collectionID,
        key=key,
        key_is_made=key_is_made,
        vectors=vectors,
        payload=payload,
        fields=fields,
        dynamic=dynamic and payload is None,
        left=tuple(left),
        unwritable=tuple(name for name in left if _is_demanded(rest.get(name))),
        partition=_partition(declared, partitions, options.partition),
        properties=properties,
        native=native_of(
            described,
            {name: told_of(each) for name, each in fields.items()},
            dynamic=dynamic and payload is None,
        ),
        physical=described.collection_name or name,
    )


def _key(schema: Message) -> tuple[Field, bool]:
    [key] = [each for each in schema.fields if each.is_primary_key]
    if key.data_type not in _KEYS:
        raise _Unfit("has a key that is neither INT64 nor VARCHAR")
    return _field(key), bool(key.autoID or schema.autoID)


def _field(told: Message) -> Field:
    params = {each.key: each.value for each in told.type_params}
    return Field(
        name=told.name,
        type=Type(told.data_type),
        nullable=told.nullable,
        filled=told.HasField("default_value"),
        length_max=int(params["max_length"]) if "max_length" in params else None,
        element=Type(told.element_type) if told.element_type else None,
        capacity=int(params["max_capacity"]) if "max_capacity" in params else None,
    )


def _fields(rest: Mapping[str, Message]) -> Iterator[tuple[str, Field]]:
    for name, each in rest.items():
        is_array = each.data_type == Type.ARRAY
        if each.data_type in SCALARS and (not is_array or each.element_type in ELEMENTS):
            yield name, _field(each)


def _is_demanded(told: Message | None) -> bool:
    if told is None or told.is_function_output:
        return False
    return not told.nullable and not told.HasField("default_value")


def _payload(rest: Mapping[str, Message], dynamic: bool, chosen: str) -> str | None:
    if chosen:
        if chosen not in rest or rest[chosen].data_type != Type.JSON:
            raise _Unfit(f"has a field {chosen!r} that is no JSON, and so not the payload")
        return chosen
    if not dynamic and [(n, each.data_type) for n, each in rest.items()] == [
        (PAYLOAD, Type.JSON)
    ]:
        return PAYLOAD
    return None


def _partition(
    declared: Mapping[str, Message], partitions: list[str], chosen: str
) -> str | None:
    if any(each.is_partition_key for each in declared.values()):
        if chosen:
            raise _Unfit("has a partition key, by which the server itself parts its points")
        return None
    if chosen:
        if chosen not in partitions:
            raise _Unfit(f"has no partition {chosen!r}")
        return chosen
    if others := [each for each in partitions if each != DEFAULT_PARTITION]:
        raise _Unfit(
            f"has the partitions {', '.join(map(repr, others))} beside the default one, and a"
            " key is unique only within one: name one of them (or '_default') as `partition`"
            " in its options, in a migration for each"
        )
    return None


def _vectors(
    declared: Mapping[str, Message],
    indexes: Mapping[str, dict[str, str]],
    options: MilvusOptions,
    properties: Mapping[str, str],
) -> dict[str, Vectors]:
    there = {
        name: each
        for name, each in declared.items()
        if each.data_type in DENSE | {Type.SPARSE_VECTOR} and not each.is_function_output
    }
    for chosen in options.vectors:
        if chosen not in there:
            raise _Unfit(f"has a field {chosen!r} that holds no vectors of numbers")
    names = options.vectors or _made_names(properties)
    if not names or not names.keys() <= there.keys():
        names = dict.fromkeys(there, "") if len(there) == 1 else {name: name for name in there}
    if len(set(names.values())) < len(names):
        raise _Unfit("has two fields that are to be one vector")
    return {
        vector: _vector(there[name], indexes.get(name), options.distance)
        for name, vector in names.items()
    }


def _made_names(properties: Mapping[str, str]) -> dict[str, str]:
    try:
        return msgspec.json.decode(properties.get(MADE_KEY, ""), type=dict[str, str])
    except msgspec.MsgspecError:
        return {}


def _vector(told: Message, index: dict[str, str] | None, distance: str) -> Vectors:
    kind = Type(told.data_type)
    params = {each.key: each.value for each in told.type_params}
    found = DISTANCES.get((index or {}).get("metric_type", ""))
    is_sparse = kind is Type.SPARSE_VECTOR
    if found is None and distance and not is_sparse:
        found = Distance(distance)
    return Vectors(
        field=told.name,
        type=kind,
        indexed=index is not None,
        schema=with_index(
            VectorSchema(
                kind=VectorKind.SPARSE if is_sparse else VectorKind.DENSE,
                size=None if is_sparse else int(params["dim"]),
                # Sparse vectors are compared by their product everywhere.
                distance=None if is_sparse else found,
                required=not told.nullable,
                precision=Precision.FLOAT16
                if kind is Type.FLOAT16_VECTOR
                else Precision.FLOAT32,
            ),
            index_of(index or {}),
        ),
    )
