"""
`kill -9`, many times at random moments, while writers write and a backfill runs; then the
broker dies and comes back, then the target. The end state equals the independent model, read
through plain qdrant-client.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from replicator.testing.kafka_broker import KafkaBroker, create_topic
from tests.endtoend.application import Application
from tests.endtoend.daemon import Daemon, Document
from tests.endtoend.events import ChangelogSink, KafkaSink, Sink
from tests.endtoend.model import Mapping
from tests.endtoend.processes import StoreServer, until
from tests.endtoend.rig import Rig, kafka_feed

pytestmark = pytest.mark.crash

KILLS = 15
RECORDS = 1200
Restart = Callable[[], Awaitable[None]]


@pytest.fixture
def seed() -> int:
    """Printed, and taken from SEED to see the same kills again."""
    chosen = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"SEED={chosen}\n")  # shown when the test fails
    return chosen


class Trial:
    """One migration under fire."""

    def __init__(
        self, app: Application, daemon: Daemon, target: StoreServer, seed: int
    ) -> None:
        self.app = app
        self.daemon = daemon
        self.target = target
        self.random = random.Random(seed)

    async def kill_at_random(self, times: int) -> None:
        """Let it live for a while, from its first instruction on, and kill it."""
        for _ in range(times):
            self.daemon.spawn()
            # A third dies while it starts, the others after some work.
            if self.random.random() > 0.3:
                await self._worked(self.random.randrange(3, 60))
            await self.kill_within(0.7)

    async def _worked(self, amount: int) -> None:
        """Until this life has copied or applied so much."""
        begun: Document = await self.daemon.until(bool, "it answers")
        copied = begun["backfill"]["copied"]

        def did(status: Document) -> bool:
            done = status["backfill"]["copied"] - copied + status["stream"]["applied"]
            return bool(done >= amount)

        await self.daemon.until(did, f"{amount} records of work")

    async def kill_within(self, seconds: float) -> None:
        """Kill the daemon, which must not have ended by itself until then."""
        child, lives_s = self.daemon.child, self.random.uniform(0.0, seconds)
        assert await asyncio.to_thread(child.lives, lives_s), child.tail()
        self.daemon.kill()

    async def kill_target(self, times: int) -> None:
        for _ in range(times):
            self.target.kill()
            assert await self.daemon.not_ready("store-unavailable")
            await self.app.progress(20)
            await asyncio.to_thread(self.target.start)
            await self.daemon.ready()

    async def verdict(self) -> None:
        """Everything applied: no difference, no dead letter; and verification agrees."""
        app, daemon = self.app, self.daemon
        await daemon.applied(app.sink.ends)
        assert await app.differences("target") == []
        assert await app.differences("source") == []
        status = await daemon.status()
        assert status["stream"]["dead_letters"] == 0
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]


async def trial(
    rig: Rig,
    servers: tuple[StoreServer, StoreServer],
    sink: Sink,
    feed: Document,
    seed: int,
) -> Trial:
    source, target = servers
    collections = rig.collections(Mapping(rename={"title": "headline"}, vector="text"))
    app = await rig.application(
        (source.url, target.url), sink, collections, records=RECORDS, seed=seed
    )
    daemon = rig.daemon(
        (source.url, target.url),
        collections,
        feed,
        # The copy outlives several lives of the process.
        backfill={"rate_max": 150.0, "page_rows": 20, "chunks": 8},
        cutover=await rig.served(app),
    )
    return Trial(app, daemon, target, seed)


@pytest.mark.kafka
async def test_nothing_is_lost_with_kafka_when_everything_dies_in_turn(
    rig: Rig,
    servers: tuple[StoreServer, StoreServer],
    broker: KafkaBroker,
    seed: int,
) -> None:
    await create_topic(broker.bootstrap_servers, "changes", 3)
    sink = KafkaSink(broker.bootstrap_servers, "changes")
    feed = kafka_feed(broker.bootstrap_servers, "changes", request_timeout="3s")
    under_fire = await trial(rig, servers, sink, feed, seed)
    app, daemon = under_fire.app, under_fire.daemon
    async with app.writing():
        await under_fire.kill_at_random(KILLS)
        await daemon.start()
        await daemon.phase("STREAMING")
        broker.kill()
        assert await daemon.not_ready("feed-unavailable")
        await asyncio.to_thread(broker.start)
        await app.progress(50)
        await daemon.ready()
        await under_fire.kill_target(2)
    await under_fire.verdict()
    assert await daemon.child.terminate() == 0


async def test_nothing_is_lost_with_the_change_log_when_everything_dies_in_turn(
    rig: Rig,
    servers: tuple[StoreServer, StoreServer],
    changelog: tuple[ChangelogSink, Document],
    seed: int,
) -> None:
    sink, feed = changelog
    under_fire = await trial(rig, servers, sink, feed, seed)
    app, daemon = under_fire.app, under_fire.daemon
    async with app.writing():
        await under_fire.kill_at_random(KILLS)
        await daemon.start()
        await daemon.phase("STREAMING")
        await under_fire.kill_target(2)
    await under_fire.verdict()
    assert await daemon.child.terminate() == 0


async def test_a_cutover_and_a_revert_survive_kills_at_every_step(
    rig: Rig,
    servers: tuple[StoreServer, StoreServer],
    changelog: tuple[ChangelogSink, Document],
    seed: int,
) -> None:
    sink, feed = changelog
    under_fire = await trial(rig, servers, sink, feed, seed)
    app, daemon = under_fire.app, under_fire.daemon
    daemon.document["backfill"]["rate_max"] = 0.0
    daemon.rewrite()
    await daemon.start()
    await daemon.phase("STREAMING")
    async with app.writing():
        for operation, store in (("cutover", "target"), ("revert", "source")):
            kills = 0
            answers: list[Any] = []
            while (await settled(daemon))["application_may_write"] != store:
                assert len(answers) < 12, answers
                if operation == "cutover":
                    await daemon.did("verify", level="full")
                crossing = asyncio.create_task(daemon.post(operation))
                if kills < 4 and await fences(app, crossing):
                    await under_fire.kill_within(1.2)
                    kills += 1
                    await daemon.start()
                answers.append(await crossing)
            assert kills > 0
            assert app.active == store
            await app.progress(30)
    await under_fire.verdict()


async def settled(daemon: Daemon) -> Document:
    """
    The status once the migration streams, the application may write, and nothing that a kill
    left behind closes the gate: a write that may still land, a log whose end is not known yet.
    """
    return await daemon.until(
        lambda status: (
            status["phase"] == "STREAMING"
            and status["application_may_write"] is not None
            and status["ready"]
            and status["lag"]["records"] is not None
            and status["lag"]["seconds"] is not None
        ),
        "the fence is open",
    )


async def fences(app: Application, crossing: asyncio.Task[object]) -> bool:
    """Wait until an attempt closes the fence; False when it has ended without."""
    before = app.closings

    async def closed() -> bool:
        return app.closings > before or crossing.done()

    await until(closed, "the fence closes")
    return not crossing.done()
