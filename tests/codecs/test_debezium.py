"""Envelopes as Debezium writes them for PostgreSQL and MySQL, through its JSON converter."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import Any

import pytest

from replicator.codecs.captured import Table
from replicator.codecs.debezium import DebeziumDecoder
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition, Record

PLACEHOLDER = "__debezium_unavailable_value"
ARTICLES = Table(key=("id",), vectors={"embedding": "", "title_vector": "title"})
PAGES = Table(key=("site", "path"), vectors={"v": ""}, payload="meta", schema="public")
NOTES = Table(key=("id",), vectors={"v": ""}, fields=("title", "tags"), json=("tags",))
TS = 1_764_200_000_123


def f32(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def record(key: object, value: object, at_ms: int = 7) -> Record:
    def raw(document: object) -> bytes | None:
        if document is None or isinstance(document, bytes):
            return document
        return json.dumps(document).encode()

    return Record(Partition("pg.public.articles/0"), 3, raw(key), raw(value), at_ms)


def envelope(
    op: str,
    after: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    table: str | None = "articles",
    **source: Any,
) -> dict[str, Any]:
    return {
        "before": before,
        "after": after,
        "source": {
            "version": "3.0.0.Final",
            "connector": "postgresql",
            "name": "pg",
            "ts_ms": TS,
            "snapshot": "false",
            "db": "shop",
            "schema": "public",
            "table": table,
            "lsn": 34,
            **source,
        },
        "op": op,
        "ts_ms": TS + 50,
        "transaction": None,
    }


def wrapped(payload: object, name: str = "pg.public.articles.Envelope") -> dict[str, Any]:
    fields: list[Any] = []
    schema = {"type": "struct", "fields": fields, "optional": False, "name": name}
    return {"schema": schema, "payload": payload}


def decoder(
    integer_ids: dict[str, bool | None] | None = None, /, **tables: Table
) -> DebeziumDecoder:
    listed = tables or {"articles": ARTICLES}
    integers = integer_ids or dict.fromkeys(listed, None)
    return DebeziumDecoder(listed, integers, 1 << 16, PLACEHOLDER)


def decoded(value: object, key: object = None, **tables: Table) -> ChangeEvent:
    event = decoder(**tables).decode(record(key or {"id": 1}, value))
    assert event is not None
    return event


def refused(value: object, key: object = None, **tables: Table) -> tuple[str, str]:
    with pytest.raises(Rejected) as rejected:
        decoder(**tables).decode(record(key or {"id": 1}, value))
    return rejected.value.code, rejected.value.path


ROW = {"id": 1, "title": "one", "year": 1999, "draft": None, "embedding": [1.0, 2.5]}


@pytest.mark.parametrize("op", ["c", "u", "r"])
@pytest.mark.parametrize("schemas", [False, True])
def test_a_row_that_was_made_changed_or_read_is_a_whole_image(op: str, schemas: bool) -> None:
    value: dict[str, Any] = envelope(op, ROW)
    key: dict[str, Any] = {"id": 1}
    if schemas:
        value, key = wrapped(value), wrapped(key, "pg.public.articles.Key")
    assert decoded(value, key) == ChangeEvent(
        op=Op.UPSERT,
        key=Key("articles", 1),
        ts_ms=TS,
        vectors={"": f32(1, 2.5)},
        payload={"title": "one", "year": 1999, "draft": None},
    )


@pytest.mark.parametrize("schemas", [False, True])
def test_a_row_that_was_deleted_is_a_delete_and_so_is_the_null_that_follows(
    schemas: bool,
) -> None:
    before = {**dict.fromkeys(ROW), "id": 1}  # what a key's replica identity tells
    value: Any = envelope("d", None, before)
    key: Any = {"id": 1}
    if schemas:
        value, key = wrapped(value), wrapped(key, "pg.public.articles.Key")
    gone = ChangeEvent(op=Op.DELETE, key=Key("articles", 1), ts_ms=TS)
    assert decoded(value, key) == gone
    tombstone = decoder().decode(record(key, None))
    assert tombstone == ChangeEvent(op=Op.DELETE, key=Key("articles", 1), ts_ms=7)
    assert decoder().decode(record(key, b"null")) == tombstone
    assert decoder().decode(record(key, wrapped(None))) == tombstone


def test_a_null_value_is_of_the_table_that_its_key_tells() -> None:
    both = decoder(articles=ARTICLES, notes=NOTES)
    for table in ("articles", "notes"):
        event = both.decode(record(wrapped({"id": 5}, f"pg.public.{table}.Key"), None))
        assert event is not None
        assert event.key == Key(table, 5)
    assert both.decode(record(wrapped({"id": 5}, "pg.public.others.Key"), None)) is None
    with pytest.raises(Rejected, match="does not say of which table") as rejected:
        both.decode(record({"id": 5}, None))
    assert rejected.value.code == "key-invalid"
    pages = decoder(pages=PAGES)
    key = {"site": "a", "path": "/"}
    assert pages.decode(record(wrapped(key, "pg.archive.pages.Key"), None)) is None
    assert pages.decode(record(wrapped(key, "pg.public.pages.Key"), None)) is not None


def test_a_truncated_table_is_a_letter_with_or_without_a_key() -> None:
    value = envelope("t")
    del value["after"], value["before"]
    for key in (None, {"id": 1}):
        with pytest.raises(Rejected) as rejected:
            decoder().decode(record(key, value))
        assert (rejected.value.code, rejected.value.path) == ("table-truncated", "op")
    assert decoder().decode(record(None, envelope("t", table="others"))) is None


def test_tables_and_schemas_that_are_not_listed_are_left_alone() -> None:
    assert decoder().decode(record({"x": 1}, envelope("c", {"x": 1}, table="others"))) is None
    row = {"site": "a", "path": "/", "v": [1]}
    key = {"site": "a", "path": "/"}
    pages = decoder(pages=PAGES)
    away = envelope("c", row, table="pages", schema="archive")
    assert pages.decode(record(key, away)) is None
    mysql = envelope("c", row, table="pages", schema=None, db="public")
    assert pages.decode(record(key, mysql)) is not None
    assert decoder().decode(record({"prefix": "p"}, {**envelope("m"), "message": {}})) is None


@pytest.mark.parametrize(
    "given",
    [
        [1, 2.5],
        "[1,2.5]",
        "[1.0, 2.5]",
        b64encode(f32(1, 2.5)).decode(),
    ],
)
def test_a_vector_comes_as_an_array_as_text_or_as_base64(given: object) -> None:
    assert decoded(envelope("c", {**ROW, "embedding": given})).vectors == {"": f32(1, 2.5)}


def test_a_vector_that_is_null_or_no_column_of_the_row_is_none() -> None:
    event = decoded(envelope("c", {"id": 1, "embedding": None}))
    assert (event.op, event.vectors, event.payload) == (Op.UPSERT, {}, {})
    event = decoded(envelope("c", {"id": 1, "title_vector": [1]}))
    assert event.vectors == {"title": f32(1)}


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ("[1,", "field-invalid", "after.embedding"),
        ("@@@", "field-invalid", "after.embedding"),
        ("AAA=", "field-invalid", "after.embedding"),
        ("", "field-invalid", "after.embedding"),
        (7, "field-type", "after.embedding"),
        ([1, "x"], "field-type", "after.embedding[1]"),
        ({"dimensions": 3, "vector": {"1": 1.0}}, "field-type", "after.embedding"),
        ('["NaN"]', "field-type", "after.embedding[0]"),
        (b64encode(f32(1, float("nan"))).decode(), "vector-not-finite", "after.embedding"),
        ("[1e300]", "vector-not-finite", "after.embedding"),
    ],
)
def test_a_vector_that_is_none_is_rejected_with_its_path(
    given: object, code: str, path: str
) -> None:
    assert refused(envelope("u", {**ROW, "embedding": given})) == (code, path)


def test_the_payload_is_one_json_column_or_columns_of_the_row() -> None:
    key = {"site": "a/b", "path": "ü"}
    row = {**key, "v": [1], "meta": '{"lang": "en", "n": {"x": [1, null]}}', "other": 1}
    event = decoded(envelope("c", row, table="pages"), key, pages=PAGES)
    assert event.key == Key("pages", "a%2Fb/%C3%BC")
    assert event.payload == {"lang": "en", "n": {"x": [1, None]}}
    for nothing in ({**row, "meta": None}, {**key, "v": [1]}):
        event = decoded(envelope("c", nothing, table="pages"), key, pages=PAGES)
        assert event.payload == {}
    for wrong in ("[1]", "{", 7):
        code, path = refused(
            envelope("c", {**row, "meta": wrong}, table="pages"), key, pages=PAGES
        )
        assert path == "after.meta"
        assert code in ("field-type", "field-invalid")

    row = {"id": 1, "v": [1], "title": "[no json]", "tags": '["a"]', "secret": "x"}
    event = decoded(envelope("c", row, table="notes"), notes=NOTES)
    assert event.payload == {"title": "[no json]", "tags": ["a"]}


@pytest.mark.parametrize(
    "hole",
    [
        PLACEHOLDER,
        b64encode(PLACEHOLDER.encode()).decode(),
        [PLACEHOLDER],
        {PLACEHOLDER: PLACEHOLDER},
    ],
)
def test_what_an_update_did_not_touch_stays_as_it_is(hole: object) -> None:
    """Else a vector that the database keeps apart would be lost with every update."""
    event = decoded(envelope("u", {**ROW, "embedding": hole}))
    assert event == ChangeEvent(
        op=Op.PATCH,
        key=Key("articles", 1),
        ts_ms=TS,
        set={"title": "one", "year": 1999},
        unset=("draft",),
    )
    event = decoded(envelope("u", {**ROW, "title": hole, "title_vector": None}))
    assert (event.op, event.set, event.unset) == (Op.PATCH, {"year": 1999}, ("draft",))
    assert event.vectors == {"": f32(1, 2.5)}
    assert event.unset_vectors == ("title",)


def test_what_was_not_touched_is_told_by_the_row_before_where_that_is_whole() -> None:
    event = decoded(envelope("u", {**ROW, "embedding": PLACEHOLDER}, ROW))
    assert (event.op, event.vectors) == (Op.UPSERT, {"": f32(1, 2.5)})
    before = {**ROW, "embedding": PLACEHOLDER}
    assert decoded(envelope("u", before, before)).op is Op.PATCH
    before = {**dict.fromkeys(ROW), "id": 1}  # an identity that holds some columns only
    event = decoded(envelope("u", {**ROW, "embedding": PLACEHOLDER}, before))
    assert (event.op, event.unset_vectors) == (Op.PATCH, ())


def test_a_payload_that_is_whole_beside_a_vector_that_is_not_told_is_no_patch() -> None:
    """A patch could not say which fields the payload before had."""
    key = {"site": "a", "path": "/"}
    row: dict[str, Any] = {**key, "v": PLACEHOLDER, "meta": "{}"}
    assert refused(envelope("u", row, table="pages"), key, pages=PAGES) == (
        "row-incomplete",
        "after.v",
    )
    row = {**key, "v": [1], "meta": PLACEHOLDER}
    event = decoded(envelope("u", row, table="pages"), key, pages=PAGES)
    assert (event.op, event.vectors, event.set) == (Op.PATCH, {"": f32(1)}, {})
    row = {**key, "v": PLACEHOLDER, "meta": PLACEHOLDER}
    event = decoded(envelope("u", row, table="pages"), key, pages=PAGES)
    assert (event.op, event.vectors, event.set) == (Op.PATCH, {}, {})


def test_a_row_that_was_made_is_told_whole_or_rejected() -> None:
    row = {**ROW, "embedding": PLACEHOLDER}
    for op in ("c", "r"):
        assert refused(envelope(op, row)) == ("row-incomplete", "after.embedding")
    row = {"id": 1, "v": [1], "title": "x", "unread": PLACEHOLDER}
    assert decoded(envelope("u", row, table="notes"), notes=NOTES).op is Op.UPSERT


def test_ids_are_of_the_collections_type() -> None:
    uuid = "67E55044-10B1-426F-9247-BB680E5FE0C8"
    fitting: list[tuple[bool | None, int | str, int | str]] = [
        (True, 7, 7),
        (False, "seven", "seven"),
        (None, 7, 7),
        (None, uuid, uuid.lower()),
    ]
    for integer, given, expected in fitting:
        made = decoder({"articles": integer})
        event = made.decode(record({"id": given}, envelope("d", None, {"id": given})))
        assert event is not None
        assert event.key == Key("articles", expected)
    others: list[tuple[bool | None, object]] = [
        (True, "7"),
        (False, 7),
        (None, True),
        (None, 7.5),
        (None, None),
    ]
    for integer, other in others:
        made = decoder({"articles": integer})
        with pytest.raises(Rejected) as rejected:
            made.decode(record({"id": other}, envelope("d", None, {})))
        assert (rejected.value.code, rejected.value.path) == ("field-type", "id")


@pytest.mark.parametrize(
    ("key", "value", "code", "path"),
    [
        (b"x", envelope("c", ROW), "key-invalid", ""),
        (b"[]", envelope("c", ROW), "key-invalid", ""),
        ({"id": 2}, envelope("c", ROW), "key-mismatch", "id"),
        ({"no": 2}, envelope("c", {"title": ""}), "field-missing", "id"),
        ({"id": 1}, b"\x00\x00\x00\x00\x01avro", "value-malformed", ""),
        ({"id": 1}, b"[]", "value-malformed", ""),
        ({"id": 1}, {"id": 1, "title": "flattened"}, "field-missing", "op"),
        ({"id": 1}, {**envelope("c", ROW), "op": 7}, "field-type", "op"),
        ({"id": 1}, envelope("x", ROW), "field-invalid", "op"),
        ({"id": 1}, {**envelope("c", ROW), "source": None}, "field-missing", "source"),
        ({"id": 1}, envelope("c", ROW, table=None), "field-missing", "source.table"),
        ({"id": 1}, envelope("c", None), "field-missing", "after"),
        ({"id": 1}, {**envelope("c"), "after": "row"}, "field-type", "after"),
        ({"id": 1}, b'{"op": "c", "after": "' + bytes(1 << 16), "value-too-large", ""),
    ],
)
def test_what_is_no_envelope_is_rejected_with_code_and_path(
    key: object, value: object, code: str, path: str
) -> None:
    assert refused(value, key) == (code, path)


def test_a_row_without_a_key_is_rejected() -> None:
    with pytest.raises(Rejected, match=r"message\.key\.columns") as rejected:
        decoder().decode(record(None, envelope("c", ROW)))
    assert rejected.value.code == "key-missing"


def test_the_key_of_a_record_is_known_where_the_rest_of_it_is_not() -> None:
    made = decoder(articles=ARTICLES, notes=NOTES)
    bad = envelope("u", {**ROW, "embedding": "[1,"})
    assert made.key(record({"id": 1}, bad)) == Key("articles", 1)
    assert made.key(record({"id": 1}, envelope("d", None, {}, table="notes"))) == Key(
        "notes", 1
    )
    assert made.key(record(wrapped({"id": 1}, "pg.public.notes.Key"), None)) == Key("notes", 1)
    for nothing in (
        record(None, envelope("t")),
        record({"id": 1}, None),
        record({"id": 1}, b"{"),
        record(b"{", bad),
        record({"id": 1}, envelope("c", ROW, table="others")),
    ):
        assert made.key(nothing) is None
