"""Events that are rejected: the code, and the path of what is wrong."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from replicator.codecs.events import EventDecoder
from replicator.errors import Rejected
from replicator.model.position import Partition, Record

NAN = float("nan")
INF = float("inf")
F1 = struct.pack("<f", 1.0)
decoder = EventDecoder({"articles": False, "numbers": True}, value_bytes_max=1 << 16)


def rejected(value: bytes | None, key: bytes | None = b"articles/a") -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        decoder.decode(Record(Partition("t/0"), 0, key, value, 0))
    return caught.value.code, caught.value.path


def fields(**changes: Any) -> dict[str, Any]:
    base = {"v": 1, "op": "upsert", "collection": "articles", "id": "a", "ts": 1000}
    return {name: each for name, each in (base | changes).items() if each is not ...}


# `...` leaves the field out.
IN_BOTH_FORMATS: list[tuple[dict[str, Any], str, str]] = [
    ({"v": ...}, "field-missing", "v"),
    ({"v": 2}, "field-invalid", "v"),
    ({"v": "1"}, "field-type", "v"),
    ({"v": True}, "field-type", "v"),
    ({"op": ...}, "field-missing", "op"),
    ({"op": "insert"}, "field-invalid", "op"),
    ({"op": 1}, "field-type", "op"),
    ({"collection": ...}, "field-missing", "collection"),
    ({"collection": None}, "field-type", "collection"),
    ({"collection": "numbers"}, "key-mismatch", "collection"),
    ({"id": ...}, "field-missing", "id"),
    ({"id": 1.5}, "field-type", "id"),
    ({"id": None}, "field-type", "id"),
    ({"id": True}, "field-type", "id"),
    ({"id": 1}, "field-type", "id"),
    ({"id": "b"}, "key-mismatch", "id"),
    ({"id": ""}, "id-invalid", "id"),
    ({"id": "x" * 513}, "id-invalid", "id"),
    ({"ts": ...}, "field-missing", "ts"),
    ({"ts": "now"}, "field-type", "ts"),
    ({"ts": 1.5}, "field-type", "ts"),
    ({"ts": None}, "field-type", "ts"),
    ({"ts": -1}, "field-invalid", "ts"),
    ({"version": -1}, "field-invalid", "version"),
    ({"version": 1 << 53}, "field-invalid", "version"),
    ({"version": "3"}, "field-type", "version"),
    ({"epoch": 1.0}, "field-type", "epoch"),
    ({"writer": 5}, "field-type", "writer"),
    ({"traceparent": []}, "field-type", "traceparent"),
    ({"vectors": None}, "field-type", "vectors"),
    ({"vectors": [1.0]}, "field-type", "vectors"),
    ({"vectors": {"title": None}}, "field-type", "vectors.title"),
    ({"vectors": {"title": 1.0}}, "field-type", "vectors.title"),
    ({"vectors": {"title": []}}, "field-invalid", "vectors.title"),
    ({"vectors": {"": [1.0, "x"]}}, "field-type", 'vectors.""[1]'),
    ({"vectors": {"title": [1.0, True]}}, "field-type", "vectors.title[1]"),
    ({"vectors": {"title": [1.0, None]}}, "field-type", "vectors.title[1]"),
    ({"vectors": {"title": [[1.0]]}}, "field-type", "vectors.title[0]"),
    ({"vectors": {"title": [1e39]}}, "vector-not-finite", "vectors.title"),
    ({"vectors": {"title": [NAN]}}, "vector-not-finite", "vectors.title"),
    ({"vectors": {"title": [1.0, INF]}}, "vector-not-finite", "vectors.title"),
    ({"vectors": {"title": "AACAPw=="}}, "field-invalid", "vectors.title"),
    ({"vectors": {"title": "f32:AACAP"}}, "field-invalid", "vectors.title"),
    ({"vectors": {"title": "f32:ü"}}, "field-invalid", "vectors.title"),
    ({"vectors": {"title": "f32:AACA"}}, "field-invalid", "vectors.title"),
    ({"vectors": {"title": "f32:"}}, "field-invalid", "vectors.title"),
    ({"vectors": {"title": "f32:AADAfw=="}}, "vector-not-finite", "vectors.title"),
    ({"vectors": {"s": {}}}, "field-missing", "vectors.s.rows"),
    ({"vectors": {"s": {"indices": [1]}}}, "field-missing", "vectors.s.values"),
    ({"vectors": {"s": {"values": [1]}}}, "field-missing", "vectors.s.indices"),
    ({"vectors": {"s": {"indices": [1, 1], "values": [1, 2]}}}, "field-invalid",
     "vectors.s.indices"),
    ({"vectors": {"s": {"indices": [1], "values": [1, 2]}}}, "field-invalid", "vectors.s"),
    ({"vectors": {"s": {"indices": [-1], "values": [1]}}}, "field-invalid",
     "vectors.s.indices"),
    ({"vectors": {"s": {"indices": [1 << 32], "values": [1]}}}, "field-invalid",
     "vectors.s.indices"),
    ({"vectors": {"s": {"indices": [1.0], "values": [1]}}}, "field-type",
     "vectors.s.indices[0]"),
    ({"vectors": {"s": {"indices": 1, "values": [1]}}}, "field-type", "vectors.s.indices"),
    ({"vectors": {"s": {"indices": [1], "values": [NAN]}}}, "vector-not-finite", "vectors.s"),
    ({"vectors": {"s": {"indices": [1], "values": [1], "rows": 1}}}, "field-invalid",
     "vectors.s"),
    ({"vectors": {"m": {"rows": 2}}}, "field-missing", "vectors.m.data"),
    ({"vectors": {"m": {"rows": 0, "data": []}}}, "field-invalid", "vectors.m.rows"),
    ({"vectors": {"m": {"rows": "2", "data": []}}}, "field-type", "vectors.m.rows"),
    ({"vectors": {"m": {"rows": 2, "data": [1, 2, 3]}}}, "field-invalid", "vectors.m.data"),
    ({"vectors": {"m": {"rows": 2, "data": [[1], [2], [3]]}}}, "field-invalid",
     "vectors.m.data"),
    ({"vectors": {"m": {"rows": 2, "data": [[1], [2, 3]]}}}, "field-invalid",
     "vectors.m.data"),
    ({"vectors": {"m": {"rows": 2, "data": [[1], 2]}}}, "field-type", "vectors.m.data[1]"),
    ({"vectors": {"m": {"rows": 1, "data": []}}}, "field-invalid", "vectors.m.data"),
    ({"vectors": {"m": {"rows": 10**18, "data": [1]}}}, "field-invalid", "vectors.m.data"),
    ({"vectors": {"m": {"rows": 1, "data": [INF]}}}, "vector-not-finite", "vectors.m"),
    ({"payload": None}, "field-type", "payload"),
    ({"payload": []}, "field-type", "payload"),
    ({"payload": {"a": NAN}}, "payload-not-finite", "payload.a"),
    ({"payload": {"a": [0, {"b": -INF}]}}, "payload-not-finite", "payload.a[1].b"),
    ({"op": "patch", "set": {"a": INF}}, "payload-not-finite", "set.a"),
    ({"op": "patch", "set": [1]}, "field-type", "set"),
    ({"op": "patch", "unset": "a"}, "field-type", "unset"),
    ({"op": "patch", "unset": {"a": 1}}, "field-type", "unset"),
    ({"op": "patch", "unset": ["a", 1]}, "field-type", "unset[1]"),
    ({"op": "patch", "unset_vectors": [None]}, "field-type", "unset_vectors[0]"),
    ({"op": "patch", "set": {"a": 1}, "unset": ["b", "a"]}, "field-invalid", "unset.a"),
    ({"op": "patch", "vectors": {"v": [1.0]}, "unset_vectors": ["v"]}, "field-invalid",
     "unset_vectors.v"),
    ({"op": "patch", "payload": {"a": 1}}, "field-invalid", "payload"),
    ({"op": "upsert", "set": {"a": 1}}, "field-invalid", "set"),
    ({"op": "upsert", "unset": ["a"]}, "field-invalid", "unset"),
    ({"op": "delete", "unset_vectors": ["a"]}, "field-invalid", "unset_vectors"),
    ({"op": "delete", "vectors": {"v": [NAN]}}, "vector-not-finite", "vectors.v"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "path"), IN_BOTH_FORMATS)
def test_a_wrong_field_is_named_in_either_format(
    changes: dict[str, Any], code: str, path: str
) -> None:
    value = fields(**changes)

    assert rejected(msgspec.msgpack.encode(value)) == (code, path)
    assert rejected(json.dumps(value).encode()) == (code, path)


IN_MESSAGEPACK: list[tuple[dict[str, Any], str, str]] = [
    ({"vectors": {"t": b"123"}}, "field-invalid", "vectors.t"),
    ({"vectors": {"t": b""}}, "field-invalid", "vectors.t"),
    ({"vectors": {"t": struct.pack("<2f", 1, NAN)}}, "vector-not-finite", "vectors.t"),
    ({"vectors": {"t": struct.pack("<2f", -INF, 1)}}, "vector-not-finite", "vectors.t"),
    ({"vectors": {1: F1}}, "field-type", "vectors"),
    ({"vectors": {"s": {"indices": b"1", "values": F1}}}, "field-invalid",
     "vectors.s.indices"),
    ({"vectors": {"s": {"indices": F1, "values": b"1"}}}, "field-invalid", "vectors.s.values"),
    ({"vectors": {"s": {"indices": F1 + F1, "values": F1 + F1}}}, "field-invalid",
     "vectors.s.indices"),
    ({"vectors": {"s": {"indices": F1, "values": struct.pack("<f", NAN)}}},
     "vector-not-finite", "vectors.s"),
    ({"vectors": {"m": {"rows": 2, "data": F1}}}, "field-invalid", "vectors.m.data"),
    ({"vectors": {"m": {"rows": 1, "data": b"123"}}}, "field-invalid", "vectors.m.data"),
    ({"vectors": {"m": {"rows": 1, "data": struct.pack("<f", NAN)}}}, "vector-not-finite",
     "vectors.m"),
    ({"payload": {"a": b"bytes"}}, "field-type", "payload.a"),
    ({"payload": {"a": {1: 2}}}, "field-type", "payload.a"),
    ({"payload": {None: 2}}, "field-type", "payload"),
    ({"payload": {"a": [msgspec.msgpack.Ext(5, b"x")]}}, "field-type", "payload.a[0]"),
    ({"payload": {"a": datetime(2024, 1, 1, tzinfo=UTC)}}, "field-type", "payload.a"),
    ({"op": b"upsert"}, "field-type", "op"),
    ({"id": b"a"}, "field-type", "id"),
    ({"collection": b"articles"}, "field-type", "collection"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "path"), IN_MESSAGEPACK)
def test_a_wrong_field_of_messagepack_is_named(
    changes: dict[str, Any], code: str, path: str
) -> None:
    assert rejected(msgspec.msgpack.encode(fields(**changes))) == (code, path)


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ('{"payload": {"a": 18446744073709551616}}', "field-invalid", "payload.a"),
        ('{"payload": {"a": [1e400]}}', "payload-not-finite", "payload.a[0]"),
        ('{"payload": {"a": -9223372036854775809}}', "field-invalid", "payload.a"),
        ('{"vectors": {"t": [1e400]}}', "vector-not-finite", "vectors.t"),
        ('{"vectors": {"t": [' + "9" * 400 + "]}}", "vector-not-finite", "vectors.t"),
        ('{"ts": 18446744073709551616}', "field-invalid", "ts"),
    ],
)
def test_numbers_that_only_json_can_write_are_named(text: str, code: str, path: str) -> None:
    head = json.dumps(fields(**dict.fromkeys(json.loads(text), ...)))

    assert rejected(f"{head[:-1]}, {text[1:]}".encode()) == (code, path)


WHOLE = msgspec.msgpack.encode(fields(vectors={"": F1}))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        b"null",
        b"\xc0",
        b"[]",
        b"{",
        b"{}}",
        b'{"a":1} x',
        b"\xef\xbb{}",
        b"\xef\xbb\xbf",
        b'{"a": "\xff"}',
        json.dumps(fields(writer="\ud800")).encode(),
        json.dumps(fields(unknown=NAN)).encode(),
        b"\x81\xa1\xff\x01",
        b"\x81\xc1\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1a\xc6\xff\xff\xff\xff",
        WHOLE[:-1],
        WHOLE + b"\x00",
        json.dumps(fields()).encode()[:-1],
        b'{"a":' * 10_000,
        b"\x81\xa1a" * 10_000,
        b'{"a":' + b"1" * 5000 + b"}",
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_value_that_does_not_decode_is_malformed(value: bytes) -> None:
    assert rejected(value) == ("value-malformed", "")


def test_a_value_above_the_limit_is_not_read() -> None:
    at_limit = fields(payload={"a": ""})
    room = (1 << 16) - len(msgspec.msgpack.encode(at_limit)) - 2
    fits = msgspec.msgpack.encode(fields(payload={"a": "x" * room}))

    assert len(fits) == 1 << 16
    assert decoder.decode(Record(Partition("t/0"), 0, b"articles/a", fits, 0)) is not None
    assert rejected(b"\xc1" * ((1 << 16) + 1)) == ("value-too-large", "")


def test_nesting_has_an_end() -> None:
    nested: Any = 1
    for _ in range(31):
        nested = [nested]
    deepest = msgspec.msgpack.encode(fields(payload={"a": nested}))
    assert decoder.decode(Record(Partition("t/0"), 0, b"articles/a", deepest, 0)) is not None

    deeper = fields(payload={"a": [nested]})
    path = "payload.a" + "[0]" * 31
    assert rejected(msgspec.msgpack.encode(deeper)) == ("field-invalid", path)
    assert rejected(json.dumps(deeper).encode()) == ("field-invalid", path)


def test_the_key_is_looked_at_before_the_value() -> None:
    assert rejected(WHOLE, None) == ("key-missing", "")
    assert rejected(WHOLE, b"") == ("key-missing", "")
    assert rejected(WHOLE, b"articles") == ("key-invalid", "")
    assert rejected(WHOLE, b"articles/a b") == ("key-invalid", "")
    assert rejected(None, b"numbers/a") == ("key-invalid", "")
    assert rejected(None, b"numbers/007") == ("key-invalid", "")
    assert rejected(None, b"articles/" + b"x" * 513) == ("id-invalid", "id")
    assert rejected(WHOLE, b"unlisted") == ("key-invalid", "")


def test_a_value_of_another_record_is_a_mismatch() -> None:
    assert rejected(WHOLE, b"articles/b") == ("key-mismatch", "id")
    assert rejected(WHOLE, b"numbers/1") == ("key-mismatch", "collection")


def test_an_integer_collection_takes_no_string_of_digits() -> None:
    value = msgspec.msgpack.encode(fields(collection="numbers", id="1"))

    assert rejected(value, b"numbers/1") == ("field-type", "id")


def test_an_integer_is_no_id_of_texts_however_it_is_spelled() -> None:
    value = msgspec.msgpack.encode(fields(id=42))
    assert rejected(value, b"articles/42") == ("field-type", "id")
