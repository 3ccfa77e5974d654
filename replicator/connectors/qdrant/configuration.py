"""
What is sent to make a collection as the plan says, and what the plan is.

A setting goes into the request that has a field of its name: most into `CreateCollection`, what
can only be changed later into `UpdateCollection`. `plan` writes these requests and reads them
back, so the plan holds what the server will be asked for, and nothing else: whatever the source
has and the plan has not is a loss, and shows as one by comparing the two.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from replicator.connectors.qdrant.bulk import CAPTURE_KEY, EPOCH_KEY, INCARNATION_KEY, OURS
from replicator.connectors.qdrant.kind import QDRANT, QdrantSettings
from replicator.connectors.qdrant.native import fits, unknown_setting, write_document
from replicator.connectors.qdrant.neutral import write_index
from replicator.connectors.qdrant.schema import (
    KIND,
    UNNAMED,
    distance_name,
    index_type,
    read_schema,
)
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Refused
from replicator.model.configuration import merged
from replicator.model.schema import (
    CollectionSchema,
    Precision,
    VectorKind,
    VectorSchema,
)

_ALIASES = {"optimizer_config": "optimizers_config"}
"""Fields of `CollectionConfig` that the requests call otherwise."""

_PER_VECTOR = ("vectors_config", "sparse_vectors_config")


def plan(wanted: CollectionSchema, settings: QdrantSettings) -> CollectionSchema:
    """
    The collection as this store would make it. Raises Refused("config-invalid") for a setting
    that Qdrant does not have.
    """
    wanted = _ours(wanted, settings)
    kept = {
        "name": wanted.name,
        "capture_id": wanted.capture_id,
        "points": None,
        "chosen": wanted.chosen,
        "details": {},
        "made": True,
        "unfinished": False,
        **QDRANT.traits.facts(),
    }
    if not _is_complete(wanted):
        # What is not known cannot be made; an existing collection may hold it all the same.
        return msgspec.structs.replace(wanted, native_kind=KIND, **kept)
    request = creation(wanted)
    info = _as_info(request, late_params(wanted))
    for field, kind in wanted.indexes.items():
        number = index_type(kind)
        if number is not None:
            index = index_creation(wanted, field, number)
            info.payload_schema[field].data_type = number + 1
            if index.HasField("field_index_params"):
                info.payload_schema[field].params.CopyFrom(index.field_index_params)
    planned = read_schema(wanted.name, info, None)
    # What a collection always says is of a plan only if somebody asked for it.
    for field in info.config.params.DESCRIPTOR.fields:
        always = not field.has_presence and field.name in request.DESCRIPTOR.fields_by_name
        if always and not request.HasField(field.name):
            planned.native.pop(field.name, None)
    # An index type that Qdrant does not have stays in the plan: making it is refused.
    return msgspec.structs.replace(
        planned, indexes={**wanted.indexes, **planned.indexes}, **kept
    )


def creation(wanted: CollectionSchema) -> Message:
    """The `CreateCollection`. Raises Refused when the schema lacks what Qdrant needs."""
    request = wire().CreateCollection(collection_name=wanted.name)
    _write_vectors(request, wanted)
    native = _native(wanted)
    native.pop("sharding_method", None)
    if wanted.scoped:
        native["sharding_method"] = "Custom"
    names = request.DESCRIPTOR.fields_by_name
    document = {_ALIASES.get(name, name): value for name, value in native.items()}
    write_document(
        request, {name: each for name, each in document.items() if name in names}, ""
    )
    return request


def late_params(wanted: CollectionSchema) -> Message:
    """The `CollectionParamsDiff` with what a creation has no place for."""
    names = wire().CreateCollection.DESCRIPTOR.fields_by_name
    params = wire().CollectionParamsDiff()
    late = {
        name: value
        for name, value in _native(wanted).items()
        if name in params.DESCRIPTOR.fields_by_name and name not in names
    }
    if late:
        write_document(params, late, "")
    return params


def update(wanted: CollectionSchema, info: Message) -> Message | None:
    """
    The `UpdateCollection` that brings an existing collection to the plan, as far as a
    collection can be changed; None when it is there already.
    """
    actual, native = read_schema(wanted.name, info, None), _native(wanted)
    there = _native(actual)
    request = wire().UpdateCollection(collection_name=wanted.name)
    changed = {name: value for name, value in native.items() if not _holds(there, name, value)}
    for name, value in changed.items():
        place = _ALIASES.get(name, name)
        for message in (request, request.params):
            if fits(message.DESCRIPTOR, {place: value}):
                write_document(message, {place: value}, "")
                break
    for name, vector in (wanted.vectors or {}).items():
        present = (actual.vectors or {}).get(name)
        if present is not None:
            _write_vector_update(request, name, vector, present)
    given = [field.name for field, _ in request.ListFields()]
    return None if given == ["collection_name"] else request


def index_creation(wanted: CollectionSchema, field: str, number: int) -> Message:
    """The `CreateFieldIndexCollection` of one field."""
    request = wire().CreateFieldIndexCollection(
        collection_name=wanted.name, wait=True, field_name=field, field_type=number
    )
    options = wanted.index_options.get(field)
    if options and wanted.native_kind == KIND:
        params = getattr(request.field_index_params, f"{wanted.indexes[field]}_index_params")
        write_document(params, options, f"indexes.{field}")
    return request


def copy_collection(name: str, info: Message) -> Message:
    """A `CreateCollection` that makes an empty collection of the same configuration."""
    made = wire().CreateCollection(collection_name=name)
    places = made.DESCRIPTOR.fields_by_name
    for holder in (info.config, info.config.params):
        for field in holder.DESCRIPTOR.fields:
            place = _ALIASES.get(field.name, field.name)
            if place not in places or field.name == "metadata":
                continue
            if field.has_presence and not holder.HasField(field.name):
                continue
            value = getattr(holder, field.name)
            if field.message_type is None:
                setattr(made, place, value)
            else:
                getattr(made, place).CopyFrom(value)
    if made.HasField("payload"):
        made.ClearField("on_disk_payload")  # the older word for the same
    for key, value in info.config.metadata.items():
        if key not in (CAPTURE_KEY, EPOCH_KEY, INCARNATION_KEY):
            made.metadata[key].CopyFrom(value)
    return made


def copy_late_params(info: Message) -> Message:
    """Of an existing collection, what a creation has no place for."""
    return late_params(read_schema("", info, None))


def _ours(wanted: CollectionSchema, settings: QdrantSettings) -> CollectionSchema:
    """With what the settings of the store say of new collections, and in Qdrant's own words."""
    if wanted.native_kind != KIND:
        wanted = _translated(wanted)
    native, chosen = dict(wanted.native), list(wanted.chosen)
    for name in ("shard_number", "replication_factor"):
        value = getattr(settings, name)
        if value is not None and (name,) not in chosen:
            native[name] = value
            chosen.append((name,))
    names = {*_settings_there_are(), UNNAMED}
    for name in native:
        if name not in names:
            raise unknown_setting(name, names - {UNNAMED}, "")
    return msgspec.structs.replace(
        wanted,
        native_kind=KIND,
        native=native,
        chosen=tuple(chosen),
        scoped=_is_scoped(wanted),
    )


