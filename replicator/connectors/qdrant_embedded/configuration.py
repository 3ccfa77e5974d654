"""
The configuration of a shard: the engine's own document ↔ the schema, and what the plan is.

The engine keeps a JSON document in the shard's folder, and makes an empty shard of a document
that lies there alone. So whatever the engine can be told travels between two folders as it is;
a setting that it does not know it would drop without a word, and is refused here. To and from
another kind travels what there are neutral words for (`neutral`).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from replicator.connectors.qdrant_embedded.indexes import check_options, has_type
from replicator.connectors.qdrant_embedded.kind import QDRANT_EMBEDDED
from replicator.connectors.qdrant_embedded.neutral import index_of, restated, write_index
from replicator.errors import Refused
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    Precision,
    VectorKind,
    VectorSchema,
)

KIND = QDRANT_EMBEDDED.name

Document = dict[str, Any]

_OF_ALL = (
    *("hnsw_config", "quantization_config", "optimizers", "on_disk_payload"),
    *("payload_memory", "id_tracker_memory", "wal_enabled"),
    *("max_search_threads", "search_pool_core"),
)
_OF_DENSE = ("on_disk", "memory", "quantization_config", "hnsw_config")
_OF_SPARSE = ("full_scan_threshold", "on_disk", "modifier", "datatype", "memory")
"""The settings that the engine has, beside those that are neutral facts."""

_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000, "max_indexing_threads": 0}
"""What the engine takes where nobody says; a document of the graph has all but the last."""


def read_configuration(document: Document) -> dict[str, Any]:
    """The engine's document as fields of a CollectionSchema."""
    native = {
        name: value
        for name, value in _said(document).items()
        if name not in ("vectors", "sparse_vectors")
    }
    vectors = {
        name: _read_dense(_said(each), native)
        for name, each in (document.get("vectors") or {}).items()
    }
    for name, each in (document.get("sparse_vectors") or {}).items():
        vectors[name] = VectorSchema(kind=VectorKind.SPARSE, native=_said(each))
    return {
        "vectors": vectors,
        "native": native,
        "native_kind": KIND,
        "restated": restated(native) if document.get("vectors") else (),
    }


def write_configuration(planned: CollectionSchema) -> Document:
    """
    The document that an empty shard is made of. Raises Refused("target-incompatible") where
    what the engine needs is not known.
    """
    if not _is_complete(planned):
        raise Refused(
            "target-incompatible",
            f"the vectors of {planned.name} are not known with their dimensions and distances,"
            " and Qdrant needs them to make the collection: make it by hand",
        )
    dense, sparse = {}, {}
    for name, vector in (planned.vectors or {}).items():
        if vector.kind is VectorKind.SPARSE:
            sparse[name] = vector.native
        else:
            dense[name] = _dense(vector)
    return {**planned.native, "vectors": dense, "sparse_vectors": sparse}


def plan(wanted: CollectionSchema) -> CollectionSchema:
    """As `Planner.plan`."""
    wanted = _checked(_ours(wanted))
    kept = {
        "points": None,
        "details": {},
        "made": True,
        "unfinished": False,
        "native_kind": KIND,
        **QDRANT_EMBEDDED.traits.facts(),
    }
    if not _is_complete(wanted):
        # What is not known cannot be made; an existing collection may hold it all the same.
        return msgspec.structs.replace(wanted, **kept)
    told = read_configuration(write_configuration(wanted))
    return msgspec.structs.replace(wanted, **{**kept, **told})


def conflicts(wanted: CollectionSchema, present: CollectionSchema) -> list[str]:
    """What keeps an existing collection from holding the wanted vectors."""
    found, there = [], present.vectors or {}
    for name, vector in (wanted.vectors or {}).items():
        other = there.get(name)
        if other is None:
            found.append(f"it has no vector {name!r}")
        elif other.kind is not vector.kind:
            found.append(f"its vector {name!r} is {other.kind.value}, not {vector.kind.value}")
        elif None not in (vector.size, other.size) and other.size != vector.size:
            found.append(f"its vector {name!r} has {other.size} dimensions, not {vector.size}")
    return found


