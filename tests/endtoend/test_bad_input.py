"""
What cannot be carried lands in the dead letters with its code and path, and nothing else does:
the next event of the same key, and those of other keys, are applied.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from replicator.testing.kafka_broker import create_topic
from tests.endtoend.application import Application, Collection
from tests.endtoend.bad_records import BAD, UNREADABLE
from tests.endtoend.daemon import Daemon
from tests.endtoend.events import KafkaSink, event
from tests.endtoend.model import Image, Mapping, connect
from tests.endtoend.rig import QDRANT_URL, Rig, Topic

pytestmark = pytest.mark.kafka


class Shared:
    """A daemon in STREAMING, its topic and its collection, for all tests of this file."""

    def __init__(
        self, daemon: Daemon, topic: Topic, stores: tuple[str, str], collection: Collection
    ) -> None:
        self.daemon = daemon
        self.topic = topic
        self.stores = stores
        self.collection = collection
        self.keys = iter(range(1000, 10_000_000, 10))

    def application(self, sink: KafkaSink) -> Application:
        source, target = map(connect, self.stores)
        return Application(source, target, sink, [self.collection])


@pytest.fixture(scope="module")
def shared(
    stores: tuple[str, str], kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    async def prepare() -> Shared:
        stack = AsyncExitStack()
        rig = Rig(tmp_path_factory.mktemp("bad-input"), stack)
        [collection] = rig.collections(Mapping(rename={"title": "headline"}))
        topic = Topic(kafka, f"bad.{collection.source}")
        await create_topic(kafka, topic.name, 3)
        made = Shared(
            rig.daemon(stores, [collection], topic.feed(event_bytes_max="64KiB")),
            topic,
            stores,
            collection,
        )
        app = made.application(topic.sink)
        await app.create(10)
        await app.source.close()
        await app.target.close()
        await made.daemon.start()
        await made.daemon.phase("STREAMING")
        return made

    made = asyncio.run(prepare())
    yield made
    made.daemon.kill()
    if QDRANT_URL:

        async def clean() -> None:
            client = connect(QDRANT_URL)
            for name in (made.collection.source, made.collection.target):
                await client.delete_collection(name)
            await client.close()

        asyncio.run(clean())


@pytest.fixture
async def app(shared: Shared) -> AsyncIterator[Application]:
    made = shared.application(shared.topic.sink)
    yield made
    await made.sink.close()
    await made.source.close()
    await made.target.close()


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_record_is_kept_and_the_others_are_applied(
    shared: Shared, app: Application, kind: str
) -> None:
    make, code, path = BAD[kind]
    daemon, collection, n = shared.daemon, shared.collection, next(shared.keys)
    await app.upsert(collection, n)
    record = make(collection.source, n)
    partition, offset = await app.sink.place(record)  # type: ignore[attr-defined]
    await app.patch(collection, n)
    await app.upsert(collection, n + 1)
    await daemon.applied(app.sink.ends)

    assert await app.differences("target") == []
    where = (f"{shared.topic.name}/{partition}", offset)
    [letter] = [
        each for each in await daemon.letters() if (each["partition"], each["offset"]) == where
    ]
    assert (letter["code"], letter["path"]) == (code, path), letter["message"]
    assert letter["event_key"] == {"collection": collection.source, "id": n}

    await app.upsert(collection, n)
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []
    assert letter["number"] not in [each["number"] for each in await daemon.letters()]


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_key_that_names_no_record_is_kept_for_a_person(
    shared: Shared, app: Application, kind: str
) -> None:
    make, code = UNREADABLE[kind]
    daemon, collection, n = shared.daemon, shared.collection, next(shared.keys)
    partition, offset = await app.sink.place(  # type: ignore[attr-defined]
        make(collection.source), 0
    )
    await app.upsert(collection, n)
    await daemon.applied(app.sink.ends)

    assert await app.differences("target") == []
    where = f"{shared.topic.name}/{partition}"
    [letter] = [
        each
        for each in await daemon.letters()
        if (each["partition"], each["offset"]) == (where, offset)
    ]
    assert letter["code"] == code, letter["message"]
    retried = await daemon.did("dead-letters/retry", numbers=[letter["number"]])
    assert retried["outcomes"][str(letter["number"])] != "settled"
    assert await daemon.did("dead-letters/discard", numbers=[letter["number"]]) == {
        "discarded": 1
    }
    assert letter["number"] not in [each["number"] for each in await daemon.letters()]


async def test_a_record_that_comes_twice_is_applied_twice_and_changes_nothing(
    shared: Shared, app: Application
) -> None:
    daemon, collection, n = shared.daemon, shared.collection, next(shared.keys)
    before = len(await daemon.letters())
    image = app.image(n)
    collection.records[n] = Image(image.vector, {**image.payload, "title": "patched"})
    once = event("upsert", collection.source, n, vector=image.vector, payload=image.payload)
    patch = event("patch", collection.source, n, set={"title": "patched"})
    await app.sink.emit([once, once, patch, patch])
    await daemon.applied(app.sink.ends)
    await app.sink.emit([patch])
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []
    assert len(await daemon.letters()) == before


async def test_a_letter_is_listed_shown_and_discarded_on_the_command_line(
    shared: Shared, app: Application
) -> None:
    daemon, collection, n = shared.daemon, shared.collection, next(shared.keys)
    record = event("upsert", collection.source, n, vector=(1.0,), payload={"title": "short"})
    await app.sink.emit([record])
    await daemon.applied(app.sink.ends)

    code, out, _ = await daemon.command("dead-letters", "list", "--json")
    assert code == 0
    [letter] = [each for each in json.loads(out) if (each["event_key"] or {}).get("id") == n]
    number = str(letter["number"])
    code, out, _ = await daemon.command("dead-letters", "show", number)
    assert code == 0
    for words in ("vector-dimension", "1 components where the collection has 4", "short"):
        assert words in " ".join(out.split())
    code, out, _ = await daemon.command("dead-letters", "retry", number)
    assert "1 components" in " ".join(out.split())
    code, out, _ = await daemon.command("dead-letters", "discard", number)
    assert (code, out) == (0, "discarded 1 of 1\n")
    code, out, _ = await daemon.command("dead-letters", "list", "--state", "discarded")
    assert number in out
