"""
What every feed must do: one suite, run by each adapter and by the feed in memory.

Subclass `FeedConformance` in a test module and give it four fixtures:

- `log`: an `EventLog` whose `append` also takes records without a key;
- `feed`: a `ChangeFeed` of the same, still empty log, not yet opened;
- `truncate`: an async callable `(partition, before)` that deletes the records below an offset,
  as retention does;
- `renew`: an async callable that deletes the log and makes an empty one under its name, to
  which `log` then appends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import pytest

from replicator.errors import Blocked, Refused, Unavailable
from replicator.model.position import (
    Bounds,
    Partition,
    Place,
    Positions,
    Record,
    bookmark_of,
)
from replicator.ports.feed import ChangeFeed

DEADLINE_S = 60.0
"""How long a record that was appended may take to arrive, on a busy machine."""

KEY = b"articles/1"
"""Records of one key share a partition."""


class Log(Protocol):
    """The writing side, which in tests also writes records that have no key."""

    async def append(
        self,
        records: Sequence[tuple[bytes | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> list[Place]:
        """Append in order; durable on return."""
        ...


Truncate = Callable[[Partition, int], Awaitable[None]]
Renew = Callable[[], Awaitable[None]]


async def starts(feed: ChangeFeed) -> Positions:
    """The beginning of every partition."""
    return {partition: bounds.start for partition, bounds in (await feed.bounds()).items()}


async def ends(feed: ChangeFeed) -> Positions:
    """The end of every partition."""
    return {partition: bounds.end for partition, bounds in (await feed.bounds()).items()}


async def take(feed: ChangeFeed, count: int) -> tuple[list[Record], Positions]:
    """Poll until `count` records have come; returns them with the last positions seen."""
    records: list[Record] = []
    positions: Positions = {}
    async with asyncio.timeout(DEADLINE_S):
        while len(records) < count:
            polled = await feed.poll(records_max=1000, timeout_s=0.2)
            records += polled.records
            positions |= polled.positions
    assert len(records) == count, f"{len(records)} records came instead of {count}"
    return records, positions


async def reach(feed: ChangeFeed, target: Positions) -> list[Record]:
    """Poll until the feed's own positions reach `target`; returns what came on the way."""
    records: list[Record] = []
    positions: Positions = {}
    async with asyncio.timeout(DEADLINE_S):
        while any(positions.get(partition, -1) < end for partition, end in target.items()):
            polled = await feed.poll(records_max=1000, timeout_s=0.2)
            records += polled.records
            positions |= polled.positions
    return records


def numbered(count: int) -> list[tuple[bytes, bytes]]:
    """Records of one key, told apart by their values."""
    return [(KEY, b"value %d" % number) for number in range(count)]


def values(records: Sequence[Record]) -> list[bytes | None]:
    """What was appended, in the order it came."""
    return [record.value for record in records]


