"""
What cannot be carried lands in the dead letters with its code and path, and nothing else does:
the next event of the same key, and those of other keys, are applied.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from qdrant_client import models

from replicator.testing.kafka_broker import create_topic
from tests.endtoend.application import Application, Collection
from tests.endtoend.daemon import Daemon, Document
from tests.endtoend.events import KafkaSink, Wire, event, key
from tests.endtoend.model import Image, Mapping, connect, read
from tests.endtoend.rig import QDRANT_URL, Rig, Topic

pytestmark = pytest.mark.kafka

NAN = float("nan")
GOOD = (1.0, 2.0, 3.0, 4.0)
EVENT_BYTES_MAX = 64 << 10


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
        clients = [connect(url) for url in self.stores]
        return Application(*clients, sink, [self.collection])


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


async def letters(daemon: Daemon, state: str = "open") -> list[Document]:
    status, document = await daemon.get(f"/v1/dead-letters?state={state}&limit=1000")
    assert status == 200
    found: list[Document] = document["letters"]
    return found


def good(name: str, n: int, **more: Any) -> Document:
    """The fields of an event that is right."""
    return {"v": 1, "op": "upsert", "collection": name, "id": n, "ts": 1, **more}


def packed(name: str, n: int, **more: Any) -> Wire:
    return key(name, n), msgspec.msgpack.encode(good(name, n, **more))


def as_json(name: str, n: int, **more: Any) -> Wire:
    return key(name, n), json.dumps(good(name, n, **more)).encode()


def whole(name: str, n: int) -> bytes:
    value = event("upsert", name, n, vector=GOOD, payload={"title": "whole"})[1]
    assert value is not None
    return value


BAD: dict[str, tuple[Any, str, str]] = {
    "malformed": (lambda c, n: (key(c, n), b"\xc1 no value"), "value-malformed", ""),
    "empty": (lambda c, n: (key(c, n), b""), "value-malformed", ""),
    "truncated": (lambda c, n: (key(c, n), whole(c, n)[:-7]), "value-malformed", ""),
    "truncated JSON": (lambda c, n: (key(c, n), b'{"v": 1, "op": "up'), "value-malformed", ""),
    "not a map": (lambda c, n: (key(c, n), b"[1, 2]"), "value-malformed", ""),
    "oversized": (
        lambda c, n: event(
            "upsert", c, n, vector=GOOD, payload={"title": "x" * EVENT_BYTES_MAX}
        ),
        "value-too-large",
        "",
    ),
    "wrong dimension": (
        lambda c, n: event("upsert", c, n, vector=(1.0, 2.0), payload={}),
        "vector-dimension",
        'vectors.""',
    ),
    "wrong dimension in a patch": (
        lambda c, n: event("patch", c, n, vector=(1.0, 2.0)),
        "vector-dimension",
        'vectors.""',
    ),
    "NaN vector": (
        lambda c, n: event("upsert", c, n, vector=(1.0, NAN, 3.0, 4.0), payload={}),
        "vector-not-finite",
        'vectors.""',
    ),
    "infinite vector in JSON": (
        lambda c, n: as_json(c, n, vectors={"": [1.0, 2.0, 3.0, float("inf")]}),
        "vector-not-finite",
        'vectors.""',
    ),
    "NaN payload": (
        lambda c, n: event("upsert", c, n, vector=GOOD, payload={"a": [{"b": NAN}]}),
        "payload-not-finite",
        "payload.a[0].b",
    ),
    "wrong type": (
        lambda c, n: event("upsert", c, n, vector=GOOD, payload=["no", "map"]),
        "field-type",
        "payload",
    ),
    "wrong type of time": (
        lambda c, n: packed(c, n, ts="noon", vectors={}),
        "field-type",
        "ts",
    ),
    "wrong type of id": (
        lambda c, n: packed(c, n, id=str(n), vectors={}),
        "field-type",
        "id",
    ),
    "unknown vector": (
        lambda c, n: packed(c, n, vectors={"other": b"\0" * 16}),
        "vector-unknown",
        "vectors.other",
    ),
    "unknown operation": (lambda c, n: packed(c, n, op="replace"), "field-invalid", "op"),
    "set and unset": (
        lambda c, n: event("patch", c, n, set={"a": 1}, unset=["a"]),
        "field-invalid",
        "unset.a",
    ),
    "no version of the contract": (
        lambda c, n: (key(c, n), msgspec.msgpack.encode({"op": "delete"})),
        "field-missing",
        "v",
    ),
    "another version of the contract": (
        lambda c, n: packed(c, n, v=2),
        "field-invalid",
        "v",
    ),
    "key and value differ": (
        lambda c, n: (key(c, n), whole(c, n + 1)),
        "key-mismatch",
        "id",
    ),
}


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
        each for each in await letters(daemon) if (each["partition"], each["offset"]) == where
    ]
    assert (letter["code"], letter["path"]) == (code, path), letter["message"]
    assert letter["event_key"] == {"collection": collection.source, "id": n}

    await app.upsert(collection, n)
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []
    assert letter["number"] not in [each["number"] for each in await letters(daemon)]


UNREADABLE: dict[str, tuple[Any, str]] = {
    "no key": (lambda c: (None, whole(c, 1)), "key-missing"),
    "an empty key": (lambda c: (b"", whole(c, 1)), "key-missing"),
    "no slash": (lambda c: (c.encode(), whole(c, 1)), "key-invalid"),
    "another spelling": (lambda c: (f"{c}/%31".encode(), whole(c, 1)), "key-invalid"),
    "beyond 64 bits": (lambda c: (f"{c}/{1 << 64}".encode(), None), "id-invalid"),
    "beyond 64 bits in the value": (
        lambda c: (f"{c}/{1 << 64}".encode(), json.dumps(good(c, 1 << 64)).encode()),
        "id-invalid",
    ),
    "negative": (lambda c: event("upsert", c, -1, vector=GOOD, payload={}), "id-invalid"),
    "negative, deleted": (lambda c: (f"{c}/-1".encode(), None), "id-invalid"),
    "an id too long": (
        lambda c: (f"{c}/{'9' * 600}".encode(), None),
        "id-invalid",
    ),
    "a text too long": (
        lambda c: (f"{c}/{quote('ü' * 300)}".encode(), None),
        "id-invalid",
    ),
    "no id of this store": (
        lambda c: event("upsert", c, "plain text", vector=GOOD, payload={}),
        "id-invalid",
    ),
}


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
        for each in await letters(daemon)
        if (each["partition"], each["offset"]) == (where, offset)
    ]
    assert letter["code"] == code, letter["message"]
    retried = await daemon.did("dead-letters/retry", numbers=[letter["number"]])
    assert retried["outcomes"][str(letter["number"])] != "settled"
    assert await daemon.did("dead-letters/discard", numbers=[letter["number"]]) == {
        "discarded": 1
    }
    assert letter["number"] not in [each["number"] for each in await letters(daemon)]


async def test_a_record_that_comes_twice_is_applied_twice_and_changes_nothing(
    shared: Shared, app: Application
) -> None:
    daemon, collection, n = shared.daemon, shared.collection, next(shared.keys)
    before = len(await letters(daemon))
    image = app.image(n)
    collection.records[n] = Image(image.vector, {**image.payload, "title": "patched"})
    once = event("upsert", collection.source, n, vector=image.vector, payload=image.payload)
    patch = event("patch", collection.source, n, set={"title": "patched"})
    await app.sink.emit([once, once, patch, patch])
    await daemon.applied(app.sink.ends)
    await app.sink.emit([patch])
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []
    assert len(await letters(daemon)) == before


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


async def test_rows_with_nan_are_kept_aside_and_carried_once_they_are_mended(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    [collection] = collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections, records=20)
    for n in (3, 5, 7):
        broken = models.PointStruct(id=n, vector=[NAN, 1.0, 2.0, 3.0], payload={"title": "x"})
        await app.source.upsert(collection.source, [broken], wait=True)
    daemon = rig.daemon(stores, collections, topic.feed())
    await daemon.start()
    await daemon.phase("STREAMING")
    found = {each["event_key"]["id"]: each for each in await letters(daemon)}
    assert found.keys() == {3, 5, 7}
    for letter in found.values():
        assert (letter["code"], letter["path"]) == ("vector-not-finite", 'vectors.""')
        assert letter["partition"] is None
    status = await daemon.status()
    assert "dead-letters" in [each["code"] for each in status["blockers"]]
    report = await daemon.did("verify", level="full")
    assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]

    # Mended at the source without an event, and carried by a retry.
    number = found[3]["number"]
    code, out, _ = await daemon.command("dead-letters", "retry", str(number))
    assert code == 0
    assert "NaN" in out
    image = collection.records[3]
    mended = models.PointStruct(id=3, vector=list(image.vector), payload=image.payload)
    await app.source.upsert(collection.source, [mended], wait=True)
    code, out, _ = await daemon.command("dead-letters", "retry", str(number))
    assert (code, "settled" in out) == (0, True)

    # The key has changed since: a patch does not settle the letter, and the retry carries it.
    collection.records[5] = image
    await app.source.upsert(
        collection.source,
        [models.PointStruct(id=5, vector=list(image.vector), payload=image.payload)],
        wait=True,
    )
    await app.patch(collection, 5)
    await daemon.applied(app.sink.ends)
    assert 5 in [each["event_key"]["id"] for each in await letters(daemon)]
    outcomes = await daemon.did("dead-letters/retry", numbers=[found[5]["number"]])
    assert outcomes["outcomes"] == {str(found[5]["number"]): "settled"}

    # An upsert settles it by itself.
    await app.upsert(collection, 7)
    await daemon.applied(app.sink.ends)
    assert await letters(daemon) == []
    assert await app.differences("target") == []


async def test_a_retry_replays_what_came_after_the_letter(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    [collection] = collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections, records=5)
    tight = rig.daemon(stores, collections, topic.feed(event_bytes_max="2KiB"))
    await tight.start()
    await tight.phase("STREAMING")
    image = Image(GOOD, {"title": "large", "text": "x" * 3000})
    collection.records[2] = image
    await app.source.upsert(
        collection.source,
        [models.PointStruct(id=2, vector=list(image.vector), payload=image.payload)],
        wait=True,
    )
    await app.sink.emit(
        [event("upsert", collection.source, 2, vector=GOOD, payload=image.payload)]
    )
    await app.patch(collection, 2)
    await tight.applied(app.sink.ends)
    [letter] = await letters(tight)
    assert letter["code"] == "value-too-large"
    assert await app.differences("target") != []
    assert await tight.child.terminate() == 0

    wide = rig.daemon(stores, collections, topic.feed(event_bytes_max="1MiB"))
    await wide.start()
    await wide.phase("STREAMING")
    outcomes = await wide.did("dead-letters/retry")
    assert outcomes["outcomes"] == {str(letter["number"]): "settled"}
    assert await app.differences("target") == []


async def test_ids_may_be_uuids_and_integers_side_by_side(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    [collection] = collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections, records=5)
    name = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
    other = "9a0c0305-e82c-4301-8f89-41d33f2504e0"
    await app.source.upsert(
        collection.source,
        [models.PointStruct(id=name, vector=list(GOOD), payload={"title": "named"})],
        wait=True,
    )
    collection.records[name] = Image(GOOD, {"title": "named"})
    daemon = rig.daemon(stores, collections, topic.feed())
    await daemon.start()
    await daemon.phase("STREAMING")
    for point_id in (3, other):
        await app.upsert(collection, point_id)
    await app.patch(collection, name)
    await app.delete(collection, 4)
    await app.upsert(collection, 1)
    await app.sink.emit([(key(collection.source, other), None)])
    await app.source.delete(collection.source, [other], wait=True)
    del collection.records[other]
    await daemon.applied(app.sink.ends)

    assert await letters(daemon) == []
    assert await app.differences("target") == []
    report = await daemon.did("verify", level="full")
    assert report["missing"] == report["extra"] == report["different"] == 0
    assert name in await read(app.target, collection.target)
