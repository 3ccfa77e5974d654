from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from replicator.codecs.validation import validate_point, validate_vectors
from replicator.codecs.vectors import dense, multi, sparse
from replicator.errors import Rejected
from replicator.model.point import MultiVector, Point, SparseVector
from replicator.model.schema import VectorKind, VectorSchema

NAN = struct.pack("<3f", 1, math.nan, 1)
SCHEMA = {
    "title": VectorSchema(size=3, required=True),
    "image": VectorSchema(size=2),
    "words": VectorSchema(kind=VectorKind.SPARSE),
    "tokens": VectorSchema(kind=VectorKind.MULTI, size=2),
}
WHOLE: dict[str, Any] = {
    "title": dense([1, 2, 3]),
    "image": dense([1, 2]),
    "words": sparse([5, 9], [0.5, 0.25]),
    "tokens": multi([[1, 2], [3, 4], [5, 6]]),
}


def rejected(vectors: dict[str, Any], **options: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        validate_vectors(vectors, SCHEMA, **({"whole": False} | options))
    return caught.value.code, caught.value.path


def test_vectors_as_the_collection_has_them_pass() -> None:
    validate_vectors(WHOLE, SCHEMA, whole=True)
    validate_vectors({"title": WHOLE["title"]}, SCHEMA, whole=True)


def test_a_required_vector_may_be_missing_only_from_a_patch() -> None:
    validate_vectors({"image": WHOLE["image"]}, SCHEMA, whole=False)
    validate_vectors({}, SCHEMA, whole=False)

    assert rejected({}, whole=True) == ("vector-missing", "vectors.title")
    assert rejected({"image": WHOLE["image"]}, whole=True) == (
        "vector-missing",
        "vectors.title",
    )


@pytest.mark.parametrize(
    ("name", "vector", "code", "path"),
    [
        ("other", dense([1]), "vector-unknown", "vectors.other"),
        ("", dense([1]), "vector-unknown", 'vectors.""'),
        ("title", dense([1, 2]), "vector-dimension", "vectors.title"),
        ("title", dense([1, 2, 3, 4]), "vector-dimension", "vectors.title"),
        ("title", b"", "vector-dimension", "vectors.title"),
        ("title", dense([1, 2, 3])[:-1], "field-invalid", "vectors.title"),
        ("title", NAN, "vector-not-finite", "vectors.title"),
        ("title", sparse([1], [1]), "field-type", "vectors.title"),
        ("title", multi([[1, 2, 3]]), "field-type", "vectors.title"),
        ("title", [1.0, 2.0, 3.0], "field-type", "vectors.title"),
        ("words", dense([1]), "field-type", "vectors.words"),
        ("words", SparseVector(b"\1\0\0\0", b""), "field-invalid", "vectors.words"),
        ("words", SparseVector(b"1", b"1"), "field-invalid", "vectors.words"),
        (
            "words",
            SparseVector(struct.pack("<2I", 9, 5), dense([1, 2])),
            "field-invalid",
            "vectors.words.indices",
        ),
        (
            "words",
            SparseVector(struct.pack("<3I", 1, 2, 3), NAN),
            "vector-not-finite",
            "vectors.words",
        ),
        ("tokens", multi([[1, 2, 3]]), "vector-dimension", "vectors.tokens"),
        ("tokens", MultiVector(2, dense([1, 2, 3])), "field-invalid", "vectors.tokens"),
        ("tokens", MultiVector(0, b""), "field-invalid", "vectors.tokens"),
        ("tokens", MultiVector(1, NAN[:8]), "vector-not-finite", "vectors.tokens"),
    ],
)
def test_what_the_store_might_accept_silently_is_named(
    name: str, vector: Any, code: str, path: str
) -> None:
    assert rejected({name: vector}) == (code, path)


def test_the_message_says_which_dimension_is_expected() -> None:
    with pytest.raises(Rejected, match="2 components where the collection has 3"):
        validate_vectors({"title": dense([1, 2])}, SCHEMA, whole=True)


def test_without_a_schema_vectors_must_only_be_vectors() -> None:
    validate_vectors({**WHOLE, "more": dense([1])}, None, whole=True)

    for wrong in (NAN, b"", b"123", MultiVector(2, b"1234")):
        with pytest.raises(Rejected):
            validate_vectors({"any": wrong}, None, whole=True)


def test_a_dense_vector_of_unknown_dimension_has_any() -> None:
    schema = {"v": VectorSchema(size=None)}

    validate_vectors({"v": dense([1])}, schema, whole=True)
    validate_vectors({"v": dense([1] * 9)}, schema, whole=True)


def test_components_looked_at_already_are_not_looked_at_again() -> None:
    validate_vectors({"title": NAN}, SCHEMA, whole=True, known_finite=True)

    assert rejected({"title": NAN[:8]}, known_finite=True)[0] == "vector-dimension"


@pytest.mark.parametrize(
    ("payload", "code", "path"),
    [
        ({"a": math.nan}, "payload-not-finite", "payload.a"),
        ({"a": {"b": [1.0, -math.inf]}}, "payload-not-finite", "payload.a.b[1]"),
        ({"a": 1 << 64}, "field-invalid", "payload.a"),
        ({"a": object()}, "field-type", "payload.a"),
    ],
)
def test_a_row_of_the_copy_is_held_to_the_same_rules(
    payload: dict[str, Any], code: str, path: str
) -> None:
    validate_point(Point(1, WHOLE, {"a": [1, 2.5, None, {"b": "c"}]}), SCHEMA)

    with pytest.raises(Rejected) as caught:
        validate_point(Point(1, WHOLE, payload), SCHEMA)
    assert (caught.value.code, caught.value.path) == (code, path)
    with pytest.raises(Rejected):
        validate_point(Point(1, {"title": NAN}, {}), SCHEMA)
    with pytest.raises(Rejected):
        validate_point(Point(1, {}, {}), SCHEMA)
