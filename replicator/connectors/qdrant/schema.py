"""Collections: what Qdrant says of one ↔ the neutral schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replicator.connectors.qdrant.bulk import CAPTURE_KEY, EPOCH_KEY, INCARNATION_KEY
from replicator.connectors.qdrant.values import read_value
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Refused
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    Mark,
    VectorKind,
    VectorSchema,
)

_DISTANCES = {
    "Cosine": Distance.COSINE,
    "Dot": Distance.DOT,
    "Euclid": Distance.EUCLID,
    "Manhattan": Distance.MANHATTAN,
}


def read_schema(name: str, info: Message, points: int | None) -> CollectionSchema:
    """Translate a `CollectionInfo`; `points` is an exact count."""
    mark = _read_mark(info.config.metadata)
    kinds = {number: kind.lower() for kind, number in wire().enum("PayloadSchemaType").items()}
    params = info.config.params
    return CollectionSchema(
        name=name,
        vectors=read_vector_schemas(params),
        ids=IdKinds.UINT64 | IdKinds.UUID,
        indexes={field: kinds[index.data_type] for field, index in info.payload_schema.items()},
        points=points,
        capture_id=mark.capture_id if mark is not None else None,
        mark_epoch=mark.epoch if mark is not None else 0,
        mark_incarnation=mark.incarnation if mark is not None else 0,
        normalises=True,
        details=_details(info),
    )


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
    names = {number: name for name, number in wire().enum("Distance").items()}
    found = {
        name: VectorSchema(
            kind=VectorKind.MULTI
            if vector.HasField("multivector_config")
            else VectorKind.DENSE,
            size=vector.size,
            distance=_DISTANCES.get(names.get(vector.distance, "")),
        )
        for name, vector in dense.items()
    }
    for name in params.sparse_vectors_config.map:
        found[name] = VectorSchema(kind=VectorKind.SPARSE)
    return found


def write_collection(target: Message, wanted: CollectionSchema) -> None:
    """Fill the vectors of a `CreateCollection`. Raises Refused when the schema lacks some."""
    if wanted.vectors is None:
        raise Refused(
            "target-incompatible",
            f"the vectors of {wanted.name} are not known, and Qdrant needs them to create it:"
            " create the collection by hand",
        )
    dense = {
        name: vector
        for name, vector in wanted.vectors.items()
        if vector.kind is not VectorKind.SPARSE
    }
    if set(dense) == {""}:
        _write_vector(target.vectors_config.params, wanted.name, "", dense[""])
    else:
        target.vectors_config.params_map.SetInParent()
        for name, vector in dense.items():
            _write_vector(target.vectors_config.params_map.map[name], wanted.name, name, vector)
    for name, vector in wanted.vectors.items():
        if vector.kind is VectorKind.SPARSE:
            target.sparse_vectors_config.map[name].SetInParent()


def index_type(kind: str) -> int | None:
    """The `FieldType` of a store-neutral index type; None for one that Qdrant does not have."""
    return wire().enum("FieldType").get(f"FieldType{kind.capitalize()}")


def conflicts(wanted: CollectionSchema, info: Message) -> list[str]:
    """What keeps an existing collection from holding the wanted vectors."""
    present = read_vector_schemas(info.config.params)
    found = []
    if _is_custom_sharded(info):
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


def copy_collection(name: str, info: Message) -> Message:
    """A `CreateCollection` that makes an empty collection of the same configuration."""
    config, params = info.config, info.config.params
    if _is_custom_sharded(info):
        raise Refused("unsupported", f"{name} has custom shard keys: empty it by hand")
    made = wire().CreateCollection(collection_name=name)
    pairs: tuple[tuple[str, Message, str], ...] = (
        ("hnsw_config", config, "hnsw_config"),
        ("wal_config", config, "wal_config"),
        ("optimizers_config", config, "optimizer_config"),
        ("quantization_config", config, "quantization_config"),
        ("strict_mode_config", config, "strict_mode_config"),
        ("vectors_config", params, "vectors_config"),
        ("sparse_vectors_config", params, "sparse_vectors_config"),
        ("payload", params, "payload"),
        ("id_tracker", params, "id_tracker"),
    )
    for field, holder, source in pairs:
        if holder.HasField(source):
            getattr(made, field).CopyFrom(getattr(holder, source))
    for field in ("replication_factor", "write_consistency_factor"):
        if params.HasField(field):
            setattr(made, field, getattr(params, field))
    made.shard_number = params.shard_number
    if not params.HasField("payload"):
        made.on_disk_payload = params.on_disk_payload
    for key, value in config.metadata.items():
        if key not in (CAPTURE_KEY, EPOCH_KEY, INCARNATION_KEY):
            made.metadata[key].CopyFrom(value)
    return made


def _write_vector(target: Message, collection: str, name: str, vector: VectorSchema) -> None:
    if vector.size is None or vector.distance is None:
        raise Refused(
            "target-incompatible",
            f"vector {name!r} of {collection} has no known dimension or distance, and Qdrant"
            " needs both to create it",
        )
    names = {distance: word for word, distance in _DISTANCES.items()}
    target.size = vector.size
    target.distance = wire().enum("Distance")[names[vector.distance]]
    if vector.kind is VectorKind.MULTI:
        target.multivector_config.comparator = wire().enum("MultiVectorComparator")["MaxSim"]


def _is_custom_sharded(info: Message) -> bool:
    method: int = info.config.params.sharding_method
    return method == wire().enum("ShardingMethod")["Custom"]


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
