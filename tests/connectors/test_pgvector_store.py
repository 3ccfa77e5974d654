"""What PostgreSQL and pgvector do otherwise than one would think, on a real server."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from replicator.connectors.pgvector import searching
from replicator.connectors.pgvector.kind import PGVECTOR, PgvectorOptions, PgvectorSettings
from replicator.connectors.pgvector.store import PgvectorStore
from replicator.errors import Refused, ReplicatorError
from replicator.model.configuration import lost_settings
from replicator.model.finding import Severity
from replicator.model.point import Point, PointId, SparseVector
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IndexKind,
    Mark,
    Precision,
    VectorIndex,
    VectorKind,
    VectorSchema,
)
from replicator.model.search import Query
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch
from replicator.settings.units import Secret
from replicator.testing.store_conformance import floats, scanned
from tests.plugins.postgres import Database, PostgresServer

HALF = Precision.FLOAT16


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PgvectorStore]:
    store = PgvectorStore(database.settings())
    yield store
    await store.close()


def schema(name: str = "docs", **given: Any) -> CollectionSchema:
    vectors = {"": VectorSchema(size=2, distance=Distance.DOT)}
    told: dict[str, Any] = {"vectors": vectors, "ids": IdKinds.UINT64} | given
    return CollectionSchema(name=name, **told)


def point(point_id: PointId, **payload: Any) -> Point:
    return Point(point_id, {"": floats(1, 2)}, payload)


async def write(store: PgvectorStore, *writes: Write, to: str = "docs") -> Receipt:
    return await store.apply(WriteBatch(to, writes))


async def held(store: PgvectorStore, point_id: PointId, of: str = "docs") -> Point:
    return (await store.fetch(of, [point_id]))[point_id]


async def read(store: PgvectorStore, name: str = "docs") -> dict[PointId, Point]:
    pages = [page async for page in store.scan(Chunk(0, name, "{}"), None, 100)]
    return {each.id: each for page in pages for each in page.points}


def codes(receipt: Receipt) -> dict[PointId, tuple[str, str]]:
    return {point_id: (error.code, error.path) for point_id, error in receipt.rejected}


# -- which column is what ---------------------------------------------------------------------


async def test_a_table_of_a_person_is_read_by_its_key_its_types_and_its_columns(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (nr int PRIMARY KEY, title text, v vector(2), year int);"
        "INSERT INTO docs VALUES (7, 'a', '[1,2]', 1999), (8, NULL, NULL, NULL)"
    )
    assert await read(store) == {
        7: Point(7, {"": floats(1, 2)}, {"title": "a", "year": 1999}),
        8: Point(8, {}, {}),
    }
    found = await store.describe("docs")
    assert found is not None
    assert found.vectors == {"": VectorSchema(size=2, index=VectorIndex(kind=IndexKind.FLAT))}
    assert found.null_is_absence
    store.choose("docs", PgvectorOptions(distance="cosine"))
    found = await store.describe("docs")
    assert found is not None
    assert (found.vectors or {})[""].distance is Distance.COSINE
    assert (found.ids, found.id_limits.integer_max) == (IdKinds.UINT64, 2**31 - 1)


async def test_several_vectors_have_the_names_of_their_columns(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id text PRIMARY KEY, a vector(2) NOT NULL, b vector(1),"
        " payload jsonb);"
        "INSERT INTO docs VALUES ('x', '[1,2]', '[3]', '{\"n\": 1}')"
    )
    assert await held(store, "x") == Point("x", {"a": floats(1, 2), "b": floats(3)}, {"n": 1})
    found = await store.describe("docs")
    assert found is not None
    assert {name: each.required for name, each in (found.vectors or {}).items()} == {
        "a": True,
        "b": False,
    }
    assert codes(await write(store, Upsert(Point("y", {"b": floats(3)}, {})))) == {
        "y": ("vector-missing", "vectors.a")
    }


async def test_options_say_which_column_is_what(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, ref uuid NOT NULL UNIQUE, a vector(2),"
        " b vector(1), meta jsonb, other text);"
        "INSERT INTO docs VALUES (1, '3F2504E0-4F89-41D3-9A0C-0305E82C3301', '[1,2]', '[3]',"
        " '{\"n\": 1}', 'left')"
    )
    options = PgvectorOptions(key="ref", vectors={"a": "title"}, payload="meta")
    store.choose("docs", options)
    ref = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    assert await read(store) == {ref: Point(ref, {"title": floats(1, 2)}, {"n": 1})}
    [finding] = await store.check()
    assert finding.severity is Severity.INFORMS
    assert "the columns id, b, other are neither" in finding.message


async def test_a_table_that_we_made_is_read_the_same_whatever_is_added_to_it(
    store: PgvectorStore, database: Database
) -> None:
    await store.ensure(schema(vectors={"title": VectorSchema(size=1, distance=Distance.DOT)}))
    one = Point(1, {"title": floats(1)}, {"n": 1})
    await write(store, Upsert(one))
    await database.do("ALTER TABLE docs ADD since timestamptz DEFAULT now(), ADD v vector(3)")
    assert await read(store) == {1: one}
    again = PgvectorStore(database.settings())
    found = await again.describe("docs")
    assert found is not None
    assert found.vectors is not None
    assert {name: each.distance for name, each in found.vectors.items()} == {
        "title": Distance.DOT
    }
    await write(again, Upsert(Point(1, {"title": floats(2)}, {})))
    assert await database.value("SELECT since IS NOT NULL FROM docs"), "not of the point"
    await again.close()


async def test_a_vector_whose_name_no_column_can_have_is_known_by_a_comment(
    store: PgvectorStore,
) -> None:
    names = ["id", "payload", "embedding", "", "ä" * 40, 'say "hi"']
    shape = VectorSchema(size=1, distance=Distance.DOT)
    await store.ensure(schema(vectors=dict.fromkeys(names, shape)))
    one = Point(1, {name: floats(n) for n, name in enumerate(names)}, {})
    assert await write(store, Upsert(one)) == Receipt()
    assert await held(store, 1) == one


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("CREATE TABLE docs (a int, b int, PRIMARY KEY (a, b))", "of several columns (a, b)"),
        ("CREATE TABLE docs (a int)", "no primary key"),
        ("CREATE TABLE docs (a int PRIMARY KEY DEFERRABLE)", "deferrable"),
        ("CREATE TABLE docs (a numeric PRIMARY KEY)", "key of type numeric"),
        ("CREATE TABLE docs (a char(3) PRIMARY KEY)", "key of type bpchar"),
        ("CREATE VIEW docs AS SELECT 1 AS a", "is a view"),
        (
            "CREATE TABLE docs (a int PRIMARY KEY); CREATE TABLE child () INHERITS (docs)",
            "inherit from it",
        ),
    ],
)
async def test_a_table_that_is_no_collection_is_refused_with_the_reason(
    store: PgvectorStore, database: Database, sql: str, why: str
) -> None:
    await database.do(sql)
    for asked in (store.describe("docs"), store.split("docs", 2), write(store, Delete(1))):
        with pytest.raises(Refused) as caught:
            await asked
        assert caught.value.code == "unsupported"
        assert why in caught.value.message


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (PgvectorOptions(key="gone"), "no column 'gone'"),
        (PgvectorOptions(key="n"), "no unique index on 'n'"),
        (PgvectorOptions(key="u"), "may be NULL"),
        (PgvectorOptions(vectors={"bits": ""}), "a bit string is none"),
        (PgvectorOptions(vectors={"v": "x", "w": "x"}), "two columns"),
        (PgvectorOptions(payload="n"), "is no jsonb"),
        (PgvectorOptions(payload="v"), "no payload"),
    ],
)
async def test_options_that_do_not_fit_the_table_are_refused_with_the_reason(
    store: PgvectorStore, database: Database, options: PgvectorOptions, why: str
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, n int, u int UNIQUE, v vector, w vector,"
        " bits bit(8))"
    )
    store.choose("docs", options)
    [finding] = await store.check()
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "unsupported")
    assert why in finding.message


async def test_a_string_of_bits_is_a_field_and_no_vector(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, bits bit(4));"
        "INSERT INTO docs VALUES (1, B'0110')"
    )
    assert await held(store, 1) == Point(1, {}, {"bits": "0110"})
    await write(store, Upsert(Point(2, {}, {"bits": "1111"})))
    assert await database.value("SELECT bits::text FROM docs WHERE id = 2") == "1111"


async def test_the_collections_are_the_tables_with_vectors(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE a (id int PRIMARY KEY, v vector);"
        "CREATE DOMAIN length4 AS halfvec(4); CREATE TABLE b (id int PRIMARY KEY, v length4);"
        "CREATE TABLE none (id int PRIMARY KEY); CREATE VIEW view AS TABLE a;"
        "CREATE TABLE p (id int PRIMARY KEY, v vector) PARTITION BY RANGE (id);"
        "CREATE TABLE part PARTITION OF p DEFAULT"
    )
    await store.ensure(schema(capture_id="one"))
    assert await store.collections() == ["a", "b", "docs", "p"]
    await write(store, *(Upsert(Point(n, {}, {})) for n in range(20)), to="p")
    assert sorted(await scanned(store, await store.split("p", 3)), key=str) == sorted(
        range(20), key=str
    )
    limited = PgvectorStore(database.settings(role=await database.role()))
    assert await limited.collections() == []
    await limited.close()


async def test_names_are_quoted_everywhere(store: PgvectorStore, database: Database) -> None:
    table, key, column = 'we"ird; --', 'sel\'ect "x"', 'a"b\\'
    quoted = [each.replace('"', '""') for each in (table, key, column)]
    await database.do(
        'CREATE TABLE "{}" ("{}" text PRIMARY KEY, "{}" text, "Vec" vector(2))'.format(*quoted)
    )
    one = Point("k", {"": floats(1, 2)}, {column: "x"})
    assert await write(store, Upsert(one), to=table) == Receipt()
    patch = Patch(id="k", set={column: "y"})
    assert await write(store, patch, to=table) == Receipt()
    assert await read(store, table) == {"k": Point("k", one.vectors, {column: "y"})}
    found = await store.fetch_fields(table, ["k"], [column])
    assert found["k"].payload == {column: "y"}
    await store.mark(table, Mark("one"))
    await store.wipe(table)
    assert await store.count(table) == 0


async def test_the_extension_is_found_in_the_schema_it_lies_in(
    postgres: PostgresServer,
) -> None:
    settings = PgvectorSettings(
        dsn=Secret(postgres.database("my extensions".replace(" ", "_")))
    )
    store = PgvectorStore(settings)
    shapes = {
        "a": VectorSchema(size=2, distance=Distance.COSINE),
        "h": VectorSchema(size=2, distance=Distance.EUCLID, precision=HALF),
        "s": VectorSchema(kind=VectorKind.SPARSE, distance=Distance.DOT),
    }
    planned = store.plan(schema(vectors=shapes))
    await store.ensure(planned)
    sparse = SparseVector(struct.pack("<2I", 0, 9), floats(1, -2))
    one = Point(1, {"a": floats(1, 2), "h": floats(1, 2), "s": sparse}, {"n": 1})
    await write(store, Upsert(one), Upsert(Point(2, {}, {})))
    assert await write(store, Patch(id=1, set={"n": 2})) == Receipt()
    await store.configure(planned)
    await store.finish_bulk("docs")
    assert await held(store, 1) == Point(1, one.vectors, {"n": 2})
    for name, vector in one.vectors.items():
        hits = await store.search("docs", Query(vector, using=name))
        assert [hit.id for hit in hits] == [1], name
    await store.close()


# -- vectors ----------------------------------------------------------------------------------


async def test_indices_count_from_0_on_the_wire_and_from_1_in_a_text(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, s sparsevec(5));"
        "INSERT INTO docs VALUES (1, '{1:0.5,5:-2}/5')"
    )
    vector = SparseVector(struct.pack("<2I", 0, 4), floats(0.5, -2))
    assert (await held(store, 1)).vectors == {"": vector}
    await write(store, Upsert(Point(2, {"": vector}, {})))
    assert await database.value("SELECT s::text FROM docs WHERE id = 2") == "{1:0.5,5:-2}/5"


async def test_vectors_that_a_column_would_refuse_or_change_are_rejected_alone(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, v vector(2), h halfvec(1), s sparsevec(20000))"
    )
    indices = struct.pack("<16001I", *range(16001))
    bad: dict[int, Any] = {
        1: {"v": floats(1, float("nan"))},
        2: {"v": floats(1, float("inf"))},
        3: {"v": floats(1)},
        4: {"h": floats(65520)},
        5: {"s": SparseVector(struct.pack("<I", 20000), floats(1))},
        6: {"s": SparseVector(struct.pack("<I", 1), floats(0))},
        7: {"s": SparseVector(indices, floats(*[1] * 16001))},
    }
    good = Point(9, {"v": floats(1, 2), "h": floats(65504)}, {})
    points = [Point(number, vectors, {}) for number, vectors in bad.items()]
    receipt = await write(store, *map(Upsert, points), Upsert(good))
    assert {each: code for each, (code, _) in codes(receipt).items()} == {
        1: "vector-not-finite",
        2: "vector-not-finite",
        3: "vector-dimension",
        **dict.fromkeys((4, 5, 6, 7), "field-invalid"),
    }
    assert await read(store) == {9: good}


async def test_a_column_without_dimensions_holds_vectors_of_any(
    store: PgvectorStore, database: Database
) -> None:
    await database.do("CREATE TABLE docs (id int PRIMARY KEY, v vector, w halfvec)")
    points = {
        n: Point(n, {"v": floats(*range(n)), "w": floats(*range(7 - n))}, {})
        for n in range(1, 6)
    }
    points[3] = Point(3, {}, {})
    await write(store, *map(Upsert, points.values()))
    assert await read(store) == points


# -- payloads ---------------------------------------------------------------------------------


async def test_a_number_keeps_its_type_whatever_its_size(store: PgvectorStore) -> None:
    await store.ensure(schema())
    numbers = [1e16, 1e22, 1.5e300, -1e17, 5.0, 5, 1e-7, 0.1, 2**53 + 1, 2**63 - 1]
    nested = {"a": [{"b": 1e22}], "e": "1e5 in a text"}
    await write(store, Upsert(point(1, numbers=numbers, **nested)))
    found = (await held(store, 1)).payload
    assert [(type(n), n) for n in found["numbers"]] == [(type(n), n) for n in numbers]
    assert found["a"] == [{"b": 1e22}]
    assert isinstance(found["a"][0]["b"], float)


async def test_a_payload_that_is_no_map_is_named_and_the_scan_goes_on(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, payload jsonb);"
        "INSERT INTO docs VALUES (1, '{}'), (2, NULL), (3, 'null'), (4, '[1]'),"
        " (5, '{\"a\": null}')"
    )
    [page] = [page async for page in store.scan(Chunk(0, "docs", "{}"), None, 100)]
    assert {each.id: each.payload for each in page.points} == {1: {}, 2: {}, 5: {"a": None}}
    assert [(row.id, row.error.code) for row in page.rejected] == [
        (3, "field-type"),
        (4, "field-type"),
    ]
    patches = [Patch(id=n, set={"x": 1}) for n in range(1, 6)]
    assert await write(store, *patches) == Receipt()
    assert {each.payload["x"] for each in (await read(store)).values()} == {1}


COLUMNS = {
    "b": ("boolean", "true", True),
    "i": ("smallint", "5", 5),
    "big": ("bigint", "9007199254740993", 2**53 + 1),
    "f": ("double precision", "5", 5.0),
    "r": ("real", "0.1", 0.1),
    "price": ("numeric(10,2)", "12.30", 12.3),
    "whole": ("numeric(10,2)", "5", 5.0),
    "exact": ("numeric", "12345678901234567890.10", "12345678901234567890.10"),
    "wide": ("numeric(20,2)", "0.10", "0.10"),
    "at": ("timestamptz", "'2024-01-01 01:00:00.5+01'", "2024-01-01T00:00:00.5Z"),
    "naive": ("timestamp", "'2024-01-01 01:00'", "2024-01-01T01:00:00"),
    "day": ("date", "'2024-01-01'", "2024-01-01"),
    "span": ("interval", "'1 day 2 hours'", "1 day 02:00:00"),
    "raw": ("bytea", "'\\xdead'", "\\xdead"),
    "ref": (
        "uuid",
        "'3F2504E0-4F89-41D3-9A0C-0305E82C3301'",
        "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    ),
    "tags": ("text[]", "'{a,NULL,\"x y\"}'", ["a", None, "x y"]),
    "grid": ("int[]", "'{{1,2},{3,4}}'", [[1, 2], [3, 4]]),
    "doc": ("jsonb", "'{\"a\": [1, null]}'", {"a": [1, None]}),
    "words": ("varchar(9)", "'żółć'", "żółć"),
}


async def test_each_type_of_column_has_its_value_of_json_and_takes_it_back(
    store: PgvectorStore, database: Database
) -> None:
    listed = ", ".join(f"{name} {declared}" for name, (declared, _, _) in COLUMNS.items())
    given = ", ".join(sql for _, sql, _ in COLUMNS.values())
    await database.do(
        f"CREATE TABLE docs (id int PRIMARY KEY, {listed});"
        f"INSERT INTO docs VALUES (1, {given}); INSERT INTO docs VALUES (2)"
    )
    expected = {name: value for name, (_, _, value) in COLUMNS.items()}
    found = (await held(store, 1)).payload
    assert {k: (type(v), v) for k, v in found.items()} == {
        k: (type(v), v) for k, v in expected.items()
    }
    assert (await held(store, 2)).payload == {}, "NULL is an absent field"
    assert await write(store, Upsert(Point(3, {}, expected))) == Receipt()
    [same] = await database.rows(
        "SELECT (SELECT to_jsonb(a) - 'id' FROM docs a WHERE id = 1)"
        " = (SELECT to_jsonb(a) - 'id' FROM docs a WHERE id = 3)"
    )
    assert same == (True,)


async def test_what_a_session_is_set_to_changes_no_value(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, at timestamptz, span interval, raw bytea);"
        "INSERT INTO docs VALUES (1, '2024-01-01 00:00Z', '1 day', '\\x00ff')"
    )
    before = await held(store, 1)
    name = database.dsn.rpartition("/")[2]
    for setting in (
        "TimeZone = 'Asia/Tokyo'",
        "IntervalStyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "DateStyle = 'German'",
    ):
        await database.do(f"ALTER DATABASE {name} SET {setting}")
    try:
        another = PgvectorStore(database.settings())
        assert await held(another, 1) == before
        assert await write(another, Upsert(before)) == Receipt()
        await another.close()
    finally:
        await database.do(f"ALTER DATABASE {name} RESET ALL")


async def test_a_number_that_is_none_makes_a_row_no_point(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, f real, n numeric(5,1), t text);"
        "INSERT INTO docs VALUES (1, 'NaN', 1, ''), (2, '-Infinity', 1, ''), (3, 1, 'NaN', ''),"
        " (4, 1, 1, 'NaN')"
    )
    [page] = [page async for page in store.scan(Chunk(0, "docs", "{}"), None, 100)]
    assert [(row.id, row.error.code, row.error.path) for row in page.rejected] == [
        (1, "payload-not-finite", "payload.f"),
        (2, "payload-not-finite", "payload.f"),
        (3, "payload-not-finite", "payload.n"),
    ]
    assert [each.id for each in page.points] == [4]


UNLIKE = {
    "t": ("text", 5),
    "i": ("int", "5"),
    "p": ("numeric(5,2)", 12.345),
    "exact": ("numeric", 5),
    "r": ("real", 0.123456789),
    "at": ("timestamptz", "2024-01-01T01:00:00+01:00"),
    "ref": ("uuid", "3F2504E0-4F89-41D3-9A0C-0305E82C3301"),
    "pad": ("char(5)", "ab"),
    "cut": ("varchar(2)", "ab   "),
    "flag": ("boolean", "yes"),
    "list": ("int[]", ["1"]),
}


async def test_a_value_that_a_column_would_change_is_rejected_alone_by_its_name(
    store: PgvectorStore, database: Database
) -> None:
    listed = ", ".join(f"{name} {declared}" for name, (declared, _) in UNLIKE.items())
    await database.do(f"CREATE TABLE docs (id int PRIMARY KEY, ok int, {listed})")
    points = [
        Point(n, {}, {name: value, "ok": n})
        for n, (name, (_, value)) in enumerate(UNLIKE.items())
    ]
    receipt = await write(store, *map(Upsert, points), Upsert(Point(99, {}, {"ok": 1})))
    assert codes(receipt) == {
        n: ("field-invalid", f"payload.{name}") for n, name in enumerate(UNLIKE)
    }
    assert await read(store) == {99: Point(99, {}, {"ok": 1})}
    patches = [Patch(id=99, set={"t": 5})]
    assert codes(await write(store, *patches)) == {99: ("field-invalid", "payload.t")}
    assert await read(store) == {99: Point(99, {}, {"ok": 1})}


async def test_a_field_without_a_column_is_rejected_by_its_name(
    store: PgvectorStore, database: Database
) -> None:
    await database.do("CREATE TABLE docs (id int PRIMARY KEY, title text)")
    receipt = await write(
        store,
        Upsert(Point(1, {}, {"titel": "a"})),
        Upsert(Point(2, {}, {"title": "a", "gone": None})),
        Upsert(Point(3, {}, {"id": 5})),
    )
    assert codes(receipt) == {
        1: ("field-unknown", "payload.titel"),
        3: ("field-unknown", "payload.id"),
    }
    assert "its fields are title" in receipt.rejected[0][1].message
    receipt = await write(store, Patch(id=2, set={"titel": "b"}, unset=("never",)))
    assert codes(receipt) == {2: ("field-unknown", "payload.titel")}
    assert await read(store) == {2: Point(2, {}, {"title": "a"})}


async def test_an_upsert_of_columns_replaces_and_a_patch_leaves_the_others(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, a int, b text, c jsonb, d int, v vector(1),"
        " w vector(1), x vector(1))"
    )
    vectors = {"v": floats(1), "w": floats(2), "x": floats(3)}
    whole = Point(1, dict(vectors), {"a": 1, "b": "x", "c": {"n": 1}, "d": 4})
    await write(store, Upsert(whole))
    receipt = await write(
        store,
        Patch(
            id=1,
            set={"a": 2, "c": None},
            unset=("b",),
            vectors={"v": floats(9)},
            unset_vectors=("w",),
        ),
        Patch(id=5, set={"a": 1}),
    )
    assert receipt == Receipt(absent=(5,))
    left = Point(1, {"v": floats(9), "x": floats(3)}, {"a": 2, "d": 4})
    assert await read(store) == {1: left}
    await write(store, Upsert(Point(1, {"w": floats(3)}, {"b": "y"})))
    assert await read(store) == {1: Point(1, {"w": floats(3)}, {"b": "y"})}


async def test_a_generated_column_is_left_to_the_table(
    store: PgvectorStore, database: Database
) -> None:
    # No event tells of it, so that a row that did would differ from the image that follows.
    await database.do(
        "CREATE TABLE docs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,"
        " twice int GENERATED ALWAYS AS (a * 2) STORED)"
    )
    assert await write(store, Upsert(Point(7, {}, {"a": 3}))) == Receipt()
    assert await held(store, 7) == Point(7, {}, {"a": 3})
    assert await database.value("SELECT twice FROM docs") == 6
    receipt = await write(store, Patch(id=7, set={"twice": 1, "a": 4}))
    assert codes(receipt) == {7: ("field-unknown", "payload.twice")}
    [finding] = await store.check_writing(["docs"])
    assert (finding.severity, finding.code) == (Severity.WARNS, "id-collision")
    assert "setval" in finding.message
    store.choose("docs", PgvectorOptions())
    [finding] = await store.check()
    assert "the columns twice are neither" in finding.message


async def test_a_column_that_takes_no_null_rejects_the_point_without_it(
    store: PgvectorStore, database: Database
) -> None:
    await database.do("CREATE TABLE docs (id int PRIMARY KEY, a int NOT NULL DEFAULT 7)")
    with pytest.raises(ReplicatorError) as caught:
        await write(store, Upsert(Point(1, {}, {})))
    assert caught.value.code == "target-rejected"
    assert '"a"' in caught.value.message
    assert await read(store) == {}


# -- keys and chunks --------------------------------------------------------------------------


async def test_a_key_that_no_event_can_hold_is_named(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id text PRIMARY KEY);"
        "INSERT INTO docs VALUES (''), (repeat('x', 513)), ('ok')"
    )
    [page] = [page async for page in store.scan(Chunk(0, "docs", "{}"), None, 100)]
    assert [each.id for each in page.points] == ["ok"]
    assert {row.error.code for row in page.rejected} == {"id-invalid"}
    assert await store.fetch("docs", ["", "ok", "a\0", 5]) == {"ok": Point("ok", {}, {})}


async def test_texts_have_the_order_of_their_column_wherever_they_are_compared(
    store: PgvectorStore, database: Database
) -> None:
    await database.do('CREATE TABLE docs (id text COLLATE "POSIX" PRIMARY KEY)')
    ids = [f"{a}{b}" for a in "aAbBäÄzZ_-9" for b in "aAzZ_9"]
    await write(store, *(Upsert(Point(each, {}, {})) for each in ids))
    chunks = await store.split("docs", 7)
    assert len(chunks) == 7
    late = ["", "Aaa", "0", "ź", "_"]
    await write(store, *(Upsert(Point(each, {}, {})) for each in late if each))
    found = await scanned(store, chunks, 3)
    assert sorted(map(str, found)) == sorted([*ids, *late[1:]])


async def test_a_large_table_is_cut_by_a_sample_of_its_pages(
    store: PgvectorStore, database: Database
) -> None:
    # The rows are wide, so that they take more pages than are looked at.
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, t text);"
        "INSERT INTO docs SELECT n, repeat('x', 1900) FROM generate_series(1, 4000) n"
    )
    chunks = await store.split("docs", 4)
    sizes = [len(await scanned(store, [chunk], 1000)) for chunk in chunks]
    assert sum(sizes) == 4000
    assert min(sizes) > 500, sizes


# -- marks, wiping, what is restored ----------------------------------------------------------


async def test_a_table_that_was_dropped_and_restored_bears_no_mark_and_reads_the_same(
    store: PgvectorStore, database: Database, postgres: PostgresServer
) -> None:
    await store.ensure(schema(capture_id="one"))
    await store.mark("docs", Mark("one", 2, 3))
    await write(store, Upsert(point(1, n=1)))
    found = await store.describe("docs")
    assert found is not None
    assert (found.mark, found.made) == (Mark("one", 2, 3), True)
    dump = postgres.dump(database.dsn, database.schema, "docs")
    await database.do("DROP TABLE docs")
    postgres.restore(database.dsn, dump)
    found = await store.describe("docs")
    assert found is not None
    assert (found.mark, found.made) == (None, False)
    assert await held(store, 1) == point(1, n=1)
    with pytest.raises(Refused) as caught:
        await store.ensure(schema(capture_id="one"))
    assert caught.value.code == "target-not-empty"


async def test_the_comments_of_a_person_stay(store: PgvectorStore, database: Database) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, v vector(2));"
        "COMMENT ON TABLE docs IS 'theirs'; COMMENT ON COLUMN docs.v IS 'replicator {broken}'"
    )
    await store.ensure(schema(capture_id="one"))
    told = await database.rows(
        "SELECT obj_description('docs'::regclass), col_description('docs'::regclass, 2)"
    )
    assert told == [("theirs", "replicator {broken}")]


async def test_rows_that_others_refer_to_are_not_wiped(
    store: PgvectorStore, database: Database
) -> None:
    await store.ensure(schema(capture_id="one"))
    await write(store, Upsert(point(1)))
    await database.do(
        "CREATE TABLE notes (doc bigint REFERENCES docs ON DELETE CASCADE);"
        "INSERT INTO notes VALUES (1)"
    )
    with pytest.raises(Refused) as caught:
        await store.wipe("docs")
    assert caught.value.code == "unsupported"
    assert await database.value("SELECT count(*) FROM notes") == 1
    found = await store.describe("docs")
    assert found is not None
    assert (found.capture_id, found.points) == ("one", 1), "neither or both"


async def test_a_schema_that_is_not_there_and_the_marks_are_no_collections(
    store: PgvectorStore, database: Database
) -> None:
    await store.ensure(schema(capture_id="one"))
    why = database.settings().unfit("vector_replicator_marks")
    assert why is not None
    other = PgvectorStore(PgvectorSettings(dsn=Secret(database.dsn), schema="nowhere"))
    [finding] = [each for each in await other.check() if each.severity is Severity.BLOCKS]
    assert "no schema 'nowhere'" in finding.message
    await other.close()


# -- indexes ----------------------------------------------------------------------------------


async def test_an_index_is_built_after_the_copy_as_it_was_asked_for(
    store: PgvectorStore, database: Database
) -> None:
    index = VectorIndex(kind=IndexKind.HNSW, m=8, ef_construction=40)
    lists = VectorIndex(kind=IndexKind.IVF, lists=3)
    shapes = {
        "a": VectorSchema(size=2, distance=Distance.COSINE, index=index),
        "b": VectorSchema(size=2, distance=Distance.EUCLID, index=lists, precision=HALF),
        "c": VectorSchema(size=2, distance=Distance.MANHATTAN),
        "d": VectorSchema(
            size=2, distance=Distance.DOT, index=VectorIndex(kind=IndexKind.FLAT)
        ),
    }
    planned = store.plan(schema(vectors=shapes))
    assert store.plan(planned) == planned
    await store.ensure(planned)
    await write(store, Upsert(Point(1, dict.fromkeys(shapes, floats(1, 2)), {})))
    found = await store.describe("docs")
    assert found is not None
    assert (found.made, found.unfinished) == (True, True)
    assert await _indexes(database) == []
    for _ in range(2):
        await store.configure(planned)
    found = await store.describe("docs")
    assert found is not None
    assert not found.unfinished
    assert found.vectors == planned.vectors
    assert lost_settings(planned, found) == []
    assert await _indexes(database) == [
        ("hnsw", "vector_cosine_ops", ["m=8", "ef_construction=40"]),
        ("hnsw", "vector_l1_ops", ["m=16", "ef_construction=64"]),
        ("ivfflat", "halfvec_l2_ops", ["lists=3"]),
    ]


async def _indexes(database: Database) -> list[tuple[Any, ...]]:
    return await database.rows(
        "SELECT m.amname, o.opcname, c.reloptions FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam"
        " JOIN pg_opclass o ON o.oid = i.indclass[0]"
        " WHERE i.indrelid = 'docs'::regclass AND NOT i.indisprimary ORDER BY 1, 2"
    )


@pytest.mark.parametrize(
    ("size", "precision", "kind"),
    [
        (2000, Precision.FLOAT32, IndexKind.HNSW),
        (2001, Precision.FLOAT32, IndexKind.FLAT),
        (4000, HALF, IndexKind.HNSW),
        (4001, HALF, IndexKind.FLAT),
    ],
)
async def test_what_has_too_many_dimensions_for_an_index_is_named_before_it_is_written(
    store: PgvectorStore, size: int, precision: Precision, kind: IndexKind
) -> None:
    shape = VectorSchema(
        size=size,
        distance=Distance.COSINE,
        precision=precision,
        index=VectorIndex(kind=IndexKind.HNSW),
    )
    wanted = schema(vectors={"": shape}, native_kind="another")
    planned = store.plan(wanted)
    assert planned.vectors is not None
    assert planned.vectors[""].index.kind is kind
    lost = [each.code for each in lost_settings(wanted, planned) if each.wanted]
    assert lost == (["loss-vector-index"] if kind is IndexKind.FLAT else [])
    await store.ensure(planned)
    await store.configure(planned)  # what is planned can be built
    found = await store.describe("docs")
    assert found is not None
    assert found.vectors == planned.vectors


async def test_numbers_that_pgvector_does_not_take_are_the_nearest_that_it_does(
    store: PgvectorStore,
) -> None:
    index = VectorIndex(kind=IndexKind.HNSW, m=200, ef_construction=10)
    shape = VectorSchema(size=2, distance=Distance.DOT, index=index)
    planned = store.plan(schema(vectors={"": shape}, native_kind="another"))
    assert planned.vectors is not None
    assert planned.vectors[""].index == VectorIndex(
        kind=IndexKind.HNSW, m=100, ef_construction=200
    )
    await store.ensure(planned)
    await store.configure(planned)


async def test_a_table_that_cannot_hold_the_vectors_is_refused_before_and_after(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, v vector(3));"
        "CREATE INDEX ON docs USING hnsw (v vector_l2_ops)"
    )
    for asked in (store.foresee(schema()), store.ensure(schema())):
        with pytest.raises(Refused) as caught:
            await asked
        assert caught.value.code == "target-incompatible"
        assert "3 dimensions, not 2" in caught.value.message
        assert "compared by euclid" in caught.value.message


async def test_what_would_be_made_is_what_is_made(store: PgvectorStore) -> None:
    planned = store.plan(schema(ids=IdKinds.UUID, capture_id="one"))
    foreseen = await store.foresee(planned)
    assert await store.describe("docs") is None
    await store.ensure(planned)
    await store.configure(planned)
    found = await store.describe("docs")
    assert found is not None
    for field in ("vectors", "ids", "id_limits", "points", "made", "null_is_absence"):
        assert getattr(foreseen, field) == getattr(found, field), field


# -- searches ---------------------------------------------------------------------------------


async def filled(store: PgvectorStore, rows: int = 300) -> CollectionSchema:
    shape = VectorSchema(size=2, distance=Distance.EUCLID)
    planned = store.plan(schema(vectors={"": shape}))
    await store.ensure(planned)
    points = (Point(n, {"": floats(n, 0)}, {"n": n}) for n in range(rows))
    await write(store, *map(Upsert, points))
    await store.configure(planned)
    await store.finish_bulk("docs")
    return planned


async def test_an_index_finds_as_many_as_were_asked_for(
    store: PgvectorStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(store)
    role = await database.role()
    # So few rows would be looked at one by one.
    await database.do(
        f"ALTER ROLE {role} SET enable_seqscan = off; GRANT SELECT ON docs TO {role}"
    )
    indexed = PgvectorStore(database.settings(role=role))
    last = {"must": [{"key": "n", "range": {"gte": 290}}]}
    hits = await indexed.search("docs", Query(floats(0, 0), limit=5, filter=last))
    assert [hit.id for hit in hits] == [290, 291, 292, 293, 294]
    monkeypatch.setattr(searching, "_ITERATIVE_SINCE", (99,))
    hits = await indexed.search("docs", Query(floats(0, 0), limit=120))
    assert [hit.id for hit in hits] == list(range(120))
    hits = await indexed.search("docs", Query(floats(0, 0), limit=5, filter=last))
    assert hits == [], "before 0.8 an index gives up: it is used here"
    await indexed.close()


async def test_an_exact_search_looks_at_every_row(
    store: PgvectorStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_ITERATIVE_SINCE", (99,))
    await filled(store)
    role = await database.role()
    # An index that looks at one candidate finds one, and is not asked when exact.
    await database.do(
        f"ALTER ROLE {role} SET hnsw.ef_search = 1; "
        f"ALTER ROLE {role} SET enable_seqscan = off; GRANT SELECT ON docs TO {role}"
    )
    poor = PgvectorStore(database.settings(role=role))
    found = [
        len(await poor.search("docs", Query(floats(5, 0), limit=9, exact=exact)))
        for exact in (True, False)
    ]
    assert found[0] == 9
    assert found[1] < 9, "the index is used where it may be"
    await poor.close()


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (Query(floats(1, 2), using="gone"), "no vector 'gone'"),
        (Query(SparseVector(b"", b"")), "of another kind"),
        (Query(floats(1, 2)), "by what"),
    ],
)
async def test_a_search_that_cannot_be_asked_is_refused(
    store: PgvectorStore, database: Database, query: Query, why: str
) -> None:
    await database.do("CREATE TABLE docs (id int PRIMARY KEY, v vector(2))")
    with pytest.raises(Refused) as caught:
        await store.search("docs", query)
    assert why in caught.value.message


# -- what may be read and written -------------------------------------------------------------


async def test_rows_that_a_policy_hides_are_refused_and_not_left_out(
    store: PgvectorStore, database: Database
) -> None:
    await store.ensure(schema())
    await write(store, Upsert(point(1)), Upsert(point(2)))
    role = await database.role()
    await database.do(
        f'GRANT ALL ON ALL TABLES IN SCHEMA "{database.schema}" TO {role};'
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY few ON docs USING (id = 1)"
    )
    limited = PgvectorStore(database.settings(role=role))
    for asked in (read(limited), limited.count("docs"), write(limited, Upsert(point(1)))):
        with pytest.raises(Refused) as caught:
            await asked
        assert caught.value.code == "permission-denied"
    await limited.close()


async def test_a_commit_is_waited_for_though_the_database_says_otherwise(
    store: PgvectorStore, database: Database
) -> None:
    await store.ensure(schema())
    await database.do(
        "CREATE TABLE seen (said text);"
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f' INSERT INTO "{database.schema}".seen'
        " VALUES (current_setting('synchronous_commit'));"
        " RETURN NULL; END $$;"
        "CREATE TRIGGER see AFTER INSERT ON docs EXECUTE FUNCTION see()"
    )
    role = await database.role("SUPERUSER")
    for setting in ("off", "local", "on"):
        await database.do(f"ALTER ROLE {role} SET synchronous_commit = {setting}")
        one = PgvectorStore(database.settings(role=role))
        await write(one, Upsert(point(1)))
        await one.close()
    assert await database.rows("SELECT said FROM seen") == [("on",), ("local",), ("on",)]


async def test_what_is_missing_to_write_is_found_before(
    store: PgvectorStore, database: Database
) -> None:
    await store.ensure(schema())
    role = await database.role()
    await database.do(f"GRANT SELECT, INSERT ON docs TO {role}")
    limited = PgvectorStore(database.settings(role=role))
    found = {each.severity: each for each in await limited.check_writing(["docs", "new"])}
    assert "may not UPDATE, DELETE in 'docs'" in found[Severity.BLOCKS].message
    assert "may make no tables" in found[Severity.WARNS].message
    await limited.close()


async def test_a_table_that_is_altered_is_seen_with_the_next_page(
    store: PgvectorStore, database: Database
) -> None:
    await database.do(
        "CREATE TABLE docs (id int PRIMARY KEY, a int); INSERT INTO docs VALUES (1, 1)"
    )
    assert await held(store, 1) == Point(1, {}, {"a": 1})
    await database.do("ALTER TABLE docs ADD b int; UPDATE docs SET b = 2")
    assert await held(store, 1) == Point(1, {}, {"a": 1, "b": 2})
    await database.do("ALTER TABLE docs RENAME a TO c")
    assert await held(store, 1) == Point(1, {}, {"c": 1, "b": 2})
    await database.do("ALTER TABLE docs ADD v vector(1)")
    assert await write(store, Upsert(Point(1, {"": floats(5)}, {"b": 3}))) == Receipt()
    assert await held(store, 1) == Point(1, {"": floats(5)}, {"b": 3})
    await database.do("DROP TABLE docs; CREATE TABLE docs (id text PRIMARY KEY)")
    assert await store.fetch("docs", [1]) == {}
    await database.do("DROP TABLE docs")
    with pytest.raises(Refused) as caught:
        await store.fetch("docs", [1])
    assert caught.value.code == "source-missing"


async def test_an_older_pgvector_is_told_and_not_asked_for_what_it_has_not(
    postgres: PostgresServer,
) -> None:
    dsn = postgres.database()
    store = PgvectorStore(PgvectorSettings(dsn=Secret(dsn)))
    assert await store.check() == []
    name = dsn.rpartition("/")[2]
    postgres.sql("UPDATE pg_extension SET extversion = '0.8.2' WHERE extname = 'vector'", name)
    [finding] = await store.check()
    assert (finding.severity, "0.8.2" in finding.message) == (Severity.WARNS, True)
    postgres.sql("UPDATE pg_extension SET extversion = '0.6.2' WHERE extname = 'vector'", name)
    shape = VectorSchema(size=2, distance=Distance.DOT, precision=HALF)
    for asked in (store.foresee, store.ensure):
        with pytest.raises(Refused, match=r"pgvector 0\.7"):
            await asked(schema(vectors={"": shape}))
    await store.ensure(schema())
    postgres.sql("DROP EXTENSION vector CASCADE", name)
    found = await store.check()
    assert [each.severity for each in found] == [Severity.BLOCKS]
    assert "CREATE EXTENSION vector" in found[0].message
    await store.close()


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("postgresql://u:p@Host/db", "host:5432/db#public"),
        ("postgres://127.0.0.1:5433/db?sslmode=require", "localhost:5433/db#public"),
        ("postgresql://u@a:1,b/db", "a:1,b:5432/db#public"),
        ("postgresql:///db?host=/run/pg", "/run/pg:5432/db#public"),
        ("postgresql://me@localhost", "localhost:5432/me#public"),
        ("postgresql://me@[::1]:5433/db", "[::1]:5433/db#public"),
    ],
)
def test_two_spellings_of_one_place_are_one(dsn: str, address: str) -> None:
    assert PgvectorSettings(dsn=Secret(dsn)).address() == address


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"dsn": "mysql://host/db"}, "dsn"),
        ({"dsn": ""}, "dsn"),
        ({"dsn": "postgresql://[bad/db"}, "dsn"),
        ({"dsn": "postgresql://u:pass/word@host/db"}, "dsn"),
        ({"schema": ""}, "schema"),
        ({"schema": "x" * 64}, "schema"),
        ({"connections": 0}, "connections"),
    ],
)
def test_settings_that_do_not_fit_are_named(given: dict[str, Any], key: str) -> None:
    told = {"dsn": "postgresql://localhost/db"} | given
    settings = PgvectorSettings(**(told | {"dsn": Secret(told["dsn"])}))
    assert [name for name, _ in settings.problems()] == [key]


def test_names_that_would_be_cut_are_unfit() -> None:
    settings = PGVECTOR.settings(dsn=Secret("postgresql://localhost/db"))
    assert settings.unfit("ä" * 31) is None
    assert settings.unfit("ä" * 32) is not None
    assert settings.unfit("") is not None
