"""A shelf keeps its word when something is wrong with its file."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from shelf_store.kind import SHELF, ShelfSettings
from shelf_store.store import ShelfStore

from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.testing.store_faults import StoreFaults


class TestShelfFaults(StoreFaults):
    """No fault is excused. A file that somebody else keeps locked is a shelf that is away."""

    traits = SHELF.traits

    @pytest.fixture(autouse=True)
    def shelf(self, tmp_path: Path) -> None:
        self._path = tmp_path / "a.shelf"

    @pytest.fixture
    async def store(self, shelf: None) -> AsyncIterator[Store]:
        self._store = ShelfStore(str(self._path), timeout_s=0.05)
        yield self._store
        await self._store.close()

    @pytest.fixture
    async def direct(self, shelf: None) -> AsyncIterator[Store]:
        store = SHELF.open(ShelfSettings(path=str(self._path)), 1 << 20)
        yield store
        await store.close()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        with closing(self._file()) as file:
            file.execute("BEGIN EXCLUSIVE")
            yield

    @asynccontextmanager
    async def full(self, collection: str) -> AsyncIterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = self._path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @asynccontextmanager
    async def read_only(self, collection: str) -> AsyncIterator[None]:
        await self._store._do(lambda file: file.execute("PRAGMA query_only = ON"))
        yield
        await self._store._do(lambda file: file.execute("PRAGMA query_only = OFF"))

    async def drop(self, direct: Store, collection: str) -> None:
        with closing(self._file()) as file, file:
            file.execute("DELETE FROM collections WHERE name = ?", (collection,))

    async def spoil(self, direct: Store, collection: str) -> PointId:
        with closing(self._file()) as file, file:
            file.execute(
                "INSERT INTO points VALUES (?, 'bad', 0, x'0000803F00000040', 'no JSON')",
                (collection,),
            )
        return "bad"

    def _file(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path)
