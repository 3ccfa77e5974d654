"""
The index of a vector: Qdrant's documents ↔ the neutral words.

Every dense vector has an HNSW graph, with what the collection says of all and the vector of
itself; a graph without links is none. What quantisation has beside its kind and bits (whether
it stays in memory, which quantile) has no neutral word, and stays a setting of Qdrant's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from replicator.model.schema import (
    CollectionSchema,
    IndexKind,
    Quantization,
    VectorIndex,
    VectorKind,
    VectorSchema,
)

_HNSW = {"m": "m", "ef_construct": "ef_construction"}
"""Qdrant's word → the neutral one."""

_BITS: dict[tuple[str, str, str], tuple[Quantization, float]] = {
    ("scalar", "type", "Int8"): (Quantization.SCALAR, 8),
    ("product", "compression", "x4"): (Quantization.PRODUCT, 8),
    ("product", "compression", "x8"): (Quantization.PRODUCT, 4),
    ("product", "compression", "x16"): (Quantization.PRODUCT, 2),
    ("product", "compression", "x32"): (Quantization.PRODUCT, 1),
    ("product", "compression", "x64"): (Quantization.PRODUCT, 0.5),
    ("binary", "encoding", "OneBit"): (Quantization.BINARY, 1),
    ("binary", "encoding", "OneAndHalfBits"): (Quantization.BINARY, 1.5),
    ("binary", "encoding", "TwoBits"): (Quantization.BINARY, 2),
}
"""Part, word and value of a quantisation → what they mean. Of a kind the first is meant where
nobody says how many bits."""


def restate(schema: CollectionSchema) -> CollectionSchema:
    """The schema with its vectors' indexes in neutral words as well."""
    of_all = schema.native
    vectors = {
        name: vector if vector.kind is VectorKind.SPARSE else _restated(vector, of_all)
        for name, vector in (schema.vectors or {}).items()
    }
    if all(vector.kind is VectorKind.SPARSE for vector in vectors.values()):
        return schema  # what is said of all is of dense ones, and there are none
    return msgspec.structs.replace(schema, vectors=vectors, restated=_paths(of_all))


def write_index(index: VectorIndex) -> dict[str, Any]:
    """The document of a vector. What Qdrant does not have of the index is not in it."""
    native: dict[str, Any] = {}
    hnsw = {
        word: value
        for word, neutral in _HNSW.items()
        if (value := getattr(index, neutral)) is not None
    }
    if index.kind is IndexKind.FLAT:
        hnsw["m"] = 0
    if hnsw and index.kind is not IndexKind.IVF:
        native["hnsw_config"] = hnsw
    bits = index.quantization_bits
    for (part, word, value), (kind, bits_of) in _BITS.items():
        if kind is index.quantization and bits in (None, bits_of):
            native["quantization_config"] = {part: {word: value}}
            break
    if index.on_disk is not None:
        native["on_disk"] = index.on_disk
    return native


def _restated(vector: VectorSchema, of_all: Mapping[str, Any]) -> VectorSchema:
    own = vector.native
    hnsw = {**of_all.get("hnsw_config", {}), **own.get("hnsw_config", {})}
    quantized = own.get("quantization_config") or of_all.get("quantization_config") or {}
    kind, bits = _quantization(quantized)
    graph = None if not hnsw else IndexKind.FLAT if hnsw.get("m") == 0 else IndexKind.HNSW
    index = VectorIndex(
        kind=graph,
        m=hnsw.get("m") or None,
        ef_construction=None if graph is IndexKind.FLAT else hnsw.get("ef_construct"),
        quantization=kind,
        quantization_bits=bits,
        on_disk=own.get("on_disk"),
    )
    return msgspec.structs.replace(vector, index=index, restated=_paths(own))


def _quantization(document: Mapping[str, Any]) -> tuple[Quantization | None, float | None]:
    for part, settings in document.items():
        for (named, word, value), meant in _BITS.items():
            # One bit is what a binary quantisation has that says nothing.
            if part == named and settings.get(word, "OneBit") == value:
                return meant
    return None, None


def _paths(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a document, of a vector or of all, the neutral words say."""
    found = [f"hnsw_config.{word}" for word in _HNSW if word in document.get("hnsw_config", {})]
    for part, settings in document.get("quantization_config", {}).items():
        found += [
            f"quantization_config.{part}.{word}"
            for named, word in dict.fromkeys(key[:2] for key in _BITS)
            if part == named and word in settings
        ]
        if not settings and _quantization({part: settings})[0] is not None:
            found.append(f"quantization_config.{part}")
    if "on_disk" in document:
        found.append("on_disk")
    return tuple(found)
