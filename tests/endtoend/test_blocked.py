"""What stops a migration for a person: a log that is not the captured one any more, and others
who use our group.
"""

from __future__ import annotations

import sqlite3

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from replicator.testing.kafka_broker import create_topic
from tests.endtoend.application import Application
from tests.endtoend.daemon import Daemon, Document
from tests.endtoend.events import ChangelogSink, KafkaSink, event
from tests.endtoend.processes import until
from tests.endtoend.rig import Rig, Topic

pytestmark = pytest.mark.kafka


async def streaming(
    rig: Rig, stores: tuple[str, str], topic: Topic, **more: object
) -> tuple[Application, Daemon]:
    """A small migration in STREAMING, with some events applied."""
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections, records=50)
    daemon = rig.daemon(stores, collections, topic.feed(), **more)
    await daemon.start()
    await daemon.phase("STREAMING")
    for number in range(10):
        await app.upsert(collections[0], number)
    await daemon.applied(app.sink.ends)
    return app, daemon


async def truncate(topic: Topic, ends: dict[str, int]) -> None:
    """Delete every record below these ends."""
    admin = AIOKafkaAdminClient(bootstrap_servers=topic.servers)
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(topic.name, int(name.rpartition("/")[2])): RecordsToDelete(end)
                for name, end in ends.items()
            }
        )
    finally:
        await admin.close()


