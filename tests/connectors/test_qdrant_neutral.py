"""The index of a vector in words that every store may translate, and what of it is lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.connectors.qdrant.configuration import plan
from replicator.connectors.qdrant.kind import QDRANT, QdrantSettings
from replicator.connectors.qdrant.schema import read_schema
from replicator.model.configuration import (
    configuration_differences,
    neutral,
    settings_of,
    with_options,
)
from replicator.model.finding import Severity
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IndexKind,
    Precision,
    Quantization,
    VectorIndex,
    VectorKind,
    VectorSchema,
)
from replicator.model.traits import VectorRules
from replicator.settings.transform import CollectionSettings
from replicator.stream.compatibility import losses
from tests.connectors.test_qdrant_configuration import info_of

SETTINGS = CollectionSettings(source="a", target="a")


def foreign(index: VectorIndex, **given: Any) -> CollectionSchema:
    """A collection of a store of another kind."""
    vector = VectorSchema(size=4, distance=Distance.DOT, index=index)
    return CollectionSchema(
        name="a",
        vectors={"": msgspec.structs.replace(vector, native={"opclass": "x"})},
        ids=IdKinds.UINT64,
        native_kind="shelf",
        **given,
    )


def planned(source: CollectionSchema, **options: Any) -> CollectionSchema:
    return plan(with_options(source, options), QdrantSettings())


def index_of(schema: CollectionSchema, name: str = "") -> VectorIndex:
    assert schema.vectors is not None
    return schema.vectors[name].index


def lost(source: CollectionSchema, target: CollectionSchema) -> dict[str, str]:
    found = losses(SETTINGS, source, target)
    assert {finding.severity for finding in found} <= {Severity.INFORMS}
    return {finding.code: finding.message for finding in found}


@pytest.mark.parametrize(
    ("index", "document"),
    [
        (VectorIndex(), {}),
        (
            VectorIndex(kind=IndexKind.HNSW, m=24, ef_construction=200),
            {"hnsw_config": {"m": 24, "ef_construct": 200}},
        ),
        (VectorIndex(kind=IndexKind.FLAT), {"hnsw_config": {"m": 0}}),
        (
            VectorIndex(quantization=Quantization.SCALAR, quantization_bits=8),
            {"quantization_config": {"scalar": {"type": "Int8"}}},
        ),
        (
            VectorIndex(quantization=Quantization.PRODUCT, quantization_bits=0.5),
            {"quantization_config": {"product": {"compression": "x64"}}},
        ),
        (
            VectorIndex(quantization=Quantization.BINARY, quantization_bits=1.5),
            {"quantization_config": {"binary": {"encoding": "OneAndHalfBits"}}},
        ),
        (VectorIndex(on_disk=True), {"on_disk": True}),
        (VectorIndex(on_disk=False), {"on_disk": False}),
    ],
)
def test_what_qdrant_has_of_an_index_is_made_and_read_back(
    index: VectorIndex, document: dict[str, Any]
) -> None:
    source = foreign(index)
    made = planned(source)
    assert made.vectors is not None
    assert index_of(made) == index
    assert _holds(made.vectors[""].native, document)
    # Only the word of the other store that nobody else has.
    assert lost(source, made) == {
        "loss-setting": 'source → target: vectors.(unnamed).opclass: "x" → none'
    }


def _holds(there: Any, document: Any) -> bool:
    if isinstance(document, dict):
        return all(_holds(there.get(name), value) for name, value in document.items())
    return bool(there == document)


@pytest.mark.parametrize(
    ("index", "codes"),
    [
        (VectorIndex(kind=IndexKind.IVF, lists=100), {"vector-index", "vector-index-lists"}),
        (
            VectorIndex(quantization=Quantization.SCALAR, quantization_bits=4),
            {"quantization", "quantization-bits"},
        ),
        (VectorIndex(kind=IndexKind.FLAT, m=16), {"vector-index-m"}),
    ],
)
def test_what_qdrant_does_not_have_is_named_and_does_not_block(
    index: VectorIndex, codes: set[str]
) -> None:
    source = foreign(index)
    named = lost(source, planned(source)).keys() - {"loss-setting"}
    assert named == {f"loss-{code}" for code in codes}


def test_what_a_person_chose_for_the_target_stands_over_what_comes() -> None:
    source = foreign(VectorIndex(kind=IndexKind.HNSW, m=24, ef_construction=200))
    made = planned(
        source,
        vectors={"": {"hnsw_config": {"m": 8}, "on_disk": True}},
        shard_number=3,
    )
    assert made.vectors is not None
    assert made.vectors[""].native["hnsw_config"] == {"m": 8, "ef_construct": 200}
    assert made.native["shard_number"] == 3
    assert index_of(made).on_disk is True


def test_of_ones_own_kind_the_native_words_count() -> None:
    source = read_schema("a", info_of(hnsw_config={"m": 9, "ef_construct": 50}), 0)
    assert source.vectors is not None
    contradicting = msgspec.structs.replace(
        source,
        vectors={
            name: msgspec.structs.replace(vector, index=VectorIndex(m=77))
            for name, vector in source.vectors.items()
        },
    )
    made = planned(contradicting)
    assert made.native["hnsw_config"] == {"m": 9, "ef_construct": 50}
    assert index_of(made, "dense").m == 9
    assert configuration_differences(contradicting, made) == []


def test_every_vector_has_what_is_said_of_all_but_for_what_it_says_itself() -> None:
    info = info_of(hnsw_config={"m": 9, "ef_construct": 50}, quantization_config={"binary": {}})
    dense = info.config.params.vectors_config.params_map.map["dense"]
    dense.hnsw_config.m = 0
    other = info.config.params.vectors_config.params_map.map["other"]
    other.size, other.on_disk = 4, True
    schema = read_schema("a", info, 0)
    assert index_of(schema, "dense") == VectorIndex(
        kind=IndexKind.FLAT, quantization=Quantization.BINARY, quantization_bits=1
    )
    assert index_of(schema, "other") == VectorIndex(
        kind=IndexKind.HNSW,
        m=9,
        ef_construction=50,
        quantization=Quantization.BINARY,
        quantization_bits=1,
        on_disk=True,
    )
    assert index_of(schema, "words") == VectorIndex()


def test_to_another_kind_each_setting_is_named_once_and_what_is_kept_is_not() -> None:
    scalar = {"scalar": {"type": "Int8", "quantile": 0.5}}
    source = read_schema(
        "a",
        info_of(
            hnsw_config={"m": 9, "ef_construct": 50, "full_scan_threshold": 7},
            quantization_config=scalar,
        ),
        0,
    )
    assert source.vectors is not None
    dense = msgspec.structs.replace(source, vectors={"dense": source.vectors["dense"]})
    bare = neutral(dense, VectorRules())
    kept = msgspec.structs.replace(
        bare,
        vectors={
            "dense": VectorSchema(
                size=4,
                distance=Distance.DOT,
                index=VectorIndex(kind=IndexKind.HNSW, m=9, ef_construction=50),
            )
        },
    )
    said = {
        "loss-vector-index",
        "loss-vector-index-m",
        "loss-vector-index-ef-construction",
        "loss-quantization",
        "loss-quantization-bits",
        "loss-hnsw",
    }
    assert said <= lost(dense, bare).keys()
    told = lost(dense, bare)
    assert told["loss-hnsw"] == "source → target: hnsw_config.full_scan_threshold: 7 → none"
    assert "quantile" in told["loss-quantization"]
    assert "Int8" not in told["loss-quantization"]
    assert said & lost(dense, kept).keys() == {
        "loss-quantization",
        "loss-quantization-bits",
        "loss-hnsw",
    }


def test_a_store_without_words_of_its_own_shows_the_neutral_ones() -> None:
    schema = msgspec.structs.replace(
        foreign(VectorIndex(kind=IndexKind.IVF, lists=7)), native_kind=None
    )
    assert settings_of(schema)["vectors", "", "vector_index_lists"] == 7
    other = msgspec.structs.replace(
        foreign(VectorIndex(kind=IndexKind.IVF, lists=8)), native_kind=None, made=True
    )
    [difference] = configuration_differences(schema, other)
    assert (difference.code, difference.blocks) == ("loss-vector-index-lists", True)


@pytest.mark.parametrize(
    ("there", "wanted", "kept"),
    [
        ({Precision.FLOAT32}, Precision.FLOAT16, Precision.FLOAT32),
        ({Precision.FLOAT32, Precision.FLOAT16}, Precision.UINT8, Precision.FLOAT16),
        ({Precision.FLOAT16, Precision.UINT8}, Precision.UINT8, Precision.UINT8),
        ({Precision.FLOAT16, Precision.UINT8}, Precision.FLOAT32, Precision.FLOAT16),
    ],
)
def test_a_store_keeps_the_next_precision_that_loses_nothing_or_its_finest(
    there: set[Precision], wanted: Precision, kept: Precision
) -> None:
    rules = VectorRules(precisions=frozenset(there))
    assert rules.kept(wanted) is kept
    vectors = {"": VectorSchema(size=4, distance=Distance.DOT, precision=wanted)}
    source = CollectionSchema(name="a", vectors=vectors, ids=IdKinds.UINT64)
    made = neutral(source, rules)
    assert made.vectors is not None
    assert made.vectors[""].precision is kept
    blocking = [
        each.code for each in losses(SETTINGS, source, made) if each.severity is Severity.BLOCKS
    ]
    assert blocking == ([] if kept.holds(wanted) else ["loss-precision"])


def test_qdrants_own_limits_are_its_traits() -> None:
    rules = QDRANT.traits.vectors
    assert rules.precisions == frozenset(Precision)
    assert rules.kinds == frozenset(VectorKind)
