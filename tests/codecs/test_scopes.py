"""Scopes in keys and events: an id is unique only within one, and every record says which."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.codecs.events import (
    EventDecoder,
    encode,
    encode_json,
    event_from_json_line,
)
from replicator.codecs.keys import decode_key, encode_key
from replicator.codecs.points import point_from_json, point_to_json
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Point, ScopedId
from replicator.model.position import Partition, Record
from replicator.model.scopes import Scopes
from tests.simulation.oracle import event_key

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
decoder = EventDecoder(
    {"tenants": True, "some": False, "plain": True},
    1 << 16,
    {"tenants": Scopes(), "some": Scopes(frozenset({"a", "ä/ ü"}))},
)
ONE = ScopedId("a", 5)


def record(key: bytes, value: dict[str, Any] | None, *, json: bool = False) -> Record:
    encoder = msgspec.json if json else msgspec.msgpack
    return Record(Partition("t/0"), 7, key, None if value is None else encoder.encode(value), 9)


def value(**fields: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "op": "upsert",
        "collection": "tenants",
        "scope": "a",
        "id": 5,
        "ts": 3,
        **fields,
    }


@given(collection=texts, scope=texts, point_id=st.integers(0, 1 << 63))
def test_a_key_holds_its_scope_and_spells_it_one_way(
    collection: str, scope: str, point_id: int
) -> None:
    key = Key(collection, ScopedId(scope, point_id))
    raw = encode_key(key)
    assert raw == event_key(collection, key.id), "as the contract has it"
    assert raw.count(b"/") == 2
    assert decode_key(raw, True, scoped=True) == key
    assert decode_key(raw, None, scoped=None) == key


def test_the_scope_is_percent_encoded_and_in_no_other_way() -> None:
    assert encode_key(Key("c", ScopedId("ä/ ü", 5))) == b"c/%C3%A4%2F%20%C3%BC/5"
    for raw in (b"c/%c3%a4/5", b"c/%61/5", "c/ä/5".encode()):
        with pytest.raises(Rejected) as caught:
            decode_key(raw, True, scoped=True)
        assert caught.value.code == "key-invalid"


@pytest.mark.parametrize(
    ("raw", "scoped", "code"),
    [
        (b"c/5", True, "scope-missing"),
        (b"c//5", True, "scope-missing"),
        (b"c/a/5", False, "scope-unexpected"),
        (b"c//5", False, "scope-unexpected"),
        (b"c/a/b/5", True, "key-invalid"),
    ],
)
def test_a_key_that_says_too_much_or_too_little_is_rejected(
    raw: bytes, scoped: bool, code: str
) -> None:
    with pytest.raises(Rejected) as caught:
        decode_key(raw, True, scoped=scoped)
    assert caught.value.code == code


@pytest.mark.parametrize("json", [False, True])
def test_an_event_is_of_the_point_in_its_scope(json: bool) -> None:
    event = decoder.decode(record(b"tenants/a/5", value(), json=json))
    assert event is not None
    assert event.key == Key("tenants", ONE)
    assert event.unknown == ()


@pytest.mark.parametrize("op", list(Op))
@pytest.mark.parametrize("encoder", [encode, encode_json])
def test_what_is_encoded_is_read_back(op: Op, encoder: Any) -> None:
    sent = ChangeEvent(op=op, key=Key("some", ScopedId("ä/ ü", "x y")), ts_ms=4)
    raw, body = encoder(sent)
    assert decoder.decode(Record(Partition("t/0"), 1, raw, body, 0)) == sent


@pytest.mark.parametrize("json", [False, True])
@pytest.mark.parametrize(
    ("key", "fields", "code"),
    [
        (b"tenants/a/5", {"scope": None}, "scope-missing"),
        (b"tenants/a/5", {"scope": ""}, "scope-missing"),
        (b"tenants/a/5", {"scope": "b"}, "key-mismatch"),
        (b"tenants/a/5", {"scope": 5}, "field-type"),
        (b"tenants/5", {}, "scope-missing"),
        (b"plain/5", {"collection": "plain"}, "scope-unexpected"),
        (b"plain/a/5", {"collection": "plain"}, "scope-unexpected"),
    ],
)
def test_key_and_value_say_one_scope_where_there_are_scopes_and_nowhere_else(
    key: bytes, fields: dict[str, Any], code: str, json: bool
) -> None:
    with pytest.raises(Rejected) as caught:
        decoder.decode(record(key, value(**fields), json=json))
    assert caught.value.code == code
    assert caught.value.path in ("scope", "")


def test_a_null_value_deletes_the_point_of_its_scope_alone() -> None:
    event = decoder.decode(record(b"tenants/a/5", None))
    assert event is not None
    assert (event.op, event.key) == (Op.DELETE, Key("tenants", ONE))
    with pytest.raises(Rejected):
        decoder.decode(record(b"tenants/5", None))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"tenants/a/5", Key("tenants", ONE)),
        (b"tenants/5", None),
        (b"plain/5", Key("plain", 5)),
        (b"plain/a/5", None),
    ],
)
def test_of_a_broken_event_the_key_is_told_with_its_scope(
    raw: bytes, expected: Key | None
) -> None:
    assert decoder.key(record(raw, {"nonsense": 1})) == expected


def test_a_scope_that_is_not_listed_is_another_migrations() -> None:
    ours, theirs = b"some/a/x", b"some/b/x"
    fields = value(collection="some", id="x")
    assert decoder.decode(record(ours, fields)) is not None
    assert decoder.decode(record(ours, None)) is not None
    assert decoder.decode(record(theirs, {**fields, "scope": "b"})) is None
    assert decoder.decode(record(theirs, None)) is None
    assert decoder.decode(record(theirs, {"nonsense": 1})) is None


@pytest.mark.parametrize("key", [b"elsewhere/5", b"elsewhere/a/5"])
def test_of_a_collection_that_is_not_listed_nobody_asks_whether_it_has_scopes(
    key: bytes,
) -> None:
    assert decoder.decode(record(key, value(collection="elsewhere"))) is None


def test_an_event_by_hand_says_its_scope_in_the_contracts_word() -> None:
    line = '{"op": "delete", "collection": "c", "scope": "a", "id": 5}'
    assert event_from_json_line(line, now_ms=1).key == Key("c", ONE)
    with pytest.raises(Rejected, match="'scope' is the nearest"):
        event_from_json_line(line.replace("scope", "tenant"), now_ms=1)


@given(scope=texts, point_id=st.integers(0, 9) | texts)
def test_a_line_of_a_point_keeps_its_scope(scope: str, point_id: int | str) -> None:
    point = Point(ScopedId(scope, point_id), {}, {"scope": "the application's own"})
    if len(str(point_id)) != 36:
        assert point_from_json(point_to_json(point)) == point
