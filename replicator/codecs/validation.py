"""
What must hold of vectors and points before a store sees them, because stores accept some of it
silently: NaN, a wrong dimension, a vector nobody declared. The same rules for events and for
the rows of a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from replicator.codecs.numeric import is_ascending, is_finite
from replicator.codecs.payload import check_payload, join
from replicator.errors import Rejected
from replicator.model.point import MultiVector, Point, SparseVector, Vector, Vectors
from replicator.model.schema import VectorKind, VectorSchema

_KINDS: dict[type, VectorKind] = {
    bytes: VectorKind.DENSE,
    SparseVector: VectorKind.SPARSE,
    MultiVector: VectorKind.MULTI,
}
_DENSE = VectorKind.DENSE


def validate_vectors(
    vectors: Vectors,
    schema: Mapping[str, VectorSchema] | None,
    *,
    whole: bool,
    known_finite: bool = False,
) -> None:
    """
    Check vectors against the collection's; None where the store keeps no schema.

    `whole`: these are all vectors of the point, so that a required one may not be missing; not
    so in a patch. `known_finite` skips the look at every component, for what the event decoder
    has just looked at.

    Raises Rejected with the path: `vector-unknown`, `vector-dimension`, `vector-missing`,
    `vector-not-finite`, `field-type` (wrong kind of vector), `field-invalid` (bytes that are no
    vector).
    """
    for name, vector in vectors.items():
        expected = None if schema is None else schema.get(name)
        if expected is None and schema is not None:
            raise _unknown(name, schema)
        if type(vector) is bytes and (expected is None or expected.kind is _DENSE):
            # The usual vector, in as few steps as there are.
            size = expected.size if expected is not None else None
            if len(vector) != 4 * size if size is not None else not vector or len(vector) & 3:
                raise _misfit(vector, size, join("vectors", name))
            if not known_finite and not is_finite(vector):
                raise _not_finite(name)
        else:
            _validate(name, vector, expected, known_finite)
    if whole and schema is not None and len(vectors) < len(schema):
        for name, expected in schema.items():
            if expected.required and name not in vectors:
                path = join("vectors", name)
                raise Rejected("vector-missing", f"{path} is missing and required", path)


def validate_unset(names: Sequence[str], schema: Mapping[str, VectorSchema] | None) -> None:
    """
    Vectors that a patch removes. Raises Rejected with the path: `vector-unknown`, and
    `vector-missing` for one that no point of the collection can be without.
    """
    for place, name in enumerate(names):
        expected = None if schema is None else schema.get(name)
        path = join("unset_vectors", place)
        if schema is not None and expected is None:
            raise _unknown(name, schema, path)
        if expected is not None and expected.required:
            raise Rejected("vector-missing", f"{path} names a vector that is required", path)


class Demand(msgspec.Struct, frozen=True):
    """
    Which vectors an upsert must bring beyond those that the store itself demands: a whole image
    without them is mostly a mistake of its producer, which would wipe vectors without a word.
    """

    names: frozenset[str] = frozenset()
    some: bool = False
    """One at least, whichever: every row that was seen has some."""
    declared: bool = False
    """By `vectors_required`; else it was learned from the source."""

    def check(self, vectors: Vectors) -> None:
        """Judge all vectors of an image. Raises Rejected("vector-missing")."""
        if not self.names <= vectors.keys():
            path = join("vectors", min(self.names - vectors.keys()))
            raise Rejected("vector-missing", f"{path} is missing{self._why}", path)
        if self.some and not vectors:
            raise Rejected("vector-missing", f"vectors: there are none{self._why}", "vectors")

    def check_unset(self, names: Sequence[str]) -> None:
        """Judge what a patch removes. Raises Rejected("vector-missing")."""
        for place, name in enumerate(names):
            if self.declared and name in self.names:
                path = join("unset_vectors", place)
                raise Rejected(
                    "vector-missing", f"{path} names a vector that is required{self._why}", path
                )

    @property
    def _why(self) -> str:
        if self.declared:
            return ", and `vectors_required` demands it"
        return (
            ", and the rows of the source have it; where they need not, declare"
            " `vectors_required = []`"
        )


def demand_of(
    declared: Sequence[str] | None,
    schema: Mapping[str, VectorSchema] | None,
    rows: Sequence[Point],
) -> Demand:
    """
    What is declared; else what is learned. A collection with one vector demands it, as long as
    no row that was seen lacks it. One with several demands that there be some, where every row
    that was seen has some.
    """
    if declared is not None:
        return Demand(frozenset(declared), declared=True)
    if any(not row.vectors for row in rows):
        return Demand()
    if schema is not None and len(schema) == 1:
        return Demand(frozenset(schema))
    return Demand(some=bool(rows))


def validate_point(point: Point, schema: Mapping[str, VectorSchema] | None) -> None:
    """A row of a copy: all of its vectors, and its payload. Raises Rejected with the path."""
    validate_vectors(point.vectors, schema, whole=True)
    check_payload(point.payload)


def _validate(
    name: str, vector: Vector, expected: VectorSchema | None, known_finite: bool
) -> None:
    path = join("vectors", name)
    kind = _KINDS.get(type(vector))
    if kind is None:
        raise Rejected("field-type", f"{path} is {type(vector).__name__}, no vector", path)
    if expected is not None and kind is not expected.kind:
        raise Rejected("field-type", f"{path} is {kind.value}, not {expected.kind.value}", path)
    size = None if expected is None else expected.size
    if isinstance(vector, SparseVector):
        if len(vector.indices) != len(vector.values) or len(vector.indices) & 3:
            raise Rejected("field-invalid", f"{path} has not as many indices as values", path)
        if not is_ascending(vector.indices):
            at = join(path, "indices")
            raise Rejected("field-invalid", f"{at} do not ascend", at)
        data = vector.values
    elif isinstance(vector, MultiVector):
        data = vector.data
        if vector.rows < 1 or not data or len(data) % (4 * vector.rows):
            raise Rejected(
                "field-invalid", f"{path} does not fill its {vector.rows} rows", path
            )
        if size is not None and len(data) != 4 * size * vector.rows:
            raise _misfit(data[: len(data) // vector.rows], size, path)
    else:
        data = vector
    if not known_finite and not is_finite(data):
        raise _not_finite(name)


def _unknown(
    name: str, schema: Mapping[str, VectorSchema], path: str | None = None
) -> Rejected:
    path = path or join("vectors", name)
    known = ", ".join(repr(each) for each in sorted(schema)) or "none"
    return Rejected(
        "vector-unknown",
        f"{path} ({name!r}) is not a vector of the collection, which has {known}"
        if path != join("vectors", name)
        else f"{path} is not a vector of the collection, which has {known}",
        path,
    )


def _misfit(vector: bytes, size: int | None, path: str) -> Rejected:
    if size is None or len(vector) & 3:
        return Rejected(
            "field-invalid", f"{path} is not one or more float32: {len(vector)} bytes", path
        )
    return Rejected(
        "vector-dimension",
        f"{path} has {len(vector) // 4} components where the collection has {size}",
        path,
    )


def _not_finite(name: str) -> Rejected:
    path = join("vectors", name)
    return Rejected("vector-not-finite", f"{path} holds NaN or Infinity", path)
