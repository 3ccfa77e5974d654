"""What goes wrong between the connector and a server, and what each means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from replicator.connectors.pgvector import connections
from replicator.connectors.pgvector.kind import PgvectorSettings
from replicator.connectors.pgvector.store import PgvectorStore
from replicator.errors import (
    OutcomeUnknown,
    Refused,
    Rejected,
    ReplicatorError,
    Retryable,
    Unavailable,
)
from replicator.model.point import Point, PointId
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.write import Delete, Patch, Receipt, Upsert, WriteBatch
from replicator.settings.units import Duration, Secret
from replicator.testing.store_conformance import PLAIN, floats
from tests.plugins.postgres import Database, PostgresServer


def point(number: int, **payload: Any) -> Point:
    return Point(number, {"": floats(number, 2)}, payload)


BATCH = WriteBatch("docs", (Upsert(point(1)), Upsert(point(2))))


class Proxy:
    """What lies between the connector and the server, and breaks where it is told to."""

    def __init__(self, port: int) -> None:
        self.cuts: str | None = None
        """`before` or `after` a COMMIT passed, or `silent`: nothing passes any more."""
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, forth]
        with suppress(OSError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                replies = group.create_task(self._pass(back, writer))
                await self._pass_forth(reader, forth, writer)
                replies.cancel()
        for each in (writer, forth):
            each.close()

    async def _pass_forth(
        self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter, back: Any
    ) -> None:
        while data := await reader.read(65536):
            if self.cuts == "silent":
                await asyncio.Event().wait()
            commits = b"COMMIT\0" in data
            if commits and self.cuts == "before":
                return
            if commits and self.cuts == "after":
                back.close()
            forth.write(data)
            await forth.drain()
            if commits and self.cuts == "after":
                await asyncio.sleep(0.2)
                return

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    proxy = Proxy(postgres.port)
    yield proxy
    await proxy.stop()


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PgvectorStore]:
    store = PgvectorStore(database.settings())
    await store.ensure(CollectionSchema(name="docs", vectors=PLAIN, ids=IdKinds.UINT64))
    yield store
    await store.close()


async def there(database: Database) -> list[Any]:
    return [row[0] for row in await database.rows("SELECT id FROM docs ORDER BY id")]


async def trigger(database: Database, does: str, *, at_commit: bool = False) -> None:
    """Let a write of the row 2 do something, when it is written or when it is committed."""
    await database.do(
        "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" {does}; RETURN NEW; END $$;"
        f"CREATE {'CONSTRAINT' if at_commit else ''} TRIGGER fail AFTER INSERT ON docs"
        f" {'DEFERRABLE INITIALLY DEFERRED' if at_commit else ''} FOR EACH ROW"
        " WHEN (NEW.id = 2) EXECUTE FUNCTION fail()"
    )


def raising(state: str) -> str:
    return f"RAISE EXCEPTION 'so it is' USING ERRCODE = '{state}'"


@pytest.mark.parametrize(
    ("state", "error", "code"),
    [
        ("40P01", Unavailable, "store-unavailable"),  # deadlock
        ("40001", Unavailable, "store-unavailable"),  # serialisation
        ("57P01", Unavailable, "store-unavailable"),  # shutdown
        ("57014", Unavailable, "store-unavailable"),  # cancelled
        ("53200", Unavailable, "store-unavailable"),  # memory
        ("55P03", Retryable, "store-throttled"),  # a lock
        ("53300", Retryable, "store-throttled"),  # connections
        ("53100", Refused, "store-refused"),  # disk full
        ("25006", Refused, "store-refused"),  # read only
        ("42501", Refused, "permission-denied"),
        ("42P01", Refused, "target-missing"),
        ("42703", Refused, "unsupported"),
        ("XX001", Refused, "store-refused"),  # corrupted
        ("22003", Rejected, "target-rejected"),
        ("23514", Rejected, "target-rejected"),
        ("P0001", Rejected, "target-rejected"),
        ("54000", Rejected, "value-too-large"),
    ],
)
async def test_a_write_that_fails_leaves_nothing_and_says_what_recovers_it(
    store: PgvectorStore,
    database: Database,
    state: str,
    error: type[ReplicatorError],
    code: str,
) -> None:
    await trigger(database, raising(state))
    with pytest.raises(error) as caught:
        await store.apply(BATCH)
    assert (type(caught.value), caught.value.code) == (error, code)
    assert await there(database) == []
    assert await store.apply(WriteBatch("docs", (Upsert(point(1)),))) == Receipt()
    assert await there(database) == [1]


@pytest.mark.parametrize(
    ("does", "error"),
    [
        (raising("40001"), Unavailable),
        (raising("23503"), Rejected),
        (raising("57P01"), OutcomeUnknown),
        (raising("40003"), OutcomeUnknown),
        ("PERFORM pg_terminate_backend(pg_backend_pid())", OutcomeUnknown),
    ],
)
async def test_a_commit_that_fails_is_known_only_where_the_server_took_it_back(
    store: PgvectorStore, database: Database, does: str, error: type[ReplicatorError]
) -> None:
    await trigger(database, does, at_commit=True)
    with pytest.raises(error) as caught:
        await store.apply(BATCH)
    assert type(caught.value) is error
    assert await store.count("docs") == 0


async def test_a_connection_that_is_lost_before_the_commit_leaves_nothing(
    store: PgvectorStore, database: Database
) -> None:
    await trigger(database, "PERFORM pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(Unavailable):
        await store.apply(BATCH)
    assert await there(database) == []
    assert await store.count("docs") == 0, "the next one connects anew"


@pytest.mark.parametrize(("cuts", "landed"), [("before", []), ("after", [1, 2])])
async def test_a_lost_answer_to_a_commit_is_unknown_whether_it_landed_or_not(
    store: PgvectorStore, database: Database, proxy: Proxy, cuts: str, landed: list[int]
) -> None:
    await store.count("docs")
    dsn = database.dsn.replace(database.dsn.split("@")[1].split("/")[0], await proxy.start())
    behind = PgvectorStore(database.settings(dsn=dsn))
    proxy.cuts = cuts
    with pytest.raises(OutcomeUnknown):
        await behind.apply(BATCH)
    async with asyncio.timeout(10):
        while await there(database) != landed:
            await asyncio.sleep(0.05)
    with pytest.raises(Unavailable):
        await behind.count("docs")  # a read is none the worse for it
    proxy.cuts = None
    assert await behind.apply(BATCH) == Receipt()
    assert await there(database) == [1, 2]
    await behind.close()


async def test_a_network_that_falls_silent_is_not_waited_for(
    store: PgvectorStore,
    database: Database,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_GRACE_S", 0.1)
    dsn = database.dsn.replace(database.dsn.split("@")[1].split("/")[0], await proxy.start())
    behind = PgvectorStore(database.settings(dsn=dsn, timeout=Duration(0.3)))
    assert await behind.count("docs") == 0
    proxy.cuts = "silent"
    for asked in (behind.apply(BATCH), behind.fetch("docs", [1])):
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await asked
    await behind.close()
    assert await there(database) == []


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    store: PgvectorStore, database: Database
) -> None:
    await trigger(database, "PERFORM pg_sleep(30)")
    hasty = PgvectorStore(database.settings(timeout=Duration(0.3)))
    with pytest.raises(Unavailable) as caught:
        await hasty.apply(BATCH)
    assert "see `timeout`" in caught.value.message
    assert await there(database) == []
    await hasty.close()


async def test_a_write_that_is_cut_short_leaves_nothing_and_no_lock(
    store: PgvectorStore, database: Database
) -> None:
    await trigger(database, "PERFORM pg_sleep(30)")
    task = asyncio.create_task(store.apply(BATCH))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(15):
        await database.do("DROP TRIGGER fail ON docs")
        assert await store.apply(BATCH) == Receipt()
    assert await there(database) == [1, 2]


async def test_two_writers_of_one_key_wait_for_each_other(
    store: PgvectorStore, database: Database
) -> None:
    async def write(number: int) -> None:
        writes = [Upsert(point(each, by=number)) for each in range(20)]
        await store.apply(WriteBatch("docs", tuple(writes[:: -1 if number % 2 else 1])))

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(write(number))
    found = await store.fetch("docs", [*range(20)])
    assert len({each.payload["by"] for each in found.values()}) == 1


async def test_a_server_that_is_not_there_is_waited_for(postgres: PostgresServer) -> None:
    store = PgvectorStore(PgvectorSettings(dsn=Secret("postgresql://u:geheim@127.0.0.1:9/db")))
    for asked in (store.apply(BATCH), store.count("docs"), store.describe("docs")):
        with pytest.raises(Unavailable) as caught:
            await asked
        assert "geheim" not in str(caught.value)
    [finding] = await store.check()
    assert finding.code == "store-unavailable"
    assert "127.0.0.1" in finding.message or "localhost" in finding.message
    assert "geheim" not in finding.message
    await store.close()
    with pytest.raises(Unavailable, match="closed"):
        await store.count("docs")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("postgres@", "nobody@", "permission-denied"),
        ("/db_", "/gone_", "store-refused"),
        ("?", "?", ""),
    ],
)
async def test_who_may_not_come_in_is_told_why(
    database: Database, old: str, new: str, code: str
) -> None:
    if not code:
        # A parameter that nobody knows: refused by the driver before it connects.
        dsn, code = f"{database.dsn}?sslmode=nonsense", "config-invalid"
    else:
        dsn = database.dsn.replace(old, new)
    store = PgvectorStore(PgvectorSettings(dsn=Secret(dsn), schema=database.schema))
    with pytest.raises(Refused) as caught:
        await store.count("docs")
    assert caught.value.code == code
    await store.close()


async def test_nothing_that_is_told_or_logged_holds_the_password(
    store: PgvectorStore, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = PgvectorSettings(
        dsn=Secret(database.dsn.replace("postgres@", "postgres:geheim@")),
        schema=database.schema,
    )
    assert "geheim" not in f"{settings!r} {settings} {settings.address()}"
    told = PgvectorStore(settings)
    await trigger(database, raising("53100"))
    with pytest.raises(Refused) as caught:
        await told.apply(BATCH)
    findings = [*await told.check(), *await told.check_writing(["docs"])]
    assert "geheim" not in f"{caught.value} {findings} {caplog.text}"
    await told.close()


async def test_an_address_that_cannot_be_taken_apart_is_told_without_its_words() -> None:
    settings = PgvectorSettings(dsn=Secret("postgresql://u:geheim/x@127.0.0.1:9/db"))
    assert [name for name, _ in settings.problems()] == ["dsn"]
    store = PgvectorStore(settings)
    [finding] = await store.check()
    assert finding.code == "config-invalid"
    assert "geheim" not in f"{finding} {settings.address()} {[*settings.problems()]}"
    await store.close()


async def test_a_closed_store_leaves_no_connection(
    store: PgvectorStore, database: Database
) -> None:
    other = PgvectorStore(database.settings(connections=3))
    scan = other.scan(next(iter(await other.split("docs", 1))), None, 10)
    await asyncio.gather(*(other.count("docs") for _ in range(9)))
    await anext(aiter(scan))
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'replicator'"
    before = await database.value(ours)
    await other.close()
    async with asyncio.timeout(10):
        while await database.value(ours) > before - 3:
            await asyncio.sleep(0.05)


async def test_what_was_answered_is_there_after_the_server_was_killed() -> None:
    server = PostgresServer()
    try:
        server.start()
        store = PgvectorStore(PgvectorSettings(dsn=Secret(server.database())))
        await store.ensure(CollectionSchema(name="docs", vectors=PLAIN, ids=IdKinds.UINT64))
        points = {n: point(n, n=n) for n in range(600)}
        for begin in range(0, 600, 100):
            some = [points[n] for n in range(begin, begin + 100)]
            await store.apply(WriteBatch("docs", tuple(map(Upsert, some))))
        last = (Delete(0), Patch(id=1, set={"n": None}), Upsert(point(2)))
        await store.apply(WriteBatch("docs", last))
        server.kill()
        with pytest.raises(Unavailable):
            await store.count("docs")
        server.start()
        expected: dict[PointId, Point] = {n: points[n] for n in range(3, 600)}
        expected |= {1: point(1), 2: point(2)}
        assert await store.fetch("docs", [*range(600)]) == expected
        await store.close()
    finally:
        server.remove()
