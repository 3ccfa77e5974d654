"""A collection's configuration: CreateCollection ↔ the engine's, and CollectionInfo."""

from __future__ import annotations

from collections.abc import Sequence

import qdrant_edge as edge

from replicator.connectors.qdrant.wire import Message, wire
from replicator.local_store.answers import invalid, unsupported
from replicator.local_store.registry import StoredCollection

_SHOWN_AS = {"optimizers_config": "optimizer_config"}
"""Fields of `CreateCollection` that `CollectionConfig` calls otherwise."""


def fill_defaults(create: Message) -> None:
    """What a server shows for a setting that was not given."""
    _fill(
        create.hnsw_config,
        {
            "m": 16,
            "ef_construct": 100,
            "full_scan_threshold": 10_000,
            "max_indexing_threads": 0,
        },
    )
    _fill(
        create.optimizers_config,
        {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "indexing_threshold": 10_000,
            "flush_interval_sec": 5,
        },
    )
    _fill(
        create.wal_config,
        {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
    )
    _fill(create, {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1})


_DIMENSIONS_MAX = 65_536
"""As on a server."""


def read_config(create: Message) -> edge.EdgeConfig:
    """The engine's configuration for a new shard."""
    config = create.vectors_config
    if config.WhichOneof("config") == "params":
        dense = {"": _dense(config.params)}
    else:
        dense = {name: _dense(params) for name, params in config.params_map.map.items()}
    sparse = {
        name: _sparse(params) for name, params in create.sparse_vectors_config.map.items()
    }
    if not dense and not sparse:
        raise unsupported("collections without vectors")
    return edge.EdgeConfig(vectors=dense or None, sparse_vectors=sparse or None)


def write_info(
    target: Message,
    stored: StoredCollection,
    engines: Sequence[edge.ShardInfo],
    optimising: bool,
) -> None:
    """Fill a `CollectionInfo`: what was asked for, by the names of its fields."""
    target.status = wire().enum("CollectionStatus")["Yellow" if optimising else "Green"]
    target.optimizer_status.ok = True
    target.segments_count = sum(engine.segments_count for engine in engines)
    target.points_count = sum(engine.points_count for engine in engines)
    target.indexed_vectors_count = sum(engine.indexed_vectors_count for engine in engines)
    params, config = target.config.params, target.config
    params.on_disk_payload = True  # a server's own default
    late = wire().CollectionParamsDiff.FromString(stored.late)
    for message in (wire().CreateCollection.FromString(stored.create), late):
        for field, value in message.ListFields():
            name = _SHOWN_AS.get(field.name, field.name)
            for holder in (config, params):
                if name in holder.DESCRIPTOR.fields_by_name:
                    _put(holder, name, field, value)
    kinds = wire().enum("PayloadSchemaType")
    indexes = [item for engine in engines for item in engine.payload_schema.items()]
    for field, index in indexes:
        shown = target.payload_schema[field]
        # One that an earlier release made is not in the registry.
        shown.data_type = kinds[str(index.data_type).rpartition(".")[2]]
        points = shown.points + index.points
        shown.MergeFromString(stored.indexes.get(field, b""))
        shown.points = points
    if not engines:
        # Shards that are made later will have them.
        for field, kept in stored.indexes.items():
            target.payload_schema[field].MergeFromString(kept)


def merge_update(stored: StoredCollection, request: Message) -> None:
    """Apply an `UpdateCollection` to what is stored."""
    create = wire().CreateCollection.FromString(stored.create)
    late = wire().CollectionParamsDiff.FromString(stored.late)
    for field in ("optimizers_config", "hnsw_config", "strict_mode_config"):
        if request.HasField(field):
            getattr(create, field).MergeFrom(getattr(request, field))
    for field, value in request.params.ListFields():
        holder = create if field.name in create.DESCRIPTOR.fields_by_name else late
        _put(holder, field.name, field, value)
    if request.HasField("quantization_config"):
        _quantize(create, request.quantization_config)
    if request.HasField("vectors_config"):
        _update_vectors(create, request.vectors_config)
    for name, params in request.sparse_vectors_config.map.items():
        if name not in create.sparse_vectors_config.map:
            raise invalid(f"Wrong input: Not existing vector name error: {name}")
        create.sparse_vectors_config.map[name].MergeFrom(params)
    for key, value in request.metadata.items():
        if value.WhichOneof("kind") in (None, "null_value"):
            create.metadata.pop(key, None)
        else:
            create.metadata[key].CopyFrom(value)
    stored.create, stored.late = create.SerializeToString(), late.SerializeToString()


def _update_vectors(create: Message, diff: Message) -> None:
    config = create.vectors_config
    dense = (
        {"": config.params}
        if config.WhichOneof("config") == "params"
        else dict(config.params_map.map)
    )
    changes = (
        {"": diff.params}
        if diff.WhichOneof("config") == "params"
        else dict(diff.params_map.map)
    )
    for name, change in changes.items():
        if name not in dense:
            raise invalid(f"Wrong input: Not existing vector name error: {name}")
        for field, value in change.ListFields():
            if field.name == "quantization_config":
                _quantize(dense[name], value)
            elif field.message_type is None:
                setattr(dense[name], field.name, value)
            else:
                getattr(dense[name], field.name).MergeFrom(value)


def _quantize(holder: Message, diff: Message) -> None:
    chosen = diff.WhichOneof("quantization")
    holder.ClearField("quantization_config")
    if chosen is not None and chosen != "disabled":
        getattr(holder.quantization_config, chosen).CopyFrom(getattr(diff, chosen))


def _put(holder: Message, name: str, field: object, value: object) -> None:
    if name == "metadata":
        for key in value:  # type: ignore[attr-defined]
            holder.metadata[key].CopyFrom(value[key])  # type: ignore[index]
    elif field.message_type is None:  # type: ignore[attr-defined]
        setattr(holder, name, value)
    else:
        getattr(holder, name).CopyFrom(value)


def _dense(params: Message) -> edge.EdgeVectorParams:
    names = {number: name for name, number in wire().enum("Distance").items()}
    if params.distance == 0 or params.size == 0:
        raise invalid("Validation error in body: vectors need a size and a distance")
    if params.size > _DIMENSIONS_MAX:
        raise invalid(
            "Validation error in body: size must be between 1 and"
            f" {_DIMENSIONS_MAX}, not {params.size}"
        )
    multi = None
    if params.HasField("multivector_config"):
        multi = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    return edge.EdgeVectorParams(
        params.size,
        getattr(edge.Distance, names[params.distance]),
        multivector_config=multi,
        datatype=_datatype(params) if params.HasField("datatype") else None,
    )


def _datatype(params: Message) -> edge.VectorStorageDatatype | None:
    names = {number: name for name, number in wire().enum("Datatype").items()}
    name = names[params.datatype]
    if name == "Default":
        return None
    if not hasattr(edge.VectorStorageDatatype, name):
        raise unsupported(f"datatype {name}")
    found: edge.VectorStorageDatatype = getattr(edge.VectorStorageDatatype, name)
    return found


def _sparse(params: Message) -> edge.EdgeSparseVectorParams:
    idf = params.HasField("modifier") and params.modifier == wire().enum("Modifier")["Idf"]
    index = params.index
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.full_scan_threshold
        if index.HasField("full_scan_threshold")
        else None,
        modifier=edge.Modifier.Idf if idf else None,
        datatype=_datatype(index) if index.HasField("datatype") else None,
    )


def _fill(target: Message, defaults: dict[str, float]) -> None:
    for field, value in defaults.items():
        if not target.HasField(field):
            setattr(target, field, value)
