"""A collection whose ids are integers and UUIDs side by side, as Qdrant's are."""

from __future__ import annotations

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
