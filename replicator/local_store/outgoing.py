"""The engine's records → replies."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import qdrant_edge as edge

from replicator.connectors.qdrant.values import write_payload
from replicator.connectors.qdrant.wire import Message
from replicator.local_store.shard_keys import key_of


def write_id(target: Message, point_id: int | UUID | str) -> None:
    """Fill a `PointId`."""
    if isinstance(point_id, int):
        target.num = point_id
    else:
        target.uuid = str(point_id)


def write_record(
    target: Message, record: edge.Record | edge.ScoredPoint, key: str = ""
) -> None:
    """Fill a `RetrievedPoint` or a `ScoredPoint` with id, payload and vectors, and with the key
    of its shard where there are any.
    """
    write_id(target.id, record.id)
    if key:
        target.shard_key.CopyFrom(key_of(key))
    if payload := record.payload:
        write_payload(target.payload, payload)
    # Read once: every look at it makes the Python floats anew.
    vector = record.vector
    if isinstance(vector, dict):
        target.vectors.vectors.SetInParent()
        for name, named in vector.items():
            _write_vector(target.vectors.vectors.vectors[name], named)
    elif vector is not None:
        _write_vector(target.vectors.vector, vector)


def selected_payload(selector: Message, present: bool, default: bool) -> Any:
    """A `WithPayloadSelector` as the engine takes it."""
    if not present:
        return default
    match selector.WhichOneof("selector_options"):
        case "include":
            return edge.PayloadSelector.Include(list(selector.include.fields))
        case "exclude":
            return edge.PayloadSelector.Exclude(list(selector.exclude.fields))
        case _:
            return selector.enable


def selected_vectors(selector: Message) -> bool | list[str]:
    """A `WithVectorsSelector` as the engine takes it; none when it was not given."""
    if selector.WhichOneof("selector_options") == "include":
        return list(selector.include.names)
    return bool(selector.enable)


def _write_vector(target: Message, vector: Any) -> None:
    if isinstance(vector, edge.SparseVector):
        target.sparse.SetInParent()
        target.sparse.indices.extend(vector.indices)
        target.sparse.values = pack(vector.values)
    elif vector and isinstance(vector[0], list):
        for row in vector:
            target.multi_dense.vectors.add().data = pack(row)
    else:
        target.dense.data = pack(vector)


def pack(floats: Sequence[float]) -> bytes:
    """Floats as little-endian float32."""
    return _packer(len(floats)).pack(*floats)


@lru_cache(64)
def _packer(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}f")
