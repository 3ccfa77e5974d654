"""What the README shows is done as it stands there: its configuration, then its commands."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from tests.docs.tables import ROOT
from tests.docs.test_pages import blocks
from tests.endtoend.daemon import Daemon, merged
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import connect
from tests.endtoend.processes import free_port

README = ROOT / "README.md"
_ASKS = {"cutover", "revert", "complete", "abort"}


def shown_commands() -> list[list[str]]:
    """The command lines of its steps, in order, without the program's name."""
    lines = [line for block in blocks(README, "") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if "replicator " in line]


def shown_configuration(stores: tuple[str, str], directory: Path) -> dict[str, Any]:
    """Its configuration on this machine: other addresses, no broker, less to wait."""
    [block] = blocks(README, "toml")
    return merged(
        tomllib.loads(block),
        {
            "source": {"url": stores[0], "late_write_bound": "500ms"},
            "target": {"url": stores[1], "late_write_bound": "500ms"},
            "feed": {"kind": "changelog", "path": str(directory / "changes.db")},
            "state": {"path": str(directory / "state.db")},
            "http": {"listen": f"127.0.0.1:{free_port()}"},
            "cutover": {"delivery_timeout": "200ms"},
        },
    )


@pytest.fixture
def configuration(stores: tuple[str, str], tmp_path: Path) -> dict[str, Any]:
    document = shown_configuration(stores, tmp_path)
    for name in ("topic", "bootstrap_servers"):
        del document["feed"][name]
    document["feed"]["settle"] = "200ms"
    return document


async def test_the_example_goes_from_check_to_complete_with_the_gate_open(
    stores: tuple[str, str],
    tmp_path: Path,
    configuration: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "")
    source = connect(stores[0])
    size = models.VectorParams(size=3, distance=models.Distance.DOT)
    await source.create_collection("articles", vectors_config=size)
    points = [
        models.PointStruct(
            id=n, vector=[n, 1.0, 2.0], payload={"name": f"n {n}", "year": "1999"}
        )
        for n in range(20)
    ]
    await source.upsert("articles", points, wait=True)
    sink = ChangelogSink(tmp_path / "changes.db")
    daemon = Daemon(tmp_path, configuration)
    seen: list[str] = []
    try:
        for words in shown_commands():
            seen.append(words[0])
            if words[0] == "run":
                await daemon.start(*words[1:])
                await daemon.phase("STREAMING")
                await daemon.ready()
                continue
            if words[0] == "complete":  # the other way, after it was gone back on
                for again in (["verify", "--level", "full"], ["cutover", "--yes"]):
                    code, out, err = await daemon.command(*again)
                    assert code == 0, (again, out, err)
            asked = ["--yes"] if words[0] in _ASKS and "--dry-run" not in words else []
            shown = [word for word in words if word != "--watch"]
            code, out, err = await daemon.command(*shown, *asked)
            assert code == 0, (words, out, err)
        assert await daemon.child.end() == 0
    finally:
        daemon.kill()
        await sink.close()
        for url, name in zip(stores, ("articles", "articles_v2"), strict=True):
            client = connect(url)
            await client.delete_collection(name)
            await client.close()
        await source.close()
    steps = ["check", "plan", "run", "status", "verify", "repair", "cutover", "cutover"]
    assert seen == [*steps, "revert", "complete"]