def _is_scoped(wanted: CollectionSchema) -> bool:
    """
    Whether the collection is made with shard keys: where the source has scopes, unless a person
    wants all points to lie together.
    """
    method = wanted.native.get("sharding_method")
    if ("sharding_method",) not in wanted.chosen or method is None:
        return wanted.scoped
    chosen = wire().CreateCollection()
    write_document(chosen, {"sharding_method": method}, "")
    custom = chosen.sharding_method == wire().enum("ShardingMethod")["Custom"]
    if custom and not wanted.scoped:
        raise Refused(
            "config-invalid",
            "sharding_method cannot be Custom: points come without their shard keys",
        )
    return bool(custom)


def _translated(wanted: CollectionSchema) -> CollectionSchema:
    """
    What comes from a store of another kind: the neutral words in Qdrant's, and what a person
    chose for the target over them. Its own words mean nothing here.
    """
    vectors = {
        name: msgspec.structs.replace(
            vector,
            native=merged(
                write_index(vector.index),
                _chosen(vector.native, wanted.chosen, ("vectors", name)),
            ),
        )
        for name, vector in (wanted.vectors or {}).items()
    }
    options = {
        field: _chosen(each, wanted.chosen, ("indexes", field))
        for field, each in wanted.index_options.items()
    }
    return msgspec.structs.replace(
        wanted,
        vectors=None if wanted.vectors is None else vectors,
        native=_chosen(wanted.native, wanted.chosen, ()),
        index_options={field: each for field, each in options.items() if each},
    )


def _chosen(
    native: dict[str, Any], chosen: Collection[tuple[str, ...]], place: tuple[str, ...]
) -> dict[str, Any]:
    return {name: value for name, value in native.items() if (*place, name) in chosen}


