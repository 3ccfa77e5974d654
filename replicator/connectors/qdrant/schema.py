"""Collections: what Qdrant says of one → the neutral schema and the native documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replicator.connectors.qdrant.bulk import (
    CAPTURE_KEY,
    EPOCH_KEY,
    INCARNATION_KEY,
    OURS,
    Indexing,
    read_indexing,
)
from replicator.connectors.qdrant.kind import QDRANT
from replicator.connectors.qdrant.native import read_document, unnamed
from replicator.connectors.qdrant.neutral import restate
from replicator.connectors.qdrant.values import read_payload, read_value
from replicator.connectors.qdrant.wire import Message, wire
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    Mark,
    Precision,
    VectorKind,
    VectorSchema,
)

KIND = "qdrant"
"""Whose words the native documents are in."""

UNNAMED = "unnamed_fields"
"""Of the native document: what the server said and the installed client has no name for."""

_DISTANCES = {
    "Cosine": Distance.COSINE,
    "Dot": Distance.DOT,
    "Euclid": Distance.EUCLID,
    "Manhattan": Distance.MANHATTAN,
}
_PRECISIONS = {precision.value.capitalize(): precision for precision in Precision}
_PER_VECTOR = ("vectors_config", "sparse_vectors_config")
_SAYS_NOTHING = {"modifier": "None", "sharding_method": "Auto"}
"""Values that are the same as none."""


def read_schema(name: str, info: Message, points: int | None) -> CollectionSchema:
    """Translate a `CollectionInfo`; `points` is an exact count."""
    mark = _read_mark(info.config.metadata)
    vectors = read_vector_schemas(info.config.params)
    native = _native(info)
    _part_strict_mode(native, vectors)
    indexing = read_indexing(info)
    schema = CollectionSchema(
        name=name,
        vectors=vectors,
        scoped=is_custom_sharded(info),
        indexes=read_indexes(info),
        index_options={
            field: options
            for field, index in info.payload_schema.items()
            if (options := _index_options(index))
        },
        points=points,
        capture_id=mark.capture_id if mark is not None else None,
        mark_epoch=mark.epoch if mark is not None else 0,
        mark_incarnation=mark.incarnation if mark is not None else 0,
        native_kind=KIND,
        native=native,
        made=indexing is not Indexing.FOREIGN,
        unfinished=indexing in (Indexing.CREATED, Indexing.DEFERRED),
        details=_details(info),
        **QDRANT.traits.facts(),
    )
    return restate(schema)


def read_indexes(info: Message) -> dict[str, str]:
    """Payload field → the store-neutral type of its index."""
    kinds = {number: kind.lower() for kind, number in wire().enum("PayloadSchemaType").items()}
    return {field: kinds[index.data_type] for field, index in info.payload_schema.items()}


def _read_mark(metadata: Mapping[str, Message]) -> Mark | None:
    found = {
        key: read_value(metadata[key])
        for key in (CAPTURE_KEY, EPOCH_KEY, INCARNATION_KEY)
        if key in metadata
    }
    capture_id = found.get(CAPTURE_KEY)
    if not isinstance(capture_id, str) or not capture_id:
        return None
    numbers = [found.get(key, 0) for key in (EPOCH_KEY, INCARNATION_KEY)]
    epoch, incarnation = (each if isinstance(each, int) else 0 for each in numbers)
    return Mark(capture_id, epoch, incarnation)


def write_mark(metadata: Mapping[str, Message], mark: Mark) -> None:
    """Put a mark into the metadata of a request."""
    metadata[CAPTURE_KEY].string_value = mark.capture_id
    metadata[EPOCH_KEY].integer_value = mark.epoch
    metadata[INCARNATION_KEY].integer_value = mark.incarnation


def read_vector_schemas(params: Message) -> dict[str, VectorSchema]:
    """The vectors of `CollectionParams`, dense ones and sparse ones."""
    config = params.vectors_config
    dense: dict[str, Message] = (
        {"": config.params}
        if config.WhichOneof("config") == "params"
        else dict(config.params_map.map)
    )
    found = {name: _dense(vector) for name, vector in dense.items()}
    for name, vector in params.sparse_vectors_config.map.items():
        found[name] = VectorSchema(kind=VectorKind.SPARSE, native=_said(read_document(vector)))
    return found


def distance_name(distance: Distance) -> str:
    """Qdrant's word for a distance."""
    return next(word for word, known in _DISTANCES.items() if known is distance)


