"""A collection's configuration: CreateCollection ↔ the engine's, and CollectionInfo."""

from __future__ import annotations

import qdrant_edge as edge

from replicator.connectors.qdrant.wire import Message, wire
from replicator.testing.local_store.answers import invalid, unsupported


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
    target: Message, create: Message, engine: edge.ShardInfo, optimising: bool
) -> None:
    """Fill a `CollectionInfo`."""
    target.status = wire().enum("CollectionStatus")["Yellow" if optimising else "Green"]
    target.optimizer_status.ok = True
    target.segments_count = engine.segments_count
    target.points_count = engine.points_count
    target.indexed_vectors_count = engine.indexed_vectors_count
    params, config = target.config.params, target.config
    params.vectors_config.CopyFrom(create.vectors_config)
    if create.HasField("sparse_vectors_config"):
        params.sparse_vectors_config.CopyFrom(create.sparse_vectors_config)
    params.shard_number = create.shard_number
    params.replication_factor = create.replication_factor
    params.write_consistency_factor = create.write_consistency_factor
    params.on_disk_payload = True
    config.hnsw_config.CopyFrom(create.hnsw_config)
    config.optimizer_config.CopyFrom(create.optimizers_config)
    config.wal_config.CopyFrom(create.wal_config)
    for field in ("quantization_config", "strict_mode_config"):
        if create.HasField(field):
            getattr(config, field).CopyFrom(getattr(create, field))
    for key, value in create.metadata.items():
        config.metadata[key].CopyFrom(value)
    kinds = wire().enum("PayloadSchemaType")
    for field, index in engine.payload_schema.items():
        target.payload_schema[field].data_type = kinds[_name(index.data_type)]
        target.payload_schema[field].points = index.points


def read_index(request: Message) -> edge.PayloadSchemaType:
    """The kind of a payload index, by its type or by its parameters."""
    if request.HasField("field_index_params"):
        params = request.field_index_params
        chosen = params.WhichOneof("index_params")
        if chosen is None:
            raise invalid("Malformed payload schema")
        if chosen == "text_index_params" and params.text_index_params.ListFields():
            raise unsupported("parameters of text indexes")
        name = chosen.removesuffix("_index_params").capitalize()
    else:
        types = {number: name for name, number in wire().enum("FieldType").items()}
        name = types[request.field_type].removeprefix("FieldType")
    found: edge.PayloadSchemaType = getattr(edge.PayloadSchemaType, name)
    return found


def _dense(params: Message) -> edge.EdgeVectorParams:
    names = {number: name for name, number in wire().enum("Distance").items()}
    if params.distance == 0 or params.size == 0:
        raise invalid("Validation error in body: vectors need a size and a distance")
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
    if name not in ("Float32", "Float16", "Uint8"):
        raise unsupported(f"datatype {name}")
    found: edge.VectorStorageDatatype = getattr(edge.VectorStorageDatatype, name)
    return found


def _sparse(params: Message) -> edge.EdgeSparseVectorParams:
    idf = params.HasField("modifier") and params.modifier == wire().enum("Modifier")["Idf"]
    return edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if idf else None)


def _name(member: object) -> str:
    return str(member).rpartition(".")[2]


def _fill(target: Message, defaults: dict[str, float]) -> None:
    for field, value in defaults.items():
        if not target.HasField(field):
            setattr(target, field, value)
