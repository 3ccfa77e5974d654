"""A lane keeps the order of a key's events through deferral, and says when each may start."""

from __future__ import annotations

import pytest

from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition
from replicator.stream.coalesce import VersionWindow
from replicator.stream.lane import Added, Lane, Work

KEY = Key("books", 5)
SHOWN_S = 10.0
HELD: set[Key] = set()
"""Keys that the stream holds back; each test leaves it empty."""


def lane_of(versions: VersionWindow | None = None) -> Lane:
    return Lane(Partition("changes/0"), 0, records_max=100, held=HELD, versions=versions)


def event(op: Op, key: Key = KEY) -> ChangeEvent:
    return ChangeEvent(op=op, key=key, ts_ms=0, set={"n": 1} if op is Op.PATCH else {})


def add(lane: Lane, op: Op, offset: int, now: float, *, needs_image: bool = False) -> None:
    lane.add(
        event(op),
        lane.track(offset),
        size=1,
        at_ms=0,
        now=now,
        needs_image=needs_image,
        shown_at=now + SHOWN_S,
    )


def versioned(lane: Lane, op: Op, offset: int, version: int | None) -> Added:
    return lane.add(
        ChangeEvent(op=op, key=KEY, ts_ms=0, version=version),
        lane.track(offset),
        size=1,
        at_ms=0,
        now=0.0,
        needs_image=op is Op.PATCH,
        shown_at=SHOWN_S,
    )


def take(lane: Lane, now: float) -> list[Work]:
    return lane.take(100, 100, now)


def test_a_patch_that_needs_the_image_starts_when_the_source_must_show_it() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    assert take(lane, 9.9) == []
    [work] = take(lane, 10.0)
    assert work.event is None


def test_a_patch_behind_one_that_needs_the_image_waits_until_the_image_holds_it() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    add(lane, Op.PATCH, 1, now=5.0)
    [first] = take(lane, 10.0)
    assert first.position == 1
    lane.finish(first)
    assert take(lane, 14.9) == []
    [second] = take(lane, 15.0)
    assert (second.event, second.position) == (None, 2)


def test_a_patch_is_not_started_by_the_time_of_one_that_an_upsert_replaced() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    add(lane, Op.UPSERT, 1, now=1.0)
    [upsert] = take(lane, 1.0)
    add(lane, Op.PATCH, 2, now=5.0, needs_image=True)
    assert take(lane, 10.0) == []
    lane.finish(upsert)
    assert take(lane, 10.5) == []
    [work] = take(lane, 15.0)
    assert work.position == 3


def test_an_upsert_that_replaced_a_patch_stands_behind_both() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    add(lane, Op.UPSERT, 1, now=1.0)
    [work] = take(lane, 1.0)
    assert work.position == 2
    lane.finish(work)
    assert lane.watermark.position == 2


def test_a_delete_is_not_lost_to_a_patch_that_follows_it() -> None:
    lane = lane_of()
    add(lane, Op.DELETE, 0, now=0.0)
    add(lane, Op.PATCH, 1, now=0.0, needs_image=True)
    [work] = take(lane, 0.0)
    assert work.event is not None
    assert work.event.op is Op.DELETE


OTHER = Key("books", 6)


def plain(lane: Lane, key: Key, offset: int, **fields: object) -> None:
    """An upsert of a key."""
    upsert = ChangeEvent(op=Op.UPSERT, key=key, ts_ms=0, payload=dict(fields))
    lane.add(
        upsert,
        lane.track(offset),
        size=10,
        at_ms=offset,
        now=0.0,
        needs_image=False,
        shown_at=0.0,
    )


def test_a_key_in_flight_is_not_started_again_until_it_is_finished() -> None:
    lane = lane_of()
    plain(lane, KEY, 0)
    [first] = take(lane, 0.0)
    plain(lane, KEY, 1)
    assert take(lane, 0.0) == []
    lane.finish(first)
    [second] = take(lane, 0.0)
    assert second.position == 2


def test_events_behind_a_write_in_flight_fold_into_one() -> None:
    lane = lane_of()
    plain(lane, KEY, 0)
    [first] = take(lane, 0.0)
    plain(lane, KEY, 1, a=1)
    add(lane, Op.PATCH, 2, now=0.0)
    lane.finish(first)
    [second] = take(lane, 0.0)
    assert second.event is not None
    assert second.event.payload == {"a": 1, "n": 1}
    assert [ticket.next_offset for ticket in second.tickets] == [2, 3]


def test_a_key_in_flight_does_not_hold_others_back() -> None:
    lane = lane_of()
    plain(lane, KEY, 0)
    take(lane, 0.0)
    plain(lane, KEY, 1)
    plain(lane, OTHER, 2)
    assert [work.key for work in take(lane, 0.0)] == [OTHER]