def index_type(kind: str) -> int | None:
    """The `FieldType` of a store-neutral index type; None for one that Qdrant does not have."""
    return wire().enum("FieldType").get(f"FieldType{kind.capitalize()}")


def conflicts(wanted: CollectionSchema, info: Message) -> list[str]:
    """What keeps an existing collection from holding the wanted vectors."""
    present = read_vector_schemas(info.config.params)
    found = []
    if is_custom_sharded(info) and not wanted.scoped:
        found.append("it has custom shard keys, and a point does not say its own")
    for name, vector in (wanted.vectors or {}).items():
        other = present.get(name)
        if other is None:
            found.append(f"it has no vector {name!r}")
        elif other.kind is not vector.kind:
            found.append(f"its vector {name!r} is {other.kind.value}, not {vector.kind.value}")
        elif None not in (vector.size, other.size) and other.size != vector.size:
            found.append(f"its vector {name!r} has {other.size} dimensions, not {vector.size}")
    return found


def is_custom_sharded(info: Message) -> bool:
    """Whether every write must name a shard key."""
    method: int = info.config.params.sharding_method
    return method == wire().enum("ShardingMethod")["Custom"]


def _dense(vector: Message) -> VectorSchema:
    names = {number: name for name, number in wire().enum("Distance").items()}
    native = _said(read_document(vector, skip=("size", "distance")))
    datatype = native.get("datatype", "Default")
    precision = Precision.FLOAT32 if datatype == "Default" else _PRECISIONS.get(datatype)
    if precision is not None:
        native.pop("datatype", None)
    return VectorSchema(
        kind=VectorKind.MULTI if vector.HasField("multivector_config") else VectorKind.DENSE,
        size=vector.size,
        distance=_DISTANCES.get(names.get(vector.distance, "")),
        # One that has no name here is in the native document, and differs from any other.
        precision=precision or Precision.FLOAT32,
        native=native,
    )


def _native(info: Message) -> dict[str, Any]:
    config = info.config
    native = read_document(config, skip=("params", "metadata"))
    native |= _said(read_document(config.params, skip=_PER_VECTOR))
    if "payload" in native:
        native.pop("on_disk_payload", None)  # the older word for the same
    metadata = {
        key: value
        for key, value in read_payload(config.metadata).items()
        if not key.startswith(OURS)
    }
    if metadata:
        native["metadata"] = metadata
    foreign = sorted({*unnamed(config), *_unnamed_indexes(info)})
    if foreign:
        native[UNNAMED] = foreign
    return native


def _unnamed_indexes(info: Message) -> list[str]:
    return [said for index in info.payload_schema.values() for said in unnamed(index)]


def _part_strict_mode(native: dict[str, Any], vectors: dict[str, VectorSchema]) -> None:
    """Give each vector the limits that strict mode has for it, under whatever name it goes."""
    strict = native.get("strict_mode_config", {})
    for part in [name for name, value in strict.items() if isinstance(value, dict)]:
        for inner, named in strict[part].items():
            for name in [name for name in named if name in vectors]:
                limits = vectors[name].native.setdefault("strict_mode_config", {})
                limits[part] = {inner: named.pop(name)}
        if strict[part] and not any(strict[part].values()):
            del strict[part]


def _index_options(index: Message) -> dict[str, Any]:
    chosen = index.params.WhichOneof("index_params") if index.HasField("params") else None
    return read_document(getattr(index.params, chosen)) if chosen is not None else {}


def _said(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if _SAYS_NOTHING.get(name) != value}


def _details(info: Message) -> dict[str, Any]:
    params, statuses = info.config.params, wire().enum("CollectionStatus")
    return {
        "status": next(name for name, n in statuses.items() if n == info.status).lower(),
        "segments": info.segments_count,
        "indexed_vectors": info.indexed_vectors_count,
        "shards": params.shard_number,
        "replicas": params.replication_factor,
        "indexing_threshold_kb": info.config.optimizer_config.indexing_threshold,
    }
