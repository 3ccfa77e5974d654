"""The connector keeps its word when something is wrong with its files."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from replicator.connectors.jsonl.kind import JSONL, JsonlSettings
from replicator.connectors.jsonl.names import file_name
from replicator.connectors.jsonl.store import JsonlStore
from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.testing.store_faults import Cell, StoreFaults


class TestJsonlFaults(StoreFaults):
    traits = JSONL.traits
    excused: ClassVar = {Cell.AWAY: "a folder is there, or it holds no collection"}

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = tmp_path, monkeypatch

    @pytest.fixture
    async def store(self, folder: None) -> AsyncIterator[Store]:
        store = JsonlStore(JsonlSettings(path=str(self._folder)))
        yield store
        await store.close()

    @pytest.fixture
    async def direct(self, folder: None) -> AsyncIterator[Store]:
        store = JsonlStore(JsonlSettings(path=str(self._folder)))
        yield store
        await store.close()

    @asynccontextmanager
    async def full(self, collection: str) -> AsyncIterator[None]:
        # A part of what is written finds room, as on a disk.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = self._file(collection).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @asynccontextmanager
    async def read_only(self, collection: str) -> AsyncIterator[None]:
        # Who runs the tests may be allowed everything, whatever the file's mode is.
        really = os.open

        def forbidding(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if Path(path) == self._file(collection) and flags & os.O_WRONLY:
                raise PermissionError(13, "Permission denied", str(path))
            return really(path, flags, *rest, **named)

        with self._patch.context() as patch:
            patch.setattr(os, "open", forbidding)
            yield

    async def drop(self, direct: Store, collection: str) -> None:
        self._file(collection).unlink()

    async def spoil(self, direct: Store, collection: str) -> PointId:
        with self._file(collection).open("a") as file:
            file.write('{"id": "bad", "vectors": {"": [1, "two"]}, "payload": {}}\n')
        return "bad"

    def _file(self, collection: str) -> Path:
        return self._folder / file_name(collection)


class TestJsonlFaultsOfLines(TestJsonlFaults):
    """The row that cannot be read has no id."""

    async def spoil(self, direct: Store, collection: str) -> None:  # type: ignore[override]
        with self._file(collection).open("a") as file:
            file.write("no JSON\n")
