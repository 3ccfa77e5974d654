"""A new capture never trusts an old copy, and nothing is wiped that a person has not named."""

from __future__ import annotations

import pytest
from qdrant_client import models

from tests.endtoend.application import Application
from tests.endtoend.daemon import Daemon, Document
from tests.endtoend.events import ChangelogSink
from tests.endtoend.model import Mapping
from tests.endtoend.processes import free_port
from tests.endtoend.rig import Rig

Changelog = tuple[ChangelogSink, Document]


async def streamed(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> tuple[Application, Daemon]:
    """A migration that has copied fifty rows and streams."""
    sink, feed = changelog
    collections = rig.collections(Mapping(rename={"title": "headline"}))
    app = await rig.application(stores, sink, collections, records=50)
    daemon = rig.daemon(stores, collections, feed)
    await daemon.start()
    await daemon.phase("STREAMING")
    return app, daemon


async def changed_meanwhile(app: Application) -> None:
    """Changes that no new capture can see in the log; a deleted row above all."""
    [collection] = app.collections
    await app.delete(collection, 3)
    await app.upsert(collection, 4)


@pytest.mark.parametrize("loss", ["abort", "lost state"])
async def test_a_second_capture_is_refused_until_a_person_names_the_target_to_wipe(
    rig: Rig, stores: tuple[str, str], changelog: Changelog, loss: str
) -> None:
    app, daemon = await streamed(rig, stores, changelog)
    if loss == "abort":
        await daemon.did("abort")
        assert await daemon.child.end() == 0
    else:
        daemon.kill()
        for path in rig.directory.glob("state.db*"):
            path.unlink()
    await changed_meanwhile(app)
    [collection] = app.collections

    assert await daemon.run() == 2
    assert f"target/{collection.target}: it holds 50 points" in daemon.child.tail()
    assert await daemon.run("--until", "caught-up") == 2
    assert "error[target-not-empty]" in daemon.child.tail()
    assert await daemon.run("--wipe-target", "other") == 2

    await daemon.start("--wipe-target", collection.target)
    await daemon.phase("STREAMING")
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []


async def test_a_target_emptied_by_hand_is_taken(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    app, daemon = await streamed(rig, stores, changelog)
    await daemon.did("abort")
    assert await daemon.child.end() == 0
    await changed_meanwhile(app)
    assert await daemon.run() == 2

    await app.target.delete_collection(app.collections[0].target)

    await daemon.start()
    await daemon.phase("STREAMING")
    assert await app.differences("target") == []


async def test_a_changed_plan_is_refused_and_changed_limits_are_not(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    app, daemon = await streamed(rig, stores, changelog)
    assert await daemon.child.terminate() == 0
    listed = daemon.document["collections"][0]
    daemon.document["collections"] = [{**listed, "transform": {"drop": ["n"]}}]
    daemon.rewrite()
    assert await daemon.run() == 2
    assert "plan-changed" in daemon.child.tail()

    daemon.document["collections"] = [listed]
    daemon.document["stream"]["batch_records"] = 7
    daemon.rewrite()
    await daemon.start()
    await changed_meanwhile(app)
    await daemon.applied(app.sink.ends)
    assert await app.differences("target") == []


async def test_a_target_collection_that_vanishes_is_waited_for_or_blocks(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    app, daemon = await streamed(rig, stores, changelog)
    [collection] = app.collections
    await app.target.delete_collection(collection.target)
    await app.upsert(collection, 5)
    assert collection.target in await daemon.not_ready("target-missing")
    assert (await daemon.status())["stream"]["dead_letters"] == 0


async def test_an_empty_target_with_other_vectors_is_refused_until_a_person_mends_it(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    app = await rig.application(stores, sink, collections, records=5)
    name = collections[0].target
    await app.target.create_collection(
        name, vectors_config=models.VectorParams(size=9, distance=models.Distance.DOT)
    )
    daemon = rig.daemon(stores, collections, feed)
    assert await daemon.run() == 2
    assert "9 dimensions, not 4" in daemon.child.tail()
    await app.target.delete_collection(name)
    await daemon.start()
    await daemon.phase("STREAMING")
    await daemon.ready()
    assert await app.differences("target") == []


async def test_a_job_fails_where_a_daemon_would_wait(
    rig: Rig, stores: tuple[str, str], changelog: Changelog
) -> None:
    sink, feed = changelog
    collections = rig.collections()
    await rig.application(stores, sink, collections, records=5)
    nowhere = f"http://127.0.0.1:{free_port()}"
    daemon = rig.daemon((stores[0], nowhere), collections, feed)
    assert await daemon.run("--until", "backfilled") == 3
    assert "error[target-unavailable]" in daemon.child.tail()
