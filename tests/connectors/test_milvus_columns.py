"""Columns and bounds, without a server; the vendor's own client is the judge of the columns."""

from __future__ import annotations

import json
import struct
from bisect import bisect_right
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymilvus.client.entity_helper import sparse_rows_to_proto
from pymilvus.client.field_data_extractors import decode_cell
from pymilvus.grpc_gen import schema_pb2

from replicator.connectors.milvus.columns import check_point
from replicator.connectors.milvus.configuration import index_of, index_params, with_index
from replicator.connectors.milvus.cuts import bounds
from replicator.connectors.milvus.expressions import between, literal
from replicator.connectors.milvus.field_types import Field, Type, misfit
from replicator.connectors.milvus.kind import MilvusOptions
from replicator.connectors.milvus.layout import Layout, layout_of
from replicator.connectors.milvus.ranges import ranges_of
from replicator.connectors.milvus.vectors import check_vector, read_vectors, write_vectors
from replicator.connectors.milvus.wire import wire
from replicator.errors import Refused, Rejected
from replicator.model.point import BareId, Point, SparseVector, Vector
from replicator.model.schema import Distance, IndexKind, VectorIndex, VectorSchema
from replicator.testing.store_conformance import floats
from tests.connectors.milvus_script import described

DENSE = [
    (Type.FLOAT_VECTOR, "float_vector", floats(1, -2.5, 3e-30)),
    (Type.FLOAT16_VECTOR, "float16_vector", floats(1, -2.5, 65504)),
    (Type.BFLOAT16_VECTOR, "bfloat16_vector", floats(1, -2.5, 2.0**100)),
    (Type.INT8_VECTOR, "int8_vector", floats(1, -127, 0)),
]
SPARSE = SparseVector(struct.pack("<2I", 3, 2**32 - 2), floats(0.5, 7))


def written(kind: Type, size: int | None, *vectors: Vector) -> Any:
    data = wire().FieldData(type=int(kind))
    write_vectors(data, kind, size, vectors)
    return data


def as_theirs(data: Any) -> Any:
    return schema_pb2.FieldData.FromString(data.SerializeToString())


def as_ours(data: Any) -> Any:
    return wire().FieldData.FromString(data.SerializeToString())


@pytest.mark.parametrize(("kind", "slot", "vector"), DENSE)
def test_the_vendors_client_reads_what_we_write(kind: Type, slot: str, vector: bytes) -> None:
    theirs = as_theirs(written(kind, 3, vector, vector))
    expected = np.frombuffer(vector, "<f4")
    for row in (0, 1):
        cell = decode_cell(theirs, row)
        if kind is Type.FLOAT16_VECTOR:
            found = np.frombuffer(cell, "<f2").astype("<f4")
        elif kind is Type.BFLOAT16_VECTOR:
            found = (np.frombuffer(cell, "<u2").astype("<u4") << 16).view("<f4")
        elif kind is Type.INT8_VECTOR:
            found = np.frombuffer(cell, "i1").astype("<f4")
        else:
            found = np.array(cell, "<f4")
        assert found.tolist() == expected.tolist()
    assert theirs.vectors.dim == 3


@pytest.mark.parametrize(("kind", "slot", "vector"), DENSE)
@pytest.mark.parametrize("compact", [True, False])
def test_vectors_are_read_whether_a_null_has_a_place_in_the_data_or_not(
    kind: Type, slot: str, vector: bytes, compact: bool
) -> None:
    data = written(kind, 3, vector, vector) if compact else written(
        kind, 3, vector, floats(0, 0, 0), vector
    )  # fmt: skip
    assert read_vectors(data, kind, [True, False, True]) == [vector, None, vector]


def test_sparse_vectors_are_read_and_written_as_the_vendors_client_does() -> None:
    rows = [{3: 0.5, 2**32 - 2: 7.0}, {1: 1.0}]
    theirs = schema_pb2.FieldData(type=int(Type.SPARSE_VECTOR))
    theirs.vectors.sparse_float_vector.CopyFrom(sparse_rows_to_proto(rows))
    one = SparseVector(struct.pack("<I", 1), floats(1))
    assert read_vectors(as_ours(theirs), Type.SPARSE_VECTOR, [True, True]) == [SPARSE, one]
    ours = as_theirs(written(Type.SPARSE_VECTOR, None, SPARSE, one))
    assert [decode_cell(ours, row) for row in (0, 1)] == rows
    assert ours.vectors.sparse_float_vector.dim == 2**32 - 1


