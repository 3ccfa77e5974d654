"""Payloads and ids: what travels, what is rejected, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest

from replicator.connectors.qdrant.points import write_id, write_vectors
from replicator.connectors.qdrant.store import QdrantStore
from replicator.connectors.qdrant.values import DEPTH_MAX, read_payload, write_payload
from replicator.connectors.qdrant.wire import wire
from replicator.errors import Rejected
from replicator.model.point import MultiVector, Point, SparseVector, Vector
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.write import Delete, Patch, Upsert, WriteBatch
from replicator.testing.store_conformance import PLAIN, floats, fresh_name, simple


def nested(levels: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind is list else {"k": value}
    return value


@pytest.mark.parametrize(
    ("payload", "code", "path"),
    [
        ({"a": float("nan")}, "payload-not-finite", "payload.a"),
        ({"a": [{"b": float("-inf")}]}, "payload-not-finite", "payload.a.0.b"),
        ({"a": 2**63}, "field-invalid", "payload.a"),
        ({"a": [1, -(2**63) - 1]}, "field-invalid", "payload.a.1"),
        ({"a": b"bytes"}, "field-type", "payload.a"),
        ({"a": {1: 2}}, "field-invalid", "payload.a"),
        ({"a": "\ud800"}, "field-invalid", "payload"),
        ({"\ud800": 1}, "field-invalid", "payload"),
    ],
)
def test_what_the_wire_cannot_carry_is_rejected_with_its_path(
    payload: dict[str, Any], code: str, path: str
) -> None:
    with pytest.raises(Rejected) as caught:
        write_payload(wire().PointStruct().payload, payload)
    assert (caught.value.code, caught.value.path) == (code, path)


@pytest.mark.parametrize("kind", [list, dict])
def test_nesting_is_bounded_before_the_decoder_of_the_server_fails(kind: type) -> None:
    point = wire().PointStruct()
    deepest = {"a": nested(DEPTH_MAX, kind)}
    write_payload(point.payload, deepest)
    request = wire().UpdateBatchPoints()
    request.operations.add().upsert.points.add().MergeFrom(point)
    decoded = wire().UpdateBatchPoints.FromString(request.SerializeToString())
    assert read_payload(decoded.operations[0].upsert.points[0].payload) == deepest
    with pytest.raises(Rejected):
        write_payload(wire().PointStruct().payload, {"a": nested(DEPTH_MAX + 1, kind)})


@pytest.mark.parametrize("kind", [list, dict])
async def test_the_deepest_nesting_passes_the_server_both_ways(
    store: QdrantStore, kind: type
) -> None:
    schema = CollectionSchema(name=fresh_name(), vectors=PLAIN, ids=IdKinds.UINT64)
    await store.ensure(schema)
    point = simple(1, a=nested(DEPTH_MAX, kind))
    await store.apply(WriteBatch(schema.name, (Upsert(point),)))
    assert await store.fetch(schema.name, [1]) == {1: point}


@pytest.mark.parametrize(
    "vector",
    [
        b"",
        b"abc",
        floats(1, 2) + b"x",
        SparseVector(b"", floats(1)),
        SparseVector(b"abc", b"abc"),
        MultiVector(0, b""),
        MultiVector(2, floats(1, 2, 3)),
        MultiVector(1, b""),
    ],
)
def test_bytes_that_are_no_vector_are_rejected_with_their_name(vector: Vector) -> None:
    with pytest.raises(Rejected) as caught:
        write_vectors(wire().Vectors(), {"title": vector})
    assert (caught.value.code, caught.value.path) == ("field-invalid", "vectors.title")


@pytest.mark.parametrize(
    "point_id", [-1, 2**64, "7", "", "3F2504E0-4F89-41D3-9A0C-0305E82C3301", "zz"]
)
def test_an_id_that_would_come_back_otherwise_is_rejected(point_id: int | str) -> None:
    with pytest.raises(Rejected) as caught:
        write_id(wire().PointId(), point_id)
    assert caught.value.code == "id-invalid"


async def test_what_cannot_be_encoded_is_set_aside_and_the_rest_is_written(
    store: QdrantStore,
) -> None:
    schema = CollectionSchema(
        name=fresh_name(),
        vectors={"v": VectorSchema(size=2, distance=Distance.DOT)},
        ids=IdKinds.UINT64,
    )
    await store.ensure(schema)
    good: dict[str, Vector] = {"v": floats(1, 2)}
    writes = (
        Upsert(Point(1, good, {"n": 1})),
        Upsert(Point(2, {"v": b"odd"}, {})),
        Upsert(Point(3, good, {"n": 2**70})),
        Upsert(Point(4, good, {})),
        Patch(id=5, set={"n": 2**70}),
        Delete("no uuid"),
    )
    receipt = await store.apply(WriteBatch(schema.name, writes))
    assert [(point_id, error.path) for point_id, error in receipt.rejected] == [
        (2, "vectors.v"),
        (3, "payload.n"),
        (5, "set.n"),
        ("no uuid", "id"),
    ]
    assert await store.fetch(schema.name, range(5)) == {
        1: Point(1, good, {"n": 1}),
        4: Point(4, good, {}),
    }
