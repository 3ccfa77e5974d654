"""
The application's own access to its stores, through plain qdrant-client: one class for each
schema. Every call returns when the store says that the change is applied.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from replicator.demo.embedder import DIMENSION
from replicator.demo.oplog import Image, Operation
from replicator.demo.schema import (
    SOURCE,
    TARGET,
    TARGET_VECTOR,
    Vector,
    belongs_at_target,
    target_fields,
    target_payload,
)

_REQUEST_TIMEOUT_S = 30

_PUBLIC = models.Filter(
    must=[
        models.FieldCondition(key="visibility", match=models.MatchValue(value="public")),
    ]
)


def connect(address: str) -> AsyncQdrantClient:
    """A client of the gRPC server at `host:port`."""
    host, port = address.rsplit(":", 1)
    return AsyncQdrantClient(
        host=host,
        grpc_port=int(port),
        prefer_grpc=True,
        check_compatibility=False,
        timeout=_REQUEST_TIMEOUT_S,
    )


class DocumentStore(Protocol):
    """What the application does with documents."""

    async def write(self, operation: Operation, after: Image | None) -> None:
        """Carry out an operation; `after` is what the document is then."""
        ...

    async def search(self, vector: Vector, limit: int) -> list[int]:
        """Ids of the public documents nearest to a vector, best first."""
        ...


class SourceStore:
    """The old schema: one unnamed vector, fields as `source_payload` makes them."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    async def create(self) -> None:
        """Make the collection, with an index on the field that searches filter by."""
        await self._client.create_collection(
            SOURCE,
            vectors_config=models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE),
        )
        await self._client.create_payload_index(
            SOURCE, "visibility", models.PayloadSchemaType.KEYWORD, wait=True
        )

    async def load(self, images: dict[int, Image]) -> None:
        """Upsert many documents."""
        points = [
            models.PointStruct(id=key, vector=_floats(image.vector), payload=image.payload)
            for key, image in images.items()
        ]
        await self._client.upsert(SOURCE, points, wait=True)

    async def write(self, operation: Operation, after: Image | None) -> None:
        """See `DocumentStore`."""
        if after is None:
            await self._client.delete(SOURCE, [operation.id], wait=True)
        elif operation.op == "upsert":
            await self.load({operation.id: after})
        else:
            await _patch(
                self._client,
                SOURCE,
                operation.id,
                vector=operation.vector and _floats(operation.vector),
                fields=operation.set,
                unset=operation.unset,
            )

    async def search(self, vector: Vector, limit: int) -> list[int]:
        """See `DocumentStore`."""
        answer = await self._client.query_points(
            SOURCE, vector.tolist(), limit=limit, query_filter=_PUBLIC
        )
        return [int(point.id) for point in answer.points]


class TargetStore:
    """The new schema: a named vector, fields renamed and cast, public documents only."""

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    async def write(self, operation: Operation, after: Image | None) -> None:
        """See `DocumentStore`. A change of visibility makes or removes the point."""
        if after is None or not belongs_at_target(after.payload):
            await self._client.delete(TARGET, [operation.id], wait=True)
        elif operation.op == "upsert" or "visibility" in operation.set:
            point = models.PointStruct(
                id=operation.id,
                vector={TARGET_VECTOR: _floats(after.vector)},
                payload=target_payload(after.payload),
            )
            await self._client.upsert(TARGET, [point], wait=True)
        else:
            vector = operation.vector and {TARGET_VECTOR: _floats(operation.vector)}
            await _patch(
                self._client,
                TARGET,
                operation.id,
                vector=vector,
                fields=target_fields(operation.set),
                unset=operation.unset,
            )

    async def search(self, vector: Vector, limit: int) -> list[int]:
        """See `DocumentStore`."""
        answer = await self._client.query_points(
            TARGET, vector.tolist(), using=TARGET_VECTOR, limit=limit
        )
        return [int(point.id) for point in answer.points]


async def _patch(
    client: AsyncQdrantClient,
    collection: str,
    point_id: int,
    *,
    vector: Any,
    fields: dict[str, Any],
    unset: list[str],
) -> None:
    if vector is not None:
        await client.update_vectors(
            collection, [models.PointVectors(id=point_id, vector=vector)], wait=True
        )
    if fields:
        await client.set_payload(collection, fields, points=[point_id], wait=True)
    if unset:
        await client.delete_payload(collection, unset, points=[point_id], wait=True)


def _floats(vector: bytes) -> list[float]:
    floats: list[float] = np.frombuffer(vector, "<f4").tolist()
    return floats