async def test_a_foreign_commit_closes_the_gate_and_is_named(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    app, daemon = await streaming(rig, stores, topic)
    stranger = AIOKafkaConsumer(
        bootstrap_servers=topic.servers,
        group_id=f"replicator.{daemon.document['name']}",
        enable_auto_commit=False,
    )
    await stranger.start()
    each = TopicPartition(topic.name, 0)
    stranger.assign([each])
    await stranger.commit({each: 4711})
    await stranger.stop()

    status = await daemon.until(
        lambda status: "group-foreign" in [each["code"] for each in status["blockers"]],
        "the foreign commit is a blocker",
    )

    [told] = [each for each in status["blockers"] if each["code"] == "group-foreign"]
    assert f"has committed 4711 for {topic.name}/0" in told["message"]
    code, out, _ = await daemon.command("cutover", "--dry-run")
    assert code == 2
    assert "4711" in out
    await app.upsert(app.collections[0], 3)
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == [], "what others commit moves nothing of ours"


async def test_what_a_killed_daemon_had_not_published_is_no_foreign_commit(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    app, daemon = await streaming(rig, stores, topic)
    group = f"replicator.{daemon.document['name']}"
    daemon.kill()
    # As if it had died between persisting its positions and publishing them.
    admin = AIOKafkaAdminClient(bootstrap_servers=topic.servers)
    await admin.start()
    older = AIOKafkaConsumer(
        bootstrap_servers=topic.servers, group_id=group, enable_auto_commit=False
    )
    await older.start()
    older.assign([TopicPartition(topic.name, number) for number in range(3)])
    await older.commit(dict.fromkeys(older.assignment(), 0))
    await older.stop()

    await daemon.start()
    await daemon.phase("STREAMING")

    async def published() -> bool:
        seen = await admin.list_consumer_group_offsets(group)
        offsets = {f"{each.topic}/{each.partition}": at.offset for each, at in seen.items()}
        return app.sink.ends.items() <= offsets.items()

    await until(published, "the positions are published although nothing new came")
    status = await daemon.until(
        lambda status: status["lag"]["records"] == 0, "the log was looked at"
    )
    assert "group-foreign" not in [each["code"] for each in status["blockers"]]
    await admin.close()


async def test_a_grown_partition_count_blocks_and_stays_blocked(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    app, daemon = await streaming(rig, stores, topic)
    before = await app.differences("target")
    admin = AIOKafkaAdminClient(bootstrap_servers=topic.servers)
    await admin.start()
    await admin.create_partitions({topic.name: NewPartitions(total_count=4)})
    await admin.close()

    blocked = await daemon.phase("BLOCKED")

    assert "4 partitions" in blocked["reason"]
    assert await daemon.not_ready("partitions-changed")
    status, document = await daemon.post("resume")
    assert (status, document["error"]["code"]) == (409, "partitions-changed")
    daemon.kill()
    await daemon.start()
    await daemon.phase("BLOCKED")
    assert await app.differences("target") == before == []
    assert (await daemon.did("abort"))["phase"] == "ABORTED"
    assert await daemon.child.end() == 0


@pytest.mark.parametrize("alive", [True, False], ids=["while paused", "while it was away"])
async def test_a_log_truncated_under_our_position_blocks_and_never_jumps(
    rig: Rig, stores: tuple[str, str], topic: Topic, alive: bool
) -> None:
    app, daemon = await streaming(rig, stores, topic)
    before = (await daemon.status())["partitions"]
    await (daemon.did("pause") if alive else daemon.child.terminate())
    for number in range(30):
        await app.upsert(app.collections[0], number)
    lost = await app.differences("target")
    assert lost
    await truncate(topic, app.sink.ends)

    if alive:
        await daemon.did("resume")
    else:
        await daemon.start()
    blocked = await daemon.phase("BLOCKED")

    assert topic.name in blocked["reason"]
    assert await daemon.not_ready("log-truncated")
    status, document = await daemon.post("resume")
    assert (status, document["error"]["code"]) == (409, "log-truncated")
    committed = {row["partition"]: row["committed"] for row in blocked["partitions"]}
    assert committed == {row["partition"]: row["committed"] for row in before}
    assert await app.differences("target") == lost


async def test_a_truncation_below_our_position_is_none_of_our_business(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    app, daemon = await streaming(rig, stores, topic)
    await truncate(topic, app.sink.ends)
    assert await daemon.child.terminate() == 0
    await daemon.start()
    await app.upsert(app.collections[0], 5)
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []
    assert (await daemon.status())["phase"] == "STREAMING"


async def recreate(topic: Topic, collection: str) -> None:
    """Delete the topic, create one of its name, and fill that beyond whatever was read."""
    admin = AIOKafkaAdminClient(bootstrap_servers=topic.servers)
    await admin.start()
    await admin.delete_topics([topic.name])

    async def deleted() -> bool:
        return topic.name not in await admin.list_topics()

    await until(deleted, "the topic is gone")
    await admin.close()
    await create_topic(topic.servers, topic.name, 3)
    sink = topic.sink
    try:
        for partition in range(3):
            for number in range(100, 160):
                record = event(
                    "upsert", collection, number, vector=(1.0, 2.0, 3.0, 4.0), payload={}
                )
                await sink.place(record, partition)
    finally:
        await sink.close()


@pytest.mark.parametrize("alive", [True, False], ids=["while it streams", "while it was away"])
async def test_a_topic_created_anew_blocks_and_nothing_of_it_is_applied_unasked(
    rig: Rig, stores: tuple[str, str], topic: Topic, alive: bool
) -> None:
    app, daemon = await streaming(rig, stores, topic)
    before = (await daemon.status())["partitions"]
    if not alive:
        assert await daemon.child.terminate() == 0

    await recreate(topic, app.collections[0].source)

    if not alive:
        await daemon.start()
    blocked = await daemon.phase("BLOCKED")
    assert topic.name in blocked["reason"]
    assert await daemon.not_ready("log-replaced")
    status, document = await daemon.post("resume")
    assert (status, document["error"]["code"]) == (409, "log-replaced")
    committed = {row["partition"]: row["committed"] for row in blocked["partitions"]}
    assert committed == {row["partition"]: row["committed"] for row in before}
    daemon.kill()
    await daemon.start()
    await daemon.phase("BLOCKED")
    assert await app.differences("target") == []

    code, out, err = await daemon.command(
        "acknowledge", "log-replaced", "--note", "restored from the mirror"
    )
    assert code == 0, out + err
    await daemon.did("resume")
    shown = await daemon.until(
        lambda status: (
            status["phase"] == "STREAMING"
            and len(status["partitions"]) == 3
            and all(row["committed"] == 60 for row in status["partitions"])
        ),
        "it goes on in the log that was vouched for, at its positions",
    )
    assert "not-verified" in [each["code"] for each in shown["blockers"]]


async def test_keys_in_the_wrong_partition_are_counted_and_close_the_gate(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    app, daemon = await streaming(rig, stores, topic)
    sink = app.sink
    assert isinstance(sink, KafkaSink)
    record = event(
        "upsert", app.collections[0].source, 4, vector=(1.0, 2.0, 3.0, 4.0), payload={}
    )
    for partition in range(3):
        await sink.place(record, partition)

    status = await daemon.applied(sink.ends)

    assert status["stream"]["misplaced"] == 2
    assert "misplaced-keys" in [each["code"] for each in status["blockers"]]


async def test_a_change_log_pruned_by_hand_under_our_position_blocks(
    rig: Rig, stores: tuple[str, str], changelog: tuple[ChangelogSink, Document]
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    app = await rig.application(stores, sink, collections, records=20)
    daemon = rig.daemon(stores, collections, feed)
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("pause")
    for number in range(5):
        await app.upsert(collections[0], number)
    lost = await app.differences("target")
    database = sqlite3.connect(feed["path"])
    with database:
        database.execute("DELETE FROM changes")
    database.close()
    await daemon.did("resume")
    await daemon.phase("BLOCKED")
    assert await daemon.not_ready("log-truncated")
    assert await app.differences("target") == lost
