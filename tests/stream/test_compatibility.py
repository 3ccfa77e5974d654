from __future__ import annotations

from typing import Any

import msgspec
import pytest

from replicator.model.finding import Severity
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.settings.transform import CollectionSettings, TransformSettings
from replicator.stream.compatibility import losses
from replicator.stream.transform import FieldTransform

COSINE = VectorSchema(size=4, distance=Distance.COSINE)
SPARSE = VectorSchema(kind=VectorKind.SPARSE)
QDRANT = IdKinds.UINT64 | IdKinds.UUID


def schema(**fields: Any) -> CollectionSchema:
    return CollectionSchema(**{"name": "c", "vectors": {"": COSINE}, "ids": QDRANT, **fields})


SOURCE = schema(name="articles", indexes={"year": "integer", "meta.lang": "keyword"})
TARGET = schema(name="t", indexes=SOURCE.indexes)


def transform(
    source: CollectionSchema | None = None, ids: str = "auto", **steps: Any
) -> FieldTransform:
    settings = CollectionSettings(
        source="articles",
        target="t",
        ids=ids,  # type: ignore[arg-type]
        transform=TransformSettings(**steps),
    )
    return FieldTransform(settings, TARGET, source)


def findings(
    source: CollectionSchema, target: CollectionSchema, ids: str = "auto", **steps: Any
) -> list[tuple[Severity, str]]:
    found = transform(ids=ids, **steps).compatible(source, target)
    assert {finding.subject for finding in found} <= {"target/t"}
    return [(finding.severity, finding.code) for finding in found]


BLOCKS = [(Severity.BLOCKS, "target-incompatible")]
WARNS = [(Severity.WARNS, "target-incompatible")]


def test_equal_collections_have_nothing_between_them() -> None:
    assert findings(SOURCE, TARGET) == []


@pytest.mark.parametrize(
    "theirs",
    [
        {"": VectorSchema(size=5, distance=Distance.COSINE)},
        {"": VectorSchema(kind=VectorKind.MULTI, size=4, distance=Distance.COSINE)},
        {"other": COSINE},
        {"": COSINE, "other": VectorSchema(size=4, required=True)},
    ],
)
def test_a_vector_that_does_not_fit_blocks(theirs: dict[str, VectorSchema]) -> None:
    assert findings(SOURCE, msgspec.structs.replace(TARGET, vectors=theirs)) == BLOCKS


def test_another_distance_blocks_until_it_is_accepted() -> None:
    dot = {"": VectorSchema(size=4, distance=Distance.DOT)}
    target = msgspec.structs.replace(TARGET, vectors=dot)
    for accept, severity in (([], Severity.BLOCKS), (["loss-distance"], Severity.INFORMS)):
        settings = CollectionSettings(source="articles", target="t", accept=accept)
        [finding] = losses(settings, SOURCE, TARGET, target)
        assert (finding.severity, finding.code) == (severity, "loss-distance")
        assert '"cosine" → "dot"' in finding.message


def test_aliases_of_the_source_are_told() -> None:
    settings = CollectionSettings(source="articles", target="t")
    source = msgspec.structs.replace(SOURCE, aliases=("live",))
    [finding] = losses(settings, source, TARGET)
    assert (finding.severity, finding.code) == (Severity.INFORMS, "aliases-stay")
    assert "`live`" in finding.message


def test_what_is_not_known_is_no_difference() -> None:
    for vectors in (None, {"": VectorSchema()}):
        target = msgspec.structs.replace(TARGET, vectors=vectors)
        assert findings(SOURCE, target) == []
        assert findings(msgspec.structs.replace(SOURCE, vectors=vectors), TARGET) == []


def test_a_vector_is_compared_with_the_one_it_becomes() -> None:
    target = msgspec.structs.replace(TARGET, vectors={"dense": COSINE})
    assert findings(SOURCE, target, vectors={"": "dense"}) == []
    assert findings(SOURCE, target) == BLOCKS


def test_a_mapping_of_a_vector_that_the_source_lacks_blocks() -> None:
    assert findings(SOURCE, TARGET, vectors={"": "", "titel": "title"}) == [
        (Severity.BLOCKS, "transform-invalid")
    ]


@pytest.mark.parametrize(
    ("steps", "blocks"),
    [
        ({"truncate": {"": 2}}, False),
        ({"truncate": {"": 4}}, False),
        ({"truncate": {"": 5}}, True),
        ({"truncate": {"text": 2}}, True),
        ({"truncate": {"text": 2}, "vectors": {"": "text"}}, False),
        ({"truncate": {"words": 2}}, True),
    ],
)
def test_only_as_much_is_left_of_a_vector_as_there_is(
    steps: dict[str, Any], blocks: bool
) -> None:
    source = msgspec.structs.replace(SOURCE, vectors={"": COSINE, "words": SPARSE})
    t = transform(**steps)
    wanted = t.target_schema(source)
    found = [(each.severity, each.code) for each in t.compatible(source, wanted)]
    assert found == ([(Severity.BLOCKS, "transform-invalid")] if blocks else [])
    if not blocks:
        [size] = steps["truncate"].values()
        assert wanted.vectors is not None
        assert size in [vector.size for vector in wanted.vectors.values()]


