"""Verification finds what somebody changed behind the stream's back, and repair heals it."""

from __future__ import annotations

import json

from qdrant_client import models

from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Mapping
from tests.endtoend.rig import Rig

Changelog = tuple[ChangelogSink, Document]


async def test_what_was_changed_at_the_target_is_found_and_repaired_while_writers_write(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    sink, feed = changelog
    collections = rig.collections(Mapping(rename={"title": "headline"}), Mapping())
    app = await rig.application(stores, sink, collections, records=200)
    daemon = rig.daemon(stores, collections, feed, cutover=await rig.served(app))
    await daemon.start()
    await daemon.phase("STREAMING")
    name = collections[0].target
    # Keys that no writer touches: the source loses a row and changes another without an event.
    await app.target.delete(name, [1], wait=True)
    await app.target.set_payload(name, {"headline": "tampered"}, points=[3], wait=True)
    stray = models.PointStruct(id=777_777, vector=[1.0, 2.0, 3.0, 4.0], payload={})
    await app.target.upsert(name, [stray], wait=True)
    await app.target.update_vectors(
        collections[1].target,
        [models.PointVectors(id=5, vector=[9.0, 9.0, 9.0, 9.0])],
        wait=True,
    )
    app.spared = {1, 3, 5}
    async with app.writing():
        await app.progress(50)
        code, out, _ = await daemon.command("verify", "--json")
        assert code == 1
        report = json.loads(out)
        counts = {kind: report[kind] for kind in ("missing", "extra", "different")}
        assert counts == {"missing": 1, "extra": 1, "different": 2}
        found = {(each["key"]["id"], each["kind"]) for each in report["findings"]}
        assert found == {
            (1, "missing"),
            (3, "different"),
            (5, "different"),
            (777_777, "extra"),
        }
        status, document = await daemon.post("cutover")
        assert (status, document["error"]["code"]) == (409, "gate-closed")
        assert "4 keys differ" in document["error"]["message"]

        code, out, err = await daemon.command("repair")
        assert code == 0, err
        assert "4" in out
        code, out, _ = await daemon.command("verify")
        assert code == 0, out
        await daemon.crossed("cutover")
        await app.progress(30)
    await daemon.applied(sink.ends)
    assert await app.differences("target") == []
    assert await app.differences("source") == []


async def test_a_row_deleted_at_the_source_without_an_event_is_extra_until_repaired(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    sink, feed = changelog
    [collection] = collections = rig.collections()
    app = await rig.application(stores, sink, collections, records=20)
    daemon = rig.daemon(stores, collections, feed)
    await daemon.start()
    await daemon.phase("STREAMING")
    await app.source.delete(collection.source, [7, 8], wait=True)
    for point_id in (7, 8):
        del collection.records[point_id]

    report = await daemon.did("verify", level="full")
    assert (report["extra"], report["missing"]) == (2, 0)
    assert await daemon.did("repair", collection=None) == {"repaired": 2}
    assert await app.differences("target") == []
    report = await daemon.did("verify", level="full")
    assert report["extra"] == 0
