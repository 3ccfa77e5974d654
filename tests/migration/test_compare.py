from __future__ import annotations

import copy
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replicator.migration.equality.compare import compare, compare_partial, scale_free
from replicator.model.point import MultiVector, Point, PointId, SparseVector, Vector
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    Precision,
    VectorKind,
    VectorSchema,
)
from replicator.model.write import Patch

ANY_IDS = IdKinds.UINT64 | IdKinds.UUID | IdKinds.STRING


def schema(*, normalises: bool = False, **vectors: VectorSchema) -> CollectionSchema:
    return CollectionSchema(
        name="t", vectors=vectors or None, ids=ANY_IDS, normalises=normalises
    )


PLAIN = schema()
COSINE = schema(
    normalises=True,
    v=VectorSchema(size=2, distance=Distance.COSINE),
    m=VectorSchema(kind=VectorKind.MULTI, size=2, distance=Distance.COSINE),
    s=VectorSchema(kind=VectorKind.SPARSE, distance=Distance.COSINE),
    d=VectorSchema(size=2, distance=Distance.DOT),
)


def dense(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def sparse(values: dict[int, float]) -> SparseVector:
    return SparseVector(
        struct.pack(f"<{len(values)}I", *values),
        struct.pack(f"<{len(values)}f", *values.values()),
    )


def multi(*rows: tuple[float, ...]) -> MultiVector:
    return MultiVector(len(rows), b"".join(dense(*row) for row in rows))


def difference(
    expected: Point, actual: Point, target: CollectionSchema = PLAIN, **options: Any
) -> str | None:
    return compare(
        expected, actual, target, float_tolerance=1e-6, payload_tolerance=1e-9, **options
    )


def vectors_differ(
    expected: Vector, actual: Vector, name: str = "v", target: CollectionSchema = PLAIN
) -> str | None:
    return difference(Point(1, {name: expected}, {}), Point(1, {name: actual}, {}), target)


def payloads_differ(expected: Any, actual: Any) -> str | None:
    return difference(Point(1, {}, {"a": expected}), Point(1, {}, {"a": actual}))


# -- vectors -----------------------------------------------------------------------------------


def test_one_unit_in_the_last_place_of_a_float32_is_no_difference() -> None:
    for value in (1e-8, 0.1, 1.0, 12345.678, -3e7):
        near = float(np.nextafter(np.float32(value), np.float32(math.inf)))
        assert vectors_differ(dense(value, 1), dense(near, 1)) is None


def test_a_component_that_differs_is_told_by_how_much_and_not_what_it_is() -> None:
    detail = vectors_differ(dense(1, 0.5), dense(1, 0.503))
    assert detail == "vectors.v (largest difference 3.0e-03)"


def test_the_tolerance_grows_with_the_vector_and_not_below_one() -> None:
    assert vectors_differ(dense(1e6, 1), dense(1e6, 1.5)) is None
    assert vectors_differ(dense(1e6, 1), dense(1e6, 2.5)) is not None
    assert vectors_differ(dense(0.001, 0), dense(0.001, 5e-7)) is None
    assert vectors_differ(dense(0.001, 0), dense(0.001, 5e-6)) is not None


def test_minus_zero_is_zero() -> None:
    assert vectors_differ(dense(0.0, 1), dense(-0.0, 1)) is None
    assert payloads_differ(0.0, -0.0) is None
    assert payloads_differ(0, -0.0) is None


def test_without_a_tolerance_only_equal_numbers_are_equal() -> None:
    none: dict[str, Any] = {"float_tolerance": 0.0, "payload_tolerance": 0.0}
    point = Point(1, {"v": dense(0.0, 1)}, {"a": 0.1})
    assert compare(point, Point(1, {"v": dense(-0.0, 1)}, {"a": 0.1}), PLAIN, **none) is None
    near = float(np.nextafter(np.float32(1), np.float32(2)))
    assert compare(point, Point(1, {"v": dense(0.0, near)}, {"a": 0.1}), PLAIN, **none)


def test_another_dimension_another_kind_a_missing_and_an_extra_vector_are_told() -> None:
    assert vectors_differ(dense(1, 2), dense(1, 2, 3)) == "vectors.v (dimension 3 instead of 2)"
    assert vectors_differ(dense(1, 2), multi((1, 2))) == "vectors.v (multi instead of dense)"
    assert vectors_differ(sparse({1: 1}), dense(1)) == "vectors.v (dense instead of sparse)"
    with_vector, without = Point(1, {"v": dense(1)}, {}), Point(1, {}, {})
    assert difference(with_vector, without) == "vectors.v (missing)"
    assert difference(without, with_vector) == "vectors.v (unexpected)"
    unnamed = Point(1, {"": dense(1)}, {})
    assert difference(unnamed, without) == "vectors (missing)"


def test_a_store_that_normalises_keeps_the_direction_only() -> None:
    assert vectors_differ(dense(3, 4), dense(0.6, 0.8), "v", COSINE) is None
    assert vectors_differ(dense(3, 4), dense(0.8, 0.6), "v", COSINE) is not None
    assert vectors_differ(dense(3, 4), dense(-0.6, -0.8), "v", COSINE) is not None
    assert vectors_differ(multi((3, 4), (0, 5)), multi((0.6, 0.8), (0, 1)), "m", COSINE) is None
    assert vectors_differ(multi((3, 4), (0, 5)), multi((0, 1), (0.6, 0.8)), "m", COSINE)


def test_a_zero_vector_has_no_direction_and_equals_only_itself() -> None:
    assert vectors_differ(dense(0, 0), dense(-0.0, 0), "v", COSINE) is None
    assert vectors_differ(dense(0, 0), dense(0.6, 0.8), "v", COSINE) is not None
    assert vectors_differ(dense(0.6, 0.8), dense(0, 0), "v", COSINE) is not None
    assert vectors_differ(multi((0, 0), (3, 4)), multi((0, 0), (0.6, 0.8)), "m", COSINE) is None


def test_tiny_vectors_have_a_direction_all_the_same() -> None:
    assert vectors_differ(dense(3e-30, 4e-30), dense(0.6, 0.8), "v", COSINE) is None
    assert vectors_differ(dense(3e-30, 4e-30), dense(4e-30, 3e-30), "v", COSINE) is not None


def test_only_dense_and_multi_vectors_under_cosine_are_compared_by_direction() -> None:
    assert vectors_differ(dense(3, 4), dense(0.6, 0.8), "d", COSINE) is not None
    assert vectors_differ(sparse({1: 3, 2: 4}), sparse({1: 0.6, 2: 0.8}), "s", COSINE)
    assert vectors_differ(dense(3, 4), dense(0.6, 0.8), "v", schema(v=COSINE.vectors["v"]))  # type: ignore[index]
    assert scale_free(COSINE) == {"v", "m"}
    assert scale_free(PLAIN) == frozenset()


def test_the_caller_can_name_the_vectors_that_the_other_store_normalised() -> None:
    read, applied = Point(1, {"v": dense(0.6, 0.8)}, {}), Point(1, {"v": dense(3, 4)}, {})
    assert difference(read, applied) is not None
    assert difference(read, applied, directions={"v"}) is None
    assert difference(read, applied, COSINE, directions=()) is not None


def test_sparse_vectors_have_no_order_and_stored_zeros_say_nothing() -> None:
    assert vectors_differ(sparse({7: 1, 2: 0.5}), sparse({2: 0.5, 7: 1})) is None
    assert vectors_differ(sparse({2: 0.5, 9: 0.0}), sparse({2: 0.5})) is None
    assert vectors_differ(sparse({2: 0.5}), sparse({2: 0.5, 9: -0.0})) is None
    assert vectors_differ(sparse({}), sparse({4: 0.0})) is None
    assert vectors_differ(sparse({2: 0.5}), sparse({3: 0.5})) is not None
    assert vectors_differ(sparse({2: 0.5}), sparse({})) is not None
    assert vectors_differ(sparse({2**32 - 1: 1}), sparse({2**32 - 1: 1 + 2e-7})) is None


def test_rows_of_a_multi_vector_have_an_order_and_a_number() -> None:
    assert vectors_differ(multi((1, 2), (3, 4)), multi((3, 4), (1, 2))) is not None
    assert (
        vectors_differ(multi((1, 2)), multi((1, 2), (1, 2)))
        == "vectors.v (2 rows instead of 1)"
    )
    assert vectors_differ(multi((1, 2)), multi((1, 2, 3))) == "vectors.v (another dimension)"


def test_a_vector_that_is_not_finite_is_a_difference_and_no_crash() -> None:
    with np.errstate(invalid="raise"):
        assert vectors_differ(dense(1, 2), dense(1, math.nan)) is not None
        assert vectors_differ(dense(math.inf, 2), dense(math.inf, 1)) is not None
        assert vectors_differ(dense(math.inf, 2), dense(math.inf, 1), "v", COSINE) is not None


# -- payloads ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (5, 5.0),
        (5.0, 5),
        (2**53, float(2**53)),
        (0.021113257532482166, 0.021113257532482170),
        (1e300, 1e300 * (1 + 1e-12)),
        ({"x": [1, {"y": 2.0}]}, {"x": [1.0, {"y": 2}]}),
        ({"x": 1, "y": 2}, {"y": 2, "x": 1}),
        ([], []),
        (None, None),
    ],
)
def test_values_that_say_the_same_are_equal(expected: Any, actual: Any) -> None:
    assert payloads_differ(expected, actual) is None


