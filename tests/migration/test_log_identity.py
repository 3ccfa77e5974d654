"""Which log it is: the verdict on every way in which a log can stop being ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator.errors import Blocked, Unavailable
from replicator.migration.evidence.log_identity import (
    Evidence,
    Standing,
    Verdict,
    bookmarks_before,
    check_log,
    judge,
)
from replicator.model.position import (
    Bookmark,
    Bounds,
    LogIdentity,
    Partition,
    Positions,
    bookmark_of,
)
from replicator.testing.memory_feed import MemoryLog

ZERO, ONE = Partition("changes/0"), Partition("changes/1")


class Applied:
    """A log of two partitions that was applied to its end, and what is persisted of that."""

    def __init__(self, *, identified: bool = True) -> None:
        self.log = MemoryLog(partitions=2, identified=identified)
        self.fill(b"ours", 5)
        self.known: LogIdentity | None = self.log.identity
        self.positions: Positions = {p: at.end for p, at in self.log.bounds().items()}
        self.bookmarks = {each.partition: bookmark_of(each) for each in self.log.records()}

    def fill(self, value: bytes, count: int) -> None:
        for partition in (0, 1):
            for number in range(count):
                self.log.produce(b"k%d" % number, value, partition=partition)

    def cut(self, partition: int, count: int) -> None:
        """An unclean election: the tail is gone."""
        entries = self.log.log_of(self.log.name(partition)).entries
        del entries[len(entries) - count :]

    async def verdict(self) -> Verdict:
        return await check_log(
            self.log.attach(),
            known=self.known,
            positions=self.positions,
            bookmarks=self.bookmarks,
        )


IDENTIFIED = pytest.mark.parametrize("identified", [True, False])


@IDENTIFIED
async def test_a_log_that_only_grew_is_the_same(identified: bool) -> None:
    applied = Applied(identified=identified)
    assert (await applied.verdict()).standing is Standing.SAME
    applied.fill(b"more", 9)
    assert (await applied.verdict()).standing is Standing.SAME


@IDENTIFIED
async def test_a_log_made_anew_that_grew_past_our_position_is_another(identified: bool) -> None:
    applied = Applied(identified=identified)
    applied.log.make_anew()
    applied.fill(b"theirs", 9)
    verdict = await applied.verdict()
    assert verdict.standing is Standing.OTHER
    expected = "changes 2" if identified else "changes/0 holds another record at offset 4"
    assert expected in verdict.message


async def test_a_log_made_anew_is_another_at_once_where_it_has_an_identity() -> None:
    applied = Applied()
    applied.log.make_anew()
    assert (await applied.verdict()).standing is Standing.OTHER


async def test_a_log_without_identity_that_is_shorter_than_our_position_is_beyond() -> None:
    applied = Applied(identified=False)
    applied.log.make_anew()
    verdict = await applied.verdict()
    assert verdict.standing is Standing.BEYOND
    assert verdict.message == "changes/0 ends at 0, before our position 5"


async def test_a_tail_that_was_cut_off_is_beyond_and_another_once_it_has_grown_again() -> None:
    applied = Applied()
    applied.cut(1, 2)
    verdict = await applied.verdict()
    assert verdict.standing is Standing.BEYOND
    assert verdict.message.startswith("changes/1 ends at 3")
    applied.fill(b"after the election", 2)
    verdict = await applied.verdict()
    assert verdict.standing is Standing.OTHER
    assert verdict.message.startswith("changes/1 holds another record at offset 4")


async def test_another_record_decides_though_another_partition_is_beyond() -> None:
    applied = Applied()
    applied.cut(0, 1)
    applied.cut(1, 1)
    applied.log.produce(b"k4", b"after the election", partition=1)
    assert (await applied.verdict()).standing is Standing.OTHER


async def test_the_identity_decides_where_retention_took_the_bookmarks() -> None:
    applied = Applied()
    for partition in (0, 1):
        applied.log.truncate(partition, 5)
    assert (await applied.verdict()).standing is Standing.SAME


async def test_a_log_without_identity_and_bookmarks_is_unprovable() -> None:
    applied = Applied(identified=False)
    for partition in (0, 1):
        applied.log.truncate(partition, 5)
    verdict = await applied.verdict()
    assert verdict.standing is Standing.UNPROVABLE
    assert "changes/0, changes/1" in verdict.message
    applied.bookmarks = {}
    assert (await applied.verdict()).standing is Standing.UNPROVABLE


async def test_one_partition_that_is_proven_proves_a_log_without_identity() -> None:
    applied = Applied(identified=False)
    applied.log.truncate(0, 5)
    assert (await applied.verdict()).standing is Standing.SAME


async def test_a_log_of_which_nothing_was_ever_read_needs_no_proof() -> None:
    applied = Applied(identified=False)
    applied.positions = {ZERO: 0, ONE: 0}
    applied.bookmarks = {}
    assert (await applied.verdict()).standing is Standing.SAME


@IDENTIFIED
async def test_a_state_of_the_version_before_adopts_the_identity_it_finds(
    identified: bool,
) -> None:
    applied = Applied(identified=identified)
    applied.known, applied.bookmarks = None, {}
    verdict = await applied.verdict()
    assert (verdict.standing, verdict.identity) == (Standing.ADOPTED, applied.log.identity)


async def test_no_identity_is_adopted_against_a_bookmark_or_a_position() -> None:
    applied = Applied()
    applied.known = None
    applied.log.make_anew()
    assert (await applied.verdict()).standing is Standing.BEYOND
    applied.fill(b"theirs", 9)
    assert (await applied.verdict()).standing is Standing.OTHER


async def test_an_identity_that_a_newer_broker_tells_is_adopted() -> None:
    applied = Applied(identified=False)
    applied.log.identified = True
    verdict = await applied.verdict()
    assert (verdict.standing, verdict.identity) == (Standing.ADOPTED, applied.log.identity)


async def test_a_broker_that_no_longer_tells_an_identity_is_believed_by_the_bookmarks() -> None:
    applied = Applied()
    applied.log.identified = False
    assert (await applied.verdict()).standing is Standing.SAME
    applied.log.make_anew()
    applied.fill(b"theirs", 9)
    assert (await applied.verdict()).standing is Standing.OTHER


async def test_a_feed_that_does_not_answer_gives_no_verdict() -> None:
    applied = Applied()
    applied.log.away = True
    with pytest.raises(Unavailable):
        await applied.verdict()


async def test_the_feed_keeps_to_the_log_of_the_verdict() -> None:
    applied = Applied()
    feed = applied.log.attach()
    await check_log(
        feed,
        known=applied.known,
        positions=applied.positions,
        bookmarks=applied.bookmarks,
    )
    applied.log.make_anew()
    applied.fill(b"theirs", 9)
    with pytest.raises(Blocked) as blocked:
        await feed.open(applied.positions)
    assert blocked.value.code == "log-replaced"


async def test_a_capture_has_bookmarks_before_anything_was_applied() -> None:
    applied = Applied(identified=False)
    feed = applied.log.attach()
    assert await bookmarks_before(feed, applied.positions) == applied.bookmarks
    assert await bookmarks_before(feed, {ZERO: 0, ONE: 0}) == {}


MARKS = st.builds(Bookmark, st.integers(0, 3), st.just(1), st.sampled_from("de"))
PARTITIONS = st.sampled_from([ZERO, ONE])


@given(
    known=st.none() | st.builds(LogIdentity, st.none() | st.just("a")),
    identity=st.builds(LogIdentity, st.none() | st.just("a")),
    positions=st.dictionaries(PARTITIONS, st.integers(0, 5)),
    ends=st.dictionaries(PARTITIONS, st.integers(0, 5)),
    bookmarks=st.dictionaries(PARTITIONS, MARKS),
    found=st.dictionaries(PARTITIONS, MARKS),
)
def test_no_log_is_ours_that_holds_another_record_or_ends_before_us(
    known: LogIdentity | None,
    identity: LogIdentity,
    positions: Positions,
    ends: Positions,
    bookmarks: dict[Partition, Bookmark],
    found: dict[Partition, Bookmark],
) -> None:
    found = {partition: mark for partition, mark in found.items() if partition in bookmarks}
    bounds = {
        partition: Bounds(start=0, end=end, stable=end) for partition, end in ends.items()
    }
    verdict = judge(
        Evidence(known=known, positions=positions, bookmarks=bookmarks),
        identity=identity,
        bounds=bounds,
        found=found,
    )
    differs = any(bookmarks[partition] != mark for partition, mark in found.items())
    beyond = any(positions.get(partition, 0) > end for partition, end in ends.items())
    assert (verdict.standing is Standing.OTHER) == differs
    assert (verdict.standing is Standing.BEYOND) == (beyond and not differs)
    assert verdict.identity == identity
