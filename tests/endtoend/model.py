"""
An independent model of the application's data, and how a store is read to be compared with it.

The model is a dict. Stores are read through plain qdrant-client; nothing of the replicator is
used to judge the replicator.
"""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
from qdrant_client import AsyncQdrantClient

Id = int | str
Vector = tuple[float, ...]


class Image(msgspec.Struct, frozen=True):
    """One record: its vector as float32 values, and its payload."""

    vector: Vector
    payload: dict[str, Any]


Records = dict[Id, Image]


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    """What the migration makes of a source record."""

    rename: dict[str, str] = {}
    vector: str = ""
    normalised: bool = False
    """The store keeps the direction only."""

    def image(self, image: Image) -> Image:
        payload = {self.rename.get(name, name): v for name, v in image.payload.items()}
        vector = image.vector
        if self.normalised:
            length = math.sqrt(sum(x * x for x in vector)) or 1.0
            vector = tuple(x / length for x in vector)
        return Image(vector, payload)


def float32(values: list[float]) -> Vector:
    return tuple(float(x) for x in np.asarray(values, dtype="<f4"))


def connect(url: str) -> AsyncQdrantClient:
    host, port = url.removeprefix("http://").rsplit(":", 1)
    return AsyncQdrantClient(
        host=host,
        grpc_port=int(port),
        prefer_grpc=True,
        check_compatibility=False,
        timeout=30,
    )


async def read(client: AsyncQdrantClient, collection: str, vector: str = "") -> Records:
    """Every point of a collection."""
    records: Records = {}
    offset: Any = None
    while True:
        points, offset = await client.scroll(
            collection, limit=1000, offset=offset, with_payload=True, with_vectors=True
        )
        for point in points:
            found: Any = point.vector
            values = found[vector] if vector else found
            assert not isinstance(point.id, UUID)
            records[point.id] = Image(tuple(values), point.payload or {})
        if offset is None:
            return records


def differences(expected: Records, found: Records) -> list[str]:
    """In words, the first few."""
    told = [f"{key} is missing" for key in expected.keys() - found.keys()]
    told += [f"{key} is extra: {found[key].payload}" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        wanted, actual = expected[key], found[key]
        close = len(wanted.vector) == len(actual.vector) and np.allclose(
            wanted.vector, actual.vector, rtol=0, atol=1e-6
        )
        if not close:
            told.append(f"{key}: vector {actual.vector}, not {wanted.vector}")
        if wanted.payload != actual.payload:
            told.append(f"{key}: payload {actual.payload}, not {wanted.payload}")
    return told[:20]
