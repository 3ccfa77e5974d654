"""What the suite writes: vectors of every kind, JSON of every type, ids at their edges."""

from __future__ import annotations

import struct
import uuid
from typing import Any

from replicator.model.point import (
    BareId,
    MultiVector,
    Payload,
    Point,
    PointId,
    SparseVector,
    Vector,
)
from replicator.model.schema import Distance, IdKinds, IdLimits, VectorKind, VectorSchema
from replicator.model.traits import VectorRules

PREFIX = "Conformance_"
"""Every collection's name begins with it: a capital letter, and no hyphen, as some stores want
it."""

UUIDS = (
    "00000000-0000-0000-0000-000000000000",
    "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
)

PAYLOAD: Payload = {
    "text": "plain",
    "unicode": "żółć 漢字 🦀 \n",
    "nul": "a\u0000b",
    "zero": 0,
    "big": 2**63 - 1,
    "small": -(2**63),
    "beyond_double": 2**53 + 1,
    "float": 0.25,
    "integral_float": 5.0,
    "true": True,
    "false": False,
    "null": None,
    "empty_text": "",
    "empty_list": [],
    "empty_map": {},
    "texts": ["one", "two"],
    "numbers": [1, 2, 3],
    "list": [1, 2.5, "three", None, True, [], {}],
    "nested": {"a": {"b": [{"c": None}, {"d": [2**62]}]}},
    "key with spaces": 1,
    "dotted.key": {"inner.dot": 2},
    "brackets[0]": 3,
    "ключ": 4,
}
"""JSON of every kind."""


def floats(*components: float) -> bytes:
    """A dense vector."""
    return struct.pack(f"<{len(components)}f", *components)


def sparse(**components: float) -> SparseVector:
    """A sparse vector, as `sparse(i3=0.5)`."""
    pairs = sorted((int(name[1:]), value) for name, value in components.items())
    return SparseVector(
        struct.pack(f"<{len(pairs)}I", *(index for index, _ in pairs)),
        floats(*(value for _, value in pairs)),
    )


def example(kind: VectorKind, rules: VectorRules) -> tuple[VectorSchema, Vector]:
    """Of a kind: how it is declared, and one vector that goes as far as the rules allow."""
    match kind:
        case VectorKind.DENSE:
            schema = VectorSchema(size=4, distance=Distance.DOT)
            return schema, floats(1, -2, 0.1, 3e-30)
        case VectorKind.SPARSE:
            last = {f"i{rules.sparse_dimensions_max - 1}": 3.0}
            second = -1.25 if rules.negative else 1.25
            return VectorSchema(kind=kind), sparse(i1=0.5, i7=second, **last)
        case VectorKind.MULTI:
            schema = VectorSchema(kind=kind, size=2, distance=Distance.DOT)
            return schema, MultiVector(3, floats(1, 2, 3, 4, 5, 6))


PLAIN = {"": VectorSchema(size=2, distance=Distance.DOT)}
"""One unnamed vector that comes back as it was written."""


def fresh_name() -> str:
    """The name of a collection that nobody else uses."""
    return f"{PREFIX}{uuid.uuid4().hex[:12]}"


def simple(point_id: PointId, x: float = 1.0, **payload: Any) -> Point:
    """A point of a PLAIN collection."""
    return Point(point_id, {"": floats(x, 2)}, payload)


def ids_of(kinds: IdKinds, limits: IdLimits) -> list[BareId]:
    """Ids of these kinds, those at the edges among them, in no order."""
    low, high = limits.integer_min, limits.integer_max
    found: list[BareId] = [7, low, high, 2**53 + 1, *range(100, 140)]
    found += [*UUIDS, *(str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))) for n in range(40))]
    found += ["a", "ä/ö ü", "a" * min(200, limits.text_bytes_max), "7", "%2F"]
    return [each for each in dict.fromkeys(found) if limits.hold(kinds, each)]


def ids_beyond(kinds: IdKinds, limits: IdLimits) -> list[BareId]:
    """Ids that are of no such kind, or just over the limits."""
    found: list[BareId] = ["not-a-uuid", "ä", UUIDS[1], "x" * (limits.text_bytes_max + 1)]
    found += [5, limits.integer_min - 1, limits.integer_max + 1]
    return [each for each in found if not limits.hold(kinds, each)]