def _read_dense(document: Document, of_all: Document) -> VectorSchema:
    facts = ("size", "distance", "datatype", "multivector_config")
    native = {name: value for name, value in document.items() if name not in facts}
    return VectorSchema(
        kind=VectorKind.MULTI if "multivector_config" in document else VectorKind.DENSE,
        size=document["size"],
        distance=Distance(document["distance"].lower()),
        precision=Precision(document.get("datatype", "float32")),
        native=native,
        index=index_of(native, of_all),
        restated=restated(native),
    )


def _dense(vector: VectorSchema) -> Document:
    assert vector.distance is not None, "the collection is complete"
    document: Document = {"size": vector.size, "distance": vector.distance.value.capitalize()}
    if vector.kind is VectorKind.MULTI:
        document["multivector_config"] = {"comparator": "max_sim"}
    if vector.precision is not Precision.FLOAT32:
        document["datatype"] = vector.precision.value
    return {**document, **vector.native}


def _said(document: Mapping[str, Any]) -> Document:
    """Without the nulls in which the engine says that nobody said anything."""
    return {
        name: _said(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if value is not None
    }


def _is_complete(wanted: CollectionSchema) -> bool:
    return wanted.vectors is not None and all(
        vector.kind is VectorKind.SPARSE or (vector.size and vector.distance)
        for vector in wanted.vectors.values()
    )


def _ours(wanted: CollectionSchema) -> CollectionSchema:
    """In the engine's words. Of another kind's: what has neutral ones, or a person chose."""
    if wanted.native_kind == KIND:
        return wanted
    precisions = QDRANT_EMBEDDED.traits.vectors
    vectors = {
        name: msgspec.structs.replace(
            vector,
            precision=precisions.kept(vector.precision),
            native={
                **write_index(vector),
                **_chosen(vector.native, wanted, ("vectors", name)),
            },
        )
        for name, vector in (wanted.vectors or {}).items()
    }
    options = {
        field: _chosen(each, wanted, ("indexes", field))
        for field, each in wanted.index_options.items()
    }
    return msgspec.structs.replace(
        wanted,
        vectors=None if wanted.vectors is None else vectors,
        native=_chosen(wanted.native, wanted, ()),
        index_options={field: each for field, each in options.items() if each},
    )


def _chosen(
    native: Mapping[str, Any], wanted: CollectionSchema, place: tuple[str, ...]
) -> Document:
    return {name: each for name, each in native.items() if (*place, name) in wanted.chosen}


def _checked(wanted: CollectionSchema) -> CollectionSchema:
    """Raises Refused("config-invalid") for what the engine would drop."""
    vectors = {}
    for name, vector in (wanted.vectors or {}).items():
        known = _OF_SPARSE if vector.kind is VectorKind.SPARSE else _OF_DENSE
        _check(vector.native, known, f"vectors.{name}.")
        vectors[name] = msgspec.structs.replace(vector, native=_whole(vector.native))
    _check(wanted.native, _OF_ALL, "")
    indexes = {field: kind for field, kind in wanted.indexes.items() if has_type(kind)}
    for field, kind in indexes.items():
        check_options(field, kind, wanted.index_options.get(field, {}))
    return msgspec.structs.replace(
        wanted,
        vectors=None if wanted.vectors is None else vectors,
        native=_whole(wanted.native),
        indexes=indexes,
    )


def _check(native: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    for name in native:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise Refused(
                "config-invalid", f"{place}{name} is no setting of an embedded shard{hint}"
            )


def _whole(native: Mapping[str, Any]) -> Document:
    """The engine refuses a document of the graph that says a part of it."""
    graph = native.get("hnsw_config")
    if not isinstance(graph, dict):
        return dict(native)
    return {**native, "hnsw_config": {**_HNSW, **graph}}
