"""Directories of files, written and read by the standard library and by pyarrow."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, float32
from tests.matrix.access import DIMENSION, Access, Entry, Ids


class _Files:
    """Written once, as another program's export: nobody changes a file while it is copied."""

    kind: str
    options: ClassVar[Document] = {}

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.section: Document = {"kind": self.kind, "path": str(folder)}
        self._folder = folder

    async def create(self, name: str, ids: Ids) -> None:
        """A file makes itself."""

    async def patch(
        self, name: str, point_id: Id, changed: Document, gone: Sequence[str], whole: Image
    ) -> None:
        raise AssertionError("a file is copied, and not lived in")

    async def delete(self, name: str, point_id: Id) -> None:
        raise AssertionError("a file is copied, and not lived in")

    async def drop(self, name: str) -> None:
        """The folder goes with its run."""


class JsonlAccess(_Files):
    kind = "jsonl"

    async def write(self, name: str, records: Records) -> None:
        with (self._folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            for each, image in records.items():
                row = {"id": each, "vector": list(image.vector), "payload": image.payload}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    async def read(self, name: str) -> Records:
        lines = (self._folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        found: Records = {}
        for row in map(json.loads, lines):
            if "id" in row:
                found[row["id"]] = Image(float32(_unnamed(row)), row["payload"])
        return found


def _unnamed(row: Document) -> list[float]:
    """As numbers, which may stand there as the base64 of their bytes."""
    vector: list[float] | str = row["vector"] if "vector" in row else row["vectors"][""]
    if isinstance(vector, str):
        raw = base64.b64decode(vector.removeprefix("f32:"))
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return vector


class ParquetAccess(_Files):
    kind = "parquet"

    async def write(self, name: str, records: Records) -> None:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        vectors = [list(image.vector) for image in records.values()]
        table = pa.table(
            {
                "id": pa.array(list(records)),
                "vector": pa.array(vectors, pa.list_(pa.float32(), DIMENSION)),
                "payload": pa.array([json.dumps(i.payload) for i in records.values()]),
            }
        )
        pq.write_table(table, folder / f"{len(list(folder.iterdir())):04}.parquet")

    async def read(self, name: str) -> Records:
        """The parts that the manifest lists; without one, every file."""
        folder = self._folder / name
        manifest = folder / "_manifest.json"
        names = sorted(path.name for path in folder.glob("*.parquet"))
        if manifest.exists():
            names = [part["name"] for part in json.loads(manifest.read_text())["parts"]]
        rows = [row for each in names for row in pq.read_table(folder / each).to_pylist()]
        return {
            row["id"]: Image(float32(row["vector"]), json.loads(row["payload"])) for row in rows
        }


@asynccontextmanager
async def _jsonl(_: str, folder: Path) -> AsyncIterator[Access]:
    yield JsonlAccess(folder / "jsonl")


@asynccontextmanager
async def _parquet(_: str, folder: Path) -> AsyncIterator[Access]:
    yield ParquetAccess(folder / "parquet")


JSONL = Entry(
    kind="jsonl",
    opened=_jsonl,
    ids=Ids.TEXT,
    id_begins="文/",
    accepts=frozenset(Ids),
    nested=True,
    live=False,
    schema=False,
    losses=("loss-distance",),  # a file compares nothing, and its target by something
)

PARQUET = Entry(
    kind="parquet",
    opened=_parquet,
    ids=Ids.INTEGER,
    accepts=frozenset(Ids),
    nested=True,
    live=False,
    schema=False,
    losses=("loss-distance",),  # a file compares nothing, and its target by something
)
