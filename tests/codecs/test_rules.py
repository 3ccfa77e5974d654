"""What a store of given traits can hold, judged before anything is written."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest

from replicator.codecs.rules import check_collection, check_payload_rules, check_write
from replicator.errors import Refused, Rejected
from replicator.model.point import Point, SparseVector, Vector
from replicator.model.schema import (
    CollectionSchema,
    IdKinds,
    IdLimits,
    VectorKind,
    VectorSchema,
)
from replicator.model.traits import IdRules, Lists, PayloadRules, Traits, VectorRules
from replicator.model.write import Delete, Patch, Upsert, Write

DENSE, SPARSE = VectorSchema(size=1), VectorSchema(kind=VectorKind.SPARSE)
KEYS = PayloadRules(keys="[a-z]+")
TRAITS = Traits(
    ids=IdRules(kinds=IdKinds.STRING, limits=IdLimits(text_bytes_max=4, alphabet="a-z")),
    vectors=VectorRules(),
    payload=PayloadRules(nested=False),
    marks=True,
)
VECTOR: dict[str, Vector] = {"": struct.pack("<f", 1)}


@pytest.mark.parametrize(
    ("rules", "payload", "path"),
    [
        (PayloadRules(nested=False), {"a": {}}, "payload.a"),
        (PayloadRules(nested=False), {"a": [1, {}]}, "payload.a[1]"),
        (PayloadRules(), {"a": {"b": [{}]}}, None),
        (PayloadRules(lists=Lists.NONE), {"a": []}, "payload.a"),
        (PayloadRules(lists=Lists.TEXTS), {"a": ["b", 1]}, "payload.a"),
        (PayloadRules(lists=Lists.TEXTS), {"a": ["b"], "c": []}, None),
        (PayloadRules(lists=Lists.ALIKE), {"a": []}, "payload.a"),
        (PayloadRules(lists=Lists.ALIKE), {"a": [1, 2.0]}, "payload.a"),
        (PayloadRules(lists=Lists.ALIKE), {"a": [1, True]}, "payload.a"),
        (PayloadRules(lists=Lists.ALIKE), {"a": [None]}, "payload.a"),
        (PayloadRules(lists=Lists.ALIKE), {"a": [[1]]}, "payload.a"),
        (PayloadRules(lists=Lists.ALIKE), {"a": [1, 2], "b": [True]}, None),
        (PayloadRules(integer_max=9), {"a": {"b": [10]}}, "payload.a.b[0]"),
        (PayloadRules(integer_max=9), {"a": -11}, "payload.a"),
        (PayloadRules(integer_max=9), {"a": -10, "b": 9, "c": 10.5}, None),
        (PayloadRules(integer_max=None), {"a": 1 << 70}, None),
        (PayloadRules(nul=False), {"a": ["b\0"]}, "payload.a[0]"),
        (PayloadRules(), {"a": "b\0"}, None),
        (KEYS, {"a1": 1}, "payload.a1"),
        (KEYS, {"a": {"B": 1}}, "payload.a.B"),
        (KEYS, {"a": {"b": 1}}, None),
    ],
)
def test_a_value_is_held_or_named(
    rules: PayloadRules, payload: dict[str, Any], path: str | None
) -> None:
    if path is None:
        check_payload_rules(payload, rules)
        return
    with pytest.raises(Rejected) as caught:
        check_payload_rules(payload, rules)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("rules", "vectors", "fits"),
    [
        (VectorRules(), {"": DENSE}, True),
        (VectorRules(), {"a": DENSE}, False),
        (VectorRules(), {"": SPARSE}, False),
        (VectorRules(), {"": DENSE, "a": DENSE}, False),
        (VectorRules(several=True), {"": DENSE, "a": DENSE}, True),
        (VectorRules(several=True, unnamed=False), {"": DENSE}, False),
        (VectorRules(), None, True),
        (VectorRules(dimensions_max=1), {"": DENSE}, True),
        (VectorRules(dimensions_max=1), {"": VectorSchema(size=2)}, False),
        (VectorRules(kinds=frozenset(VectorKind), dimensions_max=1), {"": SPARSE}, True),
    ],
)
def test_a_collection_is_held_or_refused(
    rules: VectorRules, vectors: dict[str, VectorSchema] | None, fits: bool
) -> None:
    wanted = CollectionSchema(name="a", vectors=vectors, ids=IdKinds.STRING)
    if fits:
        check_collection(wanted, rules)
    else:
        with pytest.raises(Refused):
            check_collection(wanted, rules)


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (Upsert(Point("abcd", VECTOR, {"a": [1]})), None),
        (Upsert(Point("abcde", VECTOR, {})), "id-invalid"),
        (Upsert(Point("a1", VECTOR, {})), "id-invalid"),
        (Upsert(Point(1, VECTOR, {})), "id-invalid"),
        (Delete("a1"), "id-invalid"),
        (Patch(id="a1"), "id-invalid"),
        (Upsert(Point("a", {}, {})), "vector-missing"),
        (Upsert(Point("a", {"": struct.pack("<2f", 1, 2)}, {})), "vector-dimension"),
        (Upsert(Point("a", {**VECTOR, "b": VECTOR[""]}, {})), "vector-unknown"),
        (Upsert(Point("a", VECTOR, {"a": {}})), "field-type"),
        (Patch(id="a", set={"a": {}}), "field-type"),
        (Patch(id="a", vectors={"": struct.pack("<2f", 1, 2)}), "vector-dimension"),
        (Patch(id="a", unset_vectors=("",)), "vector-missing"),
        (Patch(id="a", set={"a": None}, unset=("b",)), None),
    ],
)
def test_a_write_is_held_or_rejected(write: Write, code: str | None) -> None:
    required = VectorSchema(size=1, required=True)
    schema = CollectionSchema(name="a", vectors={"": required}, **TRAITS.facts())
    if code is None:
        check_write(write, schema, TRAITS)
        return
    with pytest.raises(Rejected) as caught:
        check_write(write, schema, TRAITS)
    assert caught.value.code == code


@pytest.mark.parametrize("negative", [True, False])
def test_a_sparse_vector_below_zero_is_held_or_rejected(negative: bool) -> None:
    rules = VectorRules(kinds=frozenset(VectorKind), negative=negative)
    traits = msgspec.structs.replace(TRAITS, vectors=rules)
    schema = CollectionSchema(name="a", vectors={"": SPARSE}, **traits.facts())
    indices = struct.pack("<2I", 0, 7)
    good = SparseVector(indices, struct.pack("<2f", 1, 0))
    bad = SparseVector(indices, struct.pack("<2f", 1, -1e-30))
    check_write(Upsert(Point("a", {"": good}, {})), schema, traits)
    for write in (Upsert(Point("a", {"": bad}, {})), Patch(id="a", vectors={"": bad})):
        if negative:
            check_write(write, schema, traits)
            continue
        with pytest.raises(Rejected) as caught:
            check_write(write, schema, traits)
        assert (caught.value.code, caught.value.path) == ("field-invalid", 'vectors.""')


@pytest.mark.parametrize(("most", "fits"), [(8, True), (7, False)])
def test_an_index_of_a_sparse_vector_is_held_or_rejected(most: int, fits: bool) -> None:
    rules = VectorRules(kinds=frozenset(VectorKind), sparse_dimensions_max=most)
    traits = msgspec.structs.replace(TRAITS, vectors=rules)
    schema = CollectionSchema(name="a", vectors={"": SPARSE}, **traits.facts())
    vector = SparseVector(struct.pack("<2I", 0, 7), struct.pack("<2f", 1, 2))
    for write in (Upsert(Point("a", {"": vector}, {})), Patch(id="a", vectors={"": vector})):
        if fits:
            check_write(write, schema, traits)
            continue
        with pytest.raises(Rejected) as caught:
            check_write(write, schema, traits)
        assert (caught.value.code, caught.value.path) == ("field-invalid", 'vectors.""')


def test_kinds_of_ids_that_do_not_mix_are_chosen_as_wanted() -> None:
    both = IdKinds.UINT64 | IdKinds.STRING
    mixed, either = IdRules(kinds=both), IdRules(kinds=both, mixed=False)
    assert mixed.of_collection(IdKinds.UINT64) == both
    assert either.of_collection(IdKinds.UINT64) == IdKinds.UINT64
    assert either.of_collection(both) == IdKinds.STRING
    assert either.of_collection(IdKinds.UUID) == IdKinds.STRING
    assert either.of_collection(IdKinds.UINT64 | IdKinds.UUID) == IdKinds.STRING


def test_the_limits_of_ids_are_told_in_words() -> None:
    words = IdLimits().in_words(IdKinds.UINT64 | IdKinds.UUID)
    assert words == "integers from 0 to 2^64-1 and UUIDs"
    signed = IdLimits(integer_min=-(1 << 63), integer_max=(1 << 63) - 1)
    assert signed.in_words(IdKinds.UINT64) == "integers from -2^63 to 2^63-1"
    assert signed.in_words(IdKinds.STRING) == "texts"
    assert IdLimits().in_words(IdKinds(0)) == "no ids"
