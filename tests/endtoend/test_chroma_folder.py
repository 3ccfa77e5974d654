"""Out of a folder of Chroma. How a server that is written is moved, `tests/matrix` plays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import chromadb

from tests.endtoend.application import DIMENSION
from tests.endtoend.events import ChangelogSink
from tests.endtoend.rig import Rig


def filled(folder: Path, points: int) -> None:
    """A folder as somebody's own program leaves it."""
    client = chromadb.PersistentClient(path=str(folder))
    collection = client.create_collection("articles", embedding_function=None)
    collection.add(
        ids=[f"id {n}" for n in range(points)],
        embeddings=[[float(n)] * DIMENSION for n in range(points)],
        documents=[f"text {n}" for n in range(points)],
        metadatas=[{"n": n} for n in range(points)],
    )
    client.close()


async def test_a_folder_of_chroma_is_exported_and_refused_as_a_live_source(
    rig: Rig, stores: tuple[str, str], tmp_path: Path
) -> None:
    await asyncio.to_thread(filled, tmp_path / "chroma", 120)
    [collection] = rig.collections()
    collection.source = "articles"
    daemon = rig.daemon(stores, [collection], {"kind": "none"})
    daemon.document["source"] = {"kind": "chroma", "path": str(tmp_path / "chroma")}
    daemon.rewrite()
    code, out, err = await daemon.command("export", "--json", str(tmp_path / "out"))
    assert code == 0, out + err
    lines = (tmp_path / "out" / "articles.jsonl").read_text().splitlines()
    points = [each for each in map(json.loads, lines) if "id" in each]
    assert {each["id"]: each["payload"] for each in points} == {
        f"id {n}": {"document": f"text {n}", "n": n} for n in range(120)
    }

    changes = tmp_path / "changes.db"
    sink = ChangelogSink(changes)
    await sink.close()
    daemon.document["feed"] = {"kind": "changelog", "path": str(changes), "settle": "1s"}
    daemon.rewrite()
    code, out, err = await daemon.command("check", "--json")
    assert code == 2
    assert "nobody may write this store while it is copied" in out + err
