"""The whole way, on real parts: a broker, store servers and the daemon as a child process."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.endtoend.events import ChangelogSink, event
from tests.endtoend.model import Mapping
from tests.endtoend.rig import Rig, Topic

pytestmark = pytest.mark.kafka

RENAMED = Mapping(rename={"title": "headline"}, vector="text")
COSINE = Mapping(normalised=True)


async def test_a_live_application_moves_there_and_back_without_losing_a_change(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections(RENAMED, COSINE, Mapping())
    app = await rig.application(stores, topic.sink, collections)
    daemon = rig.daemon(stores, collections, topic.feed(), cutover=await rig.served(app))
    async with app.writing():
        await daemon.start()
        await daemon.phase("STREAMING")
        await app.progress(100)
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
        assert report["compared"] >= 900

        await daemon.crossed("cutover")
        assert (app.active, app.epoch, app.fenced) == ("target", 1, False)
        status = await daemon.phase("STREAMING", "reverse")
        assert status["application_may_write"] == "target"
        await app.progress(100)
    await daemon.applied(app.sink.ends)
    assert app.changes_at_target > 50
    assert await app.differences("target") == []
    assert await app.differences("source") == []

    async with app.writing():
        await app.progress(50)
        await daemon.did("revert")
        assert (app.active, app.epoch, app.fenced) == ("source", 2, False)
        await app.progress(50)
    status = await daemon.phase("STREAMING")
    assert status["application_may_write"] == "source"
    await daemon.applied(app.sink.ends)
    assert await app.differences("source") == []
    assert await app.differences("target") == []
    assert (await daemon.status())["stream"]["dead_letters"] == 0
    assert await daemon.child.terminate() == 0


async def test_the_second_cutover_after_a_revert_needs_a_new_verification_only(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections(RENAMED)
    app = await rig.application(stores, topic.sink, collections)
    daemon = rig.daemon(stores, collections, topic.feed(), cutover=await rig.served(app))
    await daemon.start()
    await daemon.phase("STREAMING")
    async with app.writing():
        for epoch in (1, 3):
            await app.progress(30)
            await daemon.did("verify", level="full")
            await daemon.crossed("cutover")
            assert (app.active, app.epoch) == ("target", epoch)
            await app.progress(30)
            if epoch == 1:
                await daemon.crossed("revert")
    await daemon.applied(app.sink.ends)
    assert await app.differences("source") == []
    assert await app.differences("target") == []
    await daemon.did("complete")
    assert await daemon.child.end() == 0


async def test_a_plain_copy_ends_with_0_once_both_stores_are_equal(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections(RENAMED, Mapping())
    app = await rig.application(stores, topic.sink, collections)
    daemon = rig.daemon(stores, collections, {"kind": "none"})

    assert await daemon.run() == 0, daemon.child.tail()

    assert await app.differences("target") == []
    assert await daemon.run() == 0, "a second run finds nothing to do"


async def test_sigterm_drains_with_0_and_the_next_run_goes_on_where_it_ended(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections)
    daemon = rig.daemon(stores, collections, topic.feed())
    await daemon.start()
    await daemon.phase("STREAMING")
    async with app.writing():
        await app.progress(100)
        assert await daemon.child.terminate() == 0
        await app.progress(50)
    before = app.changes

    await daemon.start()
    status = await daemon.applied(app.sink.ends)

    assert await app.differences("target") == []
    assert 0 < status["stream"]["applied"] < before, "what was applied is not repeated"
    assert status["phase"] == "STREAMING"


async def test_a_paused_backfill_rests_goes_on_and_is_resumed_after_a_kill(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections, records=1500)
    daemon = rig.daemon(
        stores, collections, topic.feed(), backfill={"rate_max": 400.0, "page_rows": 50}
    )
    await daemon.start()
    await daemon.until(lambda status: status["backfill"]["copied"] > 100, "some rows")
    paused = await daemon.did("pause")
    assert (paused["phase"], paused["paused"]) == ("BACKFILL", True)
    resting = await daemon.until(lambda status: status["paused"], "paused")
    async with app.writing():
        await app.progress(200)
    after = await daemon.status()
    assert after["backfill"]["copied"] <= resting["backfill"]["copied"] + 2 * 50
    assert after["phase"] == "BACKFILL"

    daemon.kill()
    await daemon.start()
    still = await daemon.until(lambda status: status["paused"], "a pause outlives the process")
    assert still["backfill"]["copied"] >= 100
    await daemon.did("resume")
    await daemon.phase("STREAMING")
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []


async def test_a_paused_stream_applies_nothing_until_it_is_resumed(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections)
    daemon = rig.daemon(stores, collections, topic.feed())
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("pause")
    async with app.writing():
        await app.progress(100)
    behind = await daemon.until(
        lambda status: (status["lag"]["records"] or 0) >= 80, "the lag of a pause shows"
    )
    assert behind["stream"]["applied"] == 0
    assert "paused" in [each["code"] for each in behind["blockers"]]

    await daemon.did("resume")
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []


async def test_jobs_end_when_their_goal_is_reached(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections)
    daemon = rig.daemon(stores, collections, topic.feed())
    async with app.writing():
        assert await daemon.run("--until", "backfilled") == 0, daemon.child.tail()
    assert len(collections[0].records) > 0
    assert await app.differences("target") != [], "the changes made meanwhile are not applied"

    assert await daemon.run("--until", "caught-up") == 0, daemon.child.tail()

    assert await app.differences("target") == []


async def test_a_second_daemon_on_the_same_state_is_refused(
    rig: Rig, stores: tuple[str, str], changelog: tuple[ChangelogSink, dict[str, str]]
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    await rig.application(stores, sink, collections, records=10)
    daemon = rig.daemon(stores, collections, feed)
    await daemon.start()
    await daemon.phase("STREAMING")
    first = daemon.child

    assert await daemon.run() == 2
    assert "state-locked" in daemon.child.tail()
    assert first.running
    first.signal(signal.SIGTERM)
    assert await first.end() == 0


async def test_an_event_of_another_collection_is_ignored_and_counted(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections, records=10)
    daemon = rig.daemon(stores, collections, topic.feed())
    await daemon.start()
    await daemon.phase("STREAMING")
    await app.sink.emit([event("delete", "other", 1), event("delete", "another", "x")])
    await app.upsert(collections[0], 5)
    status = await daemon.applied(app.sink.ends)
    assert (status["stream"]["ignored"], status["stream"]["applied"]) == (2, 1)
    assert await app.differences("target") == []


async def test_writers_that_ignore_the_fence_stop_the_cutover_and_lose_nothing(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections)
    daemon = rig.daemon(stores, collections, topic.feed(), cutover=await rig.served(app))
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("verify", level="full")

    async def rogue() -> None:
        while True:
            await app.upsert(collections[0], 77)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(rogue())
    status, document = await daemon.post("cutover")
    task.cancel()
    await asyncio.wait([task])

    assert (status, document["error"]["code"]) == (409, "fence-ignored")
    assert (app.active, app.epoch) == ("source", 0)
    await daemon.until(lambda s: s["application_may_write"] == "source", "the fence is open")
    assert not app.fenced
    assert app.closings == 1


async def test_a_switch_that_says_no_ends_in_held_and_a_person_says_who_owns(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections)
    app.refuse_switch = True
    daemon = rig.daemon(stores, collections, topic.feed(), cutover=await rig.served(app))
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("verify", level="full")

    _, document = await daemon.post("cutover")
    assert document["error"]["code"] == "ownership-unknown"
    held = await daemon.phase("HELD")
    assert held["application_may_write"] is None
    assert app.fenced
    assert await daemon.not_ready("ownership-unknown")

    await daemon.did("own", store="source")
    await daemon.phase("STREAMING")
    await daemon.until(lambda s: s["application_may_write"] == "source", "the fence is open")
    async with app.writing():
        await app.progress(30)
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []
    assert (await daemon.status())["stream"]["dead_letters"] == 0


async def test_a_fence_that_does_not_answer_well_is_opened_once_it_does(
    rig: Rig, stores: tuple[str, str], topic: Topic
) -> None:
    collections = rig.collections()
    app = await rig.application(stores, topic.sink, collections, records=20)
    daemon = rig.daemon(stores, collections, topic.feed(), cutover=await rig.served(app))
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.did("verify", level="full")
    app.refuse_fence = True
    _, document = await daemon.post("cutover")
    assert document["error"]["code"] == "fence-failed"
    status = await daemon.phase("STREAMING")
    assert status["application_may_write"] is None, "it may have closed in part"
    assert "come again" in await daemon.not_ready("fence-failed")
    app.refuse_fence = False
    await daemon.until(lambda s: s["application_may_write"] == "source", "the fence is open")
    await daemon.ready()
    await daemon.did("cutover")
    assert app.active == "target"