class FeedConformance:
    """The contract of `ChangeFeed`, clause by clause."""

    keeps_headers = True
    """Whether a record of this log can have headers."""

    @pytest.fixture
    async def partition(self, feed: ChangeFeed, log: Log) -> Partition:
        """The partition that KEY goes to, found by writing one record to it."""
        before = await feed.bounds()
        await log.append([(KEY, b"first")])
        after = await feed.bounds()
        [moved] = [name for name in after if after[name].end > before[name].end]
        return moved

    async def test_an_empty_log_ends_where_it_starts(self, feed: ChangeFeed) -> None:
        for bounds in (await feed.bounds()).values():
            assert bounds.start == bounds.end == bounds.stable

    async def test_bounds_grow_by_what_was_appended(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        before = (await feed.bounds())[partition]

        await log.append(numbered(7))

        after = (await feed.bounds())[partition]
        assert after == Bounds(start=before.start, end=before.end + 7, stable=before.end + 7)

    async def test_records_of_a_partition_come_in_the_order_they_were_appended(
        self, feed: ChangeFeed, log: Log
    ) -> None:
        await feed.open(await starts(feed))
        written = [(b"articles/%d" % (i % 7), b"%d" % i) for i in range(200)]

        await log.append(written)
        records, _ = await take(feed, len(written))

        for key in {key for key, _ in written}:
            came = [record.value for record in records if record.key == key]
            assert came == [value for written_key, value in written if written_key == key]
        for partition in {record.partition for record in records}:
            offsets = [record.offset for record in records if record.partition == partition]
            assert offsets == sorted(set(offsets))

    async def test_what_was_appended_lies_where_the_log_says(
        self, feed: ChangeFeed, log: Log
    ) -> None:
        await feed.open(await starts(feed))
        written = [(b"articles/%d" % (i % 7), b"%d" % i) for i in range(40)]

        places = await log.append(written[:20]) + await log.append(written[20:])

        assert await log.append([]) == []
        records, _ = await take(feed, len(written))
        came = {(each.partition, each.offset): (each.key, each.value) for each in records}
        assert [came[place.partition, place.offset] for place in places] == written

    async def test_headers_travel_with_each_record_or_are_refused(
        self, feed: ChangeFeed, log: Log
    ) -> None:
        await feed.open(await starts(feed))
        headers = (("trace", b"\x00\xff"), ("trace", b""), ("by", b"a test"))
        if self.keeps_headers:
            await log.append([(KEY, b"1"), (KEY, b"2")], headers)
            records, _ = await take(feed, 2)
            assert [record.headers for record in records] == [headers, headers]
            return
        with pytest.raises(Refused) as refused:
            await log.append([(KEY, b"1"), (KEY, b"2")], headers)
        assert refused.value.code == "unsupported"
        await log.append([(KEY, b"3")])
        records, _ = await take(feed, 1)  # and nothing of what was refused
        assert values(records) == [b"3"]

    async def test_a_position_is_the_next_record_to_read(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await log.append(numbered(3))
        await feed.open(await starts(feed))

        records, positions = await take(feed, 4)

        assert positions[partition] == records[-1].offset + 1
        assert positions[partition] == (await feed.bounds())[partition].end

    async def test_every_record_is_a_place_to_open_at(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await log.append(numbered(4))
        beginning = await starts(feed)
        await feed.open(beginning)
        records, _ = await take(feed, 5)

        for index in (4, 0, 2):
            await feed.open({**beginning, partition: records[index].offset})
            again, _ = await take(feed, 5 - index)
            assert again == records[index:]

    async def test_opening_at_the_end_brings_only_what_comes_later(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await feed.open(await ends(feed))

        await log.append([(KEY, b"later")])

        records, _ = await take(feed, 1)
        assert values(records) == [b"later"]
        assert records[0].partition == partition

    async def test_an_idle_poll_waits_for_its_timeout_and_no_longer(
        self, feed: ChangeFeed, partition: Partition
    ) -> None:
        await feed.open(await ends(feed))
        loop = asyncio.get_running_loop()
        began = loop.time()

        polled = await feed.poll(records_max=10, timeout_s=0.3)

        assert polled.records == []
        assert 0.25 <= loop.time() - began < 5

    async def test_a_poll_brings_at_most_what_was_asked_for_and_the_rest_follows(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await feed.open(await ends(feed))
        await log.append(numbered(50))

        records: list[Record] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(records) < 50:
                polled = await feed.poll(records_max=7, timeout_s=1)
                assert len(polled.records) <= 7
                records += polled.records

        assert values(records) == [value for _, value in numbered(50)]

    async def test_a_paused_partition_brings_nothing_and_loses_nothing(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await feed.open(await ends(feed))
        await log.append(numbered(20))
        first = await self._first(feed)

        feed.pause([partition])
        for _ in range(3):
            assert (await feed.poll(records_max=100, timeout_s=0.1)).records == []
        await log.append([(KEY, b"while paused")])
        assert (await feed.poll(records_max=100, timeout_s=0.1)).records == []
        feed.resume([partition])

        rest, _ = await take(feed, 21 - len(first))
        expected = [value for _, value in numbered(20)] + [b"while paused"]
        assert values(first + rest) == expected

    async def test_pausing_is_forgotten_when_the_feed_is_opened_again(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await feed.open(await starts(feed))
        feed.pause([partition])

        await feed.open(await starts(feed))

        records, _ = await take(feed, 1)
        assert values(records) == [b"first"]

    async def test_reading_a_range_brings_exactly_that_range(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        begin = (await feed.bounds())[partition].end
        await log.append(numbered(10))

        records = await self._read(feed, partition, begin + 2, begin + 6)

        assert [record.offset for record in records] == list(range(begin + 2, begin + 6))
        assert values(records) == [b"value 2", b"value 3", b"value 4", b"value 5"]

    async def test_an_empty_range_brings_nothing(
        self, feed: ChangeFeed, partition: Partition
    ) -> None:
        end = (await feed.bounds())[partition].end

        assert await self._read(feed, partition, end, end) == []

    async def test_reading_beside_polling_disturbs_neither(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        begin = (await feed.bounds())[partition].end
        await feed.open(await ends(feed))
        await log.append(numbered(10))
        first = await self._first(feed)

        whole = await self._read(feed, partition, begin, begin + 10)

        rest, _ = await take(feed, 10 - len(first))
        assert values(whole) == values(first + rest) == [value for _, value in numbered(10)]

    async def test_a_null_value_and_an_empty_one_stay_apart(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await feed.open(await ends(feed))

        await log.append([(KEY, None), (KEY, b"")])

        records, _ = await take(feed, 2)
        assert values(records) == [None, b""]

    async def test_a_record_without_a_key_arrives_without_one(
        self, feed: ChangeFeed, log: Log
    ) -> None:
        await feed.open(await ends(feed))

        await log.append([(None, b"keyless")])

        records, _ = await take(feed, 1)
        assert (records[0].key, records[0].value) == (None, b"keyless")

    async def test_a_large_value_arrives_whole(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await feed.open(await ends(feed))
        large = bytes(range(256)) * 3600

        await log.append([(KEY, large), (KEY, b"after it")])

        records, _ = await take(feed, 2)
        assert values(records) == [large, b"after it"]

    async def test_a_record_carries_the_time_it_entered_the_log(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await log.append([(KEY, b"second")])
        await feed.open(await starts(feed))

        records, _ = await take(feed, 2)

        assert 0 < records[0].at_ms <= records[1].at_ms

    async def test_opening_below_a_truncated_start_blocks(
        self, feed: ChangeFeed, log: Log, partition: Partition, truncate: Truncate
    ) -> None:
        beginning = await starts(feed)
        await log.append(numbered(5))
        await truncate(partition, beginning[partition] + 3)

        bounds = (await feed.bounds())[partition]

        assert bounds.start == beginning[partition] + 3
        with pytest.raises(Blocked) as blocked:
            await feed.open(beginning)
        assert blocked.value.code == "log-truncated"
        await feed.open(await starts(feed))
        records, _ = await take(feed, 3)
        assert values(records) == [b"value 2", b"value 3", b"value 4"]

    async def test_a_log_that_is_truncated_empty_keeps_its_end(
        self, feed: ChangeFeed, log: Log, partition: Partition, truncate: Truncate
    ) -> None:
        await log.append(numbered(5))
        end = (await feed.bounds())[partition].end

        await truncate(partition, end)

        assert (await feed.bounds())[partition] == Bounds(start=end, end=end, stable=end)

    async def test_a_reader_that_is_overtaken_by_retention_blocks_and_never_jumps(
        self, feed: ChangeFeed, log: Log, partition: Partition, truncate: Truncate
    ) -> None:
        await feed.open(await ends(feed))
        feed.pause([partition])
        await log.append(numbered(5))
        await truncate(partition, (await feed.bounds())[partition].end)
        await log.append([(KEY, b"after the gap")])
        feed.resume([partition])

        came: list[bytes | None] = []
        blocked_by = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while b"after the gap" not in came:
                    came += values((await feed.poll(records_max=100, timeout_s=0.2)).records)
        except Blocked as error:
            blocked_by = error.code
        # Where it does not block, what was truncated had been fetched before.
        everything = [value for _, value in numbered(5)] + [b"after the gap"]
        assert blocked_by == "log-truncated" or came == everything

    async def test_reading_a_range_that_was_truncated_blocks(
        self, feed: ChangeFeed, log: Log, partition: Partition, truncate: Truncate
    ) -> None:
        begin = (await feed.bounds())[partition].start
        await log.append(numbered(5))
        await truncate(partition, begin + 3)

        with pytest.raises(Blocked) as blocked:
            await self._read(feed, partition, begin, begin + 6)
        assert blocked.value.code == "log-truncated"

    async def test_a_position_past_the_end_is_one_of_another_log(
        self, feed: ChangeFeed, partition: Partition
    ) -> None:
        positions = await ends(feed)

        with pytest.raises(Blocked) as blocked:
            await feed.open({**positions, partition: positions[partition] + 1})
        assert blocked.value.code == "log-replaced"

    async def test_a_range_that_begins_past_the_end_is_one_of_another_log(
        self, feed: ChangeFeed, partition: Partition
    ) -> None:
        end = (await feed.bounds())[partition].end

        with pytest.raises(Blocked) as blocked:
            await self._read(feed, partition, end + 1, end + 2)
        assert blocked.value.code == "log-replaced"

    async def test_positions_of_other_partitions_block(self, feed: ChangeFeed) -> None:
        positions = await starts(feed)
        for others in ({}, {**positions, Partition("elsewhere/7"): 0}):
            with pytest.raises(Blocked) as blocked:
                await feed.open(others)
            assert blocked.value.code == "partitions-changed"

    async def test_a_part_of_the_partitions_is_read_by_whoever_knows_their_count(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        beginning = await starts(feed)
        await log.append([(b"articles/%d" % number, b"x") for number in range(60)])
        await log.append(numbered(3))
        end = await ends(feed)

        await feed.open({partition: beginning[partition]}, len(beginning))

        wanted = {partition: end[partition]}
        records = await reach(feed, wanted)
        assert {record.partition for record in records} == {partition}
        assert values(records)[0] == b"first"
        assert values(records)[-3:] == [value for _, value in numbered(3)]
        polled = await feed.poll(records_max=10, timeout_s=0.3)
        assert polled.records == [], "what lies in the others is not ours"
        assert polled.positions.keys() <= {partition}
        feed.pause([partition])
        await log.append([(KEY, b"later")])
        feed.resume([partition])
        last, _ = await take(feed, 1)
        assert values(last) == [b"later"]

    async def test_the_count_of_partitions_is_that_of_the_whole_log(
        self, feed: ChangeFeed, partition: Partition
    ) -> None:
        positions = await starts(feed)
        count = len(positions)
        part = {partition: positions[partition]}
        for given, told in (
            (part, count + 1),
            (positions, count + 1),
            ({Partition("elsewhere/7"): 0}, count),
            ({**part, Partition("elsewhere/7"): 0}, count),
        ):
            with pytest.raises(Blocked) as blocked:
                await feed.open(given, told)
            assert blocked.value.code == "partitions-changed"
        await feed.open(positions, count)

    async def test_publishing_does_not_move_the_reading(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        beginning = await starts(feed)
        await log.append(numbered(3))
        await feed.open(beginning)

        await feed.publish(await ends(feed))

        records, _ = await take(feed, 4)
        assert len(records) == 4
        await feed.open(beginning)
        again, _ = await take(feed, 4)
        assert again == records

    async def test_what_was_polled_and_dropped_comes_again_after_reopening(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        beginning = await starts(feed)
        await log.append(numbered(30))
        await feed.open(beginning)
        await self._first(feed)

        await feed.open(beginning)

        records, _ = await take(feed, 31)
        assert values(records) == [b"first", *(value for _, value in numbered(30))]

    # -- which log it is ------------------------------------------------------------------
    async def test_a_log_keeps_its_identity(
        self, feed: ChangeFeed, log: Log, partition: Partition, truncate: Truncate
    ) -> None:
        identity = await feed.identity()
        await log.append(numbered(3))
        await feed.open(await ends(feed))
        assert await feed.identity() == identity

        await feed.close()

        assert await feed.identity() == identity
        await truncate(partition, (await feed.bounds())[partition].end)
        assert await feed.identity() == identity
        assert identity.id

    async def test_a_log_made_anew_has_another_identity(
        self, feed: ChangeFeed, log: Log, partition: Partition, renew: Renew
    ) -> None:
        identity = await feed.identity()
        await feed.close()

        await renew()
        await log.append(numbered(1))

        assert await feed.identity() not in (identity, None)

    async def test_an_applied_record_is_found_again_by_its_bookmark(
        self, feed: ChangeFeed, log: Log, partition: Partition
    ) -> None:
        await log.append([(KEY, b"second"), (KEY, None), (None, b"elsewhere, maybe")])
        await feed.open(await starts(feed))
        records, _ = await take(feed, 4)
        ours = [record for record in records if record.partition == partition][:3]
        await log.append(numbered(5))

        for record in ours:
            found = await feed.bookmarks_at({partition: record.offset})
            assert found == {partition: bookmark_of(record)}
        await feed.close()
        last = {record.partition: record for record in records}
        found = await feed.bookmarks_at({name: each.offset for name, each in last.items()})
        assert found == {name: bookmark_of(each) for name, each in last.items()}

    async def test_what_is_gone_or_not_there_yet_has_no_bookmark(
        self, feed: ChangeFeed, log: Log, partition: Partition, truncate: Truncate
    ) -> None:
        start = (await feed.bounds())[partition].start
        await log.append(numbered(4))
        await truncate(partition, start + 2)

        assert await feed.bookmarks_at({partition: start}) == {}
        assert await feed.bookmarks_at({partition: start + 1}) == {}
        assert (await feed.bookmarks_at({partition: start + 2})).keys() == {partition}
        end = (await feed.bounds())[partition].end
        assert await feed.bookmarks_at({partition: end}) == {}
        assert await feed.bookmarks_at({partition: end + 900}) == {}
        assert await feed.bookmarks_at({}) == {}

    async def test_a_log_made_anew_has_other_bookmarks_at_the_same_offsets(
        self, feed: ChangeFeed, log: Log, partition: Partition, renew: Renew
    ) -> None:
        await feed.open(await starts(feed))
        [record], _ = await take(feed, 1)
        await feed.close()

        await renew()
        await log.append(numbered(1))

        [(there, found)] = (await feed.bookmarks_at({partition: record.offset})).items()
        assert there == partition
        assert found.offset == record.offset
        assert found != bookmark_of(record)

    async def test_a_log_made_anew_under_a_reader_blocks_before_its_first_record(
        self, feed: ChangeFeed, log: Log, partition: Partition, renew: Renew
    ) -> None:
        await log.append(numbered(3))
        await feed.identity()
        await feed.open(await ends(feed))
        await feed.poll(records_max=10, timeout_s=0.1)

        await renew()
        await log.append(numbered(30))

        with pytest.raises(Blocked) as blocked:
            await self._any(feed)
        assert blocked.value.code == "log-replaced"

    async def test_a_log_made_anew_is_not_opened_for_another_nor_read(
        self, feed: ChangeFeed, log: Log, partition: Partition, renew: Renew
    ) -> None:
        positions = await ends(feed)
        await feed.identity()
        await feed.close()
        await renew()
        await log.append(numbered(30))

        for attempt in (
            lambda: feed.open(positions),
            lambda: self._read(feed, partition, positions[partition], positions[partition] + 9),
        ):
            with pytest.raises(Blocked) as blocked:
                await attempt()
            assert blocked.value.code == "log-replaced"
        # Once it was told which log this is now, a person has decided that it may be read.
        await feed.identity()
        await feed.open(await starts(feed))
        records, _ = await take(feed, 30)
        assert values(records) == [value for _, value in numbered(30)]

    async def _first(self, feed: ChangeFeed) -> list[Record]:
        """A few records, so that the feed has more in its buffers."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                polled = await feed.poll(records_max=3, timeout_s=1)
                if polled.records:
                    return polled.records

    async def _any(self, feed: ChangeFeed) -> list[Record]:
        """Poll as the stream does, through Unavailable, until records come."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    polled = await feed.poll(records_max=100, timeout_s=0.2)
                except Unavailable:
                    await asyncio.sleep(0.05)
                else:
                    if polled.records:
                        return polled.records

    async def _read(
        self, feed: Any, partition: Partition, start: int, end: int
    ) -> list[Record]:
        async with asyncio.timeout(DEADLINE_S):
            return [
                record async for page in feed.read(partition, start, end) for record in page
            ]
