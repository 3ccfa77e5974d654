"""A broker or a store that is away for a while costs no event, no dead letter and no memory."""

from __future__ import annotations

import asyncio

import pytest

from replicator.testing.kafka_broker import KafkaBroker, create_topic
from tests.endtoend.application import Application
from tests.endtoend.daemon import Daemon
from tests.endtoend.events import KafkaSink, event
from tests.endtoend.model import connect
from tests.endtoend.processes import StoreServer, until
from tests.endtoend.rig import Rig, Topic, kafka_feed

pytestmark = [pytest.mark.kafka, pytest.mark.crash]


async def nothing_lost(app: Application, daemon: Daemon) -> None:
    await daemon.applied(app.sink.ends)
    await daemon.ready()
    assert await app.differences("target") == []
    status = await daemon.status()
    assert status["phase"] == "STREAMING"
    assert status["stream"]["dead_letters"] == 0


async def test_a_broker_that_is_away_is_waited_for(
    rig: Rig, stores: tuple[str, str], broker: KafkaBroker
) -> None:
    await create_topic(broker.bootstrap_servers, "changes", 3)
    sink = KafkaSink(broker.bootstrap_servers, "changes")
    collections = rig.collections()
    app = await rig.application(stores, sink, collections)
    daemon = rig.daemon(
        stores,
        collections,
        kafka_feed(broker.bootstrap_servers, "changes", request_timeout="2s"),
        cutover=await rig.served(app),
    )
    await daemon.start()
    await daemon.phase("STREAMING")
    async with app.writing():
        await app.progress(50)
        await asyncio.to_thread(broker.stop)
        assert broker.bootstrap_servers in await daemon.not_ready("feed-unavailable")
        status, document = await daemon.post("cutover")
        assert (status, document["error"]["code"]) == (409, "gate-closed")
        assert not app.fenced
        await asyncio.to_thread(broker.start)
        await app.progress(50)
    await nothing_lost(app, daemon)
    broker.kill()
    assert await daemon.not_ready("feed-unavailable")
    assert await daemon.child.terminate() == 0


async def test_a_daemon_that_starts_before_its_broker_and_stores_waits_for_them(
    rig: Rig, servers: tuple[StoreServer, StoreServer], broker: KafkaBroker
) -> None:
    await create_topic(broker.bootstrap_servers, "changes", 3)
    source, target = servers
    sink = KafkaSink(broker.bootstrap_servers, "changes")
    collections = rig.collections()
    app = await rig.application((source.url, target.url), sink, collections)
    daemon = rig.daemon(
        (source.url, target.url),
        collections,
        kafka_feed(broker.bootstrap_servers, "changes", request_timeout="2s"),
    )
    broker.kill()
    source.kill()
    target.kill()
    await daemon.start()
    assert broker.bootstrap_servers in await daemon.not_ready("source-unavailable")
    await asyncio.to_thread(source.start)
    assert "Qdrant" in await daemon.not_ready("target-unavailable")
    await asyncio.to_thread(target.start)
    assert await daemon.not_ready("feed-unavailable")
    await asyncio.to_thread(broker.start)
    await daemon.phase("STREAMING")
    await nothing_lost(app, daemon)


async def test_a_target_that_is_away_is_waited_for_within_bounded_memory(
    rig: Rig, servers: tuple[StoreServer, StoreServer], topic: Topic
) -> None:
    source, target = servers
    collections = rig.collections()
    app = await rig.application((source.url, target.url), topic.sink, collections)
    records, size = 400, 256 << 10
    daemon = rig.daemon(
        (source.url, target.url),
        collections,
        topic.feed(event_bytes_max="64KiB"),
        stream={
            "buffer_records": records,
            "buffer_bytes": "256KiB",
            "batch_records": 64,
            "batch_bytes": "64KiB",
        },
    )
    await daemon.start()
    await daemon.phase("STREAMING")
    async with app.writing():
        await app.progress(50)
        target.kill()
        assert "Qdrant" in await daemon.not_ready("store-unavailable")
        await app.progress(100)
    # The topic fills up with more than may be held, of keys that do not coalesce.
    ballast = "x" * 2000
    name, vector = collections[0].source, (0.0, 0.0, 0.0, 1.0)
    for start in range(0, 3000, 500):
        await app.sink.emit(
            [
                event("upsert", name, 9_000_000 + n, vector=vector, payload={"x": ballast})
                for n in range(start, start + 500)
            ]
        )
    await app.sink.emit([event("delete", name, 9_000_000 + n) for n in range(3000)])
    most = 0.0

    async def full() -> bool:
        nonlocal most
        most = max(most, await daemon.metric("buffer_bytes"))
        return most >= size

    await until(full, "the buffer is full")
    status = await daemon.until(lambda s: (s["lag"]["records"] or 0) > 3000, "the lag is seen")
    for _ in range(10):
        await full()
        status = await daemon.status()
    held = sum(row["position"] - row["applied"] for row in status["partitions"])
    # What one poll brings is taken in whole.
    assert held <= records
    assert most <= size + records * 2500
    assert 0 < await daemon.metric("in_flight_bytes") <= most
    assert status["lag"]["records"] > 3000
    assert status["stream"]["dead_letters"] == 0
    assert "store-away" in [each["code"] for each in status["blockers"]]

    await asyncio.to_thread(target.start)

    await nothing_lost(app, daemon)
    assert await daemon.metric("buffer_bytes") == await daemon.metric("in_flight_bytes") == 0


async def test_a_daemon_drains_with_0_while_its_target_is_away(
    rig: Rig, servers: tuple[StoreServer, StoreServer], topic: Topic
) -> None:
    source, target = servers
    collections = rig.collections()
    app = await rig.application((source.url, target.url), topic.sink, collections)
    daemon = rig.daemon(
        (source.url, target.url), collections, topic.feed(), stream={"drain_timeout": "1s"}
    )
    await daemon.start()
    await daemon.phase("STREAMING")
    target.kill()
    async with app.writing():
        await app.progress(50)
    assert await daemon.not_ready("store-unavailable")

    assert await daemon.child.terminate() == 0

    await asyncio.to_thread(target.start)
    await daemon.start()
    await nothing_lost(app, daemon)


async def test_a_source_that_is_away_during_the_copy_is_waited_for(
    rig: Rig, servers: tuple[StoreServer, StoreServer], topic: Topic
) -> None:
    source, target = servers
    collections = rig.collections()
    app = await rig.application((source.url, target.url), topic.sink, collections, records=1500)
    daemon = rig.daemon(
        (source.url, target.url),
        collections,
        topic.feed(),
        backfill={"rate_max": 500.0, "page_rows": 50},
    )
    await daemon.start()
    await daemon.until(lambda status: status["backfill"]["copied"] > 100, "some rows")
    source.kill()
    assert "Qdrant" in await daemon.not_ready("store-unavailable")
    stood = (await daemon.status())["backfill"]["copied"]
    await asyncio.to_thread(source.start)
    copied = await daemon.until(
        lambda status: status["backfill"]["copied"] > stood + 50 and not status["not_ready"],
        "the copy goes on, and what was waited for is there again",
    )
    assert copied["phase"] == "BACKFILL"
    await daemon.phase("STREAMING")
    await app.source.close()
    app.source = connect(source.url)
    async with app.writing():
        await app.progress(30)
    await nothing_lost(app, daemon)
