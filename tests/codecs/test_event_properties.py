"""Events drawn at random, whole and damaged."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.codecs.events import EventDecoder, encode, encode_json
from replicator.codecs.keys import INTEGER_MAX, INTEGER_MIN, canonical_id
from replicator.codecs.validation import validate_vectors
from replicator.codecs.vectors import multi, sparse
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition, Record

COLLECTIONS = {"texts": False, "numbers": True, "ü/ x": False}
decoder = EventDecoder(COLLECTIONS, value_bytes_max=1 << 16)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
integers = st.integers(INTEGER_MIN, INTEGER_MAX)
values = st.recursive(
    st.none() | st.booleans() | integers | finite | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
payloads = st.dictionaries(texts, values, max_size=4)
vectors = st.dictionaries(
    texts,
    st.one_of(
        st.lists(floats32, min_size=1, max_size=6).map(
            lambda v: struct.pack(f"<{len(v)}f", *v)
        ),
        st.dictionaries(st.integers(0, 2**32 - 1), floats32, max_size=5).map(
            lambda entries: sparse(list(entries), list(entries.values()))
        ),
        st.lists(st.tuples(floats32, floats32), min_size=1, max_size=3).map(multi),
    ),
    max_size=3,
)
keys = st.one_of(
    st.builds(Key, st.just("numbers"), integers),
    st.builds(Key, st.sampled_from(["texts", "ü/ x"]), texts.filter(bool).map(canonical_id)),
)
counts = st.integers(0, (1 << 53) - 1)


@st.composite
def events(draw: st.DrawFn) -> ChangeEvent:
    op = draw(st.sampled_from(Op))
    event = ChangeEvent(
        op=op,
        key=draw(keys),
        ts_ms=draw(counts),
        version=draw(st.none() | counts),
        epoch=draw(st.none() | counts),
        writer=draw(st.none() | texts),
        traceparent=draw(st.none() | texts),
    )
    if op is not Op.DELETE:
        event.vectors = draw(vectors)
    if op is Op.UPSERT:
        event.payload = draw(payloads)
    if op is Op.PATCH:
        # A null at the top level is said as a removal once it is decoded.
        event.set = draw(st.dictionaries(texts, values.filter(lambda v: v is not None)))
        event.unset = tuple(name for name in draw(st.lists(texts)) if name not in event.set)
        event.unset_vectors = tuple(
            name for name in draw(st.lists(texts)) if name not in event.vectors
        )
    return event


def decode(key: bytes | None, value: bytes | None) -> ChangeEvent | None:
    return decoder.decode(Record(Partition("t/0"), 0, key, value, 0))


@given(event=events())
def test_an_event_survives_messagepack_and_json(event: ChangeEvent) -> None:
    assert decode(*encode(event)) == event
    assert decode(*encode_json(event)) == event


@given(event=events())
def test_both_formats_mean_the_same_to_the_typed_path_and_to_the_walk(
    event: ChangeEvent,
) -> None:
    key, packed = encode(event)
    # An unknown field with a map as its key's value sends nothing astray; a JSON copy of the
    # plain map takes the walk, the packed bytes the typed path.
    plain = msgspec.msgpack.decode(packed) | {"unknown": {"field": [1]}}

    known = decode(key, packed)
    assert known is not None
    for value in (msgspec.msgpack.encode(plain), b"\xef\xbb\xbf" + encode_json(event)[1]):
        read = decode(key, value)
        assert read is not None
        assert read.unknown == (() if value[:1] == b"\xef" else ("unknown",))
        read.unknown = ()
        assert read == known


@given(event=events(), nulls=st.sets(texts, min_size=1))
def test_a_null_that_a_patch_sets_is_a_removal_in_both_formats(
    event: ChangeEvent, nulls: set[str]
) -> None:
    nulls -= event.set.keys() | set(event.unset)
    said = msgspec.structs.replace(
        event, op=Op.PATCH, payload={}, set=event.set | dict.fromkeys(nulls)
    )
    for encoded in (encode(said), encode_json(said)):
        read = decode(*encoded)
        assert read is not None
        assert read.set == event.set
        assert read.unset[: len(event.unset)] == event.unset
        assert set(read.unset[len(event.unset) :]) == nulls


@settings(max_examples=300)
@given(event=events(), data=st.data())
def test_a_damaged_event_is_rejected_or_is_an_event(
    event: ChangeEvent, data: st.DataObject
) -> None:
    key, value = data.draw(st.sampled_from([encode, encode_json]))(event)
    damaged = bytearray(value)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip":
                damaged[place] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del damaged[place : place + data.draw(st.integers(1, 8))]
            case "insert":
                damaged[place:place] = data.draw(st.binary(min_size=1, max_size=6))
            case _:
                damaged[place:place] = damaged[place : place + 8]
        if not damaged:
            break

    assert_event_or_rejected(key, bytes(damaged))


@settings(max_examples=300)
@given(
    key=st.binary(max_size=20) | keys.map(lambda key: encode(event_of(key))[0]),
    value=st.binary(max_size=80),
)
def test_arbitrary_bytes_are_rejected_or_are_an_event(key: bytes, value: bytes) -> None:
    assert_event_or_rejected(key, value)


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["indices", "values", "rows", "data", "a", ""]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(
    op=st.sampled_from(["upsert", "patch", "delete"]),
    changes=st.dictionaries(
        st.sampled_from([*ChangeEvent.__struct_fields__, "v", "ts", "id", "collection"]), odd
    ),
)
def test_fields_of_any_type_are_rejected_or_make_an_event(
    op: str, changes: dict[str, Any]
) -> None:
    fields = {"v": 1, "op": op, "collection": "numbers", "id": 1, "ts": 1} | changes
    try:
        packed = msgspec.msgpack.encode(fields)
    except OverflowError:
        pass
    else:
        assert_event_or_rejected(b"numbers/1", packed)
    text = json.dumps(fields, default=lambda raw: raw.decode("latin-1"))
    assert_event_or_rejected(b"numbers/1", text.encode())


def event_of(key: Key) -> ChangeEvent:
    return ChangeEvent(op=Op.DELETE, key=key, ts_ms=0)


def assert_event_or_rejected(key: bytes, value: bytes) -> None:
    try:
        event = decode(key, value)
    except Rejected:
        return
    if event is not None:
        # What was accepted is whole: it validates, and survives being written again.
        validate_vectors(event.vectors, None, whole=False)
        event.unknown = ()
        assert decode(*encode(event)) == event
        assert decode(*encode_json(event)) == event