@pytest.mark.parametrize(
    ("expected", "actual", "detail"),
    [
        (5, 6, "payload.a"),
        (5, 5.0000000001, "payload.a"),
        (2**53 + 1, float(2**53), "payload.a"),
        (2**53 + 1, 2**53, "payload.a"),
        (0.5, 0.5000001, "payload.a"),
        (1e-300, 0.0, "payload.a"),
        (5, "5", "payload.a (text instead of number)"),
        (1, True, "payload.a (boolean instead of number)"),
        (False, 0, "payload.a (number instead of boolean)"),
        (True, False, "payload.a"),
        (None, 0, "payload.a (number instead of null)"),
        ([], None, "payload.a (null instead of list)"),
        ({}, [], "payload.a (list instead of map)"),
        ("é", "e\u0301", "payload.a"),
        ([1, 2], [2, 1], "payload.a[0]"),
        ([1, 2], [1], "payload.a (1 elements instead of 2)"),
        ({"x": [0, {"y": 1}]}, {"x": [0, {"y": 2}]}, "payload.a.x[1].y"),
        ({"x": 1}, {}, "payload.a.x (missing)"),
        ({}, {"x": None}, "payload.a.x (unexpected)"),
    ],
)
def test_a_value_that_differs_is_told_by_its_place_and_not_its_value(
    expected: Any, actual: Any, detail: str
) -> None:
    assert payloads_differ(expected, actual) == detail


