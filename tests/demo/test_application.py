from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import pytest
from qdrant_client import models

from replicator.codecs.events import EventDecoder
from replicator.demo.application import Stats
from replicator.demo.embedder import DIMENSION
from replicator.demo.oplog import Image, read_operations, replay
from replicator.demo.oracle import (
    compare,
    expected_at_source,
    expected_at_target,
    read_source,
    read_target,
)
from replicator.demo.schema import SOURCE, TARGET, TARGET_VECTOR
from replicator.demo.stage import Stage
from replicator.demo.stores import connect
from replicator.errors import Refused
from replicator.model.event import Op
from replicator.model.phase import Direction
from replicator.model.position import Partition, Record
from replicator.ports.traffic import Pointer
from replicator.settings.cutover import HttpSettings
from replicator.traffic.fences import HttpFence
from replicator.traffic.switches import HttpSwitch

POINTS = 300


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    async with Stage(directory, points=POINTS, seed=7, kafka=False) as standing:
        yield standing


async def until_written(stage: Stage, count: int, *, at_target: int = 0) -> Stats:
    async with asyncio.timeout(60):
        while True:
            stats = await stage.application.stats()
            written = sum(stats.tally.writes.values())
            if written >= count and stats.tally.writes_at_target >= at_target:
                return stats


async def copy_to_target(stage: Stage, images: dict[int, Image]) -> None:
    client = connect(stage.target)
    await client.create_collection(
        TARGET,
        vectors_config={
            TARGET_VECTOR: models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
        },
    )
    points = [
        models.PointStruct(
            id=key,
            vector={TARGET_VECTOR: np.frombuffer(image.vector, "<f4").tolist()},
            payload=image.payload,
        )
        for key, image in expected_at_target(images).items()
    ]
    await client.upsert(TARGET, points, wait=True)
    await client.close()


async def test_the_store_holds_what_the_operation_log_says_and_so_do_the_events(
    tmp_path: Path,
) -> None:
    async with stage(tmp_path) as standing:
        await until_written(standing, 150)
        stats = await standing.application.rest()
        images = replay(read_operations(standing.operations))
        client = connect(standing.source)
        outcome = compare(expected_at_source(images), await read_source(client))
        await client.close()

    assert outcome.equal, outcome.examples
    assert stats.tally.failed_requests == 0
    assert stats.operations == POINTS + sum(stats.tally.writes.values())

    decoder = EventDecoder({SOURCE: True}, 1 << 20)
    database = sqlite3.connect(tmp_path / "changes.db")
    rows = database.execute('SELECT "offset", key, value FROM changes ORDER BY 1').fetchall()
    database.close()
    events = [
        decoder.decode(Record(Partition("changelog/0"), offset, key, value, 0))
        for offset, key, value in rows
    ]
    assert len(events) == sum(stats.tally.writes.values())
    last = {event.key.id: event for event in events if event is not None}
    for key, event in last.items():
        assert (event.op is Op.DELETE) == (key not in images)
        if event.op is Op.UPSERT:
            assert isinstance(key, int)
            assert event.payload == images[key].payload


async def test_after_the_switch_the_application_writes_the_target_in_its_own_schema(
    tmp_path: Path,
) -> None:
    async with stage(tmp_path) as standing, aiohttp.ClientSession() as http:
        application = standing.application
        await application.rest()
        before = replay(read_operations(standing.operations))
        await copy_to_target(standing, before)
        async with http.post(
            f"{application.url}/fence", json={"action": "close", "deadline_s": 60}
        ) as answer:
            assert answer.status == 200
        async with http.post(
            f"{application.url}/switch", json={"to": "target", "epoch": 1}
        ) as answer:
            assert answer.status == 200
        async with http.get(f"{application.url}/switch") as answer:
            assert await answer.json() == {"active": "target", "epoch": 1}
        await application.work()
        assert (await application.stats()).tally.writes_at_target == 0
        async with http.post(f"{application.url}/fence", json={"action": "open"}) as answer:
            assert answer.status == 200

        await until_written(standing, 0, at_target=300)
        await application.rest()
        images = replay(read_operations(standing.operations))
        source, target = connect(standing.source), connect(standing.target)
        at_source = compare(expected_at_source(before), await read_source(source))
        at_target = compare(expected_at_target(images), await read_target(target))
        await source.close()
        await target.close()

    assert at_target.equal, at_target.examples
    assert at_source.equal, "nothing is written to the store that was left"


async def test_the_application_keeps_the_protocol_of_fence_and_switch(tmp_path: Path) -> None:
    """As `replicator.traffic` speaks it."""
    settings = HttpSettings(url="")
    async with stage(tmp_path) as standing:
        address = standing.application.url
        fence = HttpFence(msgspec.structs.replace(settings, url=f"{address}/fence"))
        switch = HttpSwitch(msgspec.structs.replace(settings, url=f"{address}/switch"))
        assert await switch.current() == Pointer(Direction.FORWARD, 0)
        await fence.close(60.0, "first")
        await switch.to(Direction.REVERSE, 3)
        assert await switch.current() == Pointer(Direction.REVERSE, 3)
        await fence.open("first")
        with pytest.raises(Refused, match="that attempt is over"):
            await fence.close(60.0, "first")
        assert not (await standing.application.stats()).fenced
        await fence.close(60.0, "second")
        assert (await standing.application.stats()).fenced
        await fence.open("second")
