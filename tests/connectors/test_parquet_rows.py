"""Files of other programs: every layout in use is read, and what is not understood is named."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replicator.connectors.parquet.kind import ParquetOptions, ParquetSettings
from replicator.connectors.parquet.store import ParquetStore
from replicator.connectors.parquet.vectors import vectors_at
from replicator.errors import Refused, Rejected
from replicator.model.point import MultiVector, Point, SparseVector, Vector
from replicator.ports.store import Page, RejectedRow

Read = Callable[..., Awaitable[tuple[list[Point], list[RejectedRow]]]]


def dense(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def sparse(**values: float) -> SparseVector:
    indices = [int(name[1:]) for name in values]
    return SparseVector(struct.pack(f"<{len(indices)}I", *indices), dense(*values.values()))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ParquetStore]:
    store = ParquetStore(ParquetSettings(path=str(tmp_path)))
    yield store
    await store.close()


@pytest.fixture
def read(store: ParquetStore, tmp_path: Path) -> Read:
    """Write a file as another program does, and read it as a collection."""

    async def read(
        columns: dict[str, Any], options: ParquetOptions | None = None, **writing: Any
    ) -> tuple[list[Point], list[RejectedRow]]:
        pq.write_table(pa.table(columns), tmp_path / "a.parquet", **writing)
        if options is not None:
            store.choose("a", options)
        found = await pages(store)
        points = [point for page in found for point in page.points]
        assert await store.fetch("a", [point.id for point in points]) == {
            point.id: point for point in points
        }
        return points, [row for page in found for row in page.rejected]

    return read


async def pages(store: ParquetStore, page_rows: int = 100) -> list[Page]:
    return [
        page
        for chunk in await store.split("a", 4)
        async for page in store.scan(chunk, None, page_rows)
    ]


FLOATS = [[1.5, -2.0], None, [0.25, 3.0]]
SPARSE = [[(7, 0.5), (9, 1.0)], None, [(1, 2.0)]]


@pytest.mark.parametrize("store_schema", [True, False], ids=["ours", "others"])
@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32(), 2),
        pa.list_(pa.float64(), 2),
        pa.list_(pa.float32()),
        pa.list_(pa.float16()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
    ],
    ids=str,
)
async def test_lists_of_every_kind_are_dense_vectors_and_null_is_none(
    read: Read, kind: Any, store_schema: bool
) -> None:
    # Null comes before the first vector, too.
    values = pa.array([None, *FLOATS], kind)
    points, rejected = await read(
        {"id": [0, 1, 2, 3], "vector": values}, store_schema=store_schema
    )
    assert rejected == []
    assert [point.vectors for point in points] == [
        {},
        {"": dense(1.5, -2)},
        {},
        {"": dense(0.25, 3)},
    ]


@pytest.mark.parametrize("kind", [pa.binary(8), pa.binary(), pa.large_binary()], ids=str)
async def test_bytes_are_dense_vectors(read: Read, kind: Any) -> None:
    values = pa.array([dense(1, 2), None, dense(3, 4)], kind)
    points, _ = await read({"id": ["a", "b", "c"], "vector": values})
    assert [point.vectors.get("") for point in points] == [dense(1, 2), None, dense(3, 4)]


async def test_a_tensor_of_a_fixed_shape_is_a_vector(read: Read) -> None:
    storage = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2]), storage)
    points, _ = await read({"id": [1, 2], "vector": tensor})
    assert [point.vectors[""] for point in points] == [dense(1, 2), dense(3, 4)]


@pytest.mark.parametrize(
    "values",
    [
        pa.array(SPARSE, pa.map_(pa.uint32(), pa.float32())),
        pa.array(SPARSE, pa.map_(pa.int64(), pa.float64())),
        pa.array(
            [
                row and {"indices": [i for i, _ in row], "values": [v for _, v in row]}
                for row in SPARSE
            ],
            pa.struct([("indices", pa.list_(pa.int64())), ("values", pa.list_(pa.float32()))]),
        ),
    ],
    ids=["map of uint32", "map of int64", "struct"],
)  # fmt: skip
async def test_maps_and_structs_are_sparse_vectors(read: Read, values: Any) -> None:
    points, _ = await read({"id": [1, 2, 3], "vector": values})
    assert [point.vectors.get("") for point in points] == [
        sparse(i7=0.5, i9=1.0),
        None,
        sparse(i1=2.0),
    ]


async def test_indices_that_do_not_ascend_are_put_in_order_and_bad_ones_are_named(
    read: Read,
) -> None:
    kind = pa.map_(pa.int64(), pa.float32())
    rows = [[(9, 1.0), (7, 0.5)], [(-1, 1.0)], [(1 << 32, 1.0)], [(3, 1.0)]]
    points, rejected = await read({"id": [1, 2, 3, 4], "vector": pa.array(rows, kind)})
    assert [point.vectors[""] for point in points] == [sparse(i7=0.5, i9=1.0), sparse(i3=1.0)]
    assert [(row.id, row.error.code) for row in rejected] == [
        (2, "field-invalid"),
        (3, "field-invalid"),
    ]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.list_(pa.float32())), pa.list_(pa.list_(pa.float32(), 2))], ids=str
)
async def test_lists_of_lists_are_multi_vectors(read: Read, kind: Any) -> None:
    rows = [None, [[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]], []]
    points, rejected = await read({"id": [1, 2, 3, 4], "vector": pa.array(rows, kind)})
    assert [point.vectors.get("") for point in points] == [
        None,
        MultiVector(2, dense(1, 2, 3, 4)),
        MultiVector(1, dense(5, 6)),
    ]
    assert [(row.id, row.error.code) for row in rejected] == [(4, "field-invalid")]


@pytest.mark.parametrize("begin", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "array",
    [
        pa.array([[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2)),
        pa.array([[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32())),
        pa.array([[[1.0]], None, [[3.0], [4.0]], [[5.0]]], pa.list_(pa.list_(pa.float32(), 1))),
        pa.array([[(1, 1.0)], None, [(2, 1.0)], []], pa.map_(pa.uint32(), pa.float32())),
        pa.array([b"1234", None, b"5678", b"abcd"], pa.binary(4)),
    ],
    ids=str,
)  # fmt: skip
def test_a_slice_of_an_array_has_the_vectors_of_its_rows(array: Any, begin: int) -> None:
    def vectors(of: Any) -> list[Vector | None]:
        at = vectors_at(of, "vector")
        return [at(row) for row in range(len(of))]

    assert vectors(array.slice(begin)) == vectors(array)[begin:]
    assert vectors(array.slice(begin, 1)) == vectors(array)[begin : begin + 1]


async def test_structs_and_maps_hold_vectors_by_name(read: Read) -> None:
    kind = pa.struct([("text", pa.list_(pa.float32(), 2)), ("v.1", pa.list_(pa.float32()))])
    rows = [{"text": [1, 2], "v.1": None}, None, {"text": None, "v.1": [3]}]
    expected = [{"text": dense(1, 2)}, {}, {"v.1": dense(3)}]
    points, _ = await read({"id": [1, 2, 3], "vectors": pa.array(rows, kind)})
    assert [point.vectors for point in points] == expected


async def test_a_map_holds_vectors_by_name(read: Read) -> None:
    kind = pa.map_(pa.string(), pa.list_(pa.float32()))
    rows = [[("text", [1.0, 2.0])], None, [("v.1", [3.0]), ("w", None)]]
    points, _ = await read({"id": [1, 2, 3], "vectors": pa.array(rows, kind)})
    assert [p.vectors for p in points] == [{"text": dense(1, 2)}, {}, {"v.1": dense(3)}]


async def test_a_row_with_a_number_that_no_vector_holds_is_rejected_alone(read: Read) -> None:
    rows = [[1.0], [float("nan")], [1e300], [None], [], [2.0]]
    points, rejected = await read(
        {"id": [*range(6)], "vector": pa.array(rows, pa.list_(pa.float64()))}
    )
    assert [point.id for point in points] == [0, 5]
    assert [(row.id, row.error.code) for row in rejected] == [
        (1, "vector-not-finite"),
        (2, "vector-not-finite"),
        (3, "vector-not-finite"),
        (4, "field-invalid"),
    ]
    assert rejected[0].place == "a.parquet, row 1"
    assert b"nan" in rejected[0].raw


async def test_a_payload_is_json_and_a_field_may_change_its_type(read: Read) -> None:
    texts = ['{"a": 1}', '{"a": "late"}', None, '{"a": 18446744073709551615}', '{"a": [{}]}']
    points, _ = await read({"id": [*range(5)], "payload": texts})
    assert [point.payload for point in points] == [
        {"a": 1},
        {"a": "late"},
        {},
        {"a": 2**64 - 1},
        {"a": [{}]},
    ]


async def test_json_that_is_none_is_rejected_by_the_row(read: Read) -> None:
    texts = ["{", "[1]", '{"a": NaN}', "{}"]
    points, rejected = await read({"id": ["a", "b", "c", "d"], "metadata": texts})
    assert [point.id for point in points] == ["d"]
    assert [(row.id, row.error.path) for row in rejected] == [
        ("a", "metadata"),
        ("b", "metadata"),
        ("c", "metadata"),
    ]


async def test_a_payload_may_be_a_struct_a_map_or_bytes_of_json(
    read: Read, store: ParquetStore, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    tables = [
        pa.table({"id": [1], "payload": [{"year": 2020, "tags": ["a"], "n": {"x": None}}]}),
        pa.table({"id": [2], "payload": [{"year": "late"}]}),
        pa.table(
            {"id": [3], "payload": pa.array([[("y", 1.5)]], pa.map_(pa.string(), pa.float64()))}
        ),
        pa.table({"id": [4], "payload": [b'{"z": 1}']}),
        pa.table({"id": [5], "payload": [b"\xff"]}),
    ]
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    found = await store.fetch("b", [1, 2, 3, 4])
    assert [found[n].payload for n in (1, 2, 3, 4)] == [
        {"year": 2020, "tags": ["a"], "n": {"x": None}},
        {"year": "late"},
        {"y": 1.5},
        {"z": 1},
    ]
    with pytest.raises(Rejected, match="id 5"):
        await store.fetch("b", [5])


async def test_without_payload_every_other_column_is_a_field(read: Read) -> None:
    points, _ = await read(
        {
            "id": pa.array([2**63, 2**53 + 1], pa.uint64()),
            "vector": pa.array([[1.0], [2.0]], pa.list_(pa.float32())),
            "lang": pa.array(["en", None]).dictionary_encode(),
            "views": pa.array([2**53 + 1, 2**63 - 1]),
            "document": ["one", "two"],
        }
    )
    assert points == [
        Point(2**63, {"": dense(1)}, {"lang": "en", "views": 2**53 + 1, "document": "one"}),
        Point(2**53 + 1, {"": dense(2)}, {"lang": None, "views": 2**63 - 1, "document": "two"}),
    ]


async def test_ids_are_integers_texts_dictionaries_and_uuids(
    store: ParquetStore, tmp_path: Path
) -> None:
    some = UUID("3f2504e0-4f89-41d3-9a0c-0305e82c3301")
    columns = [
        pa.array([-5], pa.int8()),
        pa.array(["a"]),
        pa.array(["b"], pa.large_string()),
        pa.array(["c"]).dictionary_encode(),
        pa.array([some.bytes], pa.binary(16)),
        pa.array([str(some).upper().replace("3F", "4F")]),
    ]
    (tmp_path / "a").mkdir()
    for number, ids in enumerate(columns):
        pq.write_table(pa.table({"id": ids}), tmp_path / "a" / f"{number}.parquet")
    ids = [point.id for page in await pages(store) for point in page.points]
    assert ids == [-5, "a", "b", "c", str(some), str(some).replace("3f", "4f")]


async def test_a_row_without_an_id_is_rejected_with_its_place_and_the_scan_goes_on(
    read: Read, store: ParquetStore
) -> None:
    points, rejected = await read({"id": ["a", None, "", "b"], "n": [1, 2, 3, 4]})
    assert [point.id for point in points] == ["a", "b"]
    assert [(row.id, row.place, row.error.code) for row in rejected] == [
        (None, "a.parquet, row 1", "field-missing"),
        (None, "a.parquet, row 2", "id-invalid"),
    ]
    described = await store.describe("a")
    assert described is not None
    assert (described.points, described.details) == (2, {"unreadable_rows": 2})


async def test_of_equal_ids_the_last_counts_once(store: ParquetStore, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(3):
        ids = pa.table({"id": [number, 7], "n": [number, number]})
        pq.write_table(ids, tmp_path / "a" / f"{number}.parquet")
    found = [point for page in await pages(store) for point in page.points]
    assert [(p.id, p.payload["n"]) for p in found] == [(0, 0), (1, 1), (2, 2), (7, 2)]
    assert await store.count("a") == 4


async def test_times_and_decimals_are_texts_to_the_last_digit(read: Read) -> None:
    points, rejected = await read(
        {
            "id": [1],
            "ns": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "Europe/Paris")),
            "s": pa.array([-1], pa.timestamp("s")),
            "day": pa.array([date(2020, 2, 29)]),
            "price": pa.array([Decimal("1.10")]),
            "inner": pa.array([{"at": 1_500}], pa.struct([("at", pa.timestamp("ms", "UTC"))])),
            "list": pa.array([[0]], pa.list_(pa.timestamp("us"))),
        }
    )
    assert rejected == []
    assert points[0].payload == {
        "ns": "2023-11-14T22:13:20.123456789Z",
        "s": "1969-12-31T23:59:59",
        "day": "2020-02-29",
        "price": "1.10",
        "inner": {"at": "1970-01-01T00:00:01.5Z"},
        "list": ["1970-01-01T00:00:00"],
    }


@pytest.mark.parametrize(
    ("values", "path"),
    [
        (pa.array([b"x"]), "payload.x"),
        (pa.array([1], pa.duration("s")), "payload.x"),
        (pa.array([1], pa.time64("ns")), "payload.x"),
        (pa.array([{"in": b"x"}]), "payload.x.in"),
        (pa.array([[b"x"]]), "payload.x[0]"),
        (pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64())), "payload.x"),
        (pa.array([float("inf")]), "payload.x"),
        (pa.array([2**62], pa.timestamp("ms")), "payload.x"),
    ],
    ids=str,
)
async def test_what_no_payload_holds_is_rejected_by_its_path(
    read: Read, values: Any, path: str
) -> None:
    points, [rejected] = await read({"id": [1], "x": values})
    assert (points, rejected.id) == ([], 1)
    assert path in rejected.error.message


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"n": [1]}, "no column 'id'"),
        ({"id": [1.5]}, "holds no ids"),
        ({"id": [1], "payload": ["{}"], "lang": ["en"]}, "column 'lang' stands beside"),
        ({"id": [1], "metadata": ["{}"], "text": ["x"]}, "did you mean 'document'"),
        ({"id": [1], "metadata": ["{}"], "payload": ["{}"]}, "`payload` and `metadata`"),
        ({"id": [1], "vector": [1.5]}, "'vector' of double holds no vectors"),
        ({"id": [1], "vectors": [[1.5]]}, "no struct or map"),
    ],
    ids=str,
)
async def test_a_column_that_nobody_understands_is_named(
    read: Read, columns: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused) as caught:
        await read(columns)
    assert caught.value.code == "config-invalid"
    assert words in caught.value.message


async def test_options_say_what_columns_mean(read: Read) -> None:
    options = ParquetOptions(
        id="key",
        vectors={"emb": "", "title_emb": "title"},
        payload={"meta": "", "lang": "language", "metadata": "metadata"},
    )
    points, _ = await read(
        {
            "key": ["a"],
            "emb": [[1.0]],
            "title_emb": [[2.0]],
            "meta": ['{"n": 1}'],
            "lang": ["en"],
            "metadata": ["a text"],
            "document": ["d"],
        },
        options,
    )
    assert points == [
        Point(
            "a",
            {"": dense(1), "title": dense(2)},
            {"n": 1, "language": "en", "metadata": "a text", "document": "d"},
        )
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ParquetOptions(id="key"), "no column 'key'"),
        (ParquetOptions(vectors={"emb": ""}), "no column 'emb'"),
        (ParquetOptions(payload={"x": "y"}), "no column 'x'"),
        (ParquetOptions(payload={"a": "y", "b": "y"}), "one name to two columns"),
        (ParquetOptions(payload={"a": "y"}), "column 'b' stands beside"),
    ],
    ids=str,
)
async def test_options_that_do_not_fit_are_named(
    read: Read, options: ParquetOptions, words: str
) -> None:
    with pytest.raises(Refused) as caught:
        await read({"id": [1], "a": [1], "b": [2]}, options)
    assert words in caught.value.message


async def test_row_groups_are_chunks_and_pages_are_bounded_in_bytes(
    store: ParquetStore, tmp_path: Path
) -> None:
    data = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4000 * 8, "f4")), 8)
    table = pa.table({"id": range(4000), "vector": data})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    chunks = await store.split("a", 100)
    assert len(chunks) == 4
    for number, chunk in enumerate(chunks):
        found = [page async for page in store.scan(chunk, None, 600)]
        assert [len(page.points) for page in found] == [600, 400]
        ids = [point.id for page in found for point in page.points]
        assert ids == [*range(1000 * number, 1000 * number + 1000)]
    assert len(await store.split("a", 2)) == 2
    small = ParquetStore(ParquetSettings(path=str(tmp_path)), page_bytes=320)
    sizes = [len(page.points) for page in await pages(small, 600)]
    await small.close()
    assert max(sizes) <= 11
    assert sum(sizes) == 4000


async def test_a_large_row_group_is_read_over_and_not_held(
    store: ParquetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replicator.connectors.parquet.collection._HELD_BYTES", 100)
    pq.write_table(pa.table({"id": range(3000), "n": range(3000)}), tmp_path / "a.parquet")
    found = await store.fetch("a", [2999, 5])
    assert found[2999].payload == {"n": 2999}
    assert not store._files("a")._held
