"""Exports to Parquet and imports from it: there and back to the bit, and through a kill."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from replicator.errors import Refused
from replicator.kinds import file_kinds, open_store, variants
from replicator.model.finding import Severity
from replicator.model.phase import Phase
from replicator.model.point import MultiVector, Point, PointId, SparseVector
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    VectorKind,
    VectorSchema,
)
from replicator.model.write import Upsert, WriteBatch
from replicator.settings.load import from_toml
from replicator.settings.settings import Settings
from replicator.settings.stores import StoreSettings
from replicator.testing.store_conformance import fresh_name
from replicator.wiring import build, preflight

VECTORS = {
    "text": VectorSchema(size=3, distance=Distance.COSINE),
    "late": VectorSchema(kind=VectorKind.MULTI, size=2, distance=Distance.DOT),
    "words": VectorSchema(kind=VectorKind.SPARSE),
}


def unit(number: int) -> bytes:
    """A vector of length one, which a store under cosine leaves as it is."""
    return struct.pack("<3f", *((1, 0, 0), (0, -1, 0), (0, 0, 1))[number % 3])


def whole(number: int) -> Point:
    vectors: dict[str, Any] = {"text": unit(number)}
    if number % 3:
        data = struct.pack("<4f", *(n / 7 for n in range(number, number + 4)))
        vectors["late"] = MultiVector(2, data)
    if number % 2:
        vectors["words"] = SparseVector(struct.pack("<I", number), struct.pack("<f", 0.1))
    point_id: PointId = number if number % 2 else str(uuid.UUID(int=number))
    payload = {"n": number, "big": 2**53 + number, "nested": {"ä": [1, 2.5, None, {}]}}
    return Point(point_id, vectors, payload)


def settings(
    folder: Path, source: dict[str, Any], target: dict[str, Any], /, **more: Any
) -> Settings:
    return from_toml(
        {
            "name": "docs",
            "source": source,
            "target": target,
            "feed": {"kind": "none"},
            "state": {"path": str(folder / f"{uuid.uuid4()}.state")},
            **more,
        },
        {},
        variants(),
    )


def between(source: str, target: str) -> dict[str, Any]:
    return {"collections": [{"source": source, "target": target}]}


async def fill(
    section: StoreSettings, name: str, points: list[Point], vectors: dict[str, VectorSchema]
) -> None:
    store = open_store(section, 1 << 20)
    kinds = IdKinds.UINT64 | IdKinds.UUID
    await store.ensure(CollectionSchema(name=name, vectors=vectors, ids=kinds))
    await store.apply(WriteBatch(name, tuple(map(Upsert, points))))
    await store.close()


async def content(section: StoreSettings, name: str) -> dict[PointId, Point]:
    store = open_store(section, 1 << 20)
    pages = [
        page
        for chunk in await store.split(name, 3)
        async for page in store.scan(chunk, None, 100)
    ]
    await store.close()
    return {point.id: point for page in pages for point in page.points}


async def migrate(told: Settings) -> Phase:
    """Where a migration ends, which verifies what it copied."""
    async with build(told) as assembly:
        await assembly.service.run()
        return (await assembly.service.status()).phase


async def test_a_collection_of_qdrant_goes_there_and_back_to_the_bit(
    qdrant_url: str, tmp_path: Path
) -> None:
    qdrant = {"kind": "qdrant", "url": qdrant_url}
    parquet = {"kind": "parquet", "path": str(tmp_path / "export")}
    name, again = fresh_name(), fresh_name()
    there = settings(tmp_path, qdrant, parquet, **between(name, "docs"))
    back = settings(tmp_path, parquet, qdrant, **between("docs", again))
    points = {whole(n).id: whole(n) for n in range(150)}
    await fill(there.source, name, list(points.values()), VECTORS)
    assert await migrate(there) is Phase.COMPLETE
    assert await content(there.target, "docs") == points
    files = (tmp_path / "export" / "docs").glob("*.parquet")
    assert sum(pq.read_metadata(path).num_rows for path in files) == 150
    assert await migrate(back) is Phase.COMPLETE
    assert await content(back.target, again) == points
    store = open_store(back.target, 1 << 20)
    described = await store.describe(again)
    await store.close()
    assert described is not None
    assert described.vectors is not None
    assert {n: (v.kind, v.size, v.distance) for n, v in described.vectors.items()} == {
        n: (v.kind, v.size, v.distance) for n, v in VECTORS.items()
    } | {"words": (VectorKind.SPARSE, None, described.vectors["words"].distance)}


async def test_a_folder_of_chroma_is_exported_and_imported(tmp_path: Path) -> None:
    parquet = {"kind": "parquet", "path": str(tmp_path / "export")}
    one, other = ({"kind": "chroma", "path": str(tmp_path / name)} for name in ("one", "two"))
    points = {
        f"doc {n}": Point(
            f"doc {n}", {"": struct.pack("<2f", n / 7, 1)}, {"n": n, "document": f"text {n}"}
        )
        for n in range(120)
    }
    there = settings(tmp_path, one, parquet, **between("docs", "docs"))
    back = settings(tmp_path, parquet, other, **between("docs", "docs"))
    plain = {"": VectorSchema(size=2, distance=Distance.EUCLID)}
    await fill(there.source, "docs", list(points.values()), plain)
    assert await migrate(there) is Phase.COMPLETE
    assert await migrate(back) is Phase.COMPLETE
    assert await content(back.target, "docs") == points


async def test_a_table_of_another_program_is_a_seed(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table(
        {
            "key": [f"k{n}" for n in range(50)],
            "emb": pa.array([[n, 1.0] for n in range(50)], pa.list_(pa.float64())),
            "title": [f"title {n}" for n in range(50)],
        }
    )
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "docs.parquet", row_group_size=7)
    told = settings(
        tmp_path,
        {"kind": "parquet", "path": str(tmp_path / "in")},
        {"kind": "jsonl", "path": str(tmp_path / "out")},
        collections=[
            {
                "source": "docs",
                "target": "docs",
                "source_options": {"id": "key", "vectors": {"emb": ""}},
            }
        ],
    )
    assert await migrate(told) is Phase.COMPLETE
    found = await content(told.target, "docs")
    assert found["k7"] == Point("k7", {"": struct.pack("<2f", 7, 1)}, {"title": "title 7"})
    assert len(found) == 50


@pytest.mark.parametrize("role", ["source", "target"])
async def test_a_stream_is_refused_with_the_reason(tmp_path: Path, role: str) -> None:
    stores = [{"kind": "jsonl", "path": str(tmp_path / "other")}]
    place = 0 if role == "source" else 1
    stores.insert(place, {"kind": "parquet", "path": str(tmp_path / "files")})
    feed = {"kind": "changelog", "path": str(tmp_path / "changes.db")}
    told = settings(tmp_path, *stores, feed=feed, **between("a", "a"))
    found = [
        finding
        for finding in await preflight(told)
        if (finding.severity, finding.code) == (Severity.BLOCKS, "unsupported")
    ]
    assert [finding.subject for finding in found] == [role]
    assert 'feed.kind = "none"' in found[0].message


def test_an_export_needs_a_directory_of_this_machine() -> None:
    with pytest.raises(Refused, match="no directory of this machine"):
        file_kinds()["parquet"].settings("s3://bucket/export")


CONFIG = """
name = "docs"
[source]
kind = "jsonl"
path = "{folder}/source"
segment_bytes = "1KiB"
[target]
kind = "jsonl"
path = "{folder}/target"
[[collections]]
source = "docs"
target = "docs_v2"
[feed]
kind = "none"
[backfill]
page_rows = 16
[state]
path = "{folder}/state.db"
"""


ARMED = """
import sys
from replicator import failpoints
from replicator.__main__ import main
failpoints.arm(sys.argv.pop(1))
main()
"""
"""The daemon alone reads the failpoints of its environment."""


def run(folder: Path, *words: str, armed: str = "") -> subprocess.CompletedProcess[str]:
    config = str(folder / "replicator.toml")
    return subprocess.run(
        [sys.executable, "-c", ARMED, armed, "-c", config, *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "place", ["backfill.after-write=die@5", "backfill.before-finish=die"], ids=str
)
async def test_an_export_that_is_killed_goes_on_and_comes_back_whole(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "replicator.toml").write_text(CONFIG.format(folder=tmp_path))
    source = {"kind": "jsonl", "path": str(tmp_path / "source")}
    told = settings(tmp_path, source, source, **between("docs", "docs_v2"))
    points = {whole(n).id: whole(n) for n in range(200)}
    await fill(told.source, "docs", list(points.values()), VECTORS)
    words = ("export", str(tmp_path / "out"), "--format", "parquet", "--json")
    killed = run(tmp_path, *words, armed=place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run(tmp_path, *words)
    assert again.returncode == 0, again.stderr
    folder = tmp_path / "out" / "docs"
    # What any program reads there, without the manifest: each point once.
    rows = [pq.read_metadata(path).num_rows for path in folder.glob("*.parquet")]
    assert sum(rows) == 200
    told_parts = msgspec.json.decode((folder / "_manifest.json").read_bytes())["parts"]
    assert len(told_parts) == len(rows)
    imported = run(tmp_path, "import", str(tmp_path / "out"), "--format", "parquet")
    assert imported.returncode == 0, imported.stderr
    files = settings(
        tmp_path,
        {"kind": "jsonl", "path": str(tmp_path / "target")},
        source,
        **between("a", "a"),
    )
    assert await content(files.source, "docs_v2") == points
