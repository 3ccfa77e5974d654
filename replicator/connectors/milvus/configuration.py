"""
Settings of a collection: what Milvus keeps of it beside points, in Milvus's own words.

They travel between two stores of this kind: the number of shards, the level of consistency that
the application's searches have, the properties that a person sets, and the index of each
vector. What a person declared for the payload does not: the payload of a collection that we
make is one JSON field. So it is named, and lost on a person's word alone; whoever wants it
makes the collection beforehand.

What there are neutral words for, of an index, travels to other kinds in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from replicator.connectors.milvus.kind import MILVUS
from replicator.connectors.milvus.wire import Message
from replicator.errors import Refused
from replicator.model.configuration import neutral
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IndexKind,
    VectorIndex,
    VectorKind,
    VectorSchema,
)

KIND = MILVUS.name

METRICS = {Distance.COSINE: "COSINE", Distance.DOT: "IP", Distance.EUCLID: "L2"}
DISTANCES = {metric: distance for distance, metric in METRICS.items()}

LEVELS = {"Strong": 0, "Session": 1, "Bounded": 2, "Eventually": 3}
LEVEL = "Bounded"
"""What the vendor's clients make a collection with where nobody says."""

CARRIED = ("shards_num", "consistency_level", "properties")

PROPERTIES = frozenset(
    {
        "collection.autocompaction.enabled",
        "collection.ttl.seconds",
        "mmap.enabled",
        "timezone",
    }
)
"""Those that a person sets; the server keeps some of its own beside them."""

_AUTO = "AUTOINDEX"
_SPARSE = "SPARSE_INVERTED_INDEX"
_KINDS = {"HNSW": IndexKind.HNSW, "IVF_FLAT": IndexKind.IVF, "FLAT": IndexKind.FLAT}
"""Indexes that there are neutral words for. AUTOINDEX leaves it to the server."""

_TYPES = {kind: name for name, kind in _KINDS.items()}
_WORDS = {"M": "m", "efConstruction": "ef_construction", "nlist": "lists"}
"""Milvus's word → the neutral one."""

_PARAMS = {
    "HNSW": {"M": 16, "efConstruction": 200},
    "IVF_FLAT": {"nlist": 128},
    "FLAT": {},
}
"""What an index is told, and what that is where nobody says."""

_NO_PARAMS = frozenset({"index_type", "metric_type", "params", "search_params"})


def native_of(
    described: Message, fields: Mapping[str, str], *, dynamic: bool
) -> dict[str, Any]:
    """The settings of a collection; `fields`: what is declared for the payload."""
    level = next(
        (name for name, number in LEVELS.items() if number == described.consistency_level), ""
    )
    native: dict[str, Any] = {
        "shards_num": described.shards_num if described.shards_num > 1 else 0,
        "consistency_level": level if level != LEVEL else "",
        "properties": {
            each.key: each.value for each in described.properties if each.key in PROPERTIES
        },
        "fields": dict(fields),
        "dynamic": dynamic,
        "functions": {
            each.name: ", ".join(each.output_field_names) for each in described.schema.functions
        },
    }
    return {name: value for name, value in native.items() if value}


def index_of(told: Mapping[str, str]) -> dict[str, Any]:
    """The setting `index` of a vector, as its server tells it; empty where that chose it."""
    kind = told.get("index_type", _AUTO)
    if kind == _AUTO:
        return {}
    try:
        params = msgspec.json.decode(told.get("params") or "{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        params = {}
    # Some servers tell each by itself, as a text.
    params |= {name: value for name, value in told.items() if name not in _NO_PARAMS}
    known = {name: _number(value) for name, value in params.items()}
    if kind == _SPARSE and not known:
        return {}
    return {"index_type": kind, "params": known} if known else {"index_type": kind}


def with_index(vector: VectorSchema, index: Mapping[str, Any]) -> VectorSchema:
    """The vector with this index, in neutral words as well where there are any."""
    if not index:
        return vector
    kind = _KINDS.get(index["index_type"])
    if kind is None:
        return msgspec.structs.replace(vector, native={"index": dict(index)})
    params = index.get("params", {})
    words = {_WORDS[word]: value for word, value in params.items() if word in _WORDS}
    restated = [f"index.params.{word}" for word in params if word in _WORDS]
    return msgspec.structs.replace(
        vector,
        native={"index": dict(index)},
        index=msgspec.structs.replace(VectorIndex(kind=kind), **words),
        restated=("index.index_type", *restated),
    )


def plan(wanted: CollectionSchema) -> CollectionSchema:
    """As `Planner.plan`. Fields of a JSON payload have no index of their own here."""
    ours = wanted.native_kind == KIND
    made = neutral(wanted, MILVUS.traits.vectors)
    given = wanted.vectors or {"": VectorSchema()}
    vectors = {
        name: _planned(name, vector, given[name], ours=ours)
        for name, vector in (made.vectors or given).items()
    }
    native = {name: wanted.native[name] for name in CARRIED if ours and name in wanted.native}
    return msgspec.structs.replace(
        made, vectors=vectors, indexes={}, native_kind=KIND, native=native
    )


def _planned(
    name: str, vector: VectorSchema, given: VectorSchema, *, ours: bool
) -> VectorSchema:
    distance = vector.distance
    if vector.kind is VectorKind.DENSE:
        distance = distance or Distance.COSINE
        if vector.size is None:
            raise Refused(
                "unsupported",
                f"how many dimensions the vector {name!r} has nobody says, and a field of"
                " Milvus is made for a number of them",
            )
    if distance is not None and distance not in METRICS:
        raise Refused("unsupported", f"Milvus does not compare by {distance.value}")
    index = given.native.get("index", {}) if ours else _translated(vector, given.index)
    bare = msgspec.structs.replace(
        vector, distance=distance, required=True, native={}, index=VectorIndex(), restated=()
    )
    return with_index(bare, index)


def _translated(vector: VectorSchema, asked: VectorIndex) -> dict[str, Any]:
    if vector.kind is not VectorKind.DENSE or asked.kind not in _TYPES:
        return {}
    kind = _TYPES[asked.kind]
    params = {
        word: getattr(asked, _WORDS[word]) or default for word, default in _PARAMS[kind].items()
    }
    return {"index_type": kind, "params": params} if params else {"index_type": kind}


def index_params(vector: VectorSchema) -> dict[str, str]:
    """What an index of a planned vector is made with."""
    index = vector.native.get("index", {})
    if vector.kind is VectorKind.SPARSE:
        told = {"index_type": _SPARSE, "metric_type": "IP"}
    else:
        assert vector.distance is not None, "it is planned"
        told = {"index_type": _AUTO, "metric_type": METRICS[vector.distance]}
    if index:
        told["index_type"] = index["index_type"]
    if params := index.get("params"):
        told["params"] = msgspec.json.encode(params).decode()
    return told


def _number(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.MsgspecError:
            return value
    return value
