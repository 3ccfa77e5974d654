"""A pattern, on real parts: the collections that there were go, whatever comes meanwhile."""

from __future__ import annotations

import msgspec
from qdrant_client import models

from tests.endtoend.application import DIMENSION, Collection
from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Mapping, read
from tests.endtoend.rig import Rig


async def test_three_collections_cross_and_the_fourth_that_came_during_the_copy_stays(
    rig: Rig, stores: tuple[str, str], changelog: tuple[ChangelogSink, Document]
) -> None:
    sink, feed = changelog
    collections = [
        msgspec.structs.replace(each, target=each.source)
        for each in rig.collections(Mapping(), Mapping(), Mapping())
    ]
    names = [each.source for each in collections]
    pattern = names[0].replace("docs-0", "docs-[0-9]")
    app = await rig.application(stores, sink, collections, records=500)
    daemon = rig.daemon(
        stores,
        [],
        feed,
        backfill={"rate_max": 300.0, "page_rows": 20},
        cutover=await rig.served(app),
    )
    daemon.document["collections"] = [{"source": pattern}]
    daemon.rewrite()
    fourth = Collection(
        source=names[0].replace("docs-0", "docs-3"), target="nowhere", records={}
    )
    code, out, err = await daemon.command("check")
    assert (code, [name for name in names if name in out]) == (0, names), out + err

    async with app.writing():
        await daemon.start()
        await daemon.until(lambda status: status["backfill"]["copied"] > 100, "some rows")
        await app.source.create_collection(
            fourth.source,
            vectors_config=models.VectorParams(size=DIMENSION, distance=fourth.distance),
        )
        for number in range(20):
            await app.upsert(fourth, number)
        daemon.kill()
        await app.upsert(fourth, 20)
        await daemon.start()
        await daemon.phase("BACKFILL")
        await daemon.phase("STREAMING")
        status = await daemon.until(lambda told: told["warnings"], "a warning")
        [warning] = status["warnings"]
        assert (warning["code"], fourth.source in warning["message"]) == (
            "collection-left-out",
            True,
        )
        await app.upsert(fourth, 21)
        await app.progress(100)
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
        assert sorted(report["counts"]) == names
        await daemon.crossed("cutover")
        assert app.active == "target"
        await app.progress(50)
    status = await daemon.applied(app.sink.ends)
    assert status["stream"]["dead_letters"] == 0
    assert await app.differences("target") == []
    assert await app.differences("source") == []

    assert not await app.target.collection_exists(fourth.source)
    assert await read(app.source, fourth.source) == fourth.records
    code, out, _ = await daemon.command("check")
    assert "[collection-left-out]" in out, out
    code, out, _ = await daemon.command("journal")
    assert f"'{fourth.source}' came to the source" in out, out
    assert await daemon.child.terminate() == 0
    await app.source.delete_collection(fourth.source)