def _settings_there_are() -> set[str]:
    config, params = wire().CollectionConfig.DESCRIPTOR, wire().CollectionParams.DESCRIPTOR
    return {field.name for each in (config, params) for field in each.fields} - {
        "params",
        *_PER_VECTOR,
    }


def _is_complete(wanted: CollectionSchema) -> bool:
    return wanted.vectors is not None and all(
        vector.kind is VectorKind.SPARSE or (vector.size and vector.distance)
        for vector in wanted.vectors.values()
    )


def _as_info(request: Message, late: Message) -> Message:
    """The `CollectionInfo` of a collection that keeps exactly what it is asked."""
    info = wire().CollectionInfo()
    back = {place: name for name, place in _ALIASES.items()}
    for message in (request, late):
        for field, value in message.ListFields():
            name = back.get(field.name, field.name)
            for holder in (info.config, info.config.params):
                if name not in holder.DESCRIPTOR.fields_by_name:
                    continue
                if name == "metadata":
                    for key, each in value.items():
                        holder.metadata[key].CopyFrom(each)
                elif field.message_type is None:
                    setattr(holder, name, value)
                else:
                    getattr(holder, name).CopyFrom(value)
    return info


def _native(schema: CollectionSchema) -> dict[str, Any]:
    """The native document, with the limits that strict mode has for vectors put back."""
    if schema.native_kind != KIND:
        return {}
    native = {name: value for name, value in schema.native.items() if name != UNNAMED}
    strict = dict(native.get("strict_mode_config", {}))
    for name, vector in (schema.vectors or {}).items():
        for part, limits in vector.native.get("strict_mode_config", {}).items():
            strict[part] = dict(strict.get(part, {}))
            for inner, limit in limits.items():
                strict[part][inner] = {**strict[part].get(inner, {}), name: limit}
    if strict:
        native["strict_mode_config"] = strict
    native["metadata"] = {
        key: value
        for key, value in native.get("metadata", {}).items()
        if not key.startswith(OURS)
    }
    if not native["metadata"]:
        del native["metadata"]
    return native


def _write_vectors(request: Message, wanted: CollectionSchema) -> None:
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
        _write_vector(request.vectors_config.params, wanted, "", dense[""])
    else:
        request.vectors_config.params_map.SetInParent()
        for name, vector in dense.items():
            _write_vector(request.vectors_config.params_map.map[name], wanted, name, vector)
    for name, vector in wanted.vectors.items():
        if vector.kind is VectorKind.SPARSE:
            params = request.sparse_vectors_config.map[name]
            write_document(params, _vector_native(wanted, vector), f"vectors.{name}")


def _write_vector(
    target: Message, wanted: CollectionSchema, name: str, vector: VectorSchema
) -> None:
    if vector.size is None or vector.distance is None:
        raise Refused(
            "target-incompatible",
            f"vector {name!r} of {wanted.name} has no known dimension or distance, and Qdrant"
            " needs both to create it",
        )
    target.size = vector.size
    target.distance = wire().enum("Distance")[distance_name(vector.distance)]
    native = _vector_native(wanted, vector)
    if vector.kind is VectorKind.MULTI:
        native.setdefault("multivector_config", {"comparator": "MaxSim"})
    if vector.precision is not Precision.FLOAT32:
        native["datatype"] = vector.precision.value
    write_document(target, native, f"vectors.{name}")


def _vector_native(wanted: CollectionSchema, vector: VectorSchema) -> dict[str, Any]:
    if wanted.native_kind != KIND:
        return {}
    return {name: each for name, each in vector.native.items() if name != "strict_mode_config"}


def _write_vector_update(
    request: Message, name: str, vector: VectorSchema, present: VectorSchema
) -> None:
    changed = {
        field: value
        for field, value in vector.native.items()
        if field != "strict_mode_config" and not _holds(present.native, field, value)
    }
    if not changed:
        return
    if vector.kind is VectorKind.SPARSE:
        write_document(request.sparse_vectors_config.map[name], changed, f"vectors.{name}")
        return
    # The unnamed vector goes by the empty name in this request.
    places = wire().VectorParamsDiff.DESCRIPTOR
    late = {field: value for field, value in changed.items() if fits(places, {field: value})}
    if late:
        params = request.vectors_config.params_map.map[name]
        write_document(params, late, f"vectors.{name}")


def _holds(document: dict[str, Any], name: str, value: Any) -> bool:
    """Whether a document says all of `value` under the name; it may say more."""
    if name not in document:
        return False
    there = document[name]
    if isinstance(value, dict) and isinstance(there, dict) and value:
        return all(_holds(there, key, each) for key, each in value.items())
    return bool(there == value and type(there) is type(value))