def test_the_watermark_waits_for_the_first_record_however_many_behind_it_are_done() -> None:
    lane = lane_of()
    plain(lane, KEY, 0)
    plain(lane, OTHER, 1)
    slow, quick = take(lane, 0.0)
    lane.finish(quick)
    assert lane.watermark.position == 0
    lane.finish(slow)
    assert lane.watermark.position == 2


def test_a_held_key_starts_only_when_it_is_released() -> None:
    lane = lane_of()
    HELD.add(KEY)
    plain(lane, KEY, 0)
    plain(lane, OTHER, 1)
    assert [work.key for work in take(lane, 0.0)] == [OTHER]
    HELD.discard(KEY)
    assert [work.key for work in take(lane, 0.0)] == [KEY]


def test_a_patch_that_is_due_waits_for_a_held_key_and_is_not_forgotten() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    HELD.add(KEY)
    assert take(lane, 11.0) == []
    HELD.discard(KEY)
    [work] = take(lane, 11.0)
    assert work.event is None


def test_a_patch_that_is_due_waits_for_the_write_of_its_key() -> None:
    lane = lane_of()
    plain(lane, KEY, 0)
    [first] = take(lane, 0.0)
    add(lane, Op.PATCH, 1, now=0.0, needs_image=True)
    assert take(lane, 11.0) == []
    lane.finish(first)
    [work] = take(lane, 11.0)
    assert work.event is None


def test_a_key_that_is_patched_without_end_still_moves_the_watermark() -> None:
    lane = lane_of()
    for second in range(40):
        add(lane, Op.PATCH, second, now=float(second), needs_image=True)
        for work in take(lane, float(second)):
            lane.finish(work)
    assert lane.watermark.position == 39 - SHOWN_S + 1


def test_patches_that_are_due_together_take_one_image() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    add(lane, Op.PATCH, 1, now=1.0, needs_image=True)
    [work] = take(lane, 12.0)
    assert len(work.tickets) == 2
    lane.finish(work)
    assert (lane.watermark.position, lane.bytes, lane.is_idle) == (2, 0, True)


def test_a_delete_replaces_every_patch_that_waits() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    add(lane, Op.PATCH, 1, now=1.0, needs_image=True)
    add(lane, Op.DELETE, 2, now=2.0)
    [work] = take(lane, 2.0)
    assert work.event is not None
    assert work.event.op is Op.DELETE
    lane.finish(work)
    assert lane.watermark.position == 3
    assert take(lane, 20.0) == []


def test_a_pending_patch_joins_the_one_behind_it_that_needs_the_image() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0)
    add(lane, Op.PATCH, 1, now=1.0, needs_image=True)
    assert take(lane, 1.0) == []
    [work] = take(lane, 11.0)
    assert (work.event, len(work.tickets)) == (None, 2)
    lane.finish(work)
    assert (lane.watermark.position, lane.bytes) == (2, 0)


def test_a_patch_behind_a_pending_image_folds_into_it_and_needs_no_other() -> None:
    lane = lane_of()
    plain(lane, KEY, 0, a=1)
    add(lane, Op.PATCH, 1, now=0.0, needs_image=True)
    [work] = take(lane, 0.0)
    assert work.event is not None
    assert work.event.payload == {"a": 1, "n": 1}
    assert lane.next_due() is None


def test_what_is_due_beyond_the_room_of_a_batch_comes_with_the_next() -> None:
    lane = lane_of()
    for number in range(3):
        patch = ChangeEvent(op=Op.PATCH, key=Key("books", number), ts_ms=0, set={"n": 1})
        lane.add(
            patch,
            lane.track(number),
            size=1,
            at_ms=0,
            now=0.0,
            needs_image=True,
            shown_at=1.0,
        )
    first = lane.take(2, 100, 1.0)
    second = lane.take(2, 100, 1.0)
    assert [work.key.id for work in first + second] == [0, 1, 2]


def test_bytes_count_until_they_are_durable_and_then_no_more() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    plain(lane, KEY, 1)
    plain(lane, OTHER, 2)
    assert lane.bytes == 21
    works = take(lane, 0.0)
    assert lane.bytes == 21
    for work in works:
        lane.finish(work)
    assert lane.bytes == 0


def test_settled_records_behind_an_unsettled_one_still_fill_the_lane() -> None:
    lane = Lane(Partition("changes/0"), 0, records_max=4, held=HELD)
    plain(lane, KEY, 0)
    for offset in (1, 2, 3):
        lane.watermark.settle(lane.track(offset))
    assert lane.is_full
    assert not lane.has_room
    [work] = take(lane, 0.0)
    lane.finish(work)
    assert lane.has_room


