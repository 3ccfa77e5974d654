"""
Vectors are made anew on their way, on real parts: from texts that are written, patched and
deleted meanwhile, by a model that goes away, through a kill and a cutover.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from tests.endtoend.application import Collection
from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Image, Mapping, Records, Vector, differences, float32, read
from tests.endtoend.processes import until
from tests.endtoend.rig import Rig

SIZE = 8

MODEL = """
import hashlib
from pathlib import Path

HERE = Path(__file__).parent

def embed(texts):
    if (HERE / "away").exists():
        raise ConnectionError("the model does not answer")
    with open(HERE / "asked", "a", encoding="utf-8") as asked:
        asked.writelines(f"{text}\\n" for text in texts)
    if any("refused" in text for text in texts):
        raise ValueError("this text is refused")
    vectors = []
    for text in texts:
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        length = sum(byte * byte for byte in digest) ** 0.5
        vectors.append([byte / length for byte in digest])
    return vectors
"""


def made_of(text: str) -> Vector:
    """The model, once more."""
    digest = hashlib.blake2b(text.encode(), digest_size=SIZE).digest()
    length = math.hypot(*digest)
    return float32([byte / length for byte in digest])


def expected(collection: Collection) -> Records:
    return {
        point_id: Image(made_of(image.payload["title"]), image.payload)
        for point_id, image in collection.records.items()
    }


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a module `a_model`, which the daemon can import."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a_model.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


async def test_vectors_are_made_anew_while_the_application_writes(
    rig: Rig, stores: tuple[str, str], changelog: tuple[ChangelogSink, Document], model: Path
) -> None:
    sink, feed = changelog
    [collection] = rig.collections(Mapping(vector="text"))
    app = await rig.application(stores, sink, [collection], records=200)
    daemon = rig.daemon(
        stores,
        [collection],
        feed,
        cutover={**await rig.served(app), "way_back_lossy": True},
        backfill={"page_rows": 20, "readers": 1, "rate_max": 400},
    )
    [listed] = daemon.document["collections"]
    embed = {
        "function": "a_model:embed",
        "fields": ["title"],
        "size": SIZE,
        "distance": "cosine",
    }
    listed["transform"] = {"vectors": {}, "embed": {"text": {**embed, "cost": 20.0}}}
    daemon.rewrite()

    code, out, err = await daemon.command("plan", "--json")
    assert code == 0, err
    [planned] = json.loads(out)["collections"]
    assert planned["embeddings"]["text"]["texts"] == 200
    assert planned["embeddings"]["text"]["cost"] == pytest.approx(200 * 9.5 * 20 / 1e6, rel=0.2)
    assert any("of another model" in sentence for sentence in planned["lossy"])

    async with app.writing():
        await daemon.start()

        async def copied() -> bool:
            status = await daemon.status()
            return bool(status) and status["backfill"]["copied"] > 60

        await until(copied, "a part is copied")
        daemon.child.kill()
        await daemon.start()
        await daemon.phase("STREAMING")
        (model / "away").touch()
        assert "the model does not answer" in await daemon.not_ready("embedder-away")
        await app.progress(30)
        (model / "away").unlink()
        await daemon.ready()
        await app.progress(50)
    await daemon.applied(sink.ends)
    report = await daemon.did("verify", level="full")
    assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
    assert report["compared"] >= len(collection.records)
    [warning] = report["warnings"]
    assert "only golden queries" in warning
    assert (
        differences(expected(collection), await read(app.target, collection.target, "text"))
        == []
    )

    # A second look at the same texts costs nothing.
    asked = (model / "asked").read_text(encoding="utf-8").splitlines()
    assert len(set(asked)) >= len(asked) * 0.9, "what a kill took is asked again, and no more"
    await daemon.did("verify", level="full")
    assert (model / "asked").read_text(encoding="utf-8").splitlines() == asked

    some = sorted(collection.records)[:10]
    queries = [
        {
            "text": collection.records[n].payload["title"],
            "using": "text",
            "expect": [n],
            "limit": 1,
        }
        for n in some
    ]
    wrong = {"text": "no such title at all", "using": "text", "expect": [some[0]], "limit": 1}
    by_vector = {"vector": [0.1] * 4}
    report = await daemon.did("verify", level="counts", queries=[*queries, wrong, by_vector])
    figures = report["search"][collection.source]
    assert (figures["golden"], figures["queries"]) == (11, 11)
    assert figures["recall"] == pytest.approx(10 / 11)
    assert "does not travel" in figures["not_compared"]["the unnamed vector"]

    assert (await daemon.did("verify", level="full"))["different"] == 0
    await daemon.crossed("cutover")
    assert app.active == "target"
    there = await read(app.target, collection.target, "text")
    assert differences(expected(collection), there) == []
