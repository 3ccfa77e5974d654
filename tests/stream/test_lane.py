"""A lane keeps the order of a key's events through deferral, and says when each may start."""

from __future__ import annotations

from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.position import Partition
from replicator.stream.lane import Lane, Work

KEY = Key("books", 5)
SHOWN_S = 10.0


def lane_of() -> Lane:
    return Lane(Partition("changes/0"), 0, records_max=100)


def event(op: Op) -> ChangeEvent:
    return ChangeEvent(op=op, key=KEY, ts_ms=0, set={"n": 1} if op is Op.PATCH else {})


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
