"""Events that are accepted: every form that the contract allows."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from replicator.codecs.events import EventDecoder, encode, encode_json, event_from_json_line
from replicator.codecs.vectors import vector_to_json
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import MultiVector, SparseVector
from replicator.model.position import Partition, Record

UUID = "550e8400-e29b-41d4-a716-446655440000"
DENSE = struct.pack("<3f", 0.1, -2.0, 3.5)
decoder = EventDecoder({"articles": False, "numbers": True}, value_bytes_max=1 << 20)


def record(key: bytes | None, value: bytes | None, at_ms: int = 1234) -> Record:
    return Record(Partition("t/0"), 5, key, value, at_ms)


def value(**fields: Any) -> dict[str, Any]:
    base = {"v": 1, "op": "upsert", "collection": "articles", "id": "a", "ts": 1000}
    return {name: each for name, each in (base | fields).items() if each is not ...}


def both(key: bytes = b"articles/a", **fields: Any) -> ChangeEvent:
    """Decode from MessagePack and from JSON, where the fields have a JSON form; both agree."""
    plain = value(**fields)
    event = decoder.decode(record(key, msgspec.msgpack.encode(plain)))
    assert event is not None
    assert decoder.decode(record(key, json.dumps(plain).encode())) == event
    return event


def test_a_full_image_keeps_its_vector_as_bytes() -> None:
    packed = msgspec.msgpack.encode(value(vectors={"": DENSE}, payload={"n": 1}, version=3))

    event = decoder.decode(record(b"articles/a", packed))

    assert event == ChangeEvent(
        op=Op.UPSERT,
        key=Key("articles", "a"),
        ts_ms=1000,
        vectors={"": DENSE},
        payload={"n": 1},
        version=3,
    )


def test_a_json_array_becomes_the_same_bytes() -> None:
    assert both(vectors={"title": [0.1, -2, 3.5]}).vectors == {"title": DENSE}


def test_base64_text_becomes_the_same_bytes() -> None:
    assert both(vectors={"title": vector_to_json(DENSE)}).vectors == {"title": DENSE}


def test_sparse_arrays_are_put_in_ascending_order() -> None:
    event = both(vectors={"s": {"indices": [7, 2, 4294967295], "values": [0.5, 1.5, 2]}})

    assert event.vectors["s"] == SparseVector(
        struct.pack("<3I", 2, 7, 4294967295), struct.pack("<3f", 1.5, 0.5, 2.0)
    )


def test_sparse_bytes_pass_as_they_are_and_unsorted_ones_are_sorted() -> None:
    ascending = {"indices": struct.pack("<2I", 2, 7), "values": struct.pack("<2f", 1.5, 0.5)}
    descending = {"indices": struct.pack("<2I", 7, 2), "values": struct.pack("<2f", 0.5, 1.5)}
    mixed = {"indices": [7, 2], "values": struct.pack("<2f", 0.5, 1.5)}

    for form in (ascending, descending, mixed):
        packed = msgspec.msgpack.encode(value(vectors={"s": form}))
        event = decoder.decode(record(b"articles/a", packed))
        assert event is not None
        assert event.vectors["s"] == SparseVector(**ascending)


def test_an_empty_sparse_vector_is_one() -> None:
    event = both(vectors={"s": {"indices": [], "values": []}})

    assert event.vectors["s"] == SparseVector(b"", b"")


def test_multi_vectors_come_as_bytes_rows_or_one_array() -> None:
    data = struct.pack("<4f", 1, 2, 3, 4)

    assert both(vectors={"m": {"rows": 2, "data": [[1, 2], [3, 4]]}}).vectors["m"] == (
        MultiVector(2, data)
    )
    assert both(vectors={"m": {"rows": 2, "data": [1, 2, 3, 4]}}).vectors["m"] == (
        MultiVector(2, data)
    )
    packed = msgspec.msgpack.encode(value(vectors={"m": {"rows": 2, "data": data}}))
    event = decoder.decode(record(b"articles/a", packed))
    assert event is not None
    assert event.vectors["m"] == MultiVector(2, data)


def test_a_patch_carries_what_to_set_and_what_to_remove() -> None:
    event = both(
        op="patch",
        set={"a": [1, {"b": None}]},
        unset=["c"],
        unset_vectors=["old"],
        vectors={"new": [1.0]},
    )

    assert (event.op, event.set, event.unset) == (Op.PATCH, {"a": [1, {"b": None}]}, ("c",))
    assert (event.unset_vectors, event.vectors) == (("old",), {"new": struct.pack("<f", 1)})


def test_a_delete_with_a_value_carries_nothing_else() -> None:
    event = both(op="delete", payload={"left": "over"})

    assert event == ChangeEvent(op=Op.DELETE, key=Key("articles", "a"), ts_ms=1000)


def test_a_null_value_is_a_delete_at_the_time_of_the_log() -> None:
    event = decoder.decode(record(b"numbers/42", None))

    assert event == ChangeEvent(op=Op.DELETE, key=Key("numbers", 42), ts_ms=1234)


def test_the_type_of_ids_is_the_collections() -> None:
    assert both(b"numbers/42", collection="numbers", id=42).key == Key("numbers", 42)
    assert both(b"articles/42", id="42").key == Key("articles", "42")


def test_an_upper_case_uuid_in_key_or_value_is_one_point() -> None:
    for spelt in (UUID, UUID.upper()):
        for other in (UUID, UUID.upper()):
            event = both(f"articles/{spelt}".encode(), id=other)
            assert event.key == Key("articles", UUID)


def test_an_escaped_key_matches_the_plain_id_of_the_value() -> None:
    assert both(b"articles/%C3%BC%2F1", id="ü/1").key == Key("articles", "ü/1")


@pytest.mark.parametrize("encoder", [msgspec.msgpack.encode, msgspec.json.encode])
def test_unknown_fields_are_told_by_name_and_change_nothing(
    encoder: Callable[[Any], bytes],
) -> None:
    fields = {"v": 1, "op": "upsert", "collection": "articles", "id": "x", "ts": 1}
    vectors = {"vectors": {}, "vector": [1.0], "source": {"a": [1]}}
    event = decoder.decode(record(b"articles/x", encoder(fields | vectors)))
    assert event is not None
    assert event.unknown == ("source", "vector")
    event.unknown = ()
    assert decoder.decode(record(b"articles/x", encoder(fields))) == event


def test_of_many_or_long_unknown_names_a_bounded_part_is_told() -> None:
    fields = {"v": 1, "op": "upsert", "collection": "articles", "id": "x", "ts": 1}
    many = {f"{number:04}" + "x" * 1000: 1 for number in range(500)}
    event = decoder.decode(record(b"articles/x", msgspec.msgpack.encode(fields | many)))
    assert event is not None
    assert len(event.unknown) == 20
    assert max(map(len, event.unknown)) == 60


def test_a_byte_order_mark_says_nothing() -> None:
    fields = {"v": 1, "op": "upsert", "collection": "articles", "id": "x"}
    marked = b"\xef\xbb\xbf" + json.dumps(fields | {"ts": 1}).encode()
    assert decoder.decode(record(b"articles/x", marked)) is not None
    line = b"\xef\xbb\xbf" + json.dumps(fields).encode()
    assert event_from_json_line(line, now_ms=7).ts_ms == 7


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vector", "vectors"),
        ("Vectors", "vectors"),
        ("embedding", "vectors"),
        ("metadata", "payload"),
        ("unset_vector", "unset_vectors"),
        ("zzzz", None),
    ],
)
def test_a_line_with_an_unknown_field_is_refused_and_the_nearest_right_one_named(
    name: str, meant: str | None
) -> None:
    line = json.dumps({"op": "upsert", "collection": "articles", "id": "x", name: {}})
    with pytest.raises(Rejected) as caught:
        event_from_json_line(line, now_ms=1)
    assert (caught.value.code, caught.value.path) == ("field-unknown", name)
    assert ("nearest" in caught.value.message) is (meant is not None)
    assert meant is None or repr(meant) in caught.value.message


def test_unknown_fields_send_nothing_astray() -> None:
    assert both(colour="red", nested={"a": [1]}).payload == {}


def test_optional_fields_may_be_null_and_are_kept_otherwise() -> None:
    empty = both(version=None, epoch=None, writer=None, traceparent=None)
    assert (empty.version, empty.epoch, empty.writer, empty.traceparent) == (None,) * 4

    full = both(version=(1 << 53) - 1, epoch=2, writer="api-3", traceparent="00-ab-cd-01")
    assert (full.version, full.epoch, full.writer) == ((1 << 53) - 1, 2, "api-3")
    assert full.traceparent == "00-ab-cd-01"


def test_a_payload_of_any_json_value_arrives_unchanged() -> None:
    payload = {
        "deep": {"a": [{"b": [{"c": [{"d": [[1, [2]]]}]}]}]},
        "large": (1 << 64) - 1,
        "small": -(1 << 63),
        "integral": 5.0,
        "tiny": 5e-324,
        "text": "ü\u0000😀",
        "none": None,
        "yes": True,
    }

    decoded = both(payload=payload).payload

    assert decoded == payload
    assert type(decoded["integral"]) is float
    assert type(decoded["yes"]) is bool


def test_numbers_keep_their_type() -> None:
    payload = {"float": 5.0, "int": 5, "list": [1.0, 1, True], "map": {"f": -0.0, "i": 0}}

    assert repr(both(payload=payload).payload) == repr(payload)


def test_white_space_before_json_is_json() -> None:
    plain = b" \r\n\t" + json.dumps(value()).encode()

    assert decoder.decode(record(b"articles/a", plain)) is not None


def test_a_collection_that_is_not_listed_is_ignored_whatever_its_value() -> None:
    for raw in (None, b"", b"garbage", b"x" * (2 << 20)):
        assert decoder.decode(record(b"others/1", raw)) is None


def test_listed_collections_may_need_escapes_in_the_key() -> None:
    spaced = EventDecoder({"my docs/ü": False}, 1 << 20)
    event = ChangeEvent(op=Op.UPSERT, key=Key("my docs/ü", "1"), ts_ms=1)

    assert spaced.decode(record(*encode(event))) == event


def test_finite_numbers_whose_squares_overflow_are_accepted() -> None:
    huge = np.full(64, 3e38, "<f4").tobytes()
    packed = msgspec.msgpack.encode(value(vectors={"": huge}))

    event = decoder.decode(record(b"articles/a", packed))

    assert event is not None
    assert event.vectors == {"": huge}


def test_an_encoded_delete_has_a_value_because_compaction_removes_null_values() -> None:
    event = ChangeEvent(op=Op.DELETE, key=Key("articles", "a"), ts_ms=1)

    for encoded in (encode(event), encode_json(event)):
        assert encoded[1]
        assert decoder.decode(record(*encoded)) == event


def test_what_cannot_be_encoded_is_rejected() -> None:
    for payload in ({"n": 1 << 64}, {"o": object()}, {"s": "\ud800"}, {"n": float("nan")}):
        event = ChangeEvent(op=Op.UPSERT, key=Key("c", 1), ts_ms=1, payload=payload)
        for write in (encode, encode_json):
            with pytest.raises(Rejected):
                write(event)


def test_a_line_for_emit_may_leave_out_version_and_time() -> None:
    line = '{"op": "patch", "collection": "c", "id": 7, "set": {"a": 1}}'

    event = event_from_json_line(line, now_ms=99)

    assert event == ChangeEvent(op=Op.PATCH, key=Key("c", 7), ts_ms=99, set={"a": 1})
    assert event_from_json_line(line.replace("{", '{"ts": 5, ', 1), now_ms=99).ts_ms == 5


@pytest.mark.parametrize("line", ["", "[]", "null", '{"op": "delete"}', '{"id": 1}', "{"])
def test_a_line_that_is_no_event_is_rejected(line: str) -> None:
    with pytest.raises(Rejected):
        event_from_json_line(line, now_ms=1)
