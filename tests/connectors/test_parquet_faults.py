"""The connector keeps its word when something is wrong with its files."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replicator.codecs.file_names import stem_of
from replicator.connectors.parquet.kind import PARQUET, ParquetSettings
from replicator.connectors.parquet.places import LocalPlace
from replicator.connectors.parquet.store import ParquetStore
from replicator.model.point import PointId
from replicator.ports.store import Store
from replicator.testing.store_faults import Cell, StoreFaults


class TestParquetFaults(StoreFaults):
    traits = PARQUET.traits
    excused: ClassVar = {Cell.AWAY: "a folder is there, or it holds no collection"}

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = tmp_path, monkeypatch

    @pytest.fixture
    async def store(self, folder: None) -> AsyncIterator[Store]:
        store = ParquetStore(ParquetSettings(path=str(self._folder)))
        yield store
        await store.close()

    @pytest.fixture
    async def direct(self, folder: None) -> AsyncIterator[Store]:
        store = ParquetStore(ParquetSettings(path=str(self._folder)))
        yield store
        await store.close()

    @asynccontextmanager
    async def full(self, collection: str) -> AsyncIterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @asynccontextmanager
    async def read_only(self, collection: str) -> AsyncIterator[None]:
        # Who runs the tests may be allowed everything, whatever the folder's mode is.
        def forbidding(place: LocalPlace, path: str, write: Any) -> Any:
            raise PermissionError(13, "Permission denied", path)

        with self._patch.context() as patch:
            patch.setattr(LocalPlace, "put", forbidding)
            yield

    async def drop(self, direct: Store, collection: str) -> None:
        shutil.rmtree(self._folder / stem_of(collection))

    async def spoil(self, direct: Store, collection: str) -> PointId:
        """A part more, whose one row has a payload that is no JSON."""
        folder = self._folder / stem_of(collection)
        name = "part-99999999.parquet"
        pq.write_table(pa.table({"id": ["bad"], "payload": ["{"]}), folder / name)
        data = (folder / name).read_bytes()
        told = json.loads((folder / "_manifest.json").read_bytes())
        digest = sha256(data).hexdigest()
        told["parts"].append({"name": name, "rows": 1, "bytes": len(data), "sha256": digest})
        (folder / "_manifest.json").write_text(json.dumps(told))
        return "bad"