def test_a_missing_field_is_not_null() -> None:
    null, missing = Point(1, {}, {"a": None}), Point(1, {}, {})
    assert difference(null, missing) == "payload.a (missing)"
    assert difference(missing, null) == "payload.a (unexpected)"


def test_another_point_is_another_point() -> None:
    assert difference(Point(5, {}, {}), Point("5", {}, {})) is not None
    assert difference(Point(5, {}, {}), Point(6, {}, {})) is not None


# -- patches -----------------------------------------------------------------------------------


def left_by(patch: Patch, actual: Point, target: CollectionSchema = PLAIN) -> str | None:
    return compare_partial(patch, actual, target, float_tolerance=1e-6, payload_tolerance=1e-9)


def test_only_what_a_patch_touched_is_looked_at() -> None:
    patch = Patch(
        id=1, set={"a": 5}, unset=("b",), vectors={"v": dense(1)}, unset_vectors=("w",)
    )
    left = Point(1, {"v": dense(1), "x": dense(9)}, {"a": 5.0, "z": 1})
    assert left_by(patch, left) is None
    assert left_by(patch, Point(1, left.vectors, {"a": 6})) == "payload.a"
    assert left_by(patch, Point(1, left.vectors, {})) == "payload.a (missing)"
    assert (
        left_by(patch, Point(1, left.vectors, {"a": 5, "b": None})) == "payload.b (still there)"
    )
    assert left_by(patch, Point(1, {}, {"a": 5})) == "vectors.v (missing)"
    both: dict[str, Vector] = {"v": dense(1), "w": dense(1)}
    assert left_by(patch, Point(1, both, {"a": 5})) == "vectors.w (still there)"


def test_a_patched_vector_is_compared_as_the_store_keeps_it() -> None:
    patch = Patch(id=1, vectors={"v": dense(3, 4)})
    assert left_by(patch, Point(1, {"v": dense(0.6, 0.8)}, {}), COSINE) is None
    assert left_by(patch, Point(1, {"v": dense(0.6, 0.8)}, {})) is not None


# -- any point ---------------------------------------------------------------------------------

