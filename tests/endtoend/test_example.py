"""The examples do what they say, at a small scale."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import chromadb
import pytest
from qdrant_client import QdrantClient, models

from tests.docs.tables import ROOT
from tests.docs.test_pages import parse
from tests.endtoend.processes import WITHIN_S

POINTS = 300
RUN = ROOT / "examples/chroma-to-qdrant/run.py"


async def play(chroma_url: str, qdrant_url: str, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(RUN), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ
        | {"CHROMA_URL": chroma_url, "QDRANT_URL": qdrant_url, "PYTHONPATH": str(ROOT)},
    )
    async with asyncio.timeout(2 * WITHIN_S):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_a_collection_moves_from_chroma_to_qdrant_and_the_runbook_says_how(
    chroma_url: str, stores: tuple[str, str], tmp_path: Path
) -> None:
    name = f"articles-{uuid4().hex[:8]}"
    more = ("--points", str(POINTS), "--collection", name, "--directory", str(tmp_path))
    code, out = await play(chroma_url, stores[1], *more)
    assert code == 0, out
    for told in (
        f"records in Chroma: {POINTS}",
        f"points in Qdrant: {POINTS}",
        "samples equal: 200 of 200",
        "recall@10 of Qdrant, 10 queries: 1.000",
        f"migrated: {POINTS} points",
    ):
        assert told in out
    text = (tmp_path / "runbook.md").read_text(encoding="utf-8")
    assert f"| points in Qdrant | {POINTS} |" in text
    assert "the stores are equal" in text
    # What it names can be typed.
    commands = re.findall(r"^replicator (.+?)(?: +#.*)?$", text, re.MULTILINE)
    assert [line.split()[0] for line in commands][:2] == ["migrate", "init"]
    for line in commands:
        parse(line.split())


def example() -> Any:
    """Its module, which lies in no package."""
    spec = importlib.util.spec_from_file_location("example", RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["example"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("harm", "seen"),
    [
        ("none", []),
        ("missing", ["points in Qdrant: 49", "samples equal: 49 of 50"]),
        ("payload", ["samples equal: 49 of 50"]),
        ("vector", ["samples equal: 0 of 50", "recall@10 of Qdrant, 10 queries: 0."]),
    ],
)
def test_the_judgement_of_the_example_sees_what_is_wrong(
    chroma_url: str, stores: tuple[str, str], harm: str, seen: list[str]
) -> None:
    """Its own comparison, on a target that was filled by hand, and spoilt."""
    run, name = example(), f"articles-{uuid4().hex[:8]}"
    corpus = run.make_corpus(50, 1)
    host, _, port = chroma_url.removeprefix("http://").partition(":")
    source = run.fill(chromadb.HttpClient(host=host, port=int(port)), name, corpus)
    host, _, port = stores[1].removeprefix("http://").partition(":")
    qdrant = QdrantClient(
        host=host, grpc_port=int(port), prefer_grpc=True, check_compatibility=False
    )
    size = models.VectorParams(size=run.DIMENSION, distance=models.Distance.COSINE)
    qdrant.create_collection(name, vectors_config=size)
    points = [
        models.PointStruct(
            id=run.qdrant_id(name, each),
            vector=(vector[::-1] if harm == "vector" else vector).tolist(),
            payload={**metadata, "document": document, "_source_id": each},
        )
        for each, vector, metadata, document in zip(
            corpus.ids, corpus.vectors, corpus.metadatas, corpus.documents, strict=True
        )
    ]
    if harm == "payload":
        assert points[7].payload is not None
        points[7].payload["year"] += 1
    qdrant.upsert(name, points[harm == "missing" :], wait=True)
    told = run.Outcome()
    run.compare_counts(source, qdrant, name, told)
    run.compare_samples(source, qdrant, name, corpus, told)
    run.compare_searches(source, qdrant, name, corpus, told)
    qdrant.delete_collection(name)
    qdrant.close()
    assert len(told.problems) == len(seen), told.problems
    for problem, begin in zip(told.problems, seen, strict=True):
        assert problem.startswith(begin)
