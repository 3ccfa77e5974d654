"""
The oracle: a dict of what the application made of each key, and what both stores must hold
for it. The transform is written a second time here, from its documentation, and shares no code
with the engine's.
"""

from __future__ import annotations

import json
import math
import struct
import uuid
from typing import Any
from urllib.parse import quote

import msgspec

from replicator.model.point import Point, PointId, ScopedId
from replicator.model.schema import Distance
from tests.simulation.plan import CollectionPlan

NAMESPACE = uuid.UUID("92eb0a74-d6f3-5e60-919c-49275e843727")
"""As the contract has it, for the ids of points that the target cannot hold."""


class Image(msgspec.Struct, frozen=True):
    """What the application believes a key to be."""

    vectors: dict[str, bytes]
    payload: dict[str, Any]


Model = dict[tuple[str, PointId], Image]
"""(source collection, id) → image."""


def event_key(collection: str, point_id: PointId) -> bytes:
    """The key of a change event, as the contract spells it."""
    parts = [collection, str(point_id)]
    if isinstance(point_id, ScopedId):
        parts = [collection, point_id.scope, str(point_id.id)]
    return "/".join(quote(part, safe="") for part in parts).encode()


def patched(image: Image, change: dict[str, Any]) -> Image:
    """The image after a patch in the contract's words: set, unset, vectors, unset_vectors."""
    sets = change.get("set", {})
    gone = {*change.get("unset", ()), *(k for k, v in sets.items() if v is None)}
    payload = {k: v for k, v in image.payload.items() if k not in gone}
    payload |= {k: v for k, v in sets.items() if v is not None}
    vectors = {
        k: v for k, v in image.vectors.items() if k not in change.get("unset_vectors", ())
    }
    return Image({**vectors, **change.get("vectors", {})}, payload)


def target_id(plan: CollectionPlan, point_id: PointId) -> PointId:
    """The id at a target that knows integers and UUIDs, with scopes or without."""
    mapped = str(uuid.uuid5(NAMESPACE, event_key(plan.source, point_id).decode()))
    if isinstance(point_id, ScopedId):
        if plan.fan_in:
            return mapped
        if plan.shared:
            return ScopedId(point_id.scope, mapped)
        kept = isinstance(point_id.id, int) or _is_uuid(point_id.id)
        return point_id if kept else ScopedId(point_id.scope, mapped)
    kept = isinstance(point_id, int) or _is_uuid(point_id)
    return point_id if kept and not plan.shared else mapped


def carried(plan: CollectionPlan, point_id: PointId, image: Image) -> Point | None:
    """What the target must hold for an image; None where the filter leaves it out."""
    steps = plan.settings.transform
    payload = image.payload
    if steps.filter is not None and not _matches(steps.filter, payload):
        return None
    made = {name: value for name, value in payload.items() if name not in steps.drop}
    made = {**steps.default, **made}
    for name, kind in steps.cast.items():
        if name in made:
            made[name] = {"str": str, "int": int, "float": float}[kind](made[name])
    made = {steps.rename.get(name, name): value for name, value in made.items()}
    made.update(steps.constant)
    if plan.flat:
        for name, value in made.items():
            if isinstance(value, dict | list):
                made[name] = json.dumps(value, sort_keys=True, separators=(",", ":"))
    moved = target_id(plan, point_id)
    if moved != point_id:
        made["_source_id"] = point_id.id if isinstance(point_id, ScopedId) else point_id
        if isinstance(point_id, ScopedId) and plan.fan_in:
            made["_source_scope"] = point_id.scope
        if plan.shared:
            made["_source_collection"] = plan.source
    names = steps.vectors
    vectors = {
        name if names is None else names[name]: vector
        for name, vector in image.vectors.items()
        if names is None or name in names
    }
    return Point(id=moved, vectors=dict(vectors), payload=made)


def expected_source(plan: CollectionPlan, model: Model) -> dict[PointId, Point]:
    """What the source collection must hold."""
    return {
        point_id: Point(id=point_id, vectors=dict(image.vectors), payload=image.payload)
        for (collection, point_id), image in model.items()
        if collection == plan.source
    }


def expected_target(plan: CollectionPlan, model: Model) -> dict[PointId, Point]:
    """What the target collection must hold."""
    points = (
        carried(plan, point_id, image)
        for (collection, point_id), image in model.items()
        if collection == plan.source
    )
    return {point.id: point for point in points if point is not None}


def differences(
    expected: dict[PointId, Point],
    found: dict[PointId, Point],
    distance: Distance,
    but: set[PointId],
) -> list[str]:
    """Sentences on every key that differs, leaving out the ids in `but`."""
    told = []
    for point_id in sorted((expected.keys() | found.keys()) - but, key=str):
        want, have = expected.get(point_id), found.get(point_id)
        if have is None:
            told.append(f"{point_id!r} is missing, expected {want and want.payload}")
        elif want is None:
            told.append(f"{point_id!r} is extra: {have.payload}")
        elif not _same_payload(want.payload, have.payload):
            told.append(f"{point_id!r} holds {have.payload}, expected {want.payload}")
        elif not _same_vectors(want, have, distance):
            told.append(f"{point_id!r} holds {_shown(have)}, expected {_shown(want)} (vectors)")
    return told


def _shown(point: Point) -> dict[str, tuple[float, ...]]:
    return {name: _floats(vector) for name, vector in point.vectors.items()}  # type: ignore[arg-type]


def _same_payload(want: dict[str, Any], have: dict[str, Any]) -> bool:
    """Equal, and of equal types: 3 is not 3.0 here."""
    return want == have and all(type(have[name]) is type(want[name]) for name in want)


def _same_vectors(want: Point, have: Point, distance: Distance) -> bool:
    if want.vectors.keys() != have.vectors.keys():
        return False
    for name, vector in want.vectors.items():
        other = have.vectors[name]
        if vector == other:
            continue
        a, b = _floats(vector), _floats(other)  # type: ignore[arg-type]
        if distance is Distance.COSINE:
            a, b = _unit(a), _unit(b)
        if len(a) != len(b) or any(abs(x - y) > 1e-5 for x, y in zip(a, b, strict=True)):
            return False
    return True


def _floats(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def _unit(components: tuple[float, ...]) -> tuple[float, ...]:
    length = math.sqrt(sum(x * x for x in components))
    return tuple(x / length for x in components) if length else components


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _matches(spec: dict[str, Any], payload: dict[str, Any]) -> bool:
    """The part of the filter language that plans use."""
    must = all(_holds(condition, payload) for condition in spec.get("must", ()))
    never = any(_holds(condition, payload) for condition in spec.get("must_not", ()))
    should = spec.get("should")
    return (
        must
        and not never
        and (should is None or any(_holds(condition, payload) for condition in should))
    )


def _holds(condition: dict[str, Any], payload: dict[str, Any]) -> bool:
    if condition["key"] not in payload:
        return False
    value = payload[condition["key"]]
    if "match" in condition:
        return bool(value == condition["match"]["value"])
    bounds = condition["range"]
    return bool(value >= bounds.get("gte", -math.inf) and value < bounds.get("lt", math.inf))
