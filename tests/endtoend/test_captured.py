"""A live migration whose events are a database's own, on the real broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest

from tests.endtoend.application import Application
from tests.endtoend.events import KafkaSink, Wire
from tests.endtoend.model import Image
from tests.endtoend.rig import Rig, Topic
from tests.plugins.broker import MakeTopic

pytestmark = pytest.mark.kafka

UNTOUCHED = "__debezium_unavailable_value"


def row_of(point_id: int, image: Image, *, patched: bool) -> dict[str, Any]:
    """As PostgreSQL tells it: what an update did not touch of a long vector it does not."""
    columns = {"title": None, "n": None, "tags": None, **image.payload}
    if columns["tags"] is not None:
        columns["tags"] = json.dumps(columns["tags"])
    embedding = UNTOUCHED if patched else str(list(image.vector))
    return {"id": point_id, **columns, "embedding": embedding}


def debezium(table: str, point_id: int, row: dict[str, Any] | None) -> list[Wire]:
    name = json.dumps({"id": point_id}).encode()
    envelope = {
        "op": "d" if row is None else "u",
        "before": {"id": point_id} if row is None else None,
        "after": row,
        "source": {"ts_ms": int(time.time() * 1000), "schema": "public", "table": table},
    }
    told = (name, json.dumps(envelope).encode())
    return [told, (name, None)] if row is None else [told]


def airbyte(table: str, point_id: int, row: dict[str, Any] | None) -> list[Wire]:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    data = {**(row or {"id": point_id}), "_ab_cdc_lsn": 1, "_ab_cdc_updated_at": at}
    data["_ab_cdc_deleted_at"] = at if row is None else None
    record = {
        "namespace": "public",
        "stream": table,
        "data": data,
        "emitted_at": int(time.time() * 1000),
    }
    messages = [
        {"type": "RECORD", "record": record},
        {"type": "STATE", "state": {"type": "GLOBAL", "global": {"shared_state": {"lsn": 1}}}},
    ]
    # Its destination gives each record a key of its own.
    return [(str(uuid4()).encode(), json.dumps(each).encode()) for each in messages]


class CapturedSink(KafkaSink):
    """Tells of the rows that the application changes, as long as it changes them."""

    application: Application

    def __init__(
        self,
        topic: Topic,
        told: Callable[[str, int, dict[str, Any] | None], list[Wire]],
    ) -> None:
        super().__init__(topic.servers, topic.name)
        self._told = told

    async def emit(self, records: Sequence[Wire]) -> None:
        if self.application.active == "target":
            return
        for key, value in records:
            assert key is not None
            table, number = map(unquote, key.decode().split("/"))
            [collection] = [c for c in self.application.collections if c.source == table]
            point_id, image = int(number), collection.records.get(int(number))
            patched = value is not None and b"\xa2op\xa5patch" in value
            row = None if image is None else row_of(point_id, image, patched=patched)
            await super().emit(self._told(table, point_id, row))


@pytest.mark.parametrize(
    ("decoder", "told", "partitions"), [("debezium", debezium, 3), ("airbyte", airbyte, 1)]
)
async def test_rows_that_a_database_tells_of_reach_the_target_through_a_kill(
    rig: Rig,
    stores: tuple[str, str],
    kafka: str,
    make_topic: MakeTopic,
    decoder: str,
    told: Callable[[str, int, dict[str, Any] | None], list[Wire]],
    partitions: int,
) -> None:
    topic = Topic(kafka, await make_topic(partitions=partitions))
    collections = rig.collections()
    sink = CapturedSink(topic, told)
    app = await rig.application(stores, sink, collections)
    sink.application = app
    table = {
        "collection": collections[0].source,
        "schema": "public",
        "vectors": {"embedding": ""},
        "json": ["tags"],
    }
    feed = topic.feed(decoder=decoder, tables=[table])
    cutover = {**await rig.served(app), "way_back_lossy": True}
    daemon = rig.daemon(stores, collections, feed, cutover=cutover)
    async with app.writing():
        await daemon.start()
        await daemon.phase("STREAMING")
        await app.progress(100)
        daemon.kill()
        await app.progress(50)
        await daemon.start()
        await daemon.phase("STREAMING")
        await app.progress(50)
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
        await daemon.crossed("cutover")
        assert app.active == "target"
        await app.progress(20)
    assert await app.differences("target") == []
    status = await daemon.phase("STREAMING", "reverse")
    assert status["stream"]["dead_letters"] == 0


async def test_records_with_keys_of_their_own_are_refused_in_several_partitions(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    sink = CapturedSink(topic, airbyte)
    sink.application = await rig.application(stores, sink, collections, records=3)
    table = {"collection": collections[0].source, "vectors": {"embedding": ""}}
    daemon = rig.daemon(stores, collections, topic.feed(decoder="airbyte", tables=[table]))
    code, out, err = await daemon.command("check")
    assert code == 2
    assert "rows-unordered" in out + err
    assert await daemon.run("--until", "backfilled") == 2
