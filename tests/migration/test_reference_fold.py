"""
The reference fold against the words of the contract, and the stream against the reference fold:
neither shares a line with the other.
"""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from replicator.codecs.events import encode
from replicator.migration.equality import reference_fold
from replicator.migration.equality.reference_fold import LastWord
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition, Record
from replicator.testing.loop import VirtualLoop, run_virtual
from tests.stream.rig import Rig, delete, key, patch, point, refuses_poison, upsert
from tests.stream.strategies import State, Story, effect, events, states, values

KEY = Key("articles", 1)


def said(history: list[ChangeEvent]) -> LastWord:
    word = LastWord()
    for event in history:
        word.read(event)
    return word


@given(state=states, history=st.lists(events, max_size=8))
def test_the_last_word_does_what_the_events_do_by_the_contract(
    state: State, history: list[ChangeEvent]
) -> None:
    story = Story()
    story.state = state
    for event in history:
        story.read(event)
    word = said(history).event(KEY)
    assert (state if word is None else effect(state, word)) == story.state
    assert word is None or word.op is Op.PATCH or word.version == story.version


@given(history=st.lists(events, max_size=8))
def test_its_bytes_are_those_of_what_it_holds_in_the_end(history: list[ChangeEvent]) -> None:
    word = said(history)
    event = word.event(KEY)
    again = LastWord()
    if event is not None:
        again.read(event)
    assert word.bytes == again.bytes


def test_it_shares_nothing_with_the_stream() -> None:
    tree = ast.parse(Path(reference_fold.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {m for m in modules if m and m.startswith("replicator")} == {
        "replicator.model.event",
        "replicator.model.point",
    }


fields = st.dictionaries(st.sampled_from("abc"), values, max_size=2)
poisoned = st.sampled_from([{}, {}, {}, {"poison": "point"}, {"poison": "batch"}])
versions = st.none() | st.integers(0, 4)


def _upsert(version: int | None, payload: dict[str, Any], bad: dict[str, Any]) -> ChangeEvent:
    return upsert(1, version=version, **payload, **bad)


def _patch(
    version: int | None, sets: dict[str, Any], unset: list[str], bad: dict[str, Any]
) -> ChangeEvent:
    event = patch(1, **sets, **bad)
    event.version, event.unset = version, tuple(x for x in unset if x not in sets)
    return event


def _delete(version: int | None) -> ChangeEvent:
    event = delete(1)
    event.version = version
    return event


steps = st.lists(
    st.builds(_upsert, versions, fields, poisoned)
    | st.builds(
        _patch, versions, fields, st.lists(st.sampled_from("abc"), max_size=1), poisoned
    )
    | st.builds(_delete, versions)
    | st.just("tombstone")
    | st.sampled_from(["wait", "shut", "open"]),
    max_size=14,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=steps)
@example(steps=[upsert(1, version=4, poison="point"), upsert(1, version=2, a=1)])
@example(steps=[upsert(1, version=4), "wait", "tombstone", upsert(1, version=0, b=1)])
@example(
    steps=[
        upsert(1, version=4),
        "wait",
        "shut",
        "tombstone",
        "wait",
        upsert(1, version=0, b=1),
        "wait",
    ]
)
@example(
    steps=[
        "shut",
        upsert(1),
        "wait",
        upsert(1, version=4, a=4),
        upsert(1, version=2, a=2),
        patch(1, poison="point"),
    ]
)
@example(
    steps=[
        upsert(1, version=1),
        "wait",
        upsert(1, poison="point"),
        "wait",
        upsert(1, version=0),
    ]
)
@example(steps=["shut", upsert(1, version=4), "wait", upsert(1, version=2), patch(1, a=None)])
def test_the_stream_leaves_at_the_store_what_the_reference_fold_says(
    steps: list[ChangeEvent | str],
) -> None:
    """What the store refuses is in the dead letters, and the others are as if it never came."""

    async def play() -> None:
        rig = Rig()
        rig.target.refuses = refuses_poison
        rig.seed(point(1, old=1), source=False)
        word = LastWord()

        def emit(event: ChangeEvent | None) -> None:
            key, value = (b"books/1", None) if event is None else encode(event)
            rig.log.produce(key, value, partition=0)
            read = rig.intake.event(Record(Partition("changes/0"), 0, key, value, at_ms=1))
            assert isinstance(read, ChangeEvent)
            if "poison" not in read.payload | read.set:
                word.read(read)
            elif read.op is Op.UPSERT and read.version is None:
                word.version = None  # the history has ended, whatever became of the image

        async with rig.streaming():
            for step in steps:
                match step:
                    case "wait":
                        await asyncio.sleep(1.0)
                    case "shut":
                        rig.door.held = {1}
                    case "open":
                        rig.door.release()
                    case "tombstone":
                        emit(None)
                    case ChangeEvent():
                        emit(step)
            rig.door.release()
            await rig.until_written()
        expected = word.event(key(1))
        before: State = ({"v": point(1).vectors["v"]}, {"old": 1})
        state = before if expected is None else effect(before, expected)
        held = rig.target.points("books").get(1)
        assert state == (None if held is None else (held.vectors, held.payload))
        refused = [
            step
            for step in steps
            if isinstance(step, ChangeEvent) and "poison" in step.payload | step.set
        ]
        assert len(await rig.letters_now()) <= len(refused)

    loop = VirtualLoop(limit_s=3600.0)
    run_virtual(play(), loop=loop)
    assert loop.errors == []
