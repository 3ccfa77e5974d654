"""
Messages as Airbyte writes them: of its protocol, as its PostgreSQL source emits them in CDC
mode, and as its Kafka destination wraps them.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from replicator.codecs.airbyte import AirbyteDecoder
from replicator.codecs.captured import Table
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition, Record

PLACEHOLDER = "__debezium_unavailable_value"
ARTICLES = Table(key=("id",), vectors={"embedding": ""}, schema="public")
BARE = Table(key=("id",), vectors={"embedding": ""})
"""The Kafka destination does not say of which schema a stream is."""
PAGES = Table(key=("site", "path"), vectors={"v": ""}, payload="meta")
EMITTED = 1_764_200_009_999
UPDATED = 1_764_200_000_123
CDC = {
    "_ab_cdc_lsn": 25_478_912,
    "_ab_cdc_updated_at": "2025-11-26T23:33:20.123Z",
    "_ab_cdc_deleted_at": None,
}
ROW = {"id": 1, "title": "one", "year": 1999, "draft": None, "embedding": "[1,2.5]", **CDC}
DELETED = {
    **dict.fromkeys(ROW),
    **CDC,
    "id": 1,
    "_ab_cdc_deleted_at": "2025-11-26T23:33:20.123Z",
}


def f32(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def message(data: object, stream: str = "articles", **more: Any) -> dict[str, Any]:
    record = {"namespace": "public", "stream": stream, "data": data, "emitted_at": EMITTED}
    return {"type": "RECORD", "record": {**record, **more}}


def wrapped(data: object, stream: str = "articles") -> dict[str, Any]:
    return {
        "_airbyte_ab_id": "f7b5d3a0-0d1c-4e6b-9b1e-6a8f3c7d2e11",
        "_airbyte_stream": stream,
        "_airbyte_emitted_at": EMITTED,
        "_airbyte_data": data,
    }


def record(value: object, at_ms: int = 7) -> Record:
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    # What the Kafka destination gives: a key that no two records share.
    key = b"f7b5d3a0-0d1c-4e6b-9b1e-6a8f3c7d2e11"
    return Record(Partition("public.articles/0"), 3, key, raw, at_ms)


def decoder(**tables: Table) -> AirbyteDecoder:
    listed = tables or {"articles": ARTICLES}
    return AirbyteDecoder(listed, dict.fromkeys(listed), 1 << 16, PLACEHOLDER)


def decoded(value: object, **tables: Table) -> ChangeEvent:
    event = decoder(**tables).decode(record(value))
    assert event is not None
    return event


def refused(value: object, **tables: Table) -> tuple[str, str]:
    with pytest.raises(Rejected) as rejected:
        decoder(**tables).decode(record(value))
    return rejected.value.code, rejected.value.path


FORMS = pytest.mark.parametrize(
    ("made", "table"), [(message, ARTICLES), (wrapped, BARE)], ids=["protocol", "kafka"]
)


@FORMS
def test_a_row_is_a_whole_image_without_what_airbyte_adds(made: Any, table: Table) -> None:
    assert decoded(made(ROW), articles=table) == ChangeEvent(
        op=Op.UPSERT,
        key=Key("articles", 1),
        ts_ms=UPDATED,
        vectors={"": f32(1, 2.5)},
        payload={"title": "one", "year": 1999, "draft": None},
    )


@FORMS
def test_a_row_with_a_time_of_its_deletion_is_a_delete(made: Any, table: Table) -> None:
    gone = ChangeEvent(op=Op.DELETE, key=Key("articles", 1), ts_ms=UPDATED)
    for told in (DELETED, {"id": 1, **CDC, "_ab_cdc_deleted_at": 1234}):
        assert decoded(made(told), articles=table) == gone


def test_a_row_that_was_read_before_any_change_says_when_it_was_emitted() -> None:
    """As of a snapshot, and of a sync without change data capture."""
    nothing = dict.fromkeys(CDC)
    event = decoded(message({**ROW, **nothing}))
    assert (event.op, event.ts_ms) == (Op.UPSERT, EMITTED)
    assert decoded(message({"id": 1})).ts_ms == EMITTED
    assert decoded(message({"id": 1, "_ab_cdc_updated_at": "yesterday"})).ts_ms == EMITTED
    assert decoded(message({"id": 1}, emitted_at=None)).ts_ms == 7
    naive = {"id": 1, "_ab_cdc_updated_at": "1970-01-01T00:00:10"}
    assert decoded(message(naive)).ts_ms == 10_000


@pytest.mark.parametrize(
    "told",
    [
        {"type": "STATE", "state": {"type": "GLOBAL", "global": {"shared_state": {}}}},
        {"type": "STATE", "state": {"type": "STREAM", "stream": {"stream_state": {"lsn": 7}}}},
        {"type": "LOG", "log": {"level": "INFO", "message": "id 1"}},
        {"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": 1}},
        {"type": "CONTROL", "control": {"type": "CONNECTOR_CONFIG"}},
        {"type": "SPEC", "spec": {}},
        {"type": "CATALOG", "catalog": {"streams": []}},
        {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}},
        {"type": "DESTINATION_CATALOG", "destination_catalog": {}},
    ],
    ids=lambda told: str(told["type"]),
)
def test_messages_without_rows_go_by(told: dict[str, Any]) -> None:
    assert decoder().decode(record(told)) is None
    assert decoder().key(record(told)) is None


def test_streams_and_namespaces_that_are_not_listed_are_left_alone() -> None:
    assert decoder().decode(record(message({"x": 1}, "others"))) is None
    assert decoder().decode(record(wrapped({"x": 1}, "others"))) is None
    assert decoder().decode(record(message(ROW, namespace="archive"))) is None
    anywhere = decoded(message(ROW, namespace="archive"), articles=BARE)
    assert anywhere.key == Key("articles", 1)
    assert refused(wrapped(ROW)) == ("field-missing", "record.namespace")
    assert refused(message(ROW, namespace=None)) == ("field-missing", "record.namespace")


@pytest.mark.parametrize("hole", [PLACEHOLDER, "java.lang.Object@2c5e36a7"])
def test_what_an_update_did_not_touch_stays_as_it_is(hole: str) -> None:
    """Else a vector that the database keeps apart would be lost with every update."""
    assert decoded(message({**ROW, "embedding": hole})) == ChangeEvent(
        op=Op.PATCH,
        key=Key("articles", 1),
        ts_ms=UPDATED,
        set={"title": "one", "year": 1999},
        unset=("draft",),
    )
    event = decoded(message({**ROW, "title": hole}))
    assert (event.op, event.set, event.unset) == (Op.PATCH, {"year": 1999}, ("draft",))
    said = "a java.lang.Object@2c5e36a7 that a person wrote of"
    assert decoded(message({**ROW, "title": said})).payload["title"] == said


def test_a_payload_that_is_whole_beside_a_vector_that_is_not_told_is_no_patch() -> None:
    row = {"site": "a", "path": "/", "v": PLACEHOLDER, "meta": '{"lang": "en"}'}
    assert refused(message(row, "pages"), pages=PAGES) == ("row-incomplete", "record.data.v")
    event = decoded(message({**row, "v": "[1]"}, "pages"), pages=PAGES)
    assert (event.key, event.payload) == (Key("pages", "a/%2F"), {"lang": "en"})


@pytest.mark.parametrize("change", ["NULLED", "TRUNCATED"])
def test_a_row_that_airbyte_changed_on_the_way_is_rejected(change: str) -> None:
    def meta(field: object) -> dict[str, Any]:
        reason = "SOURCE_RETRIEVAL_ERROR"
        return {"changes": [{"field": field, "change": change, "reason": reason}]}

    for field in ("title", "embedding", "id"):
        assert refused(message(ROW, meta=meta(field))) == (
            "row-incomplete",
            "record.meta.changes",
        )
    assert refused(message(DELETED, meta=meta("id")))[0] == "row-incomplete"
    assert decoded(message(DELETED, meta=meta("title"))).op is Op.DELETE
    unread = Table(key=("id",), vectors={"embedding": ""}, fields=("year",))
    event = decoded(message(ROW, meta=meta("title")), articles=unread)
    assert event.payload == {"year": 1999}
    assert decoded(message(ROW, meta={"changes": []})).op is Op.UPSERT
    for wrong in ({"changes": {"title": 1}}, meta(7), {"changes": ["title"]}):
        assert refused(message(ROW, meta=wrong)) == ("field-type", "record.meta.changes")


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        (None, "value-malformed", ""),
        (b"null", "value-malformed", ""),
        (b"[]", "value-malformed", ""),
        (b"{", "value-malformed", ""),
        ({"record": {}}, "field-missing", "type"),
        ({"type": 7}, "field-type", "type"),
        ({"type": "RECORDS"}, "field-invalid", "type"),
        ({"type": "RECORD"}, "field-missing", "record"),
        ({"type": "RECORD", "record": {"data": {}}}, "field-missing", "record.stream"),
        (message(None), "field-missing", "data"),
        (message([1]), "field-type", "data"),
        (message({"title": "x"}), "field-missing", "id"),
        (message({"id": 1.5}), "field-type", "id"),
        (message({**ROW, "embedding": "[1,"}), "field-invalid", "record.data.embedding"),
        (message({**ROW, "embedding": 7}), "field-type", "record.data.embedding"),
        (message(ROW, meta=7), "field-type", "meta"),
        ({"_airbyte_data": {"id": 1}}, "field-missing", "_airbyte_stream"),
        (b'{"type": "RECORD", "x": "' + bytes(1 << 16), "value-too-large", ""),
    ],
)
def test_what_is_no_message_is_rejected_with_code_and_path(
    value: object, code: str, path: str
) -> None:
    assert refused(value) == (code, path)


def test_the_key_is_known_where_the_rest_of_a_row_is_not() -> None:
    bad = {**ROW, "embedding": "[1,"}
    assert decoder().key(record(message(bad))) == Key("articles", 1)
    assert decoder(articles=BARE).key(record(wrapped(DELETED))) == Key("articles", 1)
    for nothing in (None, b"{", message({"title": "x"}), message(ROW, "others")):
        assert decoder().key(record(nothing)) is None
