"""Vectors as bytes speak the same protocol as qdrant-client's own messages."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import Any

import pytest
from qdrant_client import grpc as own
from qdrant_client import models
from qdrant_client.conversions.conversion import RestToGrpc

from replicator.connectors.qdrant.points import (
    read_point,
    read_vectors,
    write_point,
    write_vectors,
)
from replicator.connectors.qdrant.wire import VECTOR_FIELDS, wire
from replicator.model.point import MultiVector, Point, ScopedId, SparseVector

UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
PAYLOAD = {
    "text": "żółć",
    "int": 2**63 - 1,
    "float": 0.1,
    "whole": 5.0,
    "bool": True,
    "null": None,
    "list": [1, "a", [], {}, None],
    "map": {"a": {"b": -1}},
}


def floats(*components: float) -> bytes:
    return struct.pack(f"<{len(components)}f", *components)


DENSE, OTHER = [0.1, -2.5, 3e-30, 4e30], [float(n) / 7 for n in range(1536)]
SPARSE = models.SparseVector(indices=[1, 7, 2**32 - 1], values=[0.5, -1.0, 3.0])
OUR_SPARSE = SparseVector(struct.pack("<3I", 1, 7, 2**32 - 1), floats(0.5, -1.0, 3.0))
MULTI, OUR_MULTI = [[1.0, 2.0], [3.0, 4.0]], MultiVector(2, floats(1, 2, 3, 4))

CASES: dict[str, tuple[Any, Any]] = {
    "unnamed": (DENSE, {"": floats(*DENSE)}),
    "long": (OTHER, {"": floats(*OTHER)}),
    "unnamed multi": (MULTI, {"": OUR_MULTI}),
    "named": ({"a": DENSE, "b": OTHER}, {"a": floats(*DENSE), "b": floats(*OTHER)}),
    "sparse": ({"s": SPARSE}, {"s": OUR_SPARSE}),
    "multi": ({"m": MULTI}, {"m": OUR_MULTI}),
    "mixed": (
        {"": DENSE, "s": SPARSE, "m": MULTI},
        {"": floats(*DENSE), "s": OUR_SPARSE, "m": OUR_MULTI},
    ),
    "none": ({}, {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("point_id", [0, 2**64 - 1, UUID])
def test_a_point_is_serialised_as_qdrant_client_does_it(case: str, point_id: int | str) -> None:
    theirs, ours = CASES[case]
    expected = RestToGrpc.convert_point_struct(
        models.PointStruct(id=point_id, vector=theirs, payload=PAYLOAD)
    )
    made = wire().PointStruct()
    write_point(made, Point(point_id, ours, PAYLOAD))
    assert made.SerializeToString(deterministic=True) == (
        expected.SerializeToString(deterministic=True)
    )


@pytest.mark.parametrize("case", CASES)
def test_vectors_to_update_are_serialised_as_qdrant_client_does_it(case: str) -> None:
    theirs, ours = CASES[case]
    expected = own.PointVectors(
        id=own.PointId(num=1), vectors=RestToGrpc.convert_vector_struct(theirs)
    )
    made = wire().PointVectors()
    made.id.num = 1
    write_vectors(made.vectors, ours)
    assert made.SerializeToString(deterministic=True) == (
        expected.SerializeToString(deterministic=True)
    )


@pytest.mark.parametrize("case", CASES)
def test_a_point_that_a_server_returns_is_read_back(case: str) -> None:
    _, ours = CASES[case]
    sent = wire().PointStruct()
    write_point(sent, Point(UUID, ours, PAYLOAD))
    # The output messages have the input's fields, under the same numbers.
    struct_ = own.PointStruct.FromString(sent.SerializeToString())
    returned = own.RetrievedPoint(
        id=struct_.id,
        payload=struct_.payload,
        vectors=own.VectorsOutput.FromString(struct_.vectors.SerializeToString()),
    )
    received = wire().RetrievedPoint.FromString(returned.SerializeToString())
    assert read_point(received, None) == Point(UUID, ours, PAYLOAD)
    assert read_point(received, "a") == Point(ScopedId("a", UUID), ours, PAYLOAD)


def test_the_form_in_which_old_servers_answer_is_read_too() -> None:
    named = own.NamedVectorsOutput(
        vectors={
            "dense": own.VectorOutput(data=DENSE),
            "sparse": own.VectorOutput(
                data=[0.5, -1.0, 3.0], indices=own.SparseIndices(data=[1, 7, 2**32 - 1])
            ),
            "multi": own.VectorOutput(data=[1.0, 2.0, 3.0, 4.0], vectors_count=2),
        }
    )
    sent = own.VectorsOutput(vectors=named).SerializeToString()
    assert read_vectors(wire().VectorsOutput.FromString(sent)) == {
        "dense": floats(*DENSE),
        "sparse": OUR_SPARSE,
        "multi": OUR_MULTI,
    }


def test_only_the_vector_fields_differ_from_qdrant_clients_schema() -> None:
    ours = wire()
    for module in (own.points_pb2, own.collections_pb2, own.qdrant_common_pb2):
        for name, theirs in module.DESCRIPTOR.message_types_by_name.items():
            mine = getattr(ours, name).DESCRIPTOR
            for field in theirs.fields:
                same = mine.fields_by_name[field.name]
                assert same.number == field.number
                if (name, field.name) in VECTOR_FIELDS:
                    assert (same.type, same.is_repeated) == (same.TYPE_BYTES, False)
                else:
                    assert (same.type, same.is_repeated) == (field.type, field.is_repeated)


def test_the_connector_does_not_load_the_whole_client() -> None:
    script = (
        "import sys; from replicator.connectors.qdrant.wire import wire; wire().PointStruct();"
        "sys.exit('qdrant_client' in sys.modules or 'pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
