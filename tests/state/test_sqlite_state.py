from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replicator.errors import Fatal, Refused
from replicator.model.event import Key
from replicator.model.position import Partition, Place
from replicator.state.queries import load_queries
from replicator.state.sqlite import SqliteStateStore
from replicator.testing.state_conformance import (
    P0,
    Reopen,
    StateConformance,
    entry,
    record,
    rejected,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "state.db"


class TestSqliteState(StateConformance):
    @pytest.fixture
    async def reopen(self, path: Path) -> AsyncIterator[Reopen]:
        opened: list[SqliteStateStore] = []

        async def reopen() -> SqliteStateStore:
            if opened:
                await opened[-1].close()
            opened.append(await SqliteStateStore.open(path))
            return opened[-1]

        yield reopen
        if opened:
            await opened[-1].close()

    @pytest.fixture
    async def beside(self, path: Path) -> AsyncIterator[Reopen]:
        opened: list[SqliteStateStore] = []

        async def beside() -> SqliteStateStore:
            # As on a file system that ignores locks: this one is another file's.
            path.with_name(path.name + ".lock").unlink()
            opened.append(await SqliteStateStore.open(path))
            return opened[-1]

        yield beside
        for state in opened:
            await state.close()


CHILD = """
import asyncio, sys
from replicator.model.event import Key
from replicator.model.position import Partition
from replicator.state.sqlite import SqliteStateStore
from replicator.testing.state_conformance import entry, record

async def main(path):
    state = await SqliteStateStore.open(path)
    kept = await state.load()
    before = kept.revision if kept else 0
    print("open", flush=True)
    n = 0
    while True:
        n += 1
        await state.commit({Partition(f"changes/{p}"): n for p in range(500)}, {})
        await state.save(record(tries=n, revision=before + n), entry(str(n)))
        print(n, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def child(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


@pytest.mark.crash
async def test_every_write_that_returned_survives_kill_9(path: Path) -> None:
    reported = 0
    for lines in (1, 7, 20):
        process = child(path)
        assert process.stdout is not None
        for _ in range(lines):
            reported = int(process.stdout.readline())
        process.kill()
        rest = process.communicate()[0].split("\n")[:-1]  # a line cut short was not reported
        reported = int(rest[-1]) if rest else reported

        state = await SqliteStateStore.open(path)
        positions = set((await state.positions()).values())
        loaded = await state.load()
        await state.close()

        assert len(positions) == 1, "a commit of 500 partitions is one transaction"
        assert positions.pop() in (reported, reported + 1)
        assert loaded is not None
        assert loaded.tries in (reported, reported + 1)


@pytest.mark.crash
async def test_the_lock_of_a_killed_daemon_is_free_at_once(path: Path) -> None:
    process = child(path)
    with pytest.raises(Refused, match=str(process.pid)) as refused:
        await SqliteStateStore.open(path)
    assert refused.value.code == "state-locked"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    await (await SqliteStateStore.open(path)).close()


async def test_status_reads_beside_a_running_daemon_and_sees_its_writes(path: Path) -> None:
    daemon = await SqliteStateStore.open(path)
    await daemon.save(record(), entry())
    reader = await SqliteStateStore.open(path, read_only=True)
    assert await reader.load() == record()
    await daemon.commit({P0: 7}, {})
    assert await reader.positions() == {P0: 7}
    with pytest.raises(AssertionError):
        await reader.mark_clean()
    await reader.close()
    await daemon.close()


@pytest.mark.crash
async def test_status_reads_what_a_killed_daemon_left_in_its_log(path: Path) -> None:
    process = child(path)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    reader = await SqliteStateStore.open(path, read_only=True)
    assert len(await reader.positions()) == 500
    await reader.close()


async def test_reading_a_state_that_does_not_exist_creates_nothing(path: Path) -> None:
    with pytest.raises(Refused) as refused:
        await SqliteStateStore.open(path, read_only=True)
    assert refused.value.code == "state-missing"
    assert not path.parent.exists()


async def test_a_refused_state_is_not_kept_locked(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, and long enough to be looked at" * 10)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await SqliteStateStore.open(path)
        assert refused.value.code == "config-invalid"


async def test_the_sqlite_file_of_another_program_is_refused(path: Path) -> None:
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE changes (k, v)")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(Refused, match="another use"):
        await SqliteStateStore.open(path)
    assert path.read_bytes() == before


async def test_a_state_that_cannot_be_opened_is_fatal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Fatal) as fatal:
        await SqliteStateStore.open(tmp_path / "file" / "state.db")
    assert fatal.value.code == "state-failed"


async def test_a_full_disk_is_fatal_and_changes_nothing(path: Path) -> None:
    state = await SqliteStateStore.open(path)
    await state.commit({P0: 1}, {})
    connection = state._database._connection
    [(pages,)] = await connection.execute_fetchall("PRAGMA page_count")
    await connection.execute_fetchall(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Fatal) as fatal:
        await state.put("report", os.urandom(1 << 20))
    assert fatal.value.code == "state-failed"
    assert await state.get("report") is None
    assert await state.positions() == {P0: 1}
    await state.close()


async def test_commits_are_synced_before_they_return(path: Path) -> None:
    state = await SqliteStateStore.open(path)
    [(synchronous,)] = await state._database._connection.execute_fetchall("PRAGMA synchronous")
    [(mode,)] = await state._database._connection.execute_fetchall("PRAGMA journal_mode")
    await state.close()
    assert (synchronous, mode) == (2, "wal")


async def test_every_query_is_valid_against_the_migrated_schema(path: Path) -> None:
    await (await SqliteStateStore.open(path)).close()
    database = sqlite3.connect(path)
    for name, sql in load_queries().items():
        values = dict.fromkeys(
            (word.strip("(),;") for word in sql.replace(":", " :").split() if word[0] == ":"),
            "0",
        )
        database.execute(f"EXPLAIN {sql}", {k[1:]: v for k, v in values.items()})
        assert name
    database.close()


@pytest.mark.parametrize(
    ("query", "values"),
    [("settle", {"below": "{}", "direction": "forward"}), ("letters_of", {"keys": "[]"})],
)
async def test_letters_are_looked_up_by_key(
    path: Path, query: str, values: dict[str, str]
) -> None:
    """A commit may name all keys of a second; it must not read every letter for each."""
    await (await SqliteStateStore.open(path)).close()
    database = sqlite3.connect(path)
    plan = database.execute("EXPLAIN QUERY PLAN " + load_queries()[query], values)
    text = "\n".join(row[3] for row in plan)
    database.close()
    assert "USING INDEX letters_open_by_key (event_key=?)" in text


async def test_a_commit_with_many_settled_keys_settles_the_ones_with_letters(
    path: Path,
) -> None:
    state = await SqliteStateStore.open(path)
    [number] = await state.add_letters([("r", rejected(Key("a", 77), 4))])
    await state.commit({P0: 9}, {Key("a", n): Place(P0, 9) for n in range(20_000)})
    assert await state.letter_counts() == {"open": 0, "settled": 1, "discarded": 0}
    await state.close()
    assert number == 1


async def test_closing_twice_is_closing_once(path: Path) -> None:
    state = await SqliteStateStore.open(path)
    await asyncio.gather(state.close(), state.close())
    await (await SqliteStateStore.open(path)).close()


async def test_positions_of_names_with_quotes_are_kept(path: Path) -> None:
    state = await SqliteStateStore.open(path)
    odd = Partition('a "b" \\ ä/0')
    await state.commit({odd: 3}, {})
    assert await state.positions() == {odd: 3}
    await state.close()
