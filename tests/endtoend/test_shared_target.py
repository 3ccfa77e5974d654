"""
Two sources that hold the same ids move into one collection and back, on real parts: each under
ids of its own there, and nothing of the one ever reaches the other.
"""

from __future__ import annotations

from tests.endtoend.daemon import Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Mapping, read
from tests.endtoend.processes import until
from tests.endtoend.rig import Rig

RECORDS = 300


async def test_two_sources_share_a_target_there_and_back_and_nothing_crosses_over(
    rig: Rig, stores: tuple[str, str], changelog: tuple[ChangelogSink, Document]
) -> None:
    sink, feed = changelog
    collections = rig.collections(Mapping(), Mapping())
    shared = f"{collections[0].target}-all"
    for collection in collections:
        collection.target, collection.mapped = shared, True
    app = await rig.application(stores, sink, collections, records=RECORDS)
    assert collections[0].records.keys() == collections[1].records.keys()
    assert collections[0].records != collections[1].records
    daemon = rig.daemon(
        stores,
        collections,
        feed,
        cutover=await rig.served(app),
        backfill={"page_rows": 20, "readers": 1, "rate_max": 400},
    )

    async with app.writing():
        await daemon.start()

        async def copied() -> bool:
            status = await daemon.status()
            # The first is copied, and of the second a part.
            return bool(status) and status["backfill"]["copied"] > RECORDS + 50

        await until(copied, "one collection and a part of the other are copied")
        daemon.child.kill()
        await daemon.start()
        await daemon.phase("STREAMING")
        await app.progress(50)
        daemon.child.kill()
        await app.progress(50)
        await daemon.start()
        await daemon.phase("STREAMING")
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
        # Of what there is, from either side: the writers delete, and what is under way is left.
        there = sum(len(collection.records) for collection in collections)
        assert report["compared"] >= 2 * there * 0.8
        for collection in collections:
            # An answer of the one was never taken for one of the other.
            assert report["search"][collection.source]["recall"] > 0.9
            assert "not_compared" not in report["search"][collection.source]

        await daemon.crossed("cutover")
        assert app.active == "target"
        await app.progress(50)
        daemon.child.kill()
        await app.progress(50)
        await daemon.start()
        await daemon.phase("STREAMING", "reverse")
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
    await daemon.applied(sink.ends)
    assert app.changes_at_target > 50
    assert await app.differences("target") == []
    assert await app.differences("source") == []

    async with app.writing():
        await daemon.crossed("revert")
        assert app.active == "source"
        await app.progress(50)
    await daemon.applied(sink.ends)
    assert await app.differences("source") == []
    assert await app.differences("target") == []
    points = await read(app.target, shared)
    assert len(points) == sum(len(collection.records) for collection in collections)
    report = await daemon.did("verify", level="full")
    assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
    assert report["together"] == {shared: [len(points), len(points)]}
    assert (await daemon.status())["stream"]["dead_letters"] == 0
    assert await daemon.child.terminate() == 0
