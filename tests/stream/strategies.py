"""
Random events, and the simplest possible model of what they do: the oracle of these tests.

A state is None (absent) or a pair of dicts (vectors, payload). `effect` says what one event
makes of a state, in the words of the contract and with no thought of folding.
"""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Point, Vectors

State = tuple[Vectors, dict[str, Any]] | None

FIELDS = ["a", "b", "c", "d"]
NAMES = ["", "title", "body"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from([0.5, 2.0, 7.25])
    | st.sampled_from(["", "5", "x y", "true"])
)
values = (
    scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from("pq"), scalars)
)
payloads = st.dictionaries(st.sampled_from(FIELDS), values, max_size=4)
vectors = st.dictionaries(
    st.sampled_from(NAMES),
    st.lists(st.integers(-4, 4), min_size=2, max_size=2).map(lambda v: struct.pack("<2f", *v)),
    max_size=3,
)
states = st.none() | st.tuples(vectors, payloads)
versions = st.none() | st.integers(0, 5)


@st.composite
def events(
    draw: st.DrawFn,
    keys: st.SearchStrategy[Key] = st.just(Key("articles", 1)),  # noqa: B008
) -> ChangeEvent:
    op = draw(st.sampled_from(Op))
    event = ChangeEvent(
        op=op, key=draw(keys), ts_ms=draw(st.integers(0, 99)), version=draw(versions)
    )
    if op is not Op.DELETE:
        event.vectors = draw(vectors)
    if op is Op.UPSERT:
        event.payload = draw(payloads)
    if op is Op.PATCH:
        event.set = draw(payloads)
        gone = st.lists(st.sampled_from(FIELDS), unique=True, max_size=3)
        event.unset = tuple(f for f in draw(gone) if f not in event.set)
        event.unset_vectors = tuple(
            draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=2))
        )
    return event


def effect(state: State, event: ChangeEvent) -> State:
    """What the event makes of the state."""
    if event.op is Op.DELETE:
        return None
    if event.op is Op.UPSERT:
        return dict(event.vectors), dict(event.payload)
    if state is None:
        return None  # a patch must not resurrect
    vectors, payload = dict(state[0]), dict(state[1])
    for name in event.unset_vectors:
        vectors.pop(name, None)
    for name in event.vectors:
        vectors[name] = event.vectors[name]
    for field in event.unset:
        payload.pop(field, None)
    for field in event.set:
        payload[field] = event.set[field]
    return vectors, payload


def state_of(point: Point | None) -> State:
    """The state that a point is."""
    return None if point is None else (point.vectors, point.payload)
