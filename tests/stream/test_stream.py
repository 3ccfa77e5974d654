"""The stream as a whole: order, durability, room, and what it leaves for the next process."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from replicator.errors import Blocked, OutcomeUnknown
from replicator.model.phase import Direction
from replicator.model.position import Place, Positions, bookmark_of
from replicator.settings.transform import TransformSettings
from replicator.settings.units import Duration, Size
from replicator.testing.faults import Fault, Faults
from tests.stream.rig import (
    PAPERBACKS,
    Rig,
    delete,
    key,
    now,
    patch,
    point,
    refuses_poison,
    upsert,
    virtual,
)


@virtual
async def test_events_are_written_persisted_and_published() -> None:
    rig = Rig(partitions=2)
    rig.emit(upsert(1, a=1), patch(1, b=2), upsert(2), delete(2))
    rig.emit(upsert(3), partition=1)
    async with rig.streaming():
        await rig.until_written()
    assert rig.payloads() == {1: {"a": 1, "b": 2}, 3: {}}
    assert await rig.state.positions() == {rig.log.name(0): 4, rig.log.name(1): 1}
    assert rig.log.group == {rig.log.name(0): 4, rig.log.name(1): 1}
    assert rig.counters.applied == 5


@virtual
async def test_positions_are_persisted_with_bookmarks_of_the_last_records_before_them() -> None:
    rig = Rig(partitions=2, batch_records=1)
    rig.door.held = {2}
    rig.emit(upsert(1), upsert(2), upsert(1))
    async with rig.streaming():
        await rig.until(lambda: rig.stream.committed[rig.first] == 1)
        first, *_ = rig.log.records()
        assert await rig.state.bookmarks() == {rig.first: bookmark_of(first)}
        rig.door.release()
        await rig.until_written()
    assert await rig.state.bookmarks() == {rig.first: bookmark_of(rig.log.records()[-1])}


@virtual
async def test_a_letter_of_one_partition_is_not_settled_by_an_event_of_another() -> None:
    rig = Rig(partitions=2)
    rig.emit_bad(1, partition=0)
    rig.emit(upsert(7), upsert(8), upsert(1), partition=1)
    async with rig.streaming():
        await rig.until_written()
        await asyncio.sleep(1)
    assert [state for *_, state in await rig.letters_now()] == ["open"]


@virtual
async def test_a_letter_bears_the_direction_in_which_it_arose() -> None:
    rig = Rig()
    rig.letters.direction = Direction.REVERSE
    rig.emit_bad(1)
    async with rig.streaming():
        await rig.until_written()
    assert (await rig.letter()).direction is Direction.REVERSE
    rig.letters.direction = Direction.FORWARD
    await rig.state.commit({}, {key(1): Place(rig.first, 9)}, direction=Direction.FORWARD)
    assert (await rig.letter()).state.value == "open"


@virtual
async def test_a_key_never_has_two_writes_in_flight() -> None:
    rig = Rig(batch_records=2)
    rig.door.takes_s = 0.3
    random = Random(1)
    async with rig.streaming():
        for number in range(200):
            rig.emit(upsert(random.randrange(5), n=number))
            await asyncio.sleep(0.02)
        await rig.until_written()
    assert rig.door.clashes == []
    assert rig.door.most > 1
    last = {
        number: max(n for n, k in enumerate(_keys(Random(1), 200)) if k == number)
        for number in range(5)
    }
    assert rig.payloads() == {number: {"n": n} for number, n in last.items()}


def _keys(random: Random, count: int) -> list[int]:
    return [random.randrange(5) for _ in range(count)]


@virtual
async def test_events_behind_a_write_in_flight_become_one_write() -> None:
    rig = Rig()
    rig.door.held = {1}
    async with rig.streaming():
        rig.emit(upsert(1, n=0))
        await rig.until(lambda: len(rig.door.batches) == 1)
        rig.emit(upsert(1, n=1), patch(1, m=2), patch(1, n=3))
        await asyncio.sleep(1)
        assert len(rig.door.batches) == 1
        rig.door.release()
        await rig.until_written()
    assert rig.door.ids == [[1], [1]]
    assert rig.payloads() == {1: {"n": 3, "m": 2}}
    assert rig.counters.coalesced == 2


@virtual
async def test_positions_never_pass_a_record_whose_write_is_not_done() -> None:
    rig = Rig(batch_records=1)
    rig.door.held = {1}
    rig.emit(upsert(1), upsert(2), upsert(3))
    async with rig.streaming() as stream:
        await asyncio.sleep(5)
        assert set(rig.payloads()) == {2, 3}
        assert stream.committed == {rig.first: 0}
        assert await rig.state.positions() == {}
        rig.door.release()
        await rig.until_written()
    assert await rig.state.positions() == {rig.first: 3}


@virtual
async def test_positions_wait_until_a_write_with_an_unknown_outcome_is_repeated() -> None:
    rig = Rig(bound_s=5.0)
    rig.door.errors.append(OutcomeUnknown("outcome-unknown", "lost"))
    rig.emit(upsert(1))
    async with rig.streaming() as stream:
        await asyncio.sleep(4.9)
        assert stream.committed == {rig.first: 0}
        await rig.until_written()
    assert [round(at, 3) for at, _ in rig.door.batches] == [0.0, 5.0]


# -- dead letters --------------------------------------------------------------------------


@virtual
async def test_nothing_of_a_poll_is_written_before_its_bad_records_are_kept() -> None:
    rig = Rig()
    rig.kept.faults = Faults(Random(0), {Fault.LETTERS_AWAY: 1.0})
    rig.emit_bad(1)
    rig.emit(upsert(1, a=1), upsert(2))
    async with rig.streaming() as stream:
        await asyncio.sleep(10)
        assert rig.door.batches == []
        assert stream.positions == {rig.first: 0}
        assert rig.letters.trouble is not None
        rig.kept.faults.calm()
        await rig.until_written()
    assert set(rig.payloads()) == {1, 2}
    assert [state for *_, state in await rig.letters_now()] == ["settled"]


@virtual
async def test_an_upsert_settles_the_letters_of_its_key_below_it_and_no_others() -> None:
    rig = Rig()
    rig.door.held = {1}
    rig.emit_bad(1)
    rig.emit(upsert(1))
    async with rig.streaming():
        await rig.until(lambda: len(rig.door.batches) == 1)
        rig.emit_bad(1)
        rig.emit_bad(2)
        await rig.until(lambda: rig.letters.open == 3)
        rig.door.release()
        await rig.until_written()
        await asyncio.sleep(1)
        assert [(o, s) for o, _, s in await rig.letters_now()] == [
            (0, "settled"),
            (2, "open"),
            (3, "open"),
        ]
        rig.emit(delete(1))
        await rig.until_written()
        await asyncio.sleep(1)
    assert [(o, s) for o, _, s in await rig.letters_now()] == [
        (0, "settled"),
        (2, "settled"),
        (3, "open"),
    ]


@virtual
async def test_a_patch_settles_no_letter() -> None:
    rig = Rig()
    rig.seed(point(1))
    rig.emit_bad(1)
    rig.emit(patch(1, a=1))
    async with rig.streaming():
        await rig.until_written()
        await asyncio.sleep(1)
    assert rig.payloads() == {1: {"a": 1}}
    assert [state for *_, state in await rig.letters_now()] == ["open"]


@virtual
async def test_a_patch_that_folds_into_an_upsert_settles_no_letter_between_them() -> None:
    rig = Rig()
    rig.emit(upsert(1))
    rig.emit_bad(1)
    rig.emit(patch(1, a=1))
    async with rig.streaming():
        await rig.until_written()
        await asyncio.sleep(1)
    assert len(rig.door.batches) == 1
    assert rig.payloads() == {1: {"a": 1}}
    assert [state for *_, state in await rig.letters_now()] == ["open"]


@virtual
async def test_an_image_taken_for_a_patch_settles_the_letters_before_it() -> None:
    rig = Rig(transform=TransformSettings(filter=PAPERBACKS), show_after_s=2.0)
    rig.seed(point(1, kind="paper", healed=True), target=False)
    rig.emit_bad(1)
    rig.emit(patch(1, kind="paper"))
    async with rig.streaming():
        await rig.until_written()
        await asyncio.sleep(1)
    assert rig.payloads() == {1: {"kind": "paper", "healed": True}}
    assert [state for *_, state in await rig.letters_now()] == ["settled"]


@virtual
async def test_a_refused_upsert_settles_no_letter_and_adds_its_own() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    rig.emit_bad(1)
    rig.emit(upsert(1, poison="batch"))
    async with rig.streaming():
        await rig.until_written()
        await asyncio.sleep(1)
    assert [state for *_, state in await rig.letters_now()] == ["open", "open"]
    assert rig.counters.applied == 0


@virtual
async def test_a_delete_applied_by_itself_settles_the_letters_before_it() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    rig.emit(
        upsert(1, version=9, poison="point"),
        delete(1),
        upsert(1, version=1, n=1),
        upsert(1, version=2, poison="point"),
    )
    async with rig.streaming():
        await rig.until_written()
        await rig.until(lambda: rig.letters.open == 1)
        rig.emit(patch(1, n=2))
        await rig.until_written()
    assert [(offset, state) for offset, _, state in await rig.letters_now()] == [
        (0, "settled"),
        (3, "open"),
    ]
    assert rig.payloads() == {1: {"n": 2}}


@virtual
async def test_an_older_image_applied_by_itself_settles_no_newer() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    rig.emit(upsert(1, version=9, poison="point"))
    async with rig.streaming():
        await rig.until_written()
        rig.emit(upsert(1, version=3, n=1), patch(1, poison="point"))
        await rig.until_written()
    assert [(offset, state) for offset, _, state in await rig.letters_now()] == [
        (0, "open"),
        (2, "open"),
    ]
    assert rig.payloads() == {1: {"n": 1}}


@virtual
async def test_positions_do_not_pass_a_refused_record_before_its_letter_is_kept() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    rig.kept.faults = Faults(Random(0), {Fault.LETTERS_AWAY: 1.0})
    rig.emit(upsert(1, poison="point"))
    async with rig.streaming() as stream:
        await asyncio.sleep(10)
        assert stream.positions == {rig.first: 0}
        rig.kept.faults.calm()
        await rig.until_written()
    assert await rig.letters_now() == [(0, "target-rejected", "open")]


@virtual
async def test_one_bad_record_does_not_keep_others_of_its_batch_from_the_store() -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    rig.emit(*(upsert(n, poison="batch") if n == 3 else upsert(n) for n in range(8)))
    async with rig.streaming():
        await rig.until_written()
    assert set(rig.payloads()) == set(range(8)) - {3}
    assert await rig.letters_now() == [(3, "target-rejected", "open")]


# -- patches that need the image -----------------------------------------------------------


@virtual
async def test_a_patch_that_needs_the_image_is_written_once_the_source_must_show_it() -> None:
    rig = Rig(transform=TransformSettings(filter=PAPERBACKS), show_after_s=3.0)
    async with rig.streaming():
        rig.emit(patch(1, kind="paper"))
        await asyncio.sleep(2.9)
        rig.seed(point(1, kind="paper", n=1), target=False)
        assert rig.images.fetched == []
        await rig.until_written()
    assert [round(at) for at, _ in rig.images.fetched] == [3]
    assert rig.payloads() == {1: {"kind": "paper", "n": 1}}


@virtual
async def test_a_patch_that_waits_holds_no_other_key_back() -> None:
    rig = Rig(transform=TransformSettings(filter=PAPERBACKS), show_after_s=30.0)
    rig.emit(patch(1, kind="paper"), upsert(2, kind="paper"))
    async with rig.streaming() as stream:
        await asyncio.sleep(1)
        assert set(rig.payloads()) == {2}
        assert stream.committed == {rig.first: 0}


@virtual
async def test_a_key_patched_without_end_reaches_the_target_meanwhile() -> None:
    rig = Rig(transform=TransformSettings(filter=PAPERBACKS), show_after_s=3.0)
    async with rig.streaming() as stream:
        for number in range(20):
            rig.seed(point(1, kind="paper", n=number), target=False)
            rig.emit(patch(1, kind="paper", n=number))
            await asyncio.sleep(1)
        assert stream.committed[rig.first] >= 15
        assert rig.payloads()[1]["n"] >= 15


@virtual
async def test_an_upsert_replaces_a_patch_that_waits_without_asking_the_source() -> None:
    rig = Rig(transform=TransformSettings(filter=PAPERBACKS), show_after_s=30.0)
    rig.emit(patch(1, kind="paper"), upsert(1, kind="paper", n=1))
    async with rig.streaming():
        await rig.until_written()
    assert now() < 2
    assert rig.images.fetched == []
    assert rig.payloads() == {1: {"kind": "paper", "n": 1}}


# -- room ----------------------------------------------------------------------------------


@virtual
async def test_no_more_records_are_read_than_the_buffer_holds() -> None:
    rig = Rig(buffer_records=8)
    rig.door.held = set(range(50))
    rig.emit(*(upsert(number) for number in range(50)))
    async with rig.streaming() as stream:
        await asyncio.sleep(5)
        [lane] = stream.lanes.values()
        assert lane.watermark.pending == 8
        rig.door.release()
        await rig.until_written()
    assert len(rig.payloads()) == 50


@virtual
async def test_reading_stops_when_the_bytes_are_over_the_budget() -> None:
    rig = Rig(buffer_records=4000, buffer_bytes=Size(1))
    rig.door.held = set(range(4000))
    rig.emit(*(upsert(number) for number in range(3000)))
    async with rig.streaming() as stream:
        await asyncio.sleep(5)
        assert 0 < sum(lane.watermark.pending for lane in stream.lanes.values()) <= 2000
        rig.door.release()
        await rig.until_written()
    assert len(rig.payloads()) == 3000


@virtual
async def test_a_full_partition_pauses_while_the_others_go_on_and_comes_back() -> None:
    rig = Rig(partitions=2, buffer_records=1024)
    rig.door.held = {0}
    rig.emit(*(upsert(number) for number in range(600)))
    async with rig.streaming() as stream:
        await asyncio.sleep(5)
        full, other = stream.lanes.values()
        assert full.is_full
        rig.emit(*(upsert(number) for number in range(600, 700)))
        await asyncio.sleep(2)
        assert full.watermark.pending == 600
        rig.emit(upsert(9000), partition=1)
        await rig.until(lambda: other.watermark.position == 1)
        rig.door.release()
        await rig.until_written()
    assert len(rig.payloads()) == 701


@virtual
async def test_a_batch_that_is_not_full_waits_for_company_no_longer_than_linger() -> None:
    rig = Rig(linger=Duration(0.2), batch_records=100)
    async with rig.streaming():
        rig.emit(upsert(1))
        await asyncio.sleep(0.1)
        rig.emit(upsert(2))
        await rig.until_written()
    [(at, _)] = rig.door.batches
    assert rig.door.ids == [[1, 2]]
    assert at == pytest.approx(0.2, abs=0.02)


@virtual
async def test_a_full_batch_does_not_wait() -> None:
    rig = Rig(linger=Duration(10), batch_records=3)
    async with rig.streaming():
        rig.emit(upsert(1), upsert(2), upsert(3))
        await rig.until_written()
    assert rig.door.batches[0][0] < 1


# -- what is not applied, and said so ------------------------------------------------------


@virtual
async def test_an_event_older_than_the_newest_applied_is_discarded_and_passed() -> None:
    rig = Rig()
    async with rig.streaming():
        rig.emit(upsert(1, version=5, n=5))
        await rig.until_written()
        rig.emit(upsert(1, version=3, n=3), upsert(1, version=5, n=55))
        await rig.until_written()
    assert rig.payloads() == {1: {"n": 55}}
    assert rig.counters.discarded == 1


@virtual
async def test_an_older_event_is_discarded_while_the_newer_is_still_in_flight() -> None:
    rig = Rig()
    rig.door.held = {1}
    async with rig.streaming():
        rig.emit(upsert(1, version=5, n=5))
        await rig.until(lambda: bool(rig.door.batches))
        rig.emit(upsert(1, version=3, n=3))
        await rig.until(lambda: rig.stream.lanes[rig.first].waiting == 1)
        rig.door.release()
        await rig.until_written()
    assert rig.payloads() == {1: {"n": 5}}
    assert rig.counters.discarded == 1


@virtual
async def test_a_patch_behind_an_image_that_came_too_late_is_applied_without_it() -> None:
    rig = Rig()
    rig.door.held = {1}
    async with rig.streaming():
        rig.emit(upsert(1, version=5, n=5))
        await rig.until(lambda: bool(rig.door.batches))
        rig.emit(upsert(1, version=3, n=3), patch(1, m=1))
        await rig.until(lambda: rig.stream.lanes[rig.first].watermark.tracked_to == 3)
        rig.door.release()
        await rig.until_written()
    assert rig.payloads() == {1: {"n": 5, "m": 1}}
    assert rig.counters.discarded == 1
    assert await rig.letters_now() == []


@pytest.mark.parametrize("together", [True, False])
@virtual
async def test_a_refused_image_hides_no_older_one(together: bool) -> None:
    rig = Rig()
    rig.target.refuses = refuses_poison
    if not together:
        rig.door.held = {1}
    async with rig.streaming():
        rig.emit(upsert(1, version=7, poison=1))
        if not together:
            await rig.until(lambda: bool(rig.door.batches))
        rig.emit(upsert(1, version=6, n=6))
        if not together:
            await rig.until(lambda: rig.stream.lanes[rig.first].waiting == 1)
            rig.door.release()
        await rig.until_written()
        rig.emit(upsert(1, version=5, n=5))
        await rig.until_written()
    assert rig.payloads() == {1: {"n": 6}}
    assert await rig.letters_now() == [(0, "target-rejected", "open")]


@virtual
async def test_a_key_made_anew_counts_its_versions_anew() -> None:
    for waits in (True, False):
        rig = Rig()
        async with rig.streaming():
            rig.emit(upsert(1, version=5, n=5))
            await rig.until_written()
            rig.log.produce(b"books/1", None, partition=0)
            if waits:
                await rig.until_written()
            rig.emit(upsert(1, version=0, n=0))
            await rig.until_written()
        assert rig.payloads() == {1: {"n": 0}}
        assert rig.counters.discarded == 0


@virtual
async def test_the_version_of_a_patch_hides_no_image() -> None:
    rig = Rig()
    async with rig.streaming():
        late = patch(1, a=1)
        late.version = 5
        rig.emit(late)
        await rig.until_written()
        rig.emit(upsert(1, version=4, b=2))
        await rig.until_written()
    assert rig.payloads() == {1: {"b": 2}}


@virtual
async def test_events_of_other_collections_are_counted_and_passed() -> None:
    rig = Rig()
    rig.log.produce(b"films/1", None)
    async with rig.streaming():
        await rig.until_written()
    assert rig.counters.ignored == 1
    assert rig.door.batches == []


@virtual
async def test_keys_in_the_wrong_partition_are_counted_and_applied() -> None:
    rig = Rig(partitions=2, partitioner="murmur2")
    rig.emit(upsert(1), partition=0)
    rig.emit(upsert(1), partition=1)
    async with rig.streaming():
        await rig.until_written()
    assert rig.counters.misplaced == 1


@virtual
async def test_a_gap_at_the_logs_end_is_passed() -> None:
    rig = Rig()
    rig.emit(upsert(1))
    rig.log.begin_transaction(0)
    rig.emit(upsert(2))
    rig.log.end_transaction(0, commit=False)
    async with rig.streaming() as stream:
        await rig.until_written()
        assert stream.committed == {rig.first: 3}
    assert set(rig.payloads()) == {1}


# -- holding and watching ------------------------------------------------------------------


@virtual
async def test_a_held_key_is_not_written_and_its_events_follow_afterwards() -> None:
    rig = Rig()
    async with rig.streaming():
        async with rig.ownership.holds.holding([key(1)]):
            rig.emit(upsert(1), upsert(2))
            await asyncio.sleep(3)
            assert set(rig.payloads()) == {2}
        await rig.until_written()
    assert set(rig.payloads()) == {1, 2}


@virtual
async def test_holding_begins_when_the_write_under_way_has_ended() -> None:
    rig = Rig()
    rig.door.held = {1}
    async with rig.streaming():
        rig.emit(upsert(1, n=1))
        await rig.until(lambda: bool(rig.door.batches))

        async def hold() -> object:
            async with rig.ownership.holds.holding([key(1)]):
                return rig.payloads()

        holding = asyncio.create_task(hold())
        await asyncio.sleep(3)
        assert not holding.done()
        rig.door.release()
        assert await holding == {1: {"n": 1}}


@virtual
async def test_a_holder_that_gives_up_lets_go_of_its_keys() -> None:
    rig = Rig()
    rig.door.held = {1}
    async with rig.streaming():
        rig.emit(upsert(1))
        await rig.until(lambda: bool(rig.door.batches))

        async def hold() -> None:
            async with rig.ownership.holds.holding([key(1)]):
                raise AssertionError("the write has not ended")

        holding = asyncio.create_task(hold())
        await asyncio.sleep(1)
        holding.cancel()
        await asyncio.wait([holding])
        rig.door.release()
        rig.emit(upsert(1, n=2))
        await rig.until_written()
    assert rig.payloads() == {1: {"n": 2}}


@virtual
async def test_a_watched_key_tells_when_an_event_of_it_was_read() -> None:
    rig = Rig()
    holds = rig.ownership.holds
    async with rig.streaming():
        assert holds.seen(key(1))  # nobody watched: it may have been
        holds.watch([key(1), key(2)])
        assert not holds.seen(key(1))
        rig.emit(patch(1, a=1))
        await rig.until_written()
        assert holds.seen(key(1))
        assert not holds.seen(key(2))
        holds.unwatch([key(2)])
        assert holds.seen(key(2))


# -- the end, and other processes ----------------------------------------------------------


@virtual
async def test_stopping_finishes_what_is_in_flight_and_leaves_the_rest_to_the_next() -> None:
    rig = Rig(batch_records=1, in_flight_max=1)
    rig.door.held = {1}
    rig.emit(upsert(1), upsert(2))
    running = asyncio.create_task(rig.stream.run({rig.first: 0}))
    await rig.until(lambda: bool(rig.door.batches))
    rig.stream.stop()
    await asyncio.sleep(5)
    assert not running.done()
    rig.door.release()
    await running
    assert set(rig.payloads()) == {1}
    assert await rig.state.positions() == {rig.first: 1}
    assert rig.log.group == {rig.first: 1}
    assert rig.writer.guard.is_clear


@virtual
async def test_a_cancelled_stream_leaves_the_guard_to_what_may_still_land() -> None:
    rig = Rig(bound_s=5.0)
    rig.door.held = {1}
    rig.emit(upsert(1))
    running = asyncio.create_task(rig.stream.run({rig.first: 0}))
    await rig.until(lambda: bool(rig.door.batches))
    running.cancel()
    await asyncio.wait([running])
    assert not rig.writer.guard.is_clear


@virtual
async def test_a_cancelled_stream_with_nothing_in_flight_is_no_cause_to_wait() -> None:
    rig = Rig(bound_s=5.0)
    running = asyncio.create_task(rig.stream.run({rig.first: 0}))
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait([running])
    assert rig.writer.guard.is_clear


@virtual
async def test_what_a_process_before_us_persisted_is_published_too() -> None:
    rig = Rig()
    rig.emit(upsert(1))
    async with rig.streaming({rig.first: 1}):
        await rig.until(lambda: rig.log.group == {rig.first: 1})


@virtual
async def test_a_publication_that_fails_is_said_and_made_up_for() -> None:
    rig = Rig()

    rig.emit(upsert(1))
    async with rig.streaming():
        await rig.until_written()
        rig.log.away = True
        rig.emit(upsert(2))
        await asyncio.sleep(2)
        assert rig.patience.trouble is not None
        rig.log.away = False
        await rig.until_written()
        await rig.until(lambda: rig.log.group == {rig.first: 2})
        await rig.until(lambda: rig.patience.trouble is None)


@virtual
async def test_a_broker_that_is_away_is_waited_for() -> None:
    rig = Rig()
    rig.log.away = True
    rig.emit(upsert(1))
    running = asyncio.create_task(rig.stream.run({rig.first: 0}))
    await asyncio.sleep(60)
    assert rig.patience.trouble is not None
    rig.log.away = False
    await rig.until_written()
    assert rig.patience.trouble is None
    rig.stream.stop()
    await running


@virtual
async def test_a_log_that_lost_our_position_ends_the_stream() -> None:
    rig = Rig()
    rig.emit(upsert(1), upsert(2))
    rig.log.truncate(0, 2)
    with pytest.raises(Blocked) as caught:
        await rig.stream.run({rig.first: 0})
    assert caught.value.code == "log-truncated"


@virtual
async def test_a_defect_while_writing_ends_the_stream_with_nothing_persisted() -> None:
    rig = Rig()
    rig.door.errors.append(KeyError("a defect"))
    rig.emit(upsert(1))
    with pytest.raises(ExceptionGroup):
        await rig.stream.run({rig.first: 0})
    assert await rig.state.positions() == {}


@virtual
async def test_a_stream_whose_feed_is_away_stops_at_once() -> None:
    rig = Rig(backoff_max=Duration(30))
    rig.emit(upsert(1))
    async with rig.streaming():
        await rig.until_written()
        rig.log.away = True
        await rig.until(lambda: rig.patience.trouble is not None)
        await asyncio.sleep(100)
        began = now()
    assert now() - began < 1
    assert rig.patience.trouble is None


# -- positions, as others see them ---------------------------------------------------------


def slow_commits(rig: Rig, *seconds: float) -> list[int]:
    """Let the next commits take their time before they are durable; what is persisted, in
    order.
    """
    persisted: list[int] = []
    commit, delays = rig.state.commit, list(seconds)

    async def slow(positions: Positions, *more: Any, **named: Any) -> None:
        await asyncio.sleep(delays.pop(0) if delays else 0.0)
        await commit(positions, *more, **named)
        persisted.extend(positions.values())

    rig.state.commit = slow  # type: ignore[method-assign,assignment]
    return persisted


@virtual
async def test_of_two_commits_at_once_the_later_positions_are_persisted_last() -> None:
    rig = Rig(commit_interval=Duration(1000))
    async with rig.streaming() as stream:
        persisted = slow_commits(rig, 3.0)
        rig.emit(upsert(1))
        await rig.until(lambda: 1 in rig.payloads())
        first = asyncio.create_task(stream.commit())
        await asyncio.sleep(1)
        rig.emit(upsert(2))
        await rig.until(lambda: 2 in rig.payloads())
        await asyncio.gather(first, stream.commit())
        assert persisted == [1, 2]
        assert stream.committed == {rig.first: 2}


@virtual
async def test_nobody_is_shown_a_position_before_it_is_persisted() -> None:
    rig = Rig(commit_interval=Duration(1000))
    async with rig.streaming() as stream:
        slow_commits(rig, 3.0)
        rig.emit(upsert(1))
        await rig.until(lambda: 1 in rig.payloads())
        committing = asyncio.create_task(stream.commit())
        await asyncio.sleep(1)
        rig.emit(upsert(2))
        await rig.until(lambda: 2 in rig.payloads())
        await committing
        assert rig.log.group == await rig.state.positions() == {rig.first: 1}


@virtual
async def test_a_letter_that_is_made_up_for_while_another_is_being_settled_is_settled_too() -> (
    None
):
    rig = Rig(commit_interval=Duration(1000))
    async with rig.streaming() as stream:
        slow_commits(rig, 3.0)
        rig.emit_bad(1)
        rig.emit(upsert(1, n=1))
        await rig.until(lambda: rig.payloads() == {1: {"n": 1}})
        committing = asyncio.create_task(stream.commit())
        await asyncio.sleep(1)
        rig.emit_bad(1)
        rig.emit(upsert(1, n=2))
        await rig.until(lambda: rig.payloads() == {1: {"n": 2}})
        await committing
        await stream.commit()
        assert await rig.letters_now() == [
            (0, "value-malformed", "settled"),
            (2, "value-malformed", "settled"),
        ]
