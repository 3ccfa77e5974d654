"""
Settings of a class, in Weaviate's own words, and what of them there are neutral words for.

`native` of a collection holds its properties by name and what the class says of its inverted
index, replicas, shards and the lifetime of objects; that of a vector its index and who makes
it. They travel between two stores of this kind as they are. To a class for another kind's
collection the neutral words of the index travel, and each payload index becomes a property.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from replicator.connectors.weaviate.classes import (
    DEFAULT,
    REST,
    Class,
    ClassVector,
    Property,
    Said,
    write_said,
)
from replicator.connectors.weaviate.kind import WEAVIATE, WeaviateOptions
from replicator.errors import Refused
from replicator.model.configuration import neutral
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IndexKind,
    Quantization,
    VectorIndex,
    VectorKind,
    VectorSchema,
)

KIND = WEAVIATE.name

DISTANCES = {
    "cosine": Distance.COSINE,
    "dot": Distance.DOT,
    "l2-squared": Distance.EUCLID,
    "manhattan": Distance.MANHATTAN,
}
METRICS = {distance: metric for metric, distance in DISTANCES.items()}

_NAME = re.compile(r"[_a-z][_0-9A-Za-z]{0,230}")
"""Of a property. The server takes a capital first letter for a small one, so that a field that
begins with one is none."""

_VECTOR_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,229}")
_RESERVED = frozenset({"id", "_id", "_additional", "vector"})
_RESTS = ("payload", "payload_json", "payload_rest")

_OF_INDEX = {
    "keyword": ("text", "field"),
    "text": ("text", "word"),
    "integer": ("int", None),
    "float": ("number", None),
    "bool": ("boolean", None),
    "datetime": ("date", None),
    "uuid": ("uuid", None),
}
"""Payload index → type and tokenisation of the property that it is here."""

_INDEX_OF = {
    kind: index for index, (kind, _) in _OF_INDEX.items() if index not in ("keyword", "text")
}
_SETTINGS = {
    "invertedIndexConfig": None,
    "objectTtlConfig": None,
    "replicationConfig": ("factor", "asyncEnabled", "deletionStrategy"),
    "shardingConfig": ("desiredCount",),
}
"""Of a class; None for the whole of one, else the words that can be asked for."""

_NEUTRAL = {"maxConnections": "m", "efConstruction": "ef_construction"}
_QUANTIZERS = {
    "rq": Quantization.SCALAR,
    "sq": Quantization.SCALAR,
    "pq": Quantization.PRODUCT,
    "bq": Quantization.BINARY,
}
"""The first of two that are one is read, and the second made: `rq` came later."""


def types_of(wanted: CollectionSchema, options: WeaviateOptions) -> dict[str, dict[str, Any]]:
    """
    The documents of the properties that a class has which is made for a collection. Raises
    Refused("config-invalid") for an option that no property can be.
    """
    if wanted.native_kind == KIND:
        found: dict[str, dict[str, Any]] = {
            name: {"name": name, **document}
            for name, document in wanted.native.get("properties", {}).items()
        }
    else:
        found = {}
        for field, index in wanted.indexes.items():
            if index in _OF_INDEX and can_be(field):
                kind, tokenization = _OF_INDEX[index]
                found[field] = _document(field, kind, tokenization)
    for field, kind in options.properties.items():
        if not can_be(field):
            raise Refused(
                "config-invalid", f"target_options.properties: {field!r} is no property's name"
            )
        found[field] = _document(field, kind, "field" if kind in ("text", "text[]") else None)
    held = any(each.get("description") == REST for each in found.values())
    if options.payload or (wanted.native_kind != KIND and not held):
        name = options.payload or next(each for each in _RESTS if each not in found)
        found[name] = {
            "name": name,
            "dataType": ["text"],
            "description": REST,
            # Nobody searches in JSON, and an index of it would be as large as the payload.
            "indexFilterable": False,
            "indexSearchable": False,
        }
    return found


def _document(field: str, kind: str, tokenization: str | None) -> dict[str, Any]:
    made: dict[str, Any] = {"name": field, "dataType": [kind]}
    if tokenization is not None:
        made["tokenization"] = tokenization
    if kind in ("int", "number", "date"):
        made["indexRangeFilters"] = True
    return made


def can_be(field: str) -> bool:
    """Whether a property can have the name of a field."""
    return _NAME.fullmatch(field) is not None and field not in _RESERVED


def creation(planned: CollectionSchema, options: WeaviateOptions) -> dict[str, Any]:
    """The document to make a planned class with."""
    vectors = planned.vectors or {"": VectorSchema()}
    sizes = {name: each.size for name, each in vectors.items() if each.size is not None}
    document: dict[str, Any] = {
        "class": planned.name,
        "description": write_said(
            planned.native.get("description", ""), Said(made=True, sizes=sizes)
        ),
        "properties": list(types_of(planned, options).values()),
        "multiTenancyConfig": {"enabled": planned.scoped},
        "vectorConfig": {
            wire: _vector_document(vectors[name]) for name, wire in named(vectors).items()
        },
    }
    for word in _SETTINGS:
        if word in planned.native:
            document[word] = planned.native[word]
    return document


def named(vectors: Mapping[str, VectorSchema]) -> dict[str, str]:
    """
    Vector → its name in a class that is made. Raises Refused("unsupported") for names that
    none can have.
    """
    if vectors.keys() == {""}:
        return {"": DEFAULT}
    for name in vectors:
        if not _VECTOR_NAME.fullmatch(name) or vectors.keys() == {DEFAULT}:
            why = (
                "would be the one without a name"
                if name == DEFAULT
                else "has no name for it: a letter or `_`, then letters, digits and `_`"
            )
            raise Refused(
                "unsupported",
                f"of a class of Weaviate the vector {name!r} {why}; give it another one by"
                " `transform.vectors`",
            )
    return {name: name for name in vectors}


def _vector_document(vector: VectorSchema) -> dict[str, Any]:
    native = vector.native
    index = dict(native.get("vectorIndexConfig", {}))
    if vector.distance is not None:
        index["distance"] = METRICS[vector.distance]
    if vector.kind is VectorKind.MULTI and "multivector" not in index:
        index["multivector"] = {"enabled": True}
    return {
        "vectorizer": native.get("vectorizer") or {"none": {}},
        "vectorIndexType": native.get("vectorIndexType") or "hnsw",
        "vectorIndexConfig": index,
    }


def plan(wanted: CollectionSchema, options: WeaviateOptions) -> CollectionSchema:
    """As `Planner.plan`."""
    for vector in (wanted.vectors or {}).values():
        if vector.distance is not None and vector.distance not in METRICS:
            raise Refused("unsupported", f"Weaviate does not compare by {vector.distance}")
    properties = types_of(wanted, options)
    indexes = {
        name: index
        for name, each in properties.items()
        if (index := index_of(_as_property(each))) is not None
    }
    if wanted.native_kind == KIND:
        native = wanted.native | {
            "properties": {name: _unnamed(each) for name, each in properties.items()}
        }
        return msgspec.structs.replace(wanted, indexes=indexes, native=native)
    made = neutral(wanted, WEAVIATE.traits.vectors)
    given = wanted.vectors or {"": VectorSchema()}
    vectors = {
        name: msgspec.structs.replace(
            vector,
            distance=vector.distance or Distance.COSINE,
            required=False,
            native=(own := _native_of(given[name].index)),
            index=_index(own),
        )
        for name, vector in (made.vectors or given).items()
    }
    native = {"properties": {name: _unnamed(each) for name, each in properties.items()}}
    return msgspec.structs.replace(
        made, vectors=vectors, indexes=indexes, native_kind=KIND, native=native
    )


def _native_of(asked: VectorIndex) -> dict[str, Any]:
    if asked.kind is IndexKind.FLAT:
        return {"vectorIndexType": "flat"}
    index: dict[str, Any] = {
        word: getattr(asked, neutral_word)
        for word, neutral_word in _NEUTRAL.items()
        if getattr(asked, neutral_word) is not None
    }
    for word, kind in _QUANTIZERS.items():
        if kind is asked.quantization and word != "rq":
            index[word] = {"enabled": True}
    return {"vectorIndexType": "hnsw"} | ({"vectorIndexConfig": index} if index else {})


def native_of(kept: Class) -> dict[str, Any]:
    """The settings of a class; see the top of this file."""
    native: dict[str, Any] = {}
    for word, some in _SETTINGS.items():
        told = kept.document.get(word) or {}
        if some is not None:
            told = {each: told[each] for each in some if each in told}
        if told:
            native[word] = told
    if words := write_said(kept.document.get("description") or "", Said()):
        native["description"] = words
    properties = {
        each["name"]: _unnamed(each)
        for each in kept.document.get("properties") or ()
        if each["name"] not in kept.left
    }
    if properties:
        native["properties"] = properties
    return native


def _unnamed(document: Mapping[str, Any]) -> dict[str, Any]:
    return {word: value for word, value in document.items() if word != "name"}


def restated(native: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the settings the schema says in neutral words: all of the properties."""
    return tuple(
        f"properties.{name}.{word}"
        for name, document in native.get("properties", {}).items()
        for word in document
    )


