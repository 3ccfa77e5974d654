from __future__ import annotations

import copy
import struct
from functools import reduce

from hypothesis import example, given
from hypothesis import strategies as st

from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.point import Point, Vector
from replicator.model.write import Patch, apply_patch
from replicator.stream.fold import fold
from tests.stream.strategies import State, effect, events, payloads, state_of, states, vectors

KEY = Key("articles", 1)
VECTOR = struct.pack("<2f", 1, 2)


def upsert(**fields: object) -> ChangeEvent:
    return ChangeEvent(op=Op.UPSERT, key=KEY, ts_ms=1, **fields)  # type: ignore[arg-type]


def patch(**fields: object) -> ChangeEvent:
    return ChangeEvent(op=Op.PATCH, key=KEY, ts_ms=2, **fields)  # type: ignore[arg-type]


def delete(**fields: object) -> ChangeEvent:
    return ChangeEvent(op=Op.DELETE, key=KEY, ts_ms=3, **fields)  # type: ignore[arg-type]


def test_the_first_event_of_a_key_stands_as_it_is() -> None:
    event = patch(set={"a": 1})
    assert fold(None, event) is event


def test_a_patch_is_applied_to_the_image_that_an_upsert_carries() -> None:
    folded = fold(
        upsert(vectors={"": VECTOR, "old": VECTOR}, payload={"a": 1, "b": 2}),
        patch(set={"a": 5}, unset=("b",), vectors={"new": VECTOR}, unset_vectors=("old",)),
    )
    assert folded.op is Op.UPSERT
    assert folded.payload == {"a": 5}
    assert folded.vectors == {"": VECTOR, "new": VECTOR}
    assert (folded.set, folded.unset, folded.unset_vectors) == ({}, (), ())


def test_a_patch_after_a_delete_does_not_resurrect() -> None:
    assert fold(delete(), patch(set={"a": 1})).op is Op.DELETE


def test_a_delete_after_a_patch_is_a_delete_and_carries_nothing_of_it() -> None:
    folded = fold(patch(set={"a": 1}, vectors={"": VECTOR}), delete())
    assert folded.op is Op.DELETE
    assert (folded.set, folded.vectors, folded.payload) == ({}, {}, {})


def test_an_upsert_after_a_delete_is_the_whole_new_image() -> None:
    folded = fold(delete(), upsert(payload={"a": 1}))
    assert (folded.op, folded.payload) == (Op.UPSERT, {"a": 1})


def test_a_field_that_a_later_patch_sets_is_no_longer_unset() -> None:
    folded = fold(patch(unset=("a", "b")), patch(set={"a": 1}))
    assert (folded.set, folded.unset) == ({"a": 1}, ("b",))


def test_a_field_that_a_later_patch_unsets_is_no_longer_set() -> None:
    folded = fold(patch(set={"a": 1, "b": 2}), patch(unset=("a",)))
    assert (folded.set, folded.unset) == ({"b": 2}, ("a",))


def test_a_vector_that_a_later_patch_removes_is_no_longer_replaced_and_the_other_way() -> None:
    removed = fold(patch(vectors={"v": VECTOR}), patch(unset_vectors=("v",)))
    assert (removed.vectors, removed.unset_vectors) == ({}, ("v",))
    replaced = fold(patch(unset_vectors=("v",)), patch(vectors={"v": VECTOR}))
    assert (replaced.vectors, replaced.unset_vectors) == ({"v": VECTOR}, ())


def test_what_either_patch_removes_stays_removed() -> None:
    first = patch(unset=("a",), unset_vectors=("v",), set={"x": 1}, vectors={"": VECTOR})
    second = patch(unset=("b",), unset_vectors=("w",), set={"y": 2}, vectors={"u": VECTOR})
    folded = fold(first, second)
    assert (folded.unset, folded.unset_vectors) == (("a", "b"), ("v", "w"))
    assert (folded.set, folded.vectors) == ({"x": 1, "y": 2}, {"": VECTOR, "u": VECTOR})


