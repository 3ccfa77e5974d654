"""The simulation runs on the store in memory: it must do in every case what SQLite does."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.errors import Fatal
from replicator.model.event import Key
from replicator.model.finding import Difference, Finding
from replicator.model.letter import LetterState, RejectedRecord
from replicator.model.phase import Direction
from replicator.model.position import Bookmark, Partition, Place
from replicator.model.record import Chunk, ChunkState, MigrationRecord
from replicator.ports.state import StateStore
from replicator.state.sqlite import SqliteStateStore
from replicator.testing.memory_state import MemoryStateStore
from replicator.testing.state_conformance import entry

KEYS = st.builds(Key, st.sampled_from(["a", "b"]), st.sampled_from([0, 1, "0", (1 << 64) - 1]))
PARTITIONS = st.sampled_from([Partition("t/0"), Partition("t/1")])
OFFSETS = st.integers(0, 5)
DIRECTIONS = st.sampled_from(Direction)
NUMBERS = st.lists(st.integers(0, 9), max_size=4)
LETTERS = st.builds(
    lambda place, key, code, direction: (
        f"ref {code}",
        RejectedRecord(
            key=None,
            value=None,
            code=code,
            path="",
            message="m",
            at=1.0,
            partition=place[0] if place else None,
            offset=place[1] if place else None,
            event_key=key,
            direction=direction,
        ),
    ),
    st.none() | st.tuples(PARTITIONS, OFFSETS),
    st.none() | KEYS,
    st.sampled_from(["key-missing", "field-type"]),
    DIRECTIONS,
)
PLACES = st.builds(Place, PARTITIONS, OFFSETS)
BOOKMARKS = st.builds(Bookmark, OFFSETS, st.just(1), st.sampled_from("de"))
FINDINGS = st.builds(
    lambda key, kind, generation: Finding(
        key=key, kind=kind, detail="d", generation=generation, at=1.0
    ),
    KEYS,
    st.sampled_from(Difference),
    OFFSETS,
)
RECORDS = st.builds(
    MigrationRecord,
    name=st.just("n"),
    attempt=st.integers(1, 3),
    # From the revision kept: mostly the one that follows it.
    revision=st.sampled_from([1, 1, 1, 0, 2]),
)
CHUNKS = [ChunkState(Chunk(n, "a", str(n))) for n in range(3)]


def call(
    verb: str, *arguments: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(verb), st.tuples(*arguments), st.fixed_dictionaries(named))


CALLS = st.one_of(
    call("add_letters", st.lists(LETTERS, max_size=4)),
    call("add_letters", st.lists(LETTERS, max_size=4)),
    call(
        "commit",
        st.dictionaries(PARTITIONS, OFFSETS),
        st.dictionaries(KEYS, PLACES, max_size=4),
        st.none() | st.dictionaries(PARTITIONS, BOOKMARKS),
        direction=st.none() | DIRECTIONS,
    ),
    call(
        "close_letters",
        NUMBERS,
        st.sampled_from([LetterState.SETTLED, LetterState.DISCARDED]),
        st.just("p"),
    ),
    call("letters_of", st.lists(KEYS, max_size=3)),
    call("letters", st.none() | st.sampled_from(LetterState), st.integers(0, 4), OFFSETS),
    call("letter", OFFSETS),
    call("add_findings", st.lists(FINDINGS, max_size=4)),
    call("clear_findings", st.none() | st.lists(KEYS, max_size=3)),
    call(
        "advance",
        st.sampled_from(CHUNKS).flatmap(
            lambda chunk: st.builds(
                ChunkState,
                st.just(chunk.chunk),
                st.none() | st.text("xy", max_size=2),
                OFFSETS,
                st.booleans(),
            )
        ),
    ),
    call("put", st.sampled_from("de"), st.binary(max_size=3)),
    call("mark_running"),
    call("mark_clean"),
    call("journal", st.integers(0, 3)),
    call(
        "save",
        st.builds(
            MigrationRecord,
            name=st.just("n"),
            attempt=st.integers(1, 3),
            revision=st.sampled_from([1, 1, 1, 0, 2]),
        ),
        st.builds(entry, st.text("xy", max_size=2)),
    ),
    call(
        "begin",
        st.builds(
            MigrationRecord,
            name=st.just("n"),
            attempt=st.integers(1, 3),
            revision=st.sampled_from([1, 1, 1, 0, 2]),
        ),
        st.builds(entry, st.text("xy", max_size=2)),
    ),
)


async def everything(state: StateStore) -> list[Any]:
    return [
        await state.load(),
        await state.journal(100),
        await state.positions(),
        await state.bookmarks(),
        await state.chunks(),
        [found for _, found in await state.findings(100)],  # numbers may leave gaps
        await state.finding_counts(),
        [await state.get(name) for name in "de"],
        await state.letters(),
        await state.letter_counts(),
        await state.letter_counts(Direction.REVERSE),
    ]


async def outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except Fatal as error:
        return error.code, error.message


async def compare(calls: list[Any], path: Path) -> None:
    memory, sqlite = MemoryStateStore(), await SqliteStateStore.open(path)
    try:
        for store in (memory, sqlite):
            await store.add_chunks("a", [state.chunk for state in CHUNKS])
        for verb, arguments, named in calls:
            if verb == "advance" and not await memory.chunks():
                continue  # a new attempt forgot them: to advance one would be a defect
            if verb in ("save", "begin"):
                kept = await memory.load()
                arguments[0].revision += kept.revision if kept else 0
            one, other = [
                await outcome(getattr(s, verb)(*arguments, **named)) for s in (memory, sqlite)
            ]
            assert one == other
        assert await everything(memory) == await everything(sqlite)
    finally:
        await sqlite.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(CALLS, max_size=12))
def test_both_state_stores_do_the_same(calls: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(compare(calls, Path(directory) / "state.db"))
