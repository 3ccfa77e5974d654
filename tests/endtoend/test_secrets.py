"""No credential comes out of the program, whatever it is asked and whatever fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.store import QdrantStore
from replicator.local_store import LocalStoreServer
from replicator.model.point import Point
from replicator.model.schema import CollectionSchema, Distance, IdKinds, VectorSchema
from replicator.model.write import Upsert, WriteBatch

MARKS = [f"S3cr3t{number}" for number in range(7)]

CONFIG = """
name = "quiet"
collections = [{{source = "a", target = "b"}}]
feed = {{kind = "none"}}
state = {{path = "{folder}/state.db"}}
http = {{listen = "127.0.0.1:0", token = "S3cr3t0"}}
[source]
kind = "qdrant"
url = "{url}"
api_key = "S3cr3t1"
late_write_bound = "1s"
[target]
kind = "qdrant"
url = "{target}"
api_key = "S3cr3t2"
late_write_bound = "1s"
[cutover]
fence = {{kind = "http", url = "http://user:S3cr3t3@127.0.0.1:1/f?key=S3cr3t4"}}
switch = {{kind = "http", url = "http://127.0.0.1:1/s", token = "S3cr3t5"}}
[hooks]
before_fence = {{command = ["./notify.sh", "--key=S3cr3t6"]}}
"""


def run(*arguments: str, config: Path) -> bytes:
    """All that a command says, well or badly."""
    done = subprocess.run(
        [sys.executable, "-m", "replicator", *arguments, "-c", str(config)],
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "COLUMNS": "300"},
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("target_is_there", [True, False])
async def test_no_credential_is_shown_by_any_command_nor_kept(
    tmp_path: Path, target_is_there: bool
) -> None:
    async with LocalStoreServer(tmp_path / "store") as server:
        store = QdrantStore(QdrantSettings(url=server.url))
        vectors = {"": VectorSchema(size=2, distance=Distance.DOT)}
        await store.ensure(CollectionSchema(name="a", vectors=vectors, ids=IdKinds.UINT64))
        point = Point(1, {"": b"\0" * 8}, {})
        await store.apply(WriteBatch("a", (Upsert(point),)))
        await store.close()
        config = tmp_path / "quiet.toml"
        target = server.url if target_is_there else "http://127.0.0.1:1"
        config.write_text(CONFIG.format(folder=tmp_path, url=server.url, target=target))
        commands = [["check"], ["check", "--json"], ["plan"], ["status", "--json"], ["cutover"]]
        if target_is_there:
            commands.insert(3, ["run"])
        for command in commands:
            said = await asyncio.to_thread(run, *command, config=config)
            assert said, command
            for mark in MARKS:
                assert mark.encode() not in said, (command, mark)
    for path in tmp_path.glob("state.db*"):
        kept = path.read_bytes()
        assert not [mark for mark in MARKS if mark.encode() in kept]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('api_key = "S3cr3t1"', 'api_key = "S3cr3t1\\n"'),
        ('url = "{url}"', 'url = "http://u:S3cr3t1@h:1"'),
        ('token = "S3cr3t0"', 'token = ["S3cr3t0"]'),
    ],
)
def test_a_configuration_that_is_refused_is_not_quoted(
    tmp_path: Path, line: str, path: str
) -> None:
    config = tmp_path / "quiet.toml"
    text = CONFIG.replace(line, path).format(
        folder=tmp_path, url="http://h:1", target="http://h:1"
    )
    config.write_text(text)
    said = run("check", config=config)
    assert b"error[config-" in said
    assert b"Traceback" not in said
    assert not [mark for mark in MARKS if mark.encode() in said]