def test_time_and_sender_are_those_of_the_later_event() -> None:
    later = patch(epoch=4, writer="w2", traceparent="t2")
    for first in (upsert(epoch=3, writer="w1"), patch(epoch=3), delete(epoch=3, writer="w1")):
        folded = fold(first, later)
        assert (folded.ts_ms, folded.epoch, folded.writer, folded.traceparent) == (
            later.ts_ms,
            4,
            "w2",
            "t2",
        )


def test_the_version_of_a_fold_is_that_of_the_image_or_the_delete_in_it() -> None:
    for first in (upsert(version=7), patch(version=7), delete(version=7)):
        for second in (upsert(version=8), delete(version=8), upsert(), delete()):
            assert fold(first, second).version == second.version
    for image in (upsert(version=7), delete(version=7)):
        assert fold(image, patch(version=9)).version == 7
    assert fold(upsert(), patch(version=9)).version is None
    assert fold(patch(version=1), patch(version=3)).version is None


def test_a_null_that_a_patch_sets_removes_the_field_and_a_nested_one_is_a_value() -> None:
    folded = fold(upsert(payload={"a": 1, "b": 2}), patch(set={"a": None, "b": {"c": None}}))
    assert folded.payload == {"b": {"c": None}}
    image = Point("x", {}, {"a": 1})
    assert apply_patch(image, Patch(id="x", set={"a": None, "b": None})).payload == {}
    assert image.payload == {"a": 1}


def test_a_null_in_an_image_is_a_value() -> None:
    assert fold(delete(), upsert(payload={"a": None})).payload == {"a": None}


def test_a_patch_of_the_store_written_applies_as_an_event_does() -> None:
    image = Point("x", {"v": VECTOR}, {"a": 1})
    changed = apply_patch(
        image, Patch(id="x", set={"b": 2}, unset=("a",), unset_vectors=("v",))
    )
    assert changed == Point("x", {}, {"b": 2})


@given(state=states, history=st.lists(events, min_size=1, max_size=6))
@example(state=None, history=[delete(), patch(set={"a": 1})])
@example(state=({}, {"a": 1}), history=[patch(unset=("a",)), delete(), patch(set={"a": 1})])
def test_a_fold_does_what_its_events_do_one_after_the_other(
    state: State, history: list[ChangeEvent]
) -> None:
    assert effect(state, reduce(fold, history)) == reduce(effect, history, state)


@given(history=st.lists(events, min_size=3, max_size=3), state=states)
def test_folding_is_associative_in_effect(history: list[ChangeEvent], state: State) -> None:
    first, second, third = history
    left = fold(fold(first, second), third)
    right = fold(first, fold(second, third))
    assert left.op is right.op
    assert effect(state, left) == effect(state, right)
    assert left.version == right.version


@given(first=events, second=events)
def test_folding_changes_neither_of_its_inputs(first: ChangeEvent, second: ChangeEvent) -> None:
    before = copy.deepcopy((first, second))
    fold(first, second)
    assert (first, second) == before


@given(vectors=vectors, payload=payloads, event=events)
def test_applying_a_patch_is_what_the_contract_says_and_leaves_the_image_alone(
    vectors: dict[str, Vector], payload: dict[str, object], event: ChangeEvent
) -> None:
    image = Point(1, dict(vectors), copy.deepcopy(payload))
    if event.op is Op.PATCH:
        assert state_of(apply_patch(image, event)) == effect((vectors, payload), event)
    assert image == Point(1, vectors, payload)


@given(history=st.lists(events, min_size=2, max_size=6))
def test_a_delete_is_lost_only_to_an_upsert_that_follows_it(history: list[ChangeEvent]) -> None:
    folded = reduce(fold, history)
    last = max((i for i, e in enumerate(history) if e.op is not Op.PATCH), default=None)
    assert folded.op is (Op.PATCH if last is None else history[last].op)