def test_a_vector_that_stays_behind_is_not_asked_of_the_target() -> None:
    source = msgspec.structs.replace(SOURCE, vectors={"": COSINE, "words": SPARSE})
    assert findings(source, TARGET) == BLOCKS
    assert findings(source, TARGET, vectors={"": ""}) == []


def test_ids_that_will_be_mapped_are_told_and_ids_that_cannot_be_held_warn() -> None:
    source = msgspec.structs.replace(SOURCE, ids=IdKinds.STRING)
    assert findings(source, TARGET) == [(Severity.INFORMS, "id-invalid")]
    assert findings(source, TARGET, ids="keep") == [(Severity.WARNS, "id-invalid")]
    integers = msgspec.structs.replace(TARGET, ids=IdKinds.UINT64)
    assert findings(source, integers) == [(Severity.WARNS, "id-invalid")]
    texts = msgspec.structs.replace(TARGET, ids=IdKinds.STRING | IdKinds.UINT64)
    assert findings(SOURCE, texts) == []


def test_an_index_that_is_missing_or_of_another_type_warns() -> None:
    without = msgspec.structs.replace(TARGET, indexes={"year": "integer"})
    assert findings(SOURCE, without) == WARNS
    other = {"year": "float", "meta.lang": "keyword"}
    assert findings(SOURCE, msgspec.structs.replace(TARGET, indexes=other)) == WARNS
    assert findings(SOURCE, without, drop=["meta"]) == []


def test_the_wanted_target_has_the_vectors_and_indexes_under_their_new_names() -> None:
    source = msgspec.structs.replace(
        SOURCE, vectors={"": COSINE, "words": SPARSE}, capture_id="old", points=7
    )
    wanted = transform(
        vectors={"words": "sparse"}, rename={"meta": "m"}, cast={"year": "float"}
    ).target_schema(source)
    assert wanted.name == "t"
    assert wanted.vectors == {"sparse": SPARSE}
    assert wanted.indexes == {"year": "float", "m.lang": "keyword"}
    assert wanted.ids == TARGET.ids
    assert wanted.capture_id is None


def test_an_index_of_a_field_that_does_not_arrive_is_not_wanted() -> None:
    for steps in (
        {"drop": ["year"]},
        {"keep": ["meta"]},
        {"constant": {"year": 5}},
        {"rename": {"y": "year"}},
    ):
        assert transform(**steps).target_schema(SOURCE).indexes == {"meta.lang": "keyword"}


def test_a_text_index_stays_one_when_the_field_is_cast_to_text() -> None:
    source = msgspec.structs.replace(SOURCE, indexes={"body": "text", "year": "integer"})
    wanted = transform(cast={"body": "str", "year": "str"}).target_schema(source)
    assert wanted.indexes == {"body": "text", "year": "keyword"}


def test_the_wanted_target_of_a_source_is_compatible_with_it() -> None:
    t = transform(vectors={"": "dense"}, rename={"meta": "m"}, cast={"year": "str"})
    assert t.compatible(SOURCE, t.target_schema(SOURCE)) == []


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ({"filter": {"must": []}}, "filter"),
        ({"keep": ["a"]}, "keep"),
        ({"drop": ["a"]}, "`a`"),
        ({"cast": {"a": "int"}}, "`a`"),
        ({"constant": {"a": 1}}, "`a`"),
        ({"computed": {"a": "id"}}, "`a`"),
        ({"vectors": {"": ""}}, "vectors"),
        ({"truncate": {"": 2}}, "2 dimensions"),
    ],
)
def test_each_step_that_loses_says_so(steps: dict[str, Any], word: str) -> None:
    [reason] = transform(**steps).lossy
    assert word in reason


def test_renames_defaults_and_mapped_ids_lose_nothing() -> None:
    assert transform(rename={"a": "b"}, default={"c": 1}).lossy == []


def test_a_mapping_of_every_vector_loses_nothing_once_the_source_is_known() -> None:
    assert transform(SOURCE, vectors={"": "dense"}).lossy == []
    more = msgspec.structs.replace(SOURCE, vectors={"": COSINE, "words": SPARSE})
    assert transform(more, vectors={"": "dense"}).lossy == [
        "vectors: the vector `words` is not at the target"
    ]
