"""The last comparison: every key the log names, within the memory it may take."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from replicator.errors import Blocked, Refused, Rejected
from replicator.migration.equality.likeness import likeness
from replicator.migration.equality.recheck import Recheck, Rechecked
from replicator.model.command import Pause
from replicator.model.phase import Direction
from replicator.model.point import Point, PointId, id_order
from replicator.model.schema import Distance, VectorSchema
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch
from replicator.settings.transform import TransformSettings
from replicator.stream.ownership import Lease, Purpose
from replicator.testing.faults import Fault
from replicator.testing.memory_store import MEMORY
from tests.migration.rig import World
from tests.stream.rig import (
    BOOKS,
    PAPERBACKS,
    delete,
    key,
    now,
    patch,
    point,
    upsert,
    vector,
    virtual,
)


async def recheck(
    world: World,
    *,
    begin: int = 0,
    direction: Direction = Direction.FORWARD,
    keys_max: int = 1000,
    bytes_max: int = 1 << 24,
) -> Rechecked:
    """Compare everything from a position on, while the stream rests."""
    migration = world.migration
    engine, parts = migration.engine, migration.parts
    await world.until_applied()
    await migration.do(Pause())
    atlas = engine.atlas
    assert atlas is not None
    forward = direction is Direction.FORWARD
    # The stream is idle, and stands where it does: a cutover would let it rest.
    lease = Lease(engine.ownership, direction, Purpose.MEND, 0)
    comparison = Recheck(
        direction=direction,
        feed=world.log.attach(),
        intake=engine.intake(atlas, direction),
        written=engine.target if forward else engine.source,
        owner=engine.source if forward else engine.target,
        likeness={
            name: likeness(atlas, name, direction, parts.settings.verify)
            for name in atlas.forward
        },
        writer=engine.writers[direction],
        lease=lease,
        state=world.state,
        keys_max=keys_max,
        bytes_max=bytes_max,
        versions=engine.versions,
    )
    end = {p: b.end for p, b in world.log.bounds().items()}
    return await comparison.run(dict.fromkeys(end, begin), end)


def refuses_all(_collection: str, _write: Write) -> tuple[Fault, Rejected]:
    return Fault.POINT_REJECTED, Rejected("target-rejected", "no")


@virtual
async def test_keys_that_agree_are_counted_and_nothing_is_written() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1, n=1), patch(1, m=2), upsert(2), delete(2))
        await world.until_applied()
        before = len(world.door.batches)
        assert await recheck(world) == Rechecked(keys=2, passes=1, repaired=0)
        assert len(world.door.batches) == before


@pytest.mark.parametrize(
    ("spoilt", "healed"),
    [
        (Delete(1), {1: {"n": 1}}),
        (Patch(id=1, set={"n": 2}), {1: {"n": 1}}),
        (Upsert(point(2)), {1: {"n": 1}}),
    ],
)
@virtual
async def test_what_differs_is_written_again(spoilt: Write, healed: dict[int, Any]) -> None:
    world = World()
    async with world.running():
        world.write(upsert(1, n=1), upsert(2), delete(2))
        await world.until_applied()
        world.spoil(spoilt)
        assert (await recheck(world)).repaired == 1
        assert world.payloads() == healed


@virtual
async def test_what_differs_even_then_stops_the_cutover_and_is_named() -> None:
    world = World()
    async with world.running():
        world.write(upsert(7, n=1))
        await world.until_applied()
        world.spoil(Delete(7))
        world.target.refuses = refuses_all
        with pytest.raises(Refused) as caught:
            await recheck(world)
        assert caught.value.code == "recheck-mismatch"
        assert "books/7" in caught.value.message


@virtual
async def test_only_keys_between_the_positions_are_compared() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1), upsert(2), upsert(3))
        await world.until_applied()
        world.spoil(Delete(1))
        assert await recheck(world, begin=1) == Rechecked(keys=2, passes=1, repaired=0)


@virtual
async def test_more_touched_keys_than_memory_may_hold_take_several_passes() -> None:
    world = World()
    async with world.running():
        world.write(*(upsert(number, n=number) for number in range(40)))
        world.write(*(patch(number, m=1) for number in range(40)))
        await world.until_applied()
        for number in range(0, 40, 3):
            world.spoil(Delete(number))
        world.images.fetched.clear()
        done = await recheck(world, keys_max=5)
        assert (done.keys, done.repaired) == (40, 14)
        assert done.passes >= 8
        assert max(len(ids) for _, ids in world.images.fetched) <= 5
        assert world.payloads() == {n: {"n": n, "m": 1} for n in range(40)}


@virtual
async def test_as_many_keys_as_memory_may_hold_take_one_pass() -> None:
    world = World()
    async with world.running():
        world.write(*(upsert(number % 5) for number in range(20)))
        assert (await recheck(world, keys_max=5)).passes == 1


@virtual
async def test_a_log_that_lost_the_beginning_asks_for_another_verification() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1), upsert(2))
        await world.until_applied()
        world.log.truncate(0, 1)
        with pytest.raises(Refused) as caught:
            await recheck(world)
        assert caught.value.code == "log-truncated"
        assert "verify again" in caught.value.message


@virtual
async def test_another_log_is_no_reason_for_another_verification() -> None:
    """A log without id, made anew while its readers were away: it ends before the range."""
    world = World()
    world.log.identified = False
    async with world.running():
        world.write(upsert(1), upsert(2), upsert(3))
        await world.until_applied()
        ends = world.log.bounds()
        world.log.make_anew()
        world.log.bounds = lambda: ends  # type: ignore[method-assign]
        with pytest.raises(Blocked) as caught:
            await recheck(world, begin=2)
        assert caught.value.code == "log-replaced"


@virtual
async def test_keys_with_open_letters_were_waived_and_are_not_compared() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1), upsert(2))
        world.log.produce(b"books/1", b"\xff", partition=0)
        await world.until_applied()
        world.spoil(Delete(1))
        world.target.refuses = refuses_all
        assert (await recheck(world)).repaired == 0


@virtual
async def test_a_patch_of_an_absent_key_asks_for_nothing() -> None:
    world = World()
    async with world.running():
        world.emit(patch(1, n=1))
        assert (await recheck(world)).repaired == 0
        assert world.payloads() == {}


@virtual
async def test_a_source_that_shows_its_own_writes_tells_what_ought_to_be() -> None:
    world = World()
    world.seed(1, untouched=1)
    async with world.running():
        world.write(patch(1, n=1))
        await world.until_applied()
        world.spoil(Patch(id=1, set={"untouched": 2}))
        assert (await recheck(world)).repaired == 1
        assert world.payloads() == {1: {"untouched": 1, "n": 1}}


@virtual
async def test_a_source_that_lags_is_not_asked_and_a_patch_says_only_what_it_set() -> None:
    world = World(staleness_s=0.4)
    world.seed(1, untouched=1)
    async with world.running():
        world.write(patch(1, n=1), upsert(2, n=2))
        await world.until_applied()
        world.spoil(Patch(id=1, set={"n": 9, "untouched": 2}))
        world.spoil(Delete(2))
        world.images.fetched.clear()
        assert (await recheck(world)).repaired == 2
        assert world.payloads() == {1: {"untouched": 2, "n": 1}, 2: {"n": 2}}
        assert world.images.fetched == []


@virtual
async def test_a_patch_that_only_an_image_resolves_waits_until_a_lagging_source_shows_it() -> (
    None
):
    world = World(staleness_s=0.4, transform=TransformSettings(filter=PAPERBACKS))
    world.seed(1, kind="paper")
    async with world.running():
        world.write(patch(1, kind="paper", n=1))
        await world.until_applied()
        await world.migration.do(Pause())
        world.spoil(Delete(1))
        world.images.fetched.clear()
        began = now()
        assert (await recheck(world)).repaired == 1
        [(read_at, _)] = world.images.fetched
        assert read_at - began > 0.399
        assert world.payloads() == {1: {"kind": "paper", "n": 1}}


@virtual
async def test_a_versioned_event_of_a_lagging_source_gives_way_to_the_source_s_image() -> None:
    world = World(staleness_s=0.4)
    async with world.running():
        world.write(upsert(1, version=5, n=5))
        await world.until_applied()
        # Outside of the range: the event in it is older than what was applied.
        world.emit(upsert(1, version=3, n=3))
        await world.until_applied()
        assert (await recheck(world, begin=1)).repaired == 0
        assert world.payloads() == {1: {"n": 5}}
        world.spoil(Delete(1))
        assert (await recheck(world, begin=1)).repaired == 1
        assert world.payloads() == {1: {"n": 5}}


@virtual
async def test_the_log_itself_tells_the_newest_version_of_a_key() -> None:
    world = World(staleness_s=0.4)
    async with world.running():
        world.write(upsert(1, version=5, n=5))
        world.emit(upsert(1, version=3, n=3))
        assert (await recheck(world)).repaired == 0


@virtual
async def test_the_target_gets_the_time_to_show_what_was_written_last() -> None:
    world = World(target_staleness_s=3.0)
    async with world.running():
        world.write(upsert(1))
        await world.until_applied()
        began = now()
        await recheck(world)
        assert now() - began >= 3.0


@virtual
async def test_in_reverse_the_old_store_is_held_to_the_logs_events_in_source_terms() -> None:
    world = World(transform=TransformSettings(rename={"n": "number"}))
    world.seed(1, n=1)
    async with world.running():
        world.write(upsert(1, n=2), upsert(2, n=2))
        await world.until_applied()
        world.source.write("books", Delete(2))
        world.source.write("books", Patch(id=1, set={"n": 7}))
        done = await recheck(world, direction=Direction.REVERSE)
        assert done.repaired == 2
        held = world.source.points("books")
        assert {number: held[number].payload for number in sorted(held, key=id_order)} == {
            1: {"n": 2},
            2: {"n": 2},
        }


@virtual
async def test_of_a_source_row_that_is_no_point_the_logs_last_image_is_the_word() -> None:
    world = World()
    world.seed(3)
    async with world.running():
        world.write(upsert(1, n=1), patch(1, m=1), upsert(2))
        world.emit(patch(3, n=3))
        await world.until_applied()
        for number in (1, 3):
            world.images.unreadable[number] = Rejected("field-type", "no point", "payload")
        world.spoil(Delete(1))
        world.spoil(Delete(2))
        world.spoil(Patch(id=3, set={"n": 4}))
        assert (await recheck(world)).repaired == 3
        assert world.payloads() == {1: {"n": 1, "m": 1}, 2: {}, 3: {"n": 3}}


@virtual
async def test_a_source_row_that_is_no_point_and_a_log_without_an_image_are_counted() -> None:
    world = World(transform=TransformSettings(filter=PAPERBACKS))
    world.seed(1, kind="paper")
    async with world.running():
        world.write(patch(1, kind="paper"), upsert(2, kind="paper"))
        await world.until_applied()
        world.images.unreadable[1] = Rejected("field-type", "no point", "payload")
        world.spoil(Delete(2))
        assert await recheck(world) == Rechecked(keys=2, passes=1, repaired=1, unreadable=1)


def unreadable_until_written(world: World, number: int) -> None:
    door, fetch, apply = world.door, world.door.fetch, world.door.apply
    broken = {number}

    async def reads(collection: str, ids: list[PointId]) -> dict[PointId, Point]:
        if broken.intersection(ids):
            raise Rejected("field-type", "no point")
        found: dict[PointId, Point] = await fetch(collection, ids)
        return found

    async def writes(batch: WriteBatch) -> Receipt:
        receipt = await apply(batch)
        rejected = [point_id for point_id, _ in receipt.rejected]
        broken.difference_update(w.id for w in batch.writes if w.id not in rejected)
        return receipt

    door.fetch = reads  # type: ignore[attr-defined]
    door.apply = writes  # type: ignore[method-assign]


@virtual
async def test_a_row_of_the_target_that_cannot_be_read_is_written_again() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1, n=1), upsert(2))
        await world.until_applied()
        unreadable_until_written(world, 1)
        assert (await recheck(world)).repaired == 1
        assert world.payloads()[1] == {"n": 1}


@virtual
async def test_a_row_of_the_target_that_cannot_be_read_even_then_is_named() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1, n=1), upsert(2))
        await world.until_applied()
        unreadable_until_written(world, 1)
        world.target.refuses = refuses_all
        with pytest.raises(Refused) as caught:
            await recheck(world)
        assert caught.value.code == "recheck-mismatch"
        assert "books/1" in caught.value.message


@pytest.mark.parametrize("at_source", [True, False])
@virtual
async def test_where_one_store_normalises_and_the_other_does_not_equal_keys_are_left_alone(
    at_source: bool,
) -> None:
    world = World()
    other = world.target if at_source else world.source
    other.traits = replace(MEMORY, vectors=replace(MEMORY.vectors, normalises=False))
    world.source.collections.clear()
    cosine = VectorSchema(size=2, distance=Distance.COSINE)
    world.source.create(msgspec.structs.replace(BOOKS, vectors={"v": cosine}))
    async with world.running():
        long = msgspec.structs.replace(upsert(1), vectors={"v": vector(3.0)})
        world.write(long)
        await world.until_applied()
        assert world.source.points("books")[1] != world.held(1)
        assert (await recheck(world)).repaired == 0
        assert (await world.migration.engine.mirror().gaps([key(1)])) == []


@pytest.mark.parametrize("at_source", [True, False])
@virtual
async def test_where_one_store_keeps_no_null_it_is_no_difference(at_source: bool) -> None:
    world = World()
    store = world.source if at_source else world.target
    store.traits = replace(MEMORY, payload=replace(MEMORY.payload, null_is_absence=True))
    world.source.collections.clear()
    world.source.create(BOOKS)
    async with world.running():
        world.write(upsert(1, a=None, b={"c": None}))
        await world.until_applied()
        assert (await recheck(world)).repaired == 0
        assert (await world.migration.engine.mirror().gaps([key(1)])) == []
        world.spoil(Patch(id=1, set={"b": {}}))
        assert (await world.migration.engine.mirror().gaps([key(1)])) != []


@virtual
async def test_where_both_stores_keep_nulls_a_missing_field_is_a_difference() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1, a=None))
        await world.until_applied()
        assert world.payloads() == {1: {"a": None}}
        world.spoil(Upsert(point(1)))
        assert (await recheck(world)).repaired == 1


@virtual
async def test_images_larger_than_memory_may_hold_take_several_passes() -> None:
    world = World(staleness_s=0.4)
    async with world.running():
        world.write(*(upsert(number, text="x" * 1000) for number in range(40)))
        await world.until_applied()
        for number in range(0, 40, 3):
            world.spoil(Delete(number))
        done = await recheck(world, bytes_max=8000)
        assert (done.keys, done.repaired) == (40, 14)
        assert done.passes >= 5
        assert len(world.payloads()) == 40


@virtual
async def test_where_the_source_tells_the_log_is_read_for_its_keys_alone() -> None:
    world = World()
    async with world.running():
        world.write(*(upsert(number, text="x" * 1000) for number in range(40)))
        await world.until_applied()
        assert (await recheck(world, bytes_max=20_000)).passes == 1


@virtual
async def test_points_that_turn_out_large_are_compared_in_smaller_batches() -> None:
    world = World()
    async with world.running():
        world.write(*(upsert(number, text="x" * 1000) for number in range(60)))
        world.write(*(patch(number, n=1) for number in range(60)))
        await world.until_applied()
        world.images.fetched.clear()
        await recheck(world, begin=60, bytes_max=64_000)
        sizes = [len(ids) for _, ids in world.images.fetched]
        assert sizes[0] == 8
        assert max(sizes[1:]) <= 4


@virtual
async def test_large_points_behind_many_small_ones_are_known_from_the_log() -> None:
    world = World()
    async with world.running():
        world.write(*(upsert(number) for number in range(1000)))
        world.write(*(upsert(number, text="x" * 10_000) for number in range(1000, 1030)))
        await world.until_applied()
        world.images.fetched.clear()
        await recheck(world, keys_max=2000, bytes_max=1 << 20)
        fetched = [set(ids) for _, ids in world.images.fetched]
        assert max(map(len, fetched)) == 256
        assert max(len(ids & set(range(1000, 1030))) for ids in fetched) == 6


@virtual
async def test_an_older_image_that_came_late_does_not_win_in_reverse() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1, version=7, n=7))
        await world.until_applied()
        world.emit(upsert(1, version=6, n=6), patch(1, m=1))
        world.source.write("books", Patch(id=1, set={"m": 1}))
        await world.until_applied()
        done = await recheck(world, begin=1, direction=Direction.REVERSE)
        assert done.repaired == 0
        assert world.source.points("books")[1].payload == {"n": 7, "m": 1}


@virtual
async def test_what_is_mended_from_the_log_is_known_to_the_stream_by_its_version() -> None:
    world = World()
    async with world.running():
        world.write(upsert(1, version=7, n=7))
        await world.until_applied()
        world.migration.engine.versions.applied(upsert(1))  # as if it were long ago
        world.source.write("books", Delete(1))
        assert (await recheck(world, direction=Direction.REVERSE)).repaired == 1
        assert world.migration.engine.versions.of(key(1)) == 7
