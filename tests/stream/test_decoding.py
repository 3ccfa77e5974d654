from __future__ import annotations

import json

import msgspec
import pytest

from replicator.codecs.airbyte import AirbyteDecoder
from replicator.codecs.debezium import DebeziumDecoder
from replicator.codecs.events import EventDecoder
from replicator.codecs.partition import crc32_partition, murmur2_partition
from replicator.errors import Rejected
from replicator.model.epoch import Epochs
from replicator.model.event import ChangeEvent, Key
from replicator.model.phase import Direction
from replicator.model.position import Partition, Record
from replicator.settings.feeds import ChangelogSettings, KafkaSettings, TableSettings
from replicator.settings.units import Size
from replicator.stream.decoding import LeftBehind, make_decoder, whose_events
from replicator.stream.intake import Intake
from tests.stream.rig import Rig, virtual

BOOKS = TableSettings(collection="books", key=["number"], vectors={"embedding": "v"})
CAPTURE = KafkaSettings(
    bootstrap_servers="b:9092", topic="pg.public.books", decoder="debezium", tables=[BOOKS]
)


def envelope(op: str, number: int, **row: object) -> bytes:
    source = {"ts_ms": 5, "schema": "public", "table": "books"}
    after = {"number": number, **row} if op != "d" else None
    return json.dumps({"op": op, "source": source, "before": None, "after": after}).encode()


def record(partition: str, key: bytes | None, value: bytes | None) -> Record:
    return Record(Partition(partition), 0, key, value, 1)


def test_the_settings_name_the_decoder() -> None:
    integers = {"books": True}
    for ours in (
        KafkaSettings(bootstrap_servers="b:1", topic="t"),
        ChangelogSettings(path="p"),
    ):
        assert isinstance(make_decoder(ours, integers, Direction.REVERSE), EventDecoder)
        assert whose_events(ours) == []
    assert isinstance(make_decoder(CAPTURE, integers, Direction.FORWARD), DebeziumDecoder)
    airbyte = msgspec.structs.replace(CAPTURE, decoder="airbyte")
    assert isinstance(make_decoder(airbyte, integers, Direction.FORWARD), AirbyteDecoder)
    assert isinstance(make_decoder(airbyte, integers, Direction.REVERSE), LeftBehind)
    assert whose_events(airbyte) == whose_events(CAPTURE)
    assert whose_events(CAPTURE) != []


def test_the_column_map_and_the_limits_are_those_of_the_settings() -> None:
    feed = ChangelogSettings(
        path="p",
        decoder="debezium",
        event_bytes_max=Size(300),
        placeholder="?",
        tables=[
            TableSettings(
                collection="books",
                schema="public",
                key=["number"],
                vectors={"embedding": "v"},
                fields=["title", "tags"],
                json=["tags"],
            )
        ],
    )
    decoder = make_decoder(feed, {"books": True}, Direction.FORWARD)
    row = {"embedding": [1, 2], "title": "?", "tags": '["a"]', "unread": 1}
    event = decoder.decode(record("t/0", b'{"number": 7}', envelope("u", 7, **row)))
    assert event is not None
    assert (event.key, event.set) == (Key("books", 7), {"tags": ["a"]})
    assert event.vectors.keys() == {"v"}
    other = envelope("c", 7).replace(b"public", b"staging")
    assert decoder.decode(record("t/0", b'{"number": 7}', other)) is None
    with pytest.raises(Rejected) as rejected:
        decoder.decode(record("t/0", b"{}", bytes(301)))
    assert rejected.value.code == "value-too-large"


def test_what_a_database_tells_after_it_was_left_is_applied_to_nothing() -> None:
    """Our own reverse stream writes it too, and would be told of that, for ever."""
    decoder = make_decoder(CAPTURE, {"books": True}, Direction.REVERSE)
    key = b'{"number": 7}'
    for value in (envelope("u", 7, embedding=[1, 2]), envelope("d", 7), None):
        late = record("t/0", key, value)
        with pytest.raises(Rejected) as rejected:
            decoder.decode(late)
        assert rejected.value.code == "epoch-stale"
        assert decoder.key(late) == Key("books", 7)
    foreign = envelope("c", 7).replace(b'"books"', b'"others"')
    assert decoder.decode(record("t/0", key, foreign)) is None


@virtual
async def test_the_bytes_of_a_captured_rows_key_decide_over_its_partition() -> None:
    """They are a document, and whoever wrote it hashed it as it stands, spaces included."""
    rig = Rig()
    for name, place in (("murmur2", murmur2_partition), ("crc32", crc32_partition)):
        intake = Intake(
            decoder=make_decoder(CAPTURE, {"books": True}, Direction.FORWARD),
            routes=rig.routes,
            epochs=Epochs(),
            partitioner=name,
        )
        for key in (b'{"number":7}', b'{"number": 7}', b'{"schema":{},"payload":{"number":7}}'):
            value = envelope("c", 7, embedding=[1, 2])
            for number in range(5):
                given = record(f"changes/{number}", key, value)
                assert isinstance(event := intake.event(given), ChangeEvent)
                assert intake.key(given) == event.key == Key("books", 7)
                assert intake.is_misplaced(given, 5) is (place(key, 5) != number)
        truncated = record("changes/3", None, envelope("t", 0))
        assert not intake.is_misplaced(truncated, 5), "without a key it is spread"
