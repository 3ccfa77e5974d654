"""Phase BACKFILL: `settle` between the capture and the first row, a copy that ends or goes on,
and the phase that follows it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from replicator.errors import Refused, ReplicatorError, Unavailable
from replicator.model.command import Pause, Resume
from replicator.model.phase import Phase
from replicator.model.point import Point
from replicator.model.position import Bounds, Partition
from replicator.model.write import Delete, Upsert
from tests.migration.lives import at_the_copys_end, killed, let_settle, scans_of
from tests.migration.rig import SETTLE_S, World
from tests.stream.rig import BOOKS, now, point, upsert, virtual

EMPTY = msgspec.structs.replace(BOOKS, name="books_v2")


# -- before the first row ------------------------------------------------------------------


@virtual
async def test_a_change_whose_event_came_before_the_capture_is_waited_for() -> None:
    world = World(bound_s=0.0)
    world.emit(upsert(7, n=7))  # behind the capture: nobody replays it
    asyncio.get_running_loop().call_later(
        SETTLE_S - 0.1, lambda: world.write(upsert(7, n=7), emit=False)
    )
    async with world.running():
        assert world.payloads() == {7: {"n": 7}}


@virtual
async def test_a_source_that_shows_its_writes_late_is_waited_for() -> None:
    world = World(staleness_s=3.0, bound_s=0.0)
    let_settle(world, 3.0)
    scans = scans_of(world)
    began = now()
    async with world.running():
        assert scans[0] - began >= 3.0


@virtual
async def test_a_process_that_finds_no_chunks_waits_for_settle_anew() -> None:
    world = World(bound_s=0.0)
    scans = scans_of(world)
    async with killed(world, Phase.BACKFILL):
        await asyncio.sleep(SETTLE_S - 0.1)
    assert scans == []
    began = now()
    async with world.running():
        assert scans[0] - began >= SETTLE_S


@virtual
async def test_a_target_is_not_judged_empty_before_late_writes_have_landed() -> None:
    world = World(bound_s=3.0)
    world.target.create(EMPTY)
    # Of a migration before this one, which died: it is on its way, and nobody waits for it.
    asyncio.get_running_loop().call_later(
        2.0, lambda: world.target.write("books_v2", Upsert(point(66)))
    )
    async with world.running(Phase.BLOCKED):
        assert world.record.reason_code == "target-not-empty"


# -- whose points the target holds ---------------------------------------------------------


async def blocked(world: World, code: str) -> None:
    held = dict(world.payloads())
    async with world.running(Phase.BLOCKED):
        assert world.record.reason_code == code
    assert world.payloads() == held


@pytest.mark.parametrize("mark", [None, "another"])
@virtual
async def test_a_fresh_copy_trusts_no_points_that_it_finds(mark: str | None) -> None:
    world = World()
    world.target.create(msgspec.structs.replace(EMPTY, capture_id=mark))
    world.spoil(Upsert(point(66)))
    with pytest.raises(Refused) as caught:
        await world.migration.run()
    assert caught.value.code == "target-not-empty"
    assert list(world.payloads()) == [66]


async def dead_in_the_copy(world: World, *, rows: int = 200) -> None:
    """A process that died when a part of the rows was copied."""
    world.seed(*range(rows))
    world.door.takes_s = 5.0
    async with killed(world, Phase.BACKFILL):
        await world.until(lambda: len(world.payloads()) >= 50)
    assert 50 <= len(world.payloads()) < rows


@virtual
async def test_a_target_that_vanished_during_the_copy_blocks_instead_of_being_made_anew() -> (
    None
):
    world = World()
    await dead_in_the_copy(world)
    del world.target.collections["books_v2"]
    await blocked(world, "target-missing")
    assert "books_v2" not in world.target.collections


@virtual
async def test_a_resumed_copy_wipes_nothing_even_where_a_person_named_it() -> None:
    world = World()
    await dead_in_the_copy(world)
    world.target.create(msgspec.structs.replace(EMPTY, capture_id="another"))
    parts = world.migration.parts
    world.migration.parts = msgspec.structs.replace(parts, wipe=["books_v2"])
    await blocked(world, "target-not-empty")


# -- the copy ------------------------------------------------------------------------------


@virtual
async def test_a_copy_that_dies_goes_on_and_misses_no_row() -> None:
    world = World()
    await dead_in_the_copy(world)
    async with world.running():
        assert list(world.payloads()) == list(range(200))


@virtual
async def test_a_page_on_its_way_when_the_process_dies_is_copied_again() -> None:
    world = World()
    world.seed(*range(100))
    world.door.held = set(range(100))
    async with killed(world, Phase.BACKFILL):
        await world.until(lambda: bool(world.door.batches))
        await asyncio.sleep(1)
    assert world.payloads() == {}
    async with world.running():
        assert list(world.payloads()) == list(range(100))


@virtual
async def test_a_source_that_fails_in_the_middle_of_a_chunk_costs_no_row() -> None:
    world = World()
    world.seed(*range(300))
    scan, failures = world.images._store.scan, iter([True, False, True])

    async def failing(*arguments: Any) -> AsyncIterator[Any]:
        # What the preflight looks at is cut otherwise, and no part of the copy.
        copies = arguments[0].spec.endswith(f"/{world.settings.backfill.chunks}")
        async for page in scan(*arguments):
            yield page
            if copies and next(failures, False):
                raise Unavailable("store-unavailable", "it went away")

    world.images.scan = failing  # type: ignore[attr-defined]
    async with world.running() as migration:
        assert list(failures) == []
        assert list(world.payloads()) == list(range(300))
        assert (await migration.status()).backfill.copied == 300


@virtual
async def test_a_pause_ends_the_copy_at_a_page_and_keeps_its_phase() -> None:
    world = World()
    world.seed(*range(500))
    async with world.running(Phase.BACKFILL) as migration:
        world.door.takes_s = 1.0
        await world.until(lambda: bool(world.door.batches))
        began = now()
        await migration.do(Pause())
        assert now() - began < 3
        copied = len(world.payloads())
        assert 0 < copied < 500
        await asyncio.sleep(60)
        assert len(world.payloads()) == copied
        assert world.record.phase is Phase.BACKFILL
        await migration.do(Resume())
        await world.until(lambda: world.record.phase is Phase.STREAMING)
    assert len(world.payloads()) == 500


@virtual
async def test_a_row_that_cannot_be_carried_is_one_letter_however_often_it_is_read() -> None:
    world = World()
    bad = Point(7, {"v": struct.pack("<2f", float("nan"), 0.0)}, {})
    world.source.write("books", Upsert(bad))
    world.seed(*range(10, 300))
    async with killed(world, Phase.BACKFILL):
        await world.until(lambda: bool(world.payloads()))
    async with world.running():
        letters = await world.state.letters()
        assert [letter.event_key.id for letter in letters if letter.event_key] == [7]


@virtual
async def test_the_target_is_told_that_the_bulk_load_is_over() -> None:
    world = World()
    told: list[Phase] = []
    at_the_copys_end(world, lambda: told.append(world.record.phase))
    async with world.running():
        assert told == [Phase.BACKFILL]


# -- the phase that follows ----------------------------------------------------------------


@virtual
async def test_replay_lasts_until_everything_up_to_the_copys_end_is_applied() -> None:
    world = World()
    world.door.held = {99}
    at_the_copys_end(world, lambda: world.write(upsert(98), upsert(99), upsert(97)))
    async with world.running(Phase.REPLAY):
        await asyncio.sleep(60)
        assert world.record.phase is Phase.REPLAY
        world.door.release()
        await world.until(lambda: world.record.phase is Phase.STREAMING)
        assert list(world.payloads()) == [97, 98, 99]


@virtual
async def test_another_topic_that_answers_at_the_copys_end_is_not_believed() -> None:
    world = World()
    feed = world.migration.parts.feed
    assert feed is not None
    really, glitches = feed.bounds, [False]

    async def bounds() -> dict[Partition, Bounds]:
        found = await really()
        if glitches.pop():
            found = {**found, world.log.name(7): Bounds(start=0, end=9, stable=9)}
        glitches.append(False)
        return found

    feed.bounds = bounds  # type: ignore[method-assign]
    at_the_copys_end(world, lambda: glitches.append(True))
    async with world.running(Phase.BLOCKED):
        assert world.record.reason_code == "partitions-changed"


@virtual
async def test_a_plain_copy_is_complete_only_when_both_stores_are_equal() -> None:
    world = World(feed=False)
    world.seed(*range(10))
    at_the_copys_end(world, lambda: world.spoil(Delete(3)))
    await world.migration.run()
    assert world.record.phase is Phase.COMPLETE
    assert list(world.payloads()) == list(range(10))


@virtual
async def test_a_plain_copy_that_left_rows_behind_says_so() -> None:
    world = World(feed=False)
    world.seed(*range(10))
    bad = Point(77, {"v": struct.pack("<2f", float("nan"), 0.0)}, {})
    world.source.write("books", Upsert(bad))
    with pytest.raises(ReplicatorError) as caught:
        await world.migration.run()
    assert caught.value.code == "rows-left"
    assert world.record.phase is Phase.COMPLETE
    assert "but for 1 rows" in world.record.reason
