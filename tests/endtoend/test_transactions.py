"""Producers that write in transactions: what they abort is not there, and an open one is waited
for.
"""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from tests.endtoend.events import event
from tests.endtoend.rig import Rig, Topic

pytestmark = pytest.mark.kafka


async def test_only_what_was_committed_is_applied_and_an_open_transaction_holds_the_cutover(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    [collection] = collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections, records=20)
    daemon = rig.daemon(stores, collections, topic.feed(), cutover=await rig.served(app))
    await daemon.start()
    await daemon.phase("STREAMING")
    producer = AIOKafkaProducer(
        bootstrap_servers=topic.servers, transactional_id=f"writer-{topic.name}"
    )
    await producer.start()

    async def send(title: str) -> None:
        for n in range(6):
            image = collection.records[n]
            name, value = event(
                "upsert",
                collection.source,
                n,
                vector=image.vector,
                payload={**image.payload, "title": title},
            )
            await producer.send_and_wait(topic.name, value=value, key=name)

    await producer.begin_transaction()
    await send("aborted")
    await producer.abort_transaction()
    await app.upsert(collection, 3)
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []
    # Markers are no records: without another event, nothing is behind.
    await daemon.until(lambda status: status["lag"]["records"] == 0, "no lag is left")
    await daemon.did("verify", level="full")

    await producer.begin_transaction()
    await send("committed")
    status, document = await daemon.post("cutover", timeout_s=3)
    assert (status, document["error"]["code"]) == (409, "cutover-timeout")
    await daemon.until(lambda s: s["application_may_write"] == "source", "the fence is open")
    assert await app.differences("target") == []
    for n in range(6):
        image = collection.records[n]
        image.payload["title"] = "committed"
        await app.source.set_payload(
            collection.source, {"title": "committed"}, points=[n], wait=True
        )
    await producer.commit_transaction()
    await producer.stop()
    await daemon.until(lambda status: status["lag"]["records"] == 0, "no lag is left")
    assert await app.differences("target") == []
    await daemon.did("cutover")
    assert app.active == "target"
