"""
Settings of a collection: what Chroma keeps of it beside records, in Chroma's own words.

`hnsw` holds the parameters of the index that differ from Chroma's own, `embedding_function`
what Chroma's clients embed texts with, and `metadata` what others keep beside the collection.
They travel between two stores of this kind, and mean nothing to another.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from replicator.connectors.chroma.api import Found, Metadata
from replicator.connectors.chroma.kind import CHROMA
from replicator.model.configuration import neutral
from replicator.model.schema import CollectionSchema, Distance, VectorSchema

KIND = CHROMA.name

CAPTURE_KEY = "replicator_capture_id"
EPOCH_KEY = "replicator_epoch"
INCARNATION_KEY = "replicator_incarnation"
SIZE_KEY = "replicator_dimension"
_OURS = "replicator_"
_LEGACY = "hnsw:"
"""What the metadata said of the index before there was a configuration; it stands there now."""

SPACES = {Distance.EUCLID: "l2", Distance.DOT: "ip", Distance.COSINE: "cosine"}
DISTANCES = {space: distance for distance, space in SPACES.items()}
DEFAULT = Distance.EUCLID
"""What Chroma takes where nobody says."""

_HNSW = {
    "ef_construction": 100,
    "ef_search": 100,
    "max_neighbors": 16,
    "resize_factor": 1.2,
    "sync_threshold": 1000,
    "batch_size": 100,
}
"""What Chroma 1.5 takes for the index where nobody says."""


SETTINGS = frozenset({"hnsw", "embedding_function", "metadata"})
OF_A_FOLDER = SETTINGS - {"embedding_function"}
"""Chroma's package takes the function itself, and no description of it."""


def space_of(found: Found) -> str | None:
    """By what the vectors of a collection are compared; in the cloud another index says so."""
    index = found.configuration.get("hnsw") or found.configuration.get("spann") or {}
    space = index.get("space")
    return space if isinstance(space, str) else None


def native_of(found: Found) -> dict[str, Any]:
    """The settings of a collection; see the top of this file."""
    index = found.configuration.get("hnsw") or {}
    function = found.configuration.get("embedding_function") or {}
    native = {
        "hnsw": {
            name: value
            for name, value in index.items()
            if name != "space" and _HNSW.get(name) != value
        },
        "embedding_function": function if function.get("type") == "known" else {},
        "metadata": {
            key: value
            for key, value in found.metadata.items()
            if not key.startswith((_OURS, _LEGACY))
        },
    }
    return {name: document for name, document in native.items() if document}


def plan(wanted: CollectionSchema, carried: Collection[str]) -> CollectionSchema:
    """
    As `Planner.plan`, of settings that can be carried there. Payload indexes are Chroma's own
    affair, which has one of every field.
    """
    given = wanted.native if wanted.native_kind == KIND else {}
    native = {name: document for name, document in given.items() if name in carried}
    made = neutral(wanted, CHROMA.traits.vectors)
    vectors = {
        name: msgspec.structs.replace(vector, distance=vector.distance or DEFAULT)
        for name, vector in (made.vectors or {"": VectorSchema()}).items()
    }
    return msgspec.structs.replace(
        made, vectors=vectors, indexes={}, native_kind=KIND, native=native
    )


def creation(planned: CollectionSchema) -> dict[str, Any]:
    """The configuration to make a planned collection with."""
    [vector] = (planned.vectors or {}).values()
    assert vector.distance is not None, "it is planned"
    index = {"space": SPACES[vector.distance]} | planned.native.get("hnsw", {})
    function = planned.native.get("embedding_function")
    return {"hnsw": index} | ({} if function is None else {"embedding_function": function})


def others(planned: CollectionSchema) -> Metadata:
    """The metadata of a planned collection that are not ours."""
    return dict(planned.native.get("metadata", {}))
