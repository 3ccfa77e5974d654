"""
A collection with shard keys goes from one server to another, by the program as people start it:
points that were there, points that events bring, and shard keys that are made meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from qdrant_client import AsyncQdrantClient, models

from replicator.feeds.changelog import ChangelogWriter
from replicator.local_store import LocalStoreServer
from tests.local_store.conftest import client_of

CONFIG = """\
name = "tenants"
[source]
kind = "qdrant"
url = "{source}"
[target]
kind = "qdrant"
url = "{target}"
[[collections]]
source = "books"
target = "books_v2"
{collection}
[feed]
kind = "changelog"
path = "{folder}/changes.db"
settle = "10ms"
[state]
path = "{folder}/state.db"
[http]
listen = "127.0.0.1:0"
"""

Points = dict[tuple[str, int | str], dict[str, Any]]


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[tuple[LocalStoreServer, LocalStoreServer]]:
    async with (
        LocalStoreServer(tmp_path / "one") as one,
        LocalStoreServer(tmp_path / "two") as two,
    ):
        yield one, two


async def make(client: AsyncQdrantClient, **keys: int) -> None:
    """A collection with shard keys, and so many points in each, of ids from 0."""
    await client.create_collection(
        "books",
        vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT),
        sharding_method=models.ShardingMethod.CUSTOM,
    )
    for key, count in keys.items():
        await client.create_shard_key("books", key)
        await client.upsert(
            "books",
            [
                models.PointStruct(id=n, vector=[float(n), 1.0], payload={"of": key, "n": n})
                for n in range(count)
            ],
            shard_key_selector=key,
        )


async def held(client: AsyncQdrantClient, collection: str, *keys: str) -> Points:
    found: Points = {}
    for key in keys:
        points, more = await client.scroll(collection, limit=1000, shard_key_selector=key)
        assert more is None
        found |= {(key, point.id): point.payload or {} for point in points}  # type: ignore[misc]
    return found


async def replicator(config: Path, *command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from replicator.cli.main import main; main()",
        *command,
        "--config",
        str(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    return process.returncode or 0, output.decode()


def emit(folder: Path, *events: dict[str, Any]) -> None:
    writer = ChangelogWriter(folder / "changes.db")
    writer.append(
        (
            f"books/{event['scope']}/{event['id']}".encode(),
            msgspec.msgpack.encode({"v": 1, "collection": "books", "ts": 1, **event}),
        )
        for event in events
    )
    writer.close()


def configured(
    folder: Path, servers: tuple[LocalStoreServer, LocalStoreServer], collection: str
) -> Path:
    one, two = servers
    path = folder / "replicator.toml"
    path.write_text(
        CONFIG.format(source=one.url, target=two.url, folder=folder, collection=collection)
    )
    return path


async def test_equal_ids_of_two_shard_keys_stay_two_points(
    servers: tuple[LocalStoreServer, LocalStoreServer], tmp_path: Path
) -> None:
    source, target = map(client_of, servers)
    await make(source, a=20, b=5)
    merged, _ = await source.scroll("books", limit=100)
    assert len(merged) == 20, "a read that names no key merges them"
    ChangelogWriter(tmp_path / "changes.db").close()
    config = configured(tmp_path, servers, "")
    code, output = await replicator(config, "check")
    assert (code, "scopes-unset" in output) == (2, True), output

    config = configured(tmp_path, servers, 'scopes = "*"')
    code, output = await replicator(config, "run", "--until", "caught-up")
    assert code == 0, output
    assert await held(target, "books_v2", "a", "b") == await held(source, "books", "a", "b")
    assert (await target.count("books_v2")).count == 25

    emit(
        tmp_path,
        {"op": "delete", "scope": "a", "id": 1},
        {"op": "patch", "scope": "b", "id": 2, "set": {"n": "two"}},
        {"op": "upsert", "scope": "new", "id": 1, "vectors": {"": [1.0, 2.0]}, "payload": {}},
        {"op": "delete", "scope": "nowhere", "id": 1},
        {"op": "patch", "scope": "nowhere", "id": 1, "set": {"n": 1}},
    )
    code, output = await replicator(config, "run", "--until", "caught-up")
    assert code == 0, output
    now = await held(target, "books_v2", "a", "b", "new")
    assert ("a", 1) not in now
    assert now["b", 1] == {"of": "b", "n": 1}
    assert now["b", 2] == {"of": "b", "n": "two"}
    assert now["a", 2] == {"of": "a", "n": 2}
    assert now["new", 1] == {}
    assert len(now) == 25
    for client in (source, target):
        await client.close()


async def test_all_points_lie_together_where_a_person_wants_it(
    servers: tuple[LocalStoreServer, LocalStoreServer], tmp_path: Path
) -> None:
    source, target = map(client_of, servers)
    await make(source, a=20, b=5)
    ChangelogWriter(tmp_path / "changes.db").close()
    options = 'scopes = "*"\ntarget_options = { sharding_method = "Auto" }'
    config = configured(tmp_path, servers, options)
    code, output = await replicator(config, "run", "--until", "caught-up")
    assert code == 0, output
    points, _ = await target.scroll("books_v2", limit=100)
    origins = {
        (payload["_source_scope"], payload["_source_id"]): payload["of"]
        for payload in (point.payload or {} for point in points)
    }
    assert origins == {(of, n): of for of, count in (("a", 20), ("b", 5)) for n in range(count)}
    emit(tmp_path, {"op": "delete", "scope": "b", "id": 4})
    assert (await replicator(config, "run", "--until", "caught-up"))[0] == 0
    assert (await target.count("books_v2")).count == 24
    for client in (source, target):
        await client.close()


async def test_a_file_keeps_the_scopes_and_gives_them_back(
    servers: tuple[LocalStoreServer, LocalStoreServer], tmp_path: Path
) -> None:
    source, target = map(client_of, servers)
    await make(source, a=20, b=5)
    ChangelogWriter(tmp_path / "changes.db").close()
    config = configured(tmp_path, servers, 'scopes = "*"')
    out = tmp_path / "out"
    code, output = await replicator(config, "export", str(out))
    assert code == 0, output
    lines = [
        msgspec.json.decode(line) for line in (out / "books.jsonl").read_bytes().splitlines()
    ]
    assert [line.get("scope") for line in lines].count("b") == 5
    code, output = await replicator(config, "import", str(out))
    assert code == 0, output
    assert await held(target, "books_v2", "a", "b") == await held(source, "books", "a", "b")
    for client in (source, target):
        await client.close()
