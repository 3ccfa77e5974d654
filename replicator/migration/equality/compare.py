"""
Canonical comparison: do two stores say the same of a point, each in its own way?

What stores change in keeping is no difference: cosine collections give vectors back with length
one, sparse indices come back sorted, components pass through float32, an integer may come back
as the integral float and some payload floats come back one unit in the last place off.
Everything else is: a missing field is not null (but for stores that
cannot tell), true is not 1, 5 is not "5", lists have an
order.

The answer is a sentence for people, which names the first place that differs and how, and never
a value: it goes into reports and logs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replicator.model.point import MultiVector, Payload, Point, SparseVector, Vector
from replicator.model.schema import CollectionSchema, Distance, Precision, VectorKind
from replicator.model.write import Patch

_Floats = NDArray[np.float64]


def scale_free(schema: CollectionSchema) -> frozenset[str]:
    """The vectors of which this store keeps only the direction."""
    if not schema.normalises:
        return frozenset()
    return frozenset(
        name
        for name, vector in (schema.vectors or {}).items()
        if vector.distance is Distance.COSINE
        and vector.kind is not VectorKind.SPARSE
        # Whole numbers have no length one, and are kept as they are.
        and vector.precision is not Precision.UINT8
    )


def precisions(schema: CollectionSchema) -> dict[str, Precision]:
    """The vectors of which this store keeps less than float32."""
    return {
        name: vector.precision
        for name, vector in (schema.vectors or {}).items()
        if vector.precision is not Precision.FLOAT32
    }


def compare(
    expected: Point,
    actual: Point,
    schema: CollectionSchema,
    *,
    float_tolerance: float,
    payload_tolerance: float,
    directions: Collection[str] | None = None,
    null_is_absence: bool | None = None,
    kept: Mapping[str, Precision] | None = None,
) -> str | None:
    """
    How two points differ, in the target's terms; None when they do not.

    `schema` is the target's, and `directions` the vectors that are compared by direction alone:
    by default those that the target normalises. Where the expected side was read from a store
    that normalises and the other side does not, the caller adds that store's `scale_free`.
    `null_is_absence`: a top-level null in the payload says the same as no field; by default
    where the target cannot tell them apart.
    `kept` is the coarser precision of both sides, by default the target's `precisions`.

    `float_tolerance` is the largest difference of a vector component, relative to the vector's
    largest component (at least 1); `payload_tolerance` that of a payload float, relative to it.
    """
    if expected.id != actual.id:
        return "id (another point)"
    if directions is None:
        directions = scale_free(schema)
    if kept is None:
        kept = precisions(schema)
    ours, theirs = expected.payload, actual.payload
    if schema.null_is_absence if null_is_absence is None else null_is_absence:
        ours, theirs = _without_nulls(ours), _without_nulls(theirs)
    return _compare_vectors(
        expected.vectors, actual.vectors, directions, kept, float_tolerance
    ) or _compare_maps(ours, theirs, "payload", payload_tolerance)


def compare_partial(
    expected: Patch,
    actual: Point,
    schema: CollectionSchema,
    *,
    float_tolerance: float,
    payload_tolerance: float,
    directions: Collection[str] | None = None,
    kept: Mapping[str, Precision] | None = None,
) -> str | None:
    """
    How a point differs from what a patch left there, looking at nothing else; None when it does
    not. Otherwise as `compare`.
    """
    if directions is None:
        directions = scale_free(schema)
    if kept is None:
        kept = precisions(schema)
    vectors = {name: v for name, v in actual.vectors.items() if name in expected.vectors}
    wanted = _without_nulls(expected.set)
    fields = {name: v for name, v in actual.payload.items() if name in wanted}
    for name in expected.unset_vectors:
        if name in actual.vectors:
            return f"{_vector_path(name)} (still there)"
    nulls = [name for name in expected.set if name not in wanted]
    for name in (*expected.unset, *nulls):  # at the top level a null of a patch removes
        if name in actual.payload:
            return f"payload.{name} (still there)"
    return _compare_vectors(
        expected.vectors, vectors, directions, kept, float_tolerance
    ) or _compare_maps(wanted, fields, "payload", payload_tolerance)


def _without_nulls(payload: Payload) -> Payload:
    return {name: value for name, value in payload.items() if value is not None}


def _compare_vectors(
    expected: dict[str, Vector],
    actual: dict[str, Vector],
    directions: Collection[str],
    kept: Mapping[str, Precision],
    tolerance: float,
) -> str | None:
    for name, vector in expected.items():
        if name not in actual:
            return f"{_vector_path(name)} (missing)"
        difference = compare_vector(
            vector,
            actual[name],
            by_direction=name in directions,
            tolerance=tolerance,
            precision=kept.get(name, Precision.FLOAT32),
        )
        if difference is not None:
            return f"{_vector_path(name)} ({difference})"
    for name in actual:
        if name not in expected:
            return f"{_vector_path(name)} (unexpected)"
    return None


def compare_vector(
    expected: Vector,
    actual: Vector,
    *,
    by_direction: bool,
    tolerance: float,
    precision: Precision = Precision.FLOAT32,
) -> str | None:
    """How two vectors differ, in a few words; None when they do not."""
    if expected == actual:
        return None
    match expected, actual:
        case bytes(), bytes():
            if len(expected) != len(actual):
                return f"dimension {len(actual) // 4} instead of {len(expected) // 4}"
            return _compare_rows(
                expected,
                actual,
                1,
                by_direction=by_direction,
                tolerance=tolerance,
                precision=precision,
            )
        case MultiVector(), MultiVector():
            if expected.rows != actual.rows:
                return f"{actual.rows} rows instead of {expected.rows}"
            if len(expected.data) != len(actual.data):
                return "another dimension"
            return _compare_rows(
                expected.data,
                actual.data,
                expected.rows,
                by_direction=by_direction,
                tolerance=tolerance,
                precision=precision,
            )
        case SparseVector(), SparseVector():
            return _compare_sparse(expected, actual, tolerance)
        case _:
            return f"{_kind(actual)} instead of {_kind(expected)}"


def _compare_rows(
    expected: bytes,
    actual: bytes,
    rows: int,
    *,
    by_direction: bool,
    tolerance: float,
    precision: Precision,
) -> str | None:
    ours, theirs = _floats(expected).reshape(rows, -1), _floats(actual).reshape(rows, -1)
    if by_direction:
        ours, theirs = _normalised(ours), _normalised(theirs)
    if precision is Precision.UINT8:
        ours, theirs = (np.clip(np.trunc(rows_), 0, 255) for rows_ in (ours, theirs))
    largest = np.maximum(np.abs(ours), np.abs(theirs)).max(axis=1, keepdims=True, initial=0.0)
    if precision.tolerance > tolerance:
        # By the largest component itself: a wide tolerance with a floor of 1 would find two
        # short vectors equal, whatever they are.
        scale = np.where(largest > 0.0, largest, 1.0)
        return _beyond(ours, theirs, scale, precision.tolerance)
    scale = np.maximum(largest, 1.0)
    return _beyond(ours, theirs, scale, tolerance)


def _compare_sparse(
    expected: SparseVector, actual: SparseVector, tolerance: float
) -> str | None:
    """
    As dense vectors over the indices of both, so that order and stored zeros say nothing.
    Never by direction: stores keep sparse vectors as they are.
    """
    indices = [np.frombuffer(vector.indices, "<u4") for vector in (expected, actual)]
    union, places = np.unique(np.concatenate(indices), return_inverse=True)
    ours, theirs = np.zeros(len(union)), np.zeros(len(union))
    np.add.at(ours, places[: len(indices[0])], _floats(expected.values))
    np.add.at(theirs, places[len(indices[0]) :], _floats(actual.values))
    scale = float(np.maximum(np.abs(ours), np.abs(theirs)).max(initial=1.0))
    return _beyond(ours, theirs, scale, tolerance)


def _beyond(
    ours: _Floats, theirs: _Floats, scale: _Floats | float, tolerance: float
) -> str | None:
    with np.errstate(invalid="ignore"):
        largest = float((np.abs(ours - theirs) / scale).max(initial=0.0))
    # Written so that NaN, which compares with nothing, is a difference.
    return None if largest <= tolerance else f"largest difference {largest:.1e}"


def _floats(data: bytes) -> _Floats:
    return np.frombuffer(data, "<f4").astype(np.float64)


def _normalised(rows: _Floats) -> _Floats:
    """Rows of length one; a row of zeros has no direction and stays."""
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    with np.errstate(invalid="ignore"):  # infinite over infinite: no direction, and NaN says so
        return np.asarray(rows / np.where(lengths > 0.0, lengths, 1.0))


def _kind(vector: Vector) -> str:
    match vector:
        case SparseVector():
            return "sparse"
        case MultiVector():
            return "multi"
        case _:
            return "dense"


def _vector_path(name: str) -> str:
    return f"vectors.{name}" if name else "vectors"


def _compare_maps(
    expected: Payload, actual: Payload, path: str, tolerance: float
) -> str | None:
    for name, value in expected.items():
        if name not in actual:
            return f"{path}.{name} (missing)"
        difference = _compare_values(value, actual[name], f"{path}.{name}", tolerance)
        if difference is not None:
            return difference
    for name in actual:
        if name not in expected:
            return f"{path}.{name} (unexpected)"
    return None


def _compare_values(expected: Any, actual: Any, path: str, tolerance: float) -> str | None:
    kinds = _json_type(expected), _json_type(actual)
    if kinds[0] != kinds[1]:
        return f"{path} ({kinds[1]} instead of {kinds[0]})"
    match kinds[0]:
        case "number":
            return None if _same_number(expected, actual, tolerance) else path
        case "map":
            return _compare_maps(expected, actual, path, tolerance)
        case "list":
            return _compare_lists(expected, actual, path, tolerance)
        case _:
            return None if expected == actual else path


def _same_number(expected: int | float, actual: int | float, tolerance: float) -> bool:
    if isinstance(expected, float) and isinstance(actual, float):
        return abs(expected - actual) <= tolerance * max(abs(expected), abs(actual))
    # With an int in it the comparison is exact, as Python's is, beyond 2**53 too: an integer
    # that went through a double on its way is a difference worth finding.
    return expected == actual


def _compare_lists(
    expected: Sequence[Any], actual: Sequence[Any], path: str, tolerance: float
) -> str | None:
    if len(expected) != len(actual):
        return f"{path} ({len(actual)} elements instead of {len(expected)})"
    for place, (ours, theirs) in enumerate(zip(expected, actual, strict=True)):
        difference = _compare_values(ours, theirs, f"{path}[{place}]", tolerance)
        if difference is not None:
            return difference
    return None


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case dict():
            return "map"
        case list() | tuple():
            return "list"
        case _:
            return type(value).__name__