def test_an_image_older_than_the_one_that_waits_stays_with_it_and_changes_nothing() -> None:
    lane = lane_of()
    assert versioned(lane, Op.UPSERT, 0, 2) is Added.PENDING
    assert versioned(lane, Op.DELETE, 1, 1) is Added.OUTRANKED
    [work] = take(lane, 0.0)
    assert work.event is not None
    assert (work.event.op, work.event.version, work.whole) == (Op.UPSERT, 2, 1)
    lane.finish(work)
    assert (lane.watermark.position, lane.bytes, lane.waiting_bytes) == (2, 0, 0)


def test_an_image_older_than_a_durable_one_is_void_at_once() -> None:
    versions = VersionWindow(10)
    versions.applied(ChangeEvent(op=Op.UPSERT, key=KEY, ts_ms=0, version=5))
    lane = lane_of(versions)
    assert versioned(lane, Op.UPSERT, 0, 4) is Added.VOID
    assert lane.bytes == 0


@pytest.mark.parametrize("op", [Op.UPSERT, Op.DELETE])
def test_what_waits_without_a_version_ends_the_history_that_is_durable(op: Op) -> None:
    versions = VersionWindow(10)
    versions.applied(ChangeEvent(op=Op.UPSERT, key=KEY, ts_ms=0, version=5))
    lane = lane_of(versions)
    assert versioned(lane, op, 0, None) is Added.PENDING
    assert versioned(lane, Op.UPSERT, 1, 0) is Added.COALESCED
    [work] = take(lane, 0.0)
    assert work.anew
    assert work.event is not None
    assert work.event.version == 0


def test_behind_an_image_in_flight_an_older_one_waits_to_be_judged() -> None:
    versions = VersionWindow(10)
    versions.applied(ChangeEvent(op=Op.UPSERT, key=KEY, ts_ms=0, version=5))
    lane = lane_of(versions)
    versioned(lane, Op.DELETE, 0, None)
    take(lane, 0.0)
    assert versioned(lane, Op.UPSERT, 1, 0) is Added.PENDING


def test_patches_that_an_image_replaced_leave_no_bytes_and_no_times_behind() -> None:
    lane = lane_of()
    for offset in range(0, 20, 2):
        add(lane, Op.PATCH, offset, now=0.0, needs_image=True)
        plain(lane, KEY, offset + 1)
        [work] = take(lane, 0.0)
        lane.finish(work)
    assert (lane.bytes, lane.waiting_bytes, lane.next_due()) == (0, 0, None)


def test_the_times_of_replaced_patches_do_not_outgrow_those_that_wait() -> None:
    lane = lane_of()
    lane.add(
        event(Op.PATCH, OTHER),
        lane.track(0),
        size=1,
        at_ms=0,
        now=0.0,
        needs_image=True,
        shown_at=SHOWN_S,
    )
    for offset in range(1, 2001, 2):
        add(lane, Op.PATCH, offset, now=0.0, needs_image=True)
        plain(lane, KEY, offset + 1)
        [work] = take(lane, 0.0)
        lane.finish(work)
    assert len(lane._dues) < 100
    [patch] = take(lane, SHOWN_S)
    assert patch.key == OTHER


def test_the_oldest_event_is_found_wherever_it_waits() -> None:
    lane = lane_of()
    assert lane.oldest_ms() is None
    plain(lane, OTHER, 7)
    [in_flight] = take(lane, 0.0)
    assert lane.oldest_ms() == 7
    lane.add(
        event(Op.PATCH),
        lane.track(8),
        size=1,
        at_ms=5,
        now=0.0,
        needs_image=True,
        shown_at=10.0,
    )
    assert lane.oldest_ms() == 5
    plain(lane, Key("books", 9), 9)
    lane.finish(in_flight)
    [deferred, _] = take(lane, 10.0)
    lane.finish(deferred)
    assert lane.oldest_ms() == 9


def test_a_lane_is_not_idle_while_a_patch_waits_for_its_time() -> None:
    lane = lane_of()
    add(lane, Op.PATCH, 0, now=0.0, needs_image=True)
    assert not lane.is_idle
    assert lane.next_due() == SHOWN_S


def test_a_patch_that_waits_for_the_image_hides_no_image_of_an_older_version() -> None:
    lane = lane_of()
    assert versioned(lane, Op.PATCH, 0, 7) is Added.DEFERRED
    assert versioned(lane, Op.UPSERT, 1, 6) is Added.PENDING
    [work] = take(lane, 0.0)
    assert work.event is not None
    assert (work.event.version, len(work.tickets)) == (6, 2)
    assert take(lane, SHOWN_S) == []
