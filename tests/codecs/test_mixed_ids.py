"""A collection whose ids are integers and UUIDs side by side, as Qdrant's are."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
import pytest

from replicator.codecs.events import EventDecoder, encode, encode_json
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import PointId
from replicator.model.position import Partition, Record

NAME = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"

decoder = EventDecoder({"points": None}, value_bytes_max=1 << 16)


def record(key: bytes, value: bytes | None) -> Record:
    return Record(Partition("t/0"), 0, key, value, 5)


@pytest.mark.parametrize("point_id", [0, 7, (1 << 64) - 1, NAME])
def test_each_reads_back_as_what_it_is(point_id: PointId) -> None:
    event = ChangeEvent(op=Op.UPSERT, key=Key("points", point_id), ts_ms=1)
    assert decoder.decode(record(*encode(event))) == event
    assert decoder.decode(record(*encode_json(event))) == event


@pytest.mark.parametrize(
    ("raw", "point_id"), [(b"points/7", 7), (b"points/" + NAME.encode(), NAME)]
)
def test_a_null_value_deletes_the_one_that_its_key_spells(
    raw: bytes, point_id: PointId
) -> None:
    event = decoder.decode(record(raw, None))
    assert event is not None
    assert (event.op, event.key.id) == (Op.DELETE, point_id)


def test_digits_as_a_text_are_not_the_integer_that_the_key_spells() -> None:
    value = {"v": 1, "op": "upsert", "collection": "points", "id": "7", "ts": 1}
    with pytest.raises(Rejected) as caught:
        decoder.decode(record(b"points/7", msgspec.msgpack.encode(value)))
    assert (caught.value.code, caught.value.path) == ("field-type", "id")


SPELLINGS = [
    NAME.upper(),
    NAME.replace("-", ""),
    NAME.replace("-", "").upper(),
    "{" + NAME + "}",
    "urn:uuid:" + NAME,
    "URN:UUID:" + NAME.upper(),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("in_value", [NAME, *SPELLINGS[::2]])
def test_every_spelling_of_a_uuid_is_one_id_in_key_and_value(
    spelling: str, in_value: str
) -> None:
    key = f"points/{quote(spelling, safe='')}".encode()
    fields = {"v": 1, "op": "upsert", "collection": "points", "id": in_value, "ts": 1}
    for value in (msgspec.msgpack.encode(fields), msgspec.json.encode(fields), None):
        event = decoder.decode(record(key, value))
        assert event is not None
        assert event.key == Key("points", NAME)


@pytest.mark.parametrize("text", SPELLINGS[1:])
def test_where_ids_are_texts_of_any_kind_another_spelling_is_another_id(text: str) -> None:
    texts = EventDecoder({"points": False}, value_bytes_max=1 << 16)
    event = texts.decode(record(f"points/{quote(text, safe='')}".encode(), None))
    assert event is not None
    assert event.key.id == text


@pytest.mark.parametrize(
    "text", [NAME[:-1], NAME + "0", "{" + NAME, NAME.replace("-", "", 1), "urn:uuid:", "g" * 32]
)
def test_what_is_no_uuid_stays_as_it_is(text: str) -> None:
    event = decoder.decode(record(f"points/{quote(text, safe='')}".encode(), None))
    assert event is not None
    assert event.key.id == text
