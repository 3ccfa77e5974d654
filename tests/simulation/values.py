"""What the application writes: small images and patches, each unlike every other."""

from __future__ import annotations

import struct
from random import Random
from typing import Any

from tests.simulation.oracle import Image
from tests.simulation.plan import CollectionPlan


def vector_of(size: int, first: float) -> bytes:
    """A dense vector of little-endian float32."""
    return struct.pack(f"<{size}f", first, *(1.0 for _ in range(size - 1)))


def random_image(random: Random, plan: CollectionPlan, number: int) -> Image:
    """A full image; `number` makes it unlike every other."""
    payload: dict[str, Any] = {"n": number, "year": random.randrange(8)}
    if random.random() < 0.6:
        payload["lang"] = random.choice(["de", "en"])
    if random.random() < 0.5:
        payload["price"] = random.choice([3, "7"])
    if random.random() < 0.4:
        payload["size"] = random.randrange(5)
    if random.random() < 0.3:
        payload["junk"] = random.choice([{"deep": [1, None, "x"]}, None])
    return Image(_vectors(random, plan), payload)


def random_patch(
    random: Random, plan: CollectionPlan, held: Image | None, number: int
) -> dict[str, Any]:
    """The fields of a patch, in the contract's words."""
    changes: dict[str, Any] = {"set": {}, "unset": [], "vectors": {}}
    if random.random() < 0.6:
        changes["set"]["n"] = number
    if random.random() < 0.3:
        changes["set"]["year"] = random.randrange(8)
    if random.random() < 0.3:
        changes["set"]["lang"] = random.choice(["de", "en"])
    elif random.random() < 0.3:
        _remove(random, changes, "lang")
    if random.random() < 0.2:
        changes["set"]["size"] = random.randrange(5)
    elif random.random() < 0.2:
        _remove(random, changes, "size")
    if random.random() < 0.3:
        name, size = random.choice(list(plan.vectors.items()))
        changes["vectors"][name] = vector_of(size, random.uniform(-3, 3))
    if not any(changes.values()):
        changes["set"]["n"] = number
    return {name: value for name, value in changes.items() if value}


def _remove(random: Random, changes: dict[str, Any], name: str) -> None:
    """A field goes by its name or by a null: the contract knows both."""
    if random.random() < 0.5:
        changes["unset"].append(name)
    else:
        changes["set"][name] = None


def _vectors(random: Random, plan: CollectionPlan) -> dict[str, bytes]:
    return {name: vector_of(size, random.uniform(-3, 3)) for name, size in plan.vectors.items()}
