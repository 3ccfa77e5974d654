"""
The index of a vector: the engine's documents ↔ the neutral words.

A graph without links is none. What quantisation has beside its kind and bits (whether it stays
in memory, which quantile) has no neutral word, and stays a setting of the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replicator.model.schema import (
    IndexKind,
    Quantization,
    VectorIndex,
    VectorKind,
    VectorSchema,
)

_HNSW_WORDS = {"m": "m", "ef_construct": "ef_construction"}
"""The engine's word → the neutral one."""

_BITS: dict[tuple[str, str, str], tuple[Quantization, float]] = {
    ("scalar", "type", "int8"): (Quantization.SCALAR, 8),
    ("product", "compression", "x4"): (Quantization.PRODUCT, 8),
    ("product", "compression", "x8"): (Quantization.PRODUCT, 4),
    ("product", "compression", "x16"): (Quantization.PRODUCT, 2),
    ("product", "compression", "x32"): (Quantization.PRODUCT, 1),
    ("product", "compression", "x64"): (Quantization.PRODUCT, 0.5),
    ("binary", "encoding", "one_bit"): (Quantization.BINARY, 1),
    ("binary", "encoding", "one_and_half_bits"): (Quantization.BINARY, 1.5),
    ("binary", "encoding", "two_bits"): (Quantization.BINARY, 2),
}
"""Part, word and value of a quantisation → what they mean. Of a kind the first is meant where
nobody says how many bits."""


def write_index(vector: VectorSchema) -> dict[str, Any]:
    """The document of the index that neutral words ask for."""
    index = vector.index
    if vector.kind is VectorKind.SPARSE:
        return {}
    native: dict[str, Any] = {}
    graph = {
        word: value
        for word, known in _HNSW_WORDS.items()
        if (value := getattr(index, known)) is not None
    }
    if index.kind is IndexKind.FLAT:
        graph["m"] = 0
    if graph and index.kind is not IndexKind.IVF:
        native["hnsw_config"] = graph
    bits = index.quantization_bits
    for (part, word, value), (kind, bits_of) in _BITS.items():
        if kind is index.quantization and bits in (None, bits_of):
            native["quantization_config"] = {part: {word: value}}
            break
    if index.on_disk is not None:
        native["on_disk"] = index.on_disk
    return native


def index_of(native: Mapping[str, Any], of_all: Mapping[str, Any]) -> VectorIndex:
    """The index of a vector by its document and that of all vectors."""
    graph = {**of_all.get("hnsw_config", {}), **native.get("hnsw_config", {})}
    quantized = native.get("quantization_config") or of_all.get("quantization_config") or {}
    kind, bits = _quantization(quantized)
    flat = graph.get("m") == 0
    return VectorIndex(
        kind=None if not graph else IndexKind.FLAT if flat else IndexKind.HNSW,
        m=graph.get("m") or None,
        ef_construction=None if flat else graph.get("ef_construct"),
        quantization=kind,
        quantization_bits=bits,
        on_disk=native.get("on_disk"),
    )


def _quantization(document: Mapping[str, Any]) -> tuple[Quantization | None, float | None]:
    for part, settings in document.items():
        for (named, word, value), meant in _BITS.items():
            # One bit is what a binary quantisation has that says nothing.
            if part == named and settings.get(word, "one_bit") == value:
                return meant
    return None, None


def restated(native: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths of a document that the neutral words say as well."""
    found = [
        f"hnsw_config.{word}" for word in _HNSW_WORDS if word in native.get("hnsw_config", {})
    ]
    for part, settings in native.get("quantization_config", {}).items():
        found += [
            f"quantization_config.{part}.{word}"
            for named, word in dict.fromkeys(key[:2] for key in _BITS)
            if part == named and word in settings
        ]
        if not settings and _quantization({part: settings})[0] is not None:
            found.append(f"quantization_config.{part}")
    if "on_disk" in native:
        found.append("on_disk")
    return tuple(found)
