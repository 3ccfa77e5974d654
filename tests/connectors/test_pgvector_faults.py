"""The connector keeps its word when things go wrong."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest

from replicator.connectors.pgvector import collection, connections
from replicator.connectors.pgvector.kind import PGVECTOR
from replicator.connectors.pgvector.store import PgvectorStore
from replicator.errors import Refused, Retryable
from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.settings.units import Duration
from replicator.testing.proxy import Reply
from replicator.testing.store_faults import Cell, ServerFaults
from replicator.testing.store_faults.operations import READS, error_of
from replicator.testing.store_faults.server import SECRET
from tests.plugins.postgres import Database


def refusal(state: str, message: str) -> Reply:
    """A FATAL answer of PostgreSQL."""
    fields = {"S": "FATAL", "V": "FATAL", "C": state, "M": message}
    body = b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0"
    return lambda _: b"E" + struct.pack(">i", len(body) + 4) + body


class TestPgvectorFaults(ServerFaults):
    traits = PGVECTOR.traits
    at_once = 20  # of the hundred connections that the server has
    excused: ClassVar = {
        Cell.FULL: "a full disk is made by a trigger, in test_pgvector_failures",
        Cell.THROTTLED: "PostgreSQL turns away at the door alone; a test of its own has that",
        Cell.CREDENTIALS: "it asks for them at the door alone; a test of its own has that",
    }

    @pytest.fixture
    async def address(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> str:
        # The server's own deadline is not waited for: the proxy keeps its answer.
        monkeypatch.setattr(connections, "_GRACE_S", 0.1)
        monkeypatch.setattr(collection, "COUNT_S", 4.0)  # a count may take longer than others
        self._database = database
        self._role = await database.role()
        await database.do(f'GRANT CREATE ON SCHEMA "{database.schema}" TO {self._role}')
        return database.dsn.split("@")[1].split("/")[0]

    def open(self, address: str, timeout_s: float, secret: str) -> Store:
        name = self._database.dsn.rpartition("/")[2]
        dsn = f"postgresql://{self._role}:{secret}@{address}/{name}?sslmode=disable"
        return PgvectorStore(self._database.settings(dsn=dsn, timeout=Duration(timeout_s)))

    @pytest.mark.parametrize(
        ("state", "expected", "code"),
        [
            ("53300", Retryable, "store-throttled"),
            ("28P01", Refused, "permission-denied"),
            ("28000", Refused, "permission-denied"),
        ],
    )
    async def test_who_is_turned_away_at_the_door_is_told_so_and_shows_no_password(
        self, address: str, direct: Store, state: str, expected: type[Exception], code: str
    ) -> None:
        for name in ("describe", "fetch", "upsert", "ensure"):
            case = await self.case(direct, name)
            async with self._stage(address, direct, case) as stage:
                caught = stage.proxy.catch()
                task = asyncio.create_task(error_of(case.call(stage.store)), name=name)
                assert await caught.comes(task)
                caught.answer(refusal(state, "not with that word"))
                error = await task
                assert type(error) is expected
                assert error.code == code
                assert SECRET not in f"{error!r} {error.message}"
                await self.again(stage.store, stage.case)

    @pytest.mark.parametrize("name", [*READS, "upsert", "patch", "delete"])
    async def test_a_collection_that_goes_away_meanwhile_is_not_made_anew(
        self, address: str, direct: Store, name: str
    ) -> None:
        pytest.skip("no table goes while a transaction has looked at it: the drop waits for it")

    @asynccontextmanager
    async def read_only(self, collection: str) -> AsyncIterator[None]:
        rights = "INSERT, UPDATE, DELETE, TRUNCATE"
        await self._database.do(f'REVOKE {rights} ON "{collection}" FROM {self._role}')
        yield
        await self._database.do(f'GRANT {rights} ON "{collection}" TO {self._role}')

    async def drop(self, direct: Store, collection: str) -> None:
        await self._database.do(f'DROP TABLE "{collection}"')

    async def spoil(self, direct: Store, collection: str) -> PointId:
        await self._database.do(
            f"INSERT INTO \"{collection}\" (id, payload) VALUES (-77, '[1]')"
        )
        return -77