def vector_schema(vector: ClassVector, size: int | None) -> VectorSchema:
    """A vector of a class, with its index in Weaviate's words and in neutral ones."""
    document = vector.document
    index = dict(document.get("vectorIndexConfig") or {})
    distance = DISTANCES.get(index.pop("distance", ""))
    native = {
        word: value
        for word, value in {**document, "vectorIndexConfig": index}.items()
        if value and not (word == "vectorizer" and value in ("none", {"none": {}}))
    }
    return VectorSchema(
        kind=vector.kind,
        size=size,
        distance=distance,
        native=native,
        index=_index(native),
        restated=tuple(_restated(native)),
    )


def _index(native: Mapping[str, Any]) -> VectorIndex:
    if native.get("vectorIndexType") == "flat":
        return VectorIndex(kind=IndexKind.FLAT)
    index = native.get("vectorIndexConfig", {})
    found = next((word for word in _QUANTIZERS if (index.get(word) or {}).get("enabled")), None)
    bits = {"rq": (index.get("rq") or {}).get("bits"), "sq": 8, "bq": 1}.get(found or "")
    return VectorIndex(
        kind=IndexKind.HNSW,
        m=index.get("maxConnections"),
        ef_construction=index.get("efConstruction"),
        quantization=None if found is None else _QUANTIZERS[found],
        quantization_bits=bits,
    )


def _restated(native: Mapping[str, Any]) -> Iterator[str]:
    if "vectorIndexType" in native:
        yield "vectorIndexType"
    index = native.get("vectorIndexConfig", {})
    yield from (f"vectorIndexConfig.{word}" for word in _NEUTRAL if word in index)
    for word in _QUANTIZERS:
        if isinstance(index.get(word), dict) and "enabled" in index[word]:
            yield f"vectorIndexConfig.{word}.enabled"
    if isinstance(index.get("multivector"), dict):
        yield "vectorIndexConfig.multivector.enabled"


def index_of(kept: Property) -> str | None:
    """The payload index that a property is, in neutral words."""
    if not kept.indexed:
        return None
    if kept.element in ("text", "string"):
        return "keyword" if kept.tokenization == "field" else "text"
    return _INDEX_OF.get(kept.element)


def _as_property(document: Mapping[str, Any]) -> Property:
    [kind] = document["dataType"]
    indexed = document.get("indexFilterable", True) or document.get("indexSearchable", True)
    return Property(document["name"], kind, document.get("tokenization"), bool(indexed))
