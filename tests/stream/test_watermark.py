from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.model.position import Partition, Record
from replicator.stream.watermark import CommitWatermark


def record(offset: int) -> Record:
    return Record(Partition("changes/0"), offset, b"k", b"%d" % offset, 1)


def test_nothing_is_safe_to_commit_before_the_first_record_settles() -> None:
    watermark = CommitWatermark(7)
    watermark.track(7)
    assert (watermark.position, watermark.tracked_to, watermark.pending) == (7, 8, 1)


def test_the_position_waits_for_the_oldest_record_however_many_settle_behind_it() -> None:
    watermark = CommitWatermark(0)
    first, *others = [watermark.track(offset) for offset in range(5)]
    for ticket in others:
        watermark.settle(ticket)
    assert watermark.position == 0
    watermark.settle(first)
    assert watermark.position == 5
    assert watermark.pending == 0


def test_a_gap_between_records_does_not_stop_the_position() -> None:
    watermark = CommitWatermark(0)
    tickets = [watermark.track(offset) for offset in (0, 3, 9)]
    for ticket in tickets:
        watermark.settle(ticket)
    assert watermark.position == 10


def test_a_gap_at_the_end_is_passed_at_once_when_nothing_is_pending() -> None:
    watermark = CommitWatermark(4)
    watermark.advance(6)
    assert (watermark.position, watermark.tracked_to) == (6, 6)


def test_a_gap_at_the_end_is_passed_only_when_the_records_before_it_are_durable() -> None:
    watermark = CommitWatermark(0)
    ticket = watermark.track(0)
    watermark.advance(5)
    assert watermark.position == 0
    watermark.settle(ticket)
    assert watermark.position == 5


def test_a_position_that_was_passed_already_changes_nothing() -> None:
    watermark = CommitWatermark(9)
    watermark.advance(3)
    assert (watermark.position, watermark.tracked_to) == (9, 9)


def test_a_feed_that_goes_backwards_is_a_defect() -> None:
    watermark = CommitWatermark(0)
    watermark.track(4)
    with pytest.raises(AssertionError, match="backwards"):
        watermark.track(4)


def test_a_record_behind_an_announced_gap_is_a_defect() -> None:
    watermark = CommitWatermark(0)
    watermark.advance(5)
    with pytest.raises(AssertionError, match="backwards"):
        watermark.track(4)


def test_a_ticket_settled_twice_is_a_defect() -> None:
    watermark = CommitWatermark(0)
    ticket = watermark.track(0)
    watermark.settle(ticket)
    with pytest.raises(AssertionError, match="once"):
        watermark.settle(ticket)


def test_the_last_record_passed_is_the_one_before_the_position_however_they_settle() -> None:
    watermark = CommitWatermark(0)
    tickets = [watermark.track(offset, record(offset)) for offset in (0, 1, 5)]
    assert watermark.last is None
    watermark.settle(tickets[1])
    assert (watermark.position, watermark.last) == (0, None)
    watermark.settle(tickets[0])
    assert (watermark.position, watermark.last) == (2, record(1))
    watermark.settle(tickets[2])
    watermark.advance(9)
    assert (watermark.position, watermark.last) == (9, record(5)), "a gap is no record"


def test_a_ticket_that_was_passed_holds_no_record_any_more() -> None:
    watermark = CommitWatermark(0)
    tickets = [watermark.track(offset, record(offset)) for offset in range(3)]
    for ticket in tickets:
        watermark.settle(ticket)
    assert [ticket.record for ticket in tickets] == [None, None, None]


@given(
    gaps=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    end_gap=st.integers(0, 3),
    data=st.data(),
)
def test_the_position_never_passes_a_record_that_is_not_settled_and_reaches_the_end(
    gaps: list[int], end_gap: int, data: st.DataObject
) -> None:
    watermark = CommitWatermark(0)
    offsets: list[int] = []
    for gap in gaps:
        offsets.append((offsets[-1] + 1 if offsets else 0) + gap)
    tickets = {offset: watermark.track(offset) for offset in offsets}
    end = offsets[-1] + 1 + end_gap
    watermark.advance(end)

    unsettled = set(offsets)
    for offset in data.draw(st.permutations(offsets)):
        watermark.settle(tickets[offset])
        unsettled.remove(offset)
        assert watermark.position <= min(unsettled, default=end)
        # …and it is as far as it may be, up to the gap before the first unsettled record.
        behind = [o + 1 for o in offsets if o < min(unsettled, default=end)]
        assert watermark.position >= max(behind, default=0)
    assert watermark.position == end
