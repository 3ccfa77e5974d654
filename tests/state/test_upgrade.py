"""
A state that an earlier release wrote opens after an upgrade, with what it held.

`states/` holds one for each schema before ours, as the release of that schema wrote it: a
migration in its reverse window, BLOCKED, in its second attempt. They are never changed. Whoever
adds a migration of the schema adds the state that the release before it writes.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from replicator.errors import Refused
from replicator.model.event import Key
from replicator.model.finding import Difference, Finding
from replicator.model.letter import LetterState
from replicator.model.phase import Direction, Phase
from replicator.model.position import Bookmark, LogIdentity, Partition, Place
from replicator.model.record import Capture, Chunk, ChunkState
from replicator.state.queries import load_migrations
from replicator.state.sqlite import SqliteStateStore
from replicator.testing.state_conformance import entry, record

STATES = Path(__file__).parent / "states"
P0, P1 = Partition("articles.changes/0"), Partition("articles.changes/1")
EARLIER = range(1, len(load_migrations()))


def test_there_is_a_state_of_every_schema_before_ours() -> None:
    assert sorted(int(path.stem) for path in STATES.glob("*.sql")) == list(EARLIER)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def written(path: Path, version: int) -> None:
    """The state as the release of that schema left it."""
    database = sqlite3.connect(path)
    database.executescript((STATES / f"{version:04}.sql").read_text(encoding="utf-8"))
    database.close()


@pytest.mark.parametrize("version", EARLIER)
async def test_an_earlier_state_keeps_all_that_it_held(path: Path, version: int) -> None:
    written(path, version)
    state = await SqliteStateStore.open(path)

    kept = await state.load()
    assert kept is not None
    kept = kept.upgraded()
    assert (kept.name, kept.attempt, kept.phase) == ("articles", 2, Phase.BLOCKED)
    assert (kept.direction, kept.back_to) == (Direction.REVERSE, Phase.STREAMING)
    assert kept.capture == Capture(
        id="c0ffee", positions={P0: 3, P1: 0}, partitions=2, at=1764100001.5
    )
    assert kept.reason_code == "partitions-changed"
    assert kept.fence_vector == {P0: 40, P1: 12}
    assert [(each.epoch, each.vector) for each in kept.epochs.ends] == [(0, {P0: 40, P1: 12})]
    assert kept.epoch == 1
    assert [noted.message for noted in await state.journal(9)] == [
        "planned",
        "the topic's partition count changed",
    ]
    assert await state.positions() == {P0: 44, P1: 12}
    assert await state.chunks() == [
        ChunkState(Chunk(0, "articles", '{"from": 0}'), "499", 500, done=True),
        ChunkState(Chunk(1, "articles", '{"from": 500}'), "620 ä", 120, done=False),
    ]
    assert [found for _, found in await state.findings(9)] == [
        Finding(
            key=Key("articles", point),
            kind=kind,
            detail=detail,
            generation=3,
            at=1764200001.0,
        )
        for point, kind, detail in (
            (7, Difference.MISSING, ""),
            ("7", Difference.DIFFERENT, "payload.year"),
        )
    ]
    assert await state.get("verification") == b'{"generation": 3}'
    assert [
        (letter.event_key, letter.partition, letter.offset, letter.state, letter.direction)
        for letter in await state.letters()
    ] == [
        (Key("articles", 7), P0, 9, LetterState.OPEN, Direction.FORWARD),
        # Behind the switch.
        (Key("articles", "ü/1"), P0, 41, LetterState.OPEN, Direction.REVERSE),
        (Key("articles", (1 << 64) - 1), None, None, LetterState.OPEN, Direction.FORWARD),
        (None, P1, 5, LetterState.DISCARDED, Direction.FORWARD),
    ]
    assert not await state.mark_running(), "it was killed"
    await state.close()


async def test_what_the_release_before_added_is_kept_too(path: Path) -> None:
    written(path, 2)
    state = await SqliteStateStore.open(path)
    assert await state.bookmarks() == {P0: Bookmark(43, 1764199999000, "d0")}
    kept = await state.load()
    assert kept is not None
    assert (kept.tries, kept.incarnation, kept.voided) == (2, 17, 1)
    assert [fact.evidence for fact in kept.facts] == [{"attempt": "c0ffee/2"}]
    assert kept.log == LogIdentity("kafka-topic-1")
    assert kept.collections["target/articles_v2"] == "articles_v2_a"
    await state.close()


@pytest.mark.parametrize("version", EARLIER)
async def test_an_earlier_state_is_written_on(path: Path, version: int) -> None:
    written(path, version)
    state = await SqliteStateStore.open(path)
    mark = Bookmark(offset=50, at_ms=1, digest="d")
    settled = {Key("articles", "ü/1"): Place(P0, 50), Key("articles", 7): Place(P0, 50)}
    await state.commit({P0: 51}, settled, {P0: mark}, direction=Direction.REVERSE)
    await state.save(record(attempt=2), entry())
    await state.close()

    state = await SqliteStateStore.open(path)  # brought up to date once, not again
    assert await state.load() == record(attempt=2)
    assert await state.positions() == {P0: 51, P1: 12}
    assert (await state.bookmarks())[P0] == mark
    assert await state.letter_counts() == {"open": 2, "settled": 1, "discarded": 1}
    await state.close()


@pytest.mark.parametrize("version", EARLIER)
async def test_an_earlier_state_is_only_read_by_whoever_may_bring_it_up_to_date(
    path: Path, version: int
) -> None:
    written(path, version)
    before = path.read_bytes()
    with pytest.raises(Refused, match=f"older schema version {version}") as refused:
        await SqliteStateStore.open(path, read_only=True)
    assert refused.value.code == "state-version"
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_state_of_a_newer_release_is_refused_and_left_alone(
    path: Path, read_only: bool
) -> None:
    await (await SqliteStateStore.open(path)).close()
    ours = len(load_migrations())
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {ours + 1}")
    database.close()
    before = path.read_bytes()
    words = f"schema version {ours + 1}; this release knows up to {ours}"
    with pytest.raises(Refused, match=words) as refused:
        await SqliteStateStore.open(path, read_only=read_only)
    assert refused.value.code == "state-version"
    assert "newer release" in refused.value.hint
    assert path.read_bytes() == before
