"""A real model: a thousand texts embedded anew, and how well the new ones are found."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.endtoend import minilm
from tests.endtoend.application import DIMENSION, Application
from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Image, Mapping, float32, read
from tests.endtoend.rig import Rig

TEXTS = 1000
WHAT = ["bread", "old cars", "piano music", "rivers", "distant stars", "sailing", "football"]
HOW = ["how to choose", "a history of", "why people love", "the price of", "my first"]


def title(number: int) -> str:
    return f"{HOW[number % len(HOW)]} {WHAT[number % len(WHAT)]}, part {number}"


def article(app: Application, number: int) -> Image:
    vector = float32([app.random.uniform(-1, 1) for _ in range(DIMENSION)])
    return Image(vector, {"title": title(number), "n": number})


def has_copied(rows: int, status: Document) -> bool:
    copied: int = status["backfill"]["copied"]
    return copied >= rows


async def test_a_thousand_texts_are_embedded_anew_and_found(
    rig: Rig,
    stores: tuple[str, str],
    changelog: tuple[ChangelogSink, Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minilm.fetch()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv(
        "OPENBLAS_NUM_THREADS", "1"
    )  # more wait for each other on a busy machine
    monkeypatch.setattr(Application, "image", article)
    sink, feed = changelog
    [collection] = rig.collections(Mapping(vector="text"))
    app = await rig.application(stores, sink, [collection], records=TEXTS)
    daemon = rig.daemon(stores, [collection], feed)
    [listed] = daemon.document["collections"]
    listed["transform"] = {
        "vectors": {},
        "embed": {
            "text": {
                "function": "tests.endtoend.minilm:embed",
                "fields": ["title"],
                "size": minilm.SIZE,
            }
        },
    }
    listed["embedding"] = {
        "source": {"model": "random", "dimension": 4},
        "target": {
            "model": "all-MiniLM-L6-v2",
            "provider": "sentence-transformers",
            "dimension": minilm.SIZE,
            "metric": "cosine",
            "normalised": True,
        },
    }
    daemon.rewrite()
    code, out, err = await daemon.command("check")
    assert code == 0, out + err
    await daemon.start()
    for part in range(0, TEXTS, 200):
        await daemon.until(partial(has_copied, part), f"{part} are copied")
    await daemon.phase("STREAMING")

    there = await read(app.target, collection.target, "text")
    assert {n: image.payload for n, image in there.items()} == {
        n: image.payload for n, image in collection.records.items()
    }
    vectors = np.array([there[n].vector for n in range(TEXTS)], np.float32)
    some = range(0, TEXTS, 25)
    again = minilm.embed([title(n) for n in some])
    np.testing.assert_allclose(vectors[some], again, rtol=0, atol=1e-5)
    # The model is a real one: what is alike lies near.
    near, far = again[0] @ minilm.embed(["choosing bread", "a galaxy far away"]).T
    assert near > far + 0.3

    asked = ["bread that people love", "prices of old automobiles", "the stars at night"]
    nearest = np.argsort(-(minilm.embed(asked) @ vectors.T))[:, :10]
    queries = [
        {"text": text, "using": "text", "expect": list(map(int, found)), "limit": 10}
        for text, found in zip(asked, nearest, strict=True)
    ]
    report = await daemon.did("verify", level="full", queries=queries)
    assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
    assert report["compared"] >= TEXTS
    figures = report["search"][collection.source]
    assert figures["golden"] == len(asked)
    assert figures["recall"] >= 0.95
