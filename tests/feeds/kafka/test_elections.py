"""Where another leader wrote on, the record before is looked up again."""

from __future__ import annotations

import struct

import pytest
from aiokafka import TopicPartition

from replicator.feeds.kafka.connection import Connection
from replicator.feeds.kafka.pin import TopicPin, epochs
from replicator.feeds.kafka.stream import Stream
from replicator.model.position import Partition, Record, bookmark_of
from replicator.settings.feeds import KafkaSettings

ZERO = TopicPartition("t", 0)
NAME = Partition("t/0")


def batch(first: int, epoch: int, *, form: int = 2, size: int = 40) -> bytes:
    return struct.pack(">qiib", first, size - 12, epoch, form) + bytes(size - 17)


def record(offset: int) -> Record:
    return Record(NAME, offset, b"k", b"%d" % offset, 1)


@pytest.fixture
def pin() -> TopicPin:
    return TopicPin("t", None)


@pytest.fixture
def stream(pin: TopicPin) -> Stream:
    return Stream(
        Connection(KafkaSettings(bootstrap_servers="localhost:9092", topic="t"), "test"),
        "t",
        {NAME: 0},
        pin,
    )


def test_batches_tell_their_first_offset_and_epoch() -> None:
    whole = batch(0, 3) + batch(7, 3, size=90) + batch(9, 4)
    assert list(epochs(whole)) == [(0, 3), (7, 3), (9, 4)]
    assert list(epochs(whole[:-30])) == [(0, 3), (7, 3)], "the last one may be cut short"
    assert list(epochs(batch(0, 77, form=1))) == [], "older formats tell nothing"
    assert list(epochs(b"")) == []


def test_the_first_epoch_is_no_election_and_a_change_is_one_where_it_begins(
    pin: TopicPin,
) -> None:
    pin._look(0, batch(0, 3) + batch(5, 3))
    assert pin.elections == {}
    pin._look(0, batch(8, 3) + batch(12, 4) + batch(15, 5))
    pin._look(1, batch(0, 9))
    assert pin.elections == {0: 12}


def test_the_record_before_the_election_is_doubted_though_it_came_with_the_poll_before(
    pin: TopicPin, stream: Stream
) -> None:
    stream._doubt(ZERO, [record(3), record(4)])
    pin.elections[0] = 5
    stream._doubt(ZERO, [record(5), record(6)])
    assert stream.doubts == {NAME: bookmark_of(record(4))}
    assert pin.elections == {}


def test_the_record_before_the_election_is_doubted_when_both_come_in_one_poll(
    pin: TopicPin, stream: Stream
) -> None:
    pin.elections[0] = 5
    stream._doubt(ZERO, [record(2), record(4), record(7)])
    assert stream.doubts == {NAME: bookmark_of(record(4))}


def test_the_last_record_is_doubted_when_another_leader_wrote_in_its_place(
    pin: TopicPin, stream: Stream
) -> None:
    stream._doubt(ZERO, [record(6), record(7)])
    pin.elections[0] = 5
    stream._doubt(ZERO, [record(8)])
    assert stream.doubts == {NAME: bookmark_of(record(7))}


def test_nothing_is_doubted_before_a_record_of_the_new_leader_comes(
    pin: TopicPin, stream: Stream
) -> None:
    pin.elections[0] = 5
    stream._doubt(ZERO, [record(2), record(4)])
    stream._doubt(ZERO, [])
    assert (stream.doubts, pin.elections) == ({}, {0: 5})


def test_an_older_doubt_is_not_forgotten_for_a_newer_one(pin: TopicPin, stream: Stream) -> None:
    pin.elections[0] = 1
    stream._doubt(ZERO, [record(0), record(1)])
    pin.elections[0] = 2
    stream._doubt(ZERO, [record(2)])
    assert stream.doubts == {NAME: bookmark_of(record(0))}
