from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import pytest

from replicator.errors import Blocked, Refused, Unavailable
from replicator.feeds.changelog import (
    PARTITION,
    ChangelogDeadLetters,
    ChangelogEventLog,
    ChangelogFeed,
    ChangelogWriter,
)
from replicator.feeds.changelog.feed import PAGE_BYTES_MAX
from replicator.feeds.changelog.opening import connect
from replicator.feeds.changelog.queries import schema
from replicator.migration.evidence.log_identity import Standing, check_log
from replicator.model.event import Key
from replicator.model.finding import Severity
from replicator.model.letter import RejectedRecord
from replicator.model.point import ScopedId
from replicator.model.position import Bookmark, Bounds, LogIdentity, Partition, bookmark_of
from replicator.settings.feeds import ChangelogSettings
from replicator.settings.units import Duration
from replicator.testing.feed_conformance import (
    FeedConformance,
    Renew,
    Truncate,
    numbered,
    take,
    values,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "changes.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[ChangelogEventLog]:
    log = ChangelogEventLog(path)
    await log.append([])
    yield log
    await log.close()


@pytest.fixture
async def feed(path: Path, log: ChangelogEventLog) -> AsyncIterator[ChangelogFeed]:
    feed = reader(path)
    yield feed
    await feed.close()


def reader(path: Path, name: str = "articles") -> ChangelogFeed:
    return ChangelogFeed(ChangelogSettings(path=str(path), poll_interval=Duration(0.005)), name)


def execute(path: Path, *statements: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        for statement in statements:
            rows = database.execute(statement).fetchall()
        database.commit()
        return rows
    finally:
        database.close()


class TestConformance(FeedConformance):
    keeps_headers = False

    @pytest.fixture
    def truncate(self, path: Path) -> Truncate:
        async def truncate(partition: Partition, before: int) -> None:
            execute(path, f'DELETE FROM changes WHERE "offset" < {before}')

        return truncate

    @pytest.fixture
    def renew(self, path: Path, log: ChangelogEventLog) -> Renew:
        async def renew() -> None:
            await log.close()
            for file in path.parent.iterdir():
                file.unlink()
            await log.append([])

        return renew


class TestConformanceOfTablesInAFileOfTheApplication(TestConformance):
    @pytest.fixture
    def renew(self, path: Path) -> Renew:
        """The tables are dropped and made again: the file stays the same."""

        async def renew() -> None:
            names = ("", "_log", "_identity", "_readers", "_dead_letters")
            execute(path, *(f"DROP TABLE changes{name}" for name in names))
            database = sqlite3.connect(path)
            database.executescript(schema())
            database.close()

        return renew


async def test_offsets_begin_at_one(feed: ChangelogFeed, log: ChangelogEventLog) -> None:
    assert await feed.bounds() == {PARTITION: Bounds(start=1, end=1, stable=1)}
    await feed.open({PARTITION: 1})

    await log.append([(b"articles/1", b"x")])

    [record], positions = await take(feed, 1)
    assert (record.offset, positions) == (1, {PARTITION: 2})


async def test_a_transaction_that_is_rolled_back_leaves_no_trace(
    feed: ChangelogFeed, log: ChangelogEventLog, path: Path
) -> None:
    await log.append([(b"articles/1", b"before")])
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN")
    ChangelogWriter.insert(database, b"articles/1", b"undone")
    database.execute("ROLLBACK")
    database.close()
    await log.append([(b"articles/1", b"after")])
    await feed.open({PARTITION: 1})

    records, positions = await take(feed, 2)

    assert values(records) == [b"before", b"after"]
    assert positions == {PARTITION: (await feed.bounds())[PARTITION].end}


async def test_offsets_that_were_never_used_are_stepped_over(
    feed: ChangelogFeed, path: Path
) -> None:
    execute(
        path, """INSERT INTO changes ("offset", key, value) VALUES (41, 'articles/1', 'x')"""
    )
    await feed.open({PARTITION: 3})

    [record], positions = await take(feed, 1)

    assert (record.offset, positions) == (41, {PARTITION: 42})


async def test_an_uncommitted_row_is_not_seen_until_it_is_committed(
    feed: ChangelogFeed, path: Path
) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN")
    ChangelogWriter.insert(database, b"articles/1", b"slow")
    await feed.open({PARTITION: 1})

    assert (await feed.poll(10, 0.05)).records == []
    assert (await feed.bounds())[PARTITION].end == 1
    database.execute("COMMIT")
    database.close()

    records, _ = await take(feed, 1)
    assert values(records) == [b"slow"]


async def test_writers_in_many_threads_lose_nothing_and_keep_their_order(
    feed: ChangelogFeed, path: Path
) -> None:
    await feed.open({PARTITION: 1})

    def write(name: int) -> None:
        with ChangelogWriter(path) as writer:
            for number in range(50):
                writer.append([(b"articles/%d" % name, b"%d" % number)])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    records, _ = await take(feed, 200)
    for thread in threads:
        await asyncio.to_thread(thread.join)

    assert [record.offset for record in records] == list(range(1, 201))
    for name in range(4):
        mine = [record.value for record in records if record.key == b"articles/%d" % name]
        assert mine == [b"%d" % number for number in range(50)]


async def test_text_written_by_a_shell_arrives_as_utf8(feed: ChangelogFeed, path: Path) -> None:
    execute(path, "INSERT INTO changes (key, value) VALUES ('articles/1', '{\"π\": 1}')")
    await feed.open({PARTITION: 1})

    [record], _ = await take(feed, 1)

    assert (record.key, record.value) == (b"articles/1", '{"π": 1}'.encode())


async def test_a_row_deleted_in_the_middle_blocks_those_before_it(
    feed: ChangelogFeed, log: ChangelogEventLog, path: Path
) -> None:
    await log.append([(b"articles/1", b"%d" % number) for number in range(5)])
    execute(path, 'DELETE FROM changes WHERE "offset" = 3')

    with pytest.raises(Blocked) as blocked:
        await feed.open({PARTITION: 2})
    assert blocked.value.code == "log-truncated"
    await feed.open({PARTITION: 4})


async def test_a_row_cannot_be_changed_afterwards(log: ChangelogEventLog, path: Path) -> None:
    await log.append([(b"articles/1", b"x")])

    with pytest.raises(sqlite3.IntegrityError, match="never updated"):
        execute(path, "UPDATE changes SET value = 'y'")


async def test_a_key_that_is_a_number_is_refused_where_it_is_written(
    log: ChangelogEventLog, path: Path
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        execute(path, "INSERT INTO changes (key, value) VALUES (7, 'x')")


async def test_pruning_waits_for_the_slowest_reader(
    feed: ChangelogFeed, log: ChangelogEventLog, path: Path
) -> None:
    await log.append([(b"articles/1", b"%d" % number) for number in range(9)])
    slow = reader(path, "slow")
    with ChangelogWriter(path) as writer:
        assert writer.prune(keep_s=-60) == 0, "nobody has published a position"

        await feed.publish({PARTITION: 8})
        await slow.publish({PARTITION: 4})

        assert writer.prune(keep_s=3600) == 0, "all rows are younger"
        assert writer.prune(keep_s=-60) == 3
        await slow.publish({PARTITION: 9})
        assert writer.prune(keep_s=-60) == 4
    await slow.close()
    assert (await feed.bounds())[PARTITION] == Bounds(start=8, end=10, stable=10)


async def test_a_page_is_bounded_in_bytes_too(
    feed: ChangelogFeed, log: ChangelogEventLog
) -> None:
    value = bytes(PAGE_BYTES_MAX // 40)
    await log.append([(b"articles/1", value)] * 200)
    await feed.open({PARTITION: 1})

    polled = await feed.poll(1000, 1)

    assert sum(record.size for record in polled.records) >= PAGE_BYTES_MAX
    assert len(polled.records) <= 40 + 32


async def test_a_missing_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    feed = reader(tmp_path / "absent.db")

    with pytest.raises(Refused, match="there is no change log") as refused:
        await feed.bounds()

    assert refused.value.code == "topic-missing"
    assert not (tmp_path / "absent.db").exists(), "a reader makes no file"
    [finding] = await feed.check()
    assert (finding.severity, finding.code) == (Severity.BLOCKS, "topic-missing")
    await feed.close()


async def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("not a database, but long enough to be looked at as one" * 40)
    feed = reader(other)

    with pytest.raises(Refused, match="no SQLite file"):
        await feed.open({PARTITION: 1})
    await feed.close()


async def test_a_table_without_its_triggers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partial.db"
    database = sqlite3.connect(path)
    database.executescript(schema())
    database.execute("DROP TRIGGER changes_pruned")
    database.close()
    feed = reader(path)

    with pytest.raises(Refused, match="holds a part of a change log"):
        await feed.bounds()
    await feed.close()


async def test_a_log_of_a_newer_format_is_refused(log: ChangelogEventLog, path: Path) -> None:
    execute(path, "UPDATE changes_log SET format = 2")
    feed = reader(path)

    with pytest.raises(Refused) as refused:
        await feed.bounds()
    assert refused.value.code == "unsupported"
    await feed.close()


async def test_a_log_that_is_replaced_while_it_is_read_blocks(
    feed: ChangelogFeed, log: ChangelogEventLog, path: Path
) -> None:
    await feed.open({PARTITION: 1})
    await log.close()
    path.unlink()
    with ChangelogWriter(path) as writer:
        writer.append([(b"articles/1", b"of another life")])

    with pytest.raises(Blocked) as blocked:
        await feed.poll(10, 1)
    assert blocked.value.code == "log-replaced"


def of_the_release_before(path: Path) -> None:
    execute(path, "DROP TABLE changes_identity")


async def test_a_log_of_the_release_before_is_given_an_identity_by_the_first_reader(
    log: ChangelogEventLog, path: Path
) -> None:
    await log.append(numbered(3))
    of_the_release_before(path)
    first, second = reader(path), reader(path)
    await first.open({PARTITION: 1})
    [(tables,)] = execute(
        path, "SELECT count(*) FROM sqlite_master WHERE name = 'changes_identity'"
    )
    assert tables == 0, "opening writes nothing"

    identity = await first.identity()

    assert identity.id
    assert await second.identity() == identity
    with ChangelogWriter(path):
        assert await first.identity() == identity, "a writer leaves it as it is"
    records, _ = await take(first, 3)
    assert len(records) == 3
    await first.close()
    await second.close()


async def test_a_log_of_the_release_before_is_given_an_identity_by_the_first_writer(
    log: ChangelogEventLog, path: Path
) -> None:
    of_the_release_before(path)
    with ChangelogWriter(path):
        pass
    [(written,)] = execute(path, "SELECT id FROM changes_identity")
    feed = reader(path)
    assert (await feed.identity()).id == written
    await feed.close()


async def test_a_log_of_the_release_before_that_cannot_be_written_is_read_without_identity(
    log: ChangelogEventLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append(numbered(3))
    of_the_release_before(path)
    feed = reader(path)

    async def read_only(self: ChangelogFeed) -> aiosqlite.Connection:
        database = await connect(path)
        await database.execute_fetchall("PRAGMA query_only = 1")
        self._publisher = database
        return database

    monkeypatch.setattr(ChangelogFeed, "_writable", read_only)
    assert await feed.identity() == LogIdentity(None)
    await feed.open({PARTITION: 1})
    records, _ = await take(feed, 3)
    assert len(records) == 3
    assert (await feed.bookmarks_at({PARTITION: 2}))[PARTITION] == bookmark_of(records[1])
    await feed.close()


async def test_a_log_made_anew_by_a_writer_that_gives_none_does_not_pass_for_the_old_one(
    log: ChangelogEventLog, path: Path
) -> None:
    await log.append(numbered(3))
    feed = reader(path)
    before = await feed.identity()
    await feed.close()
    await log.close()
    for file in path.parent.iterdir():
        file.unlink()
    with ChangelogWriter(path) as writer:
        writer.append(numbered(9))
    of_the_release_before(path)

    with pytest.raises(Blocked) as blocked:
        await feed.open({PARTITION: 4})
    assert blocked.value.code == "log-replaced"
    assert await feed.identity() not in (before, LogIdentity(None))
    await feed.close()


async def test_a_log_that_is_removed_while_it_is_read_blocks(
    feed: ChangelogFeed, log: ChangelogEventLog, path: Path
) -> None:
    await feed.open({PARTITION: 1})
    await log.close()
    path.unlink()
    with pytest.raises(Blocked) as blocked:
        await feed.poll(10, 1)
    assert blocked.value.code == "log-truncated"


async def test_a_healthy_log_has_no_findings(feed: ChangelogFeed) -> None:
    assert await feed.check() == []


async def test_a_log_outside_write_ahead_mode_is_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "rollback.db"
    database = sqlite3.connect(path)
    database.executescript(schema())
    database.close()
    feed = reader(path)

    [finding] = await feed.check()

    assert finding.severity is Severity.WARNS
    assert "journal mode delete" in finding.message
    await feed.close()


async def test_a_writer_that_holds_the_file_too_long_is_said_to_be_in_the_way(
    path: Path, log: ChangelogEventLog
) -> None:
    holder = sqlite3.connect(path, isolation_level=None)
    with ChangelogWriter(path, busy_timeout_s=0.05) as writer:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            writer.append([(b"articles/1", b"x")])
        holder.execute("COMMIT")
        writer.append([(b"articles/1", b"y")])
    holder.close()


async def test_an_append_is_all_or_nothing(feed: ChangelogFeed, path: Path) -> None:
    with ChangelogWriter(path) as writer:
        bad: list[tuple[bytes | None, bytes | None]] = [(b"articles/1", b"x"), (7, b"y")]  # type: ignore[list-item]
        with pytest.raises(sqlite3.IntegrityError):
            writer.append(bad)

        assert (await feed.bounds())[PARTITION].end == 1
        writer.append([(b"articles/1", b"z")])
    assert (await feed.bounds())[PARTITION].end == 2


@pytest.mark.parametrize(
    "event_key",
    [
        None,
        Key("articles", 2**64 - 1),
        Key("articles", "7"),
        Key("", "ü/ %"),
        Key("articles", ScopedId("ü/ %", 7)),
        Key("articles", ScopedId("7", "7")),
    ],
)
async def test_a_dead_letter_comes_back_as_it_was_kept(
    path: Path, event_key: Key | None
) -> None:
    letters = ChangelogDeadLetters(path)
    first = RejectedRecord(
        key=b"articles/1",
        value=b"\x00\xff",
        headers=(("a", b"1"), ("a", b"\x00")),
        code="value-malformed",
        path="vectors.title",
        message="not a map",
        at=1_700_000_000.123456,
        partition=PARTITION,
        offset=17,
        event_key=event_key,
    )
    second = RejectedRecord(
        key=None, value=None, code="key-missing", path="", message="no key", at=1.5
    )

    refs = await letters.keep([first, second])

    assert len(set(refs)) == 2
    assert await letters.load(refs[0]) == first
    assert await letters.load(refs[1]) == second
    await letters.close()


@pytest.mark.parametrize("ref", ["changes_dead_letters/99", "elsewhere/1", "x", ""])
async def test_a_dead_letter_that_is_not_held_is_not_found(path: Path, ref: str) -> None:
    letters = ChangelogDeadLetters(path)

    with pytest.raises(Refused) as refused:
        await letters.load(ref)
    assert refused.value.code == "not-found"
    await letters.close()


async def test_dead_letters_that_cannot_be_written_are_tried_again(tmp_path: Path) -> None:
    letters = ChangelogDeadLetters(tmp_path / "no such folder" / "changes.db")
    record = RejectedRecord(key=b"k", value=None, code="internal", path="", message="", at=0.0)

    with pytest.raises(Unavailable) as unavailable:
        await letters.keep([record])
    assert unavailable.value.code == "dead-letters-unavailable"
    await letters.close()


def test_the_documented_script_is_the_one_in_force() -> None:
    page = Path(__file__).parents[2] / "docs" / "changelog-format.md"

    assert schema().split("\n\n", 1)[1].strip() in page.read_text(encoding="utf-8")


# -- whether it is still ours --------------------------------------------------------------


async def judged(path: Path, known: LogIdentity, marks: dict[Partition, Bookmark]) -> Standing:
    """What a process that starts now finds, with everything up to offset 6 applied."""
    feed = reader(path)
    try:
        verdict = await check_log(feed, known=known, positions={PARTITION: 6}, bookmarks=marks)
        return verdict.standing
    finally:
        await feed.close()


async def test_a_file_made_anew_or_restored_from_before_is_told_from_ours(
    feed: ChangelogFeed, log: ChangelogEventLog, path: Path, tmp_path: Path
) -> None:
    await log.append(numbered(2))
    before = tmp_path / "backup" / "changes.db"
    before.parent.mkdir()
    execute(path, f"VACUUM INTO '{before}'")
    await log.append(numbered(3))
    known = await feed.identity()
    await feed.open({PARTITION: 1})
    records, _ = await take(feed, 5)
    marks = {PARTITION: bookmark_of(records[-1])}
    await feed.close()
    await log.close()
    assert await judged(path, known, marks) is Standing.SAME

    # Of a copy from before, the identity is the same and the past another.
    assert await judged(before, known, marks) is Standing.BEYOND
    with ChangelogWriter(before) as writer:
        writer.append([(b"articles/1", b"another %d" % number) for number in range(9)])
    assert await judged(before, known, marks) is Standing.OTHER

    for file in path.parent.glob("changes.db*"):
        file.unlink()
    with ChangelogWriter(path) as writer:
        assert await judged(path, known, marks) is Standing.OTHER
        writer.append(numbered(9))
    assert await judged(path, known, marks) is Standing.OTHER