def test_a_column_of_floats_is_bytes_and_no_list() -> None:
    data = written(Type.FLOAT_VECTOR, 2, floats(1, 2))
    assert isinstance(data.vectors.float_vector.data, bytes)


@pytest.mark.parametrize(
    ("kind", "vector", "fits"),
    [
        (Type.FLOAT16_VECTOR, floats(65519), True),
        (Type.FLOAT16_VECTOR, floats(65520), False),
        (Type.BFLOAT16_VECTOR, floats(1.5), True),
        (Type.BFLOAT16_VECTOR, floats(1.001), False),
        (Type.INT8_VECTOR, floats(-127, 127), True),
        (Type.INT8_VECTOR, floats(0.5), False),
        (Type.INT8_VECTOR, floats(128), False),
        (Type.FLOAT_VECTOR, floats(1.001), True),
        (Type.SPARSE_VECTOR, SPARSE, True),
        (Type.SPARSE_VECTOR, SparseVector(b"", b""), False),
    ],
)
def test_a_vector_that_would_become_another_one_is_rejected_by_name(
    kind: Type, vector: Vector, fits: bool
) -> None:
    if fits:
        check_vector("v", kind, vector)
        return
    with pytest.raises(Rejected) as caught:
        check_vector("v", kind, vector)
    assert (caught.value.code, caught.value.path) == ("field-invalid", "vectors.v")


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ({"type": Type.BOOL}, [True], [1, "x"]),
        ({"type": Type.INT8}, [-128, 127], [128, True, 1.0, "1"]),
        ({"type": Type.INT64}, [-(2**63), 2**63 - 1], [2**63]),
        ({"type": Type.FLOAT}, [0.5, 3], [0.1, 1e300, True]),
        ({"type": Type.DOUBLE}, [0.1, 3], [2**53 + 1, "x"]),
        ({"type": Type.VARCHAR, "length_max": 4}, ["abcd", "ää"], ["äää", 5]),
        ({"type": Type.JSON}, [{"a": [1]}, "x", 5], []),
        (
            {"type": Type.ARRAY, "element": Type.INT8, "capacity": 2},
            [[], [1, 2]],
            [[1, 2, 3], [1000], ["x"], 5],
        ),
    ],
)
def test_a_field_holds_what_it_gives_back(
    field: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    declared = Field(name="f", **field)
    assert [misfit(declared, value) for value in good] == [None] * len(good)
    assert all(misfit(declared, value) for value in bad)


# -- which field is what ----------------------------------------------------------------------


def laid_out(reply: Any = None, *partitions: str, **options: Any) -> Layout:
    return layout_of(
        "docs",
        reply or described(),
        ["_default", *partitions],
        {},
        MilvusOptions(**options),
    )


def test_a_collection_with_partitions_is_refused_with_the_way_out_unless_one_is_named() -> None:
    with pytest.raises(Refused, match=r"'eu'.*unique only within one.*`partition`"):
        laid_out(None, "eu")
    assert laid_out(None, "eu", partition="eu").partition == "eu"
    assert laid_out(None, "eu", partition="_default").partition == "_default"
    with pytest.raises(Refused, match="no partition 'us'"):
        laid_out(None, "eu", partition="us")


def test_the_partitions_of_a_partition_key_are_the_servers_own_affair() -> None:
    reply = described()
    reply.schema.fields.add(name="tenant", data_type=21, is_partition_key=True)
    assert laid_out(reply, "_default_1").partition is None
    with pytest.raises(Refused, match="partition key"):
        laid_out(reply, "_default_1", partition="_default_1")


def test_what_is_no_field_of_a_point_stays_behind_and_says_so() -> None:
    reply = described()
    reply.schema.fields.add(name="seen", data_type=26, nullable=True)
    reply.schema.fields.add(name="bits", data_type=100).type_params.add(key="dim", value="8")
    reply.schema.fields.add(name="bm25", data_type=104, is_function_output=True)
    layout = laid_out(reply)
    assert layout.left == ("seen", "bits", "bm25")
    assert layout.unwritable == ("bits",), "a null is written to the first, nothing to the last"
    assert list(layout.vectors) == [""]
    assert list(layout.fields) == ["payload"], "one field of several"
    assert laid_out(reply, payload_field="payload").payload == "payload"


def test_options_that_name_what_is_not_there_are_refused() -> None:
    for options in (
        {"payload_field": "vector"},
        {"payload_field": "x"},
        {"vectors": {"x": ""}},
    ):
        with pytest.raises(Refused, match="the collection 'docs' has"):
            laid_out(None, **options)
    assert list(laid_out(None, vectors={"vector": "title"}).vectors) == ["title"]


def test_a_dynamic_field_takes_no_name_that_milvus_keeps_for_itself() -> None:
    reply = described()
    del reply.schema.fields[2]
    reply.schema.enable_dynamic_field = True
    layout = laid_out(reply)
    check_point(layout, Point(1, {"": floats(1, 2)}, {"x": 1}), 100)
    for name in ("$meta", "id"):
        with pytest.raises(Rejected) as caught:
            check_point(layout, Point(1, {"": floats(1, 2)}, {name: 1}), 100)
        assert caught.value.path == f"payload.{name}"


def test_an_index_is_read_as_either_server_tells_it() -> None:
    params = {"M": 24, "efConstruction": 99}
    expected = {"index_type": "HNSW", "params": params}
    one = {"index_type": "HNSW", "metric_type": "L2", "M": "24", "efConstruction": "99"}
    other = {"index_type": "HNSW", "metric_type": "L2", "params": json.dumps(params)}
    assert index_of(one) == index_of(other) == expected
    assert index_of({"index_type": "AUTOINDEX", "metric_type": "L2", "M": "9"}) == {}
    vector = with_index(VectorSchema(size=2, distance=Distance.DOT), expected)
    assert vector.index == VectorIndex(kind=IndexKind.HNSW, m=24, ef_construction=99)
    assert vector.restated == (
        "index.index_type",
        "index.params.M",
        "index.params.efConstruction",
    )
    assert index_params(vector) == {**other, "metric_type": "IP", "params": ANY}


# -- keys in conditions -----------------------------------------------------------------------


def test_no_key_breaks_out_of_its_literal() -> None:
    assert literal('a"] or id != "') == r'"a\"] or id != \""'
    assert literal("back\\slash\nline") == '"back\\\\slash\\nline"'
    assert between("id", "a", None, texts=True) == 'id > "a"'
    assert between("id", 1, 5, texts=False) == "id > 1 and id <= 5"


# -- bounds -----------------------------------------------------------------------------------

INTS = st.sets(st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(0, 10_000), max_size=40)
TEXTS = st.sets(
    st.text(max_size=8) | st.from_regex(r"doc-[0-9]{4}", fullmatch=True), max_size=40
)


@settings(max_examples=30)
@given(keys=INTS | TEXTS, parts=st.integers(2, 9))
async def test_bounds_part_every_key_and_ascend(keys: set[BareId], parts: int) -> None:
    texts = any(isinstance(key, str) for key in keys)

    async def counted(key: BareId) -> int:
        return sum(each <= key for each in keys)  # type: ignore[operator] # of one type

    found = await bounds(len(keys), parts, texts=texts, counted=counted)
    assert len(found) < parts
    assert found == sorted(set(found))
    chunks = ranges_of(found)
    assert (chunks[0].after, chunks[-1].to) == (None, None)


@pytest.mark.parametrize(
    "keys",
    [
        list(range(20_000)),
        [7**11 * n for n in range(20_000)],
        [f"article-{n:06}" for n in range(20_000)],
        [f"{n * 2654435761 % 2**32:08x}-x" for n in range(20_000)],
    ],
    ids=["counted", "far apart", "of one beginning", "scattered"],
)
async def test_chunks_have_about_equal_shares_after_few_counts(keys: list[Any]) -> None:
    keys.sort()
    asked = 0

    async def counted(key: BareId) -> int:
        nonlocal asked
        asked += 1
        return bisect_right(keys, key)

    found = await bounds(len(keys), 8, texts=isinstance(keys[0], str), counted=counted)
    places = [0, *(bisect_right(keys, key) for key in found), len(keys)]
    shares = np.diff(places) / len(keys)
    assert len(shares) == 8
    assert shares.min() > 0.09
    assert shares.max() < 0.16
    assert asked < 200
