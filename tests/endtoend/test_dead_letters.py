"""Dead letters of rows and events: mended, retried, settled by what comes later."""

from __future__ import annotations

import pytest
from qdrant_client import models

from tests.endtoend.bad_records import GOOD, NAN
from tests.endtoend.events import event, key
from tests.endtoend.model import Image, read
from tests.endtoend.rig import Rig, Topic

pytestmark = pytest.mark.kafka


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
    found = {each["event_key"]["id"]: each for each in await daemon.letters()}
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
    assert code == 1  # it stays open
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
    assert 5 in [each["event_key"]["id"] for each in await daemon.letters()]
    outcomes = await daemon.did("dead-letters/retry", numbers=[found[5]["number"]])
    assert outcomes["outcomes"] == {str(found[5]["number"]): "settled"}

    # An upsert settles it by itself.
    await app.upsert(collection, 7)
    await daemon.applied(app.sink.ends)
    assert await daemon.letters() == []
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
    [letter] = await tight.letters()
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

    assert await daemon.letters() == []
    assert await app.differences("target") == []
    report = await daemon.did("verify", level="full")
    assert report["missing"] == report["extra"] == report["different"] == 0
    assert name in await read(app.target, collection.target)
