"""Unknown fields are counted by name, and no producer can fill the memory with names."""

from __future__ import annotations

import msgspec

from replicator.codecs.events import encode
from replicator.stream.counters import NAMES_MAX, OTHERS, UnknownFields
from tests.stream.rig import Rig, upsert, virtual


def test_events_are_counted_by_the_names_in_them() -> None:
    unknown = UnknownFields()
    unknown.note(["vector", "colour"])
    unknown.note(["vector"])
    assert unknown.counts == {"vector": 2, "colour": 1}


def test_beyond_so_many_names_the_later_ones_are_others() -> None:
    unknown = UnknownFields()
    for number in range(1000):
        unknown.note(["vector", f"name {number}"])
    assert len(unknown.counts) == NAMES_MAX + 1
    assert unknown.counts["vector"] == 1000
    assert sum(unknown.counts.values()) == 2000
    assert OTHERS in unknown.counts


@virtual
async def test_the_stream_applies_such_an_event_and_counts_it() -> None:
    rig = Rig()
    key, value = encode(upsert(1, n=1))
    fields = msgspec.msgpack.decode(value) | {"vector": [1.0, 0.0]}
    async with rig.streaming():
        rig.log.produce(key, msgspec.msgpack.encode(fields), partition=0)
        rig.emit(upsert(2))
        await rig.until_written()
    assert rig.payloads() == {1: {"n": 1}, 2: {}}
    assert rig.counters.unknown.counts == {"vector": 1}
