"""
Requests → the engine's operations, checked as a server checks them.

The engine trusts its caller more than a server may: vectors given as `bytes` it reads as a list
of small integers, and a sparse vector with fewer values than indices makes it panic, at every
start anew. So vectors go in as float memoryviews, and what a server would refuse never gets
there. All of this runs in the writer thread.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from typing import Any

import qdrant_edge as edge

from replicator.connectors.qdrant.values import DEPTH_MAX, read_payload
from replicator.connectors.qdrant.wire import Message, wire
from replicator.local_store.answers import invalid, unsupported
from replicator.local_store.filters import read_filter
from replicator.model.schema import VectorKind, VectorSchema

Shapes = Mapping[str, VectorSchema]
"""The collection's vectors by name."""

Operation = edge.UpdateOperation


def read_id(point_id: Message) -> int | str:
    """An id as the engine takes it: a number, or a UUID in canonical spelling."""
    match point_id.WhichOneof("point_id_options"):
        case "num":
            number: int = point_id.num
            return number
        case "uuid":
            try:
                return str(uuid.UUID(point_id.uuid))
            except ValueError as exc:
                raise invalid(f"Unable to parse UUID: {point_id.uuid}") from exc
        case _:
            raise invalid("Malformed PointId type")


def read_update(kind: str, message: Message, shapes: Shapes) -> list[Operation]:
    """
    One update: `kind` as in PointsUpdateOperation, and its message, or the request of the
    method of the same name, which has the same fields.
    """
    match kind:
        case "upsert":
            return [_upsert(message, shapes)]
        case "delete_points":
            return _by_selector(
                message.points, Operation.delete_points, Operation.delete_points_by_filter
            )
        case "clear_payload":
            return _by_selector(
                message.points, Operation.clear_payload, Operation.clear_payload_by_filter
            )
        case "set_payload" | "overwrite_payload":
            arguments: tuple[Any, ...] = (read_payload(message.payload),)
            if message.HasField("key"):
                arguments = (*arguments, message.key)
        case "delete_payload":
            arguments = (list(message.keys),)
        case "update_vectors":
            return [_update_vectors(message, shapes)]
        case "delete_vectors":
            arguments = (list(message.vectors.names),)
        case _:
            raise unsupported(f"operation {kind!r}")
    return _by_selector(
        message.points_selector,
        getattr(Operation, kind),
        getattr(Operation, f"{kind}_by_filter"),
        *arguments,
    )


def check_depths(kind: str, message: Message) -> None:
    """
    Refuse a payload that could not be read back: what goes into a reply is nested deeper than
    what came in a request, and is refused by the decoder of the one who asked.
    """
    if kind == "upsert":
        payloads = [point.payload for point in message.points]
    elif kind in ("set_payload", "overwrite_payload"):
        payloads = [message.payload]
    else:
        return
    # Set at a path, the payload lies that much deeper.
    path = message.key if kind != "upsert" and message.HasField("key") else ""
    above = path.count(".") + path.count("[") + 1 if path else 0
    for payload in payloads:
        for key, value in payload.items():
            if above + _depth(value) > DEPTH_MAX:
                raise invalid(f"payload key {key!r} is nested deeper than {DEPTH_MAX} levels")


def _depth(value: Message) -> int:
    match value.WhichOneof("kind"):
        case "list_value":
            inner = value.list_value.values
        case "struct_value":
            inner = value.struct_value.fields.values()
        case _:
            return 0
    return 1 + max(map(_depth, inner), default=0)


def read_vector(vector: Message, name: str, shapes: Shapes) -> Any:
    """A `Vector` or `VectorInput` as the engine takes it, checked against the collection."""
    shape = shapes.get(name)
    if shape is None:
        raise invalid(f"Wrong input: Not existing vector name error: {name}")
    oneof = "vector" if "vector" in vector.DESCRIPTOR.oneofs_by_name else "variant"
    kind = vector.WhichOneof(oneof)
    if (kind == "sparse") != (shape.kind is VectorKind.SPARSE):
        raise invalid("Wrong input: Conversion between sparse and regular vectors failed")
    match kind:
        case "sparse":
            return _sparse(vector.sparse)
        case "dense":
            row = _dense(vector.dense.data, name, shape)
            return [row] if shape.kind is VectorKind.MULTI else row
        case "multi_dense" if shape.kind is VectorKind.MULTI:
            rows = vector.multi_dense.vectors
            if not rows:
                raise invalid("Validation error in body: multi vector must not be empty")
            return [_dense(row.data, name, shape) for row in rows]
        case "multi_dense":
            raise invalid("Wrong input: Conversion between multi and regular vectors failed")
        case _:
            raise unsupported(f"vector given as {kind!r}")


def _upsert(message: Message, shapes: Shapes) -> Operation:
    if not message.points:
        raise invalid("Bad request: Empty update request")
    points = [
        edge.Point(
            read_id(point.id),
            _vectors(point.vectors, shapes),
            read_payload(point.payload),
        )
        for point in message.points
    ]
    condition = _condition(message)
    modes = {number: name for name, number in wire().enum("UpdateMode").items()}
    mode = getattr(edge.UpdateMode, modes[message.update_mode])
    return Operation.upsert_points(points, condition, mode)


def _update_vectors(message: Message, shapes: Shapes) -> Operation:
    condition = _condition(message)
    return Operation.update_vectors(
        [
            edge.PointVectors(read_id(point.id), _vectors(point.vectors, shapes))
            for point in message.points
        ],
        condition,
    )


def _condition(message: Message) -> edge.Filter | None:
    return read_filter(message.update_filter) if message.HasField("update_filter") else None


def _by_selector(
    selector: Message, by_ids: Any, by_filter: Any, *arguments: Any
) -> list[Operation]:
    match selector.WhichOneof("points_selector_one_of"):
        case "points":
            if not selector.points.ids:
                raise invalid("Bad request: Empty update request")
            chosen = [read_id(point_id) for point_id in selector.points.ids]
            return [by_ids(chosen, *arguments)]
        case "filter":
            return [by_filter(read_filter(selector.filter), *arguments)]
        case _:
            raise invalid("PointsSelector is missing")


def _vectors(vectors: Message, shapes: Shapes) -> dict[str, Any]:
    match vectors.WhichOneof("vectors_options"):
        case "vector":
            return {"": read_vector(vectors.vector, "", shapes)}
        case "vectors":
            named = vectors.vectors.vectors
            return {name: read_vector(vector, name, shapes) for name, vector in named.items()}
        case _:
            raise invalid("Expected some vectors")


def _dense(data: bytes, name: str, shape: VectorSchema) -> memoryview[float]:
    if len(data) != 4 * (shape.size or 0):
        found = len(data) // 4
        raise invalid(
            f"Wrong input: Vector dimension error: expected dim: {shape.size}, got {found}"
            + (f" for vector '{name}'" if name else "")
        )
    return memoryview(data).cast("f")


def _sparse(sparse: Message) -> edge.SparseVector:
    indices = list(sparse.indices)
    if len(sparse.values) != 4 * len(indices):
        raise invalid("Validation error in body: values: must be the same length as indices")
    if len(set(indices)) != len(indices):
        raise invalid("Validation error in body: indices: must be unique")
    return edge.SparseVector(indices, list(struct.unpack(f"<{len(indices)}f", sparse.values)))
