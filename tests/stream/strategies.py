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


gone_fields = st.lists(st.sampled_from(FIELDS), unique=True, max_size=3)
gone_vectors = st.lists(st.sampled_from(NAMES), unique=True, max_size=2).map(tuple)
times = st.integers(0, 99)


def _patch(
    key: Key,
    ts_ms: int,
    version: int | None,
    sets: dict[str, Any],
    unset: list[str],
    vectors: Vectors,
    unset_vectors: tuple[str, ...],
) -> ChangeEvent:
    return ChangeEvent(
        op=Op.PATCH,
        key=key,
        ts_ms=ts_ms,
        version=version,
        set=sets,
        unset=tuple(field for field in unset if field not in sets),  # the decoder rejects both
        vectors=vectors,
        unset_vectors=unset_vectors,
    )


def patches_of(keys: st.SearchStrategy[Key]) -> st.SearchStrategy[ChangeEvent]:
    """Patches of one of these keys."""
    return st.builds(
        _patch, keys, times, versions, payloads, gone_fields, vectors, gone_vectors
    )


def events_of(keys: st.SearchStrategy[Key]) -> st.SearchStrategy[ChangeEvent]:
    """Events of one of these keys, of every kind."""
    upserts = st.builds(
        ChangeEvent,
        op=st.just(Op.UPSERT),
        key=keys,
        ts_ms=times,
        version=versions,
        vectors=vectors,
        payload=payloads,
    )
    deletes = st.builds(
        ChangeEvent, op=st.just(Op.DELETE), key=keys, ts_ms=times, version=versions
    )
    return upserts | deletes | patches_of(keys)


patches = patches_of(st.just(Key("articles", 1)))
events = events_of(st.just(Key("articles", 1)))


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
    for field, value in event.set.items():
        payload.pop(field, None)
        if value is not None:  # at the top level a null removes; within, it is a value
            payload[field] = value
    return vectors, payload


class Story:
    """
    What the events of one key lead to, in the words of the contract: versions order images and
    deletes, one without a version ends the history, a patch has no place in the order.
    """

    def __init__(self) -> None:
        self.state: State = None
        self.version: int | None = None

    def read(self, event: ChangeEvent) -> bool:
        """Take an event in; False when it is void."""
        if event.op is not Op.PATCH:
            if None not in (event.version, self.version) and event.version < self.version:  # type: ignore[operator]
                return False
            self.version = event.version
        self.state = effect(self.state, event)
        return True


def state_of(point: Point | None) -> State:
    """The state that a point is."""
    return None if point is None else (point.vectors, point.payload)