floats = st.floats(-1e6, 1e6, width=32)
dense_vectors = st.lists(floats, min_size=2, max_size=4).map(lambda v: dense(*v))
sparse_vectors = st.dictionaries(st.integers(0, 50), floats, max_size=5).map(sparse)
multi_vectors = st.lists(st.tuples(floats, floats), min_size=1, max_size=3).map(
    lambda rows: multi(*rows)
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
points = st.builds(
    Point,
    st.integers(0, 9) | st.sampled_from("xyz"),
    st.dictionaries(
        st.sampled_from(["", "v", "m", "s"]),
        dense_vectors | sparse_vectors | multi_vectors,
        max_size=3,
    ),
    st.dictionaries(st.text(max_size=3), values, max_size=4),
)


def as_kept(value: Any) -> Any:
    """A payload as a store may give it back: integers as floats where they fit."""
    match value:
        case bool() | None | str():
            return value
        case int():
            return float(value) if float(value) == value else value
        case float():
            return value * (1 + 2e-16)
        case list():
            return [as_kept(one) for one in value]
        case _:
            return {name: as_kept(one) for name, one in reversed(value.items())}


@given(points)
def test_a_point_equals_its_copy(point: Point) -> None:
    assert difference(point, copy.deepcopy(point)) is None


@given(points, st.randoms())
def test_a_point_equals_what_a_store_makes_of_it(point: Point, random: Any) -> None:
    kept = Point(point.id, {}, as_kept(point.payload))
    for name, vector in point.vectors.items():
        if isinstance(vector, SparseVector):
            pairs = list(
                zip(
                    np.frombuffer(vector.indices, "<u4").tolist(),
                    np.frombuffer(vector.values, "<f4").tolist(),
                    strict=True,
                )
            )
            random.shuffle(pairs)
            kept.vectors[name] = sparse(dict(pairs))
        else:
            kept.vectors[name] = vector
    assert difference(point, kept) is None
    assert difference(kept, point) is None


@given(points, points)
def test_a_comparison_finds_the_same_from_both_sides(first: Point, second: Point) -> None:
    assert (difference(first, second) is None) == (difference(second, first) is None)


@given(st.lists(floats, min_size=2, max_size=5), st.floats(0.01, 100))
def test_scaling_is_seen_unless_the_store_normalises(
    values: list[float], factor: float
) -> None:
    scaled = [float(np.float32(value * factor)) for value in values]
    assume(max(map(abs, values)) > 1e-3)
    assert vectors_differ(dense(*values), dense(*scaled), "v", COSINE) is None
    largest = max(abs(a - b) for a, b in zip(values, scaled, strict=True))
    if largest > 2e-6 * max(1, *map(abs, values), *map(abs, scaled)):
        assert vectors_differ(dense(*values), dense(*scaled)) is not None


@given(points, st.sampled_from(["drop", "add", "null"]), st.data())
def test_one_field_more_or_less_is_always_found(
    point: Point, change: str, data: st.DataObject
) -> None:
    changed = Point(point.id, point.vectors, dict(point.payload))
    if change == "add":
        changed.payload["a new field"] = None
    else:
        assume(point.payload)
        name = data.draw(st.sampled_from(sorted(point.payload)))
        if change == "null":
            assume(point.payload[name] is not None)
            changed.payload[name] = None
        else:
            del changed.payload[name]
    assert difference(point, changed) is not None


def test_a_wrong_id_type_is_never_excused() -> None:
    ids: list[PointId] = [5, "5"]
    for expected in ids:
        for actual in ids:
            same = type(expected) is type(actual)
            assert (difference(Point(expected, {}, {}), Point(actual, {}, {})) is None) is same


# -- what a collection keeps of a component -------------------------------------------------


def kept_as(precision: Precision, **given: Any) -> CollectionSchema:
    return schema(v=VectorSchema(size=2, precision=precision, **given))


def test_a_component_differs_no_more_than_the_collection_keeps_of_it() -> None:
    half = kept_as(Precision.FLOAT16)
    wanted = dense(0.1, 0.3)
    as_half = np.frombuffer(wanted, "<f4").astype("<f2").astype("<f4").tobytes()
    assert difference(Point(1, {"v": wanted}, {}), Point(1, {"v": as_half}, {})) is not None
    assert difference(Point(1, {"v": wanted}, {}), Point(1, {"v": as_half}, {}), half) is None
    far = Point(1, {"v": dense(0.1, 0.301)}, {})
    assert difference(Point(1, {"v": wanted}, {}), far, half) is not None


def test_short_vectors_are_not_equal_for_being_short() -> None:
    turbo = kept_as(Precision.TURBO4)
    wanted = Point(1, {"v": dense(0.01, 0.02)}, {})
    assert difference(wanted, Point(1, {"v": dense(0.012, 0.019)}, {}), turbo) is None
    assert difference(wanted, Point(1, {"v": dense(-0.01, 0.02)}, {}), turbo) is not None


def test_whole_numbers_are_cut_off_and_then_compared_exactly() -> None:
    whole = kept_as(Precision.UINT8, distance=Distance.COSINE)
    wanted = Point(1, {"v": dense(1.9, 300.0)}, {})
    assert difference(wanted, Point(1, {"v": dense(1.0, 255.0)}, {}), whole) is None
    assert difference(wanted, Point(1, {"v": dense(2.0, 255.0)}, {}), whole) is not None
    # Under cosine too: they are not normalised.
    assert scale_free(kept_as(Precision.UINT8, distance=Distance.COSINE)) == frozenset()


def test_the_coarser_of_two_precisions_is_what_both_can_show() -> None:
    assert Precision.FLOAT32.coarser(Precision.FLOAT16) is Precision.FLOAT16
    assert Precision.UINT8.coarser(Precision.FLOAT32) is Precision.UINT8
    assert Precision.TURBO4.coarser(Precision.TURBO4) is Precision.TURBO4
