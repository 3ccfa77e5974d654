"""
At every place of `replicator.failpoints` a real process dies, hangs or fails, in each operation
that passes it; the process that follows brings the migration to its end with both stores equal.

A part of the matrix is in the suite; `FAILPOINTS=all` runs all of it (`make failpoints`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from qdrant_client import models

from replicator.failpoints import PLACES, VARIABLE
from tests.endtoend.application import Application
from tests.endtoend.daemon import Daemon, Document
from tests.endtoend.events import ChangelogSink, event
from tests.endtoend.model import Image, Mapping
from tests.endtoend.processes import until
from tests.endtoend.rig import Rig

pytestmark = pytest.mark.crash

ACTIONS = ("die", "hang", "fail")
DRAINS_S = 2.0
"""What a drain may take: a hung place is not waited for longer."""
ENDS_WITHIN_S = 30.0
"""Until a process with a hung place has ended by itself, on a busy machine."""


class Trial:
    """One migration, one process of which meets a failpoint."""

    def __init__(
        self, app: Application, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.app = app
        self.daemon = daemon
        self.letters = 0
        """That are expected at the end."""
        self._patch = monkeypatch

    @property
    def first(self) -> Any:
        """The first collection."""
        return self.app.collections[0]

    async def ready(self) -> None:
        """A process without failpoints that streams."""
        await self.daemon.start()
        await self.daemon.phase("STREAMING")

    async def end(self) -> None:
        """The process drains, and is over."""
        assert await self.daemon.child.terminate() == 0

    def armed(self, place: str, action: str) -> None:
        """A process that will meet the place; it may die before it answers."""
        self._patch.setenv(VARIABLE, f"{place}={action}")
        self.daemon.spawn()
        self._patch.delenv(VARIABLE)

    async def meets(self, place: str, action: str) -> None:
        """Until the place was reached, and the process is over."""

        async def reached() -> bool:
            log = await asyncio.to_thread(self.daemon.child.tail, 1 << 20)
            return "failpoint reached" in log

        await until(reached, f"{place} is reached")
        if action == "die":
            assert await self.daemon.child.end() == -signal.SIGKILL
        elif await asyncio.to_thread(self.daemon.child.lives, 0.5):
            self.daemon.child.signal(signal.SIGTERM)
        await self.daemon.child.end(ENDS_WITHIN_S)

    async def asked(self, path: str, place: str, action: str, **body: Any) -> None:
        """A command of a process that streams meets the place."""
        self.armed(place, action)
        await self.settled()
        await self.insists(path, place, action, **body)

    async def insists(self, path: str, place: str, action: str, **body: Any) -> None:
        """Ask until the place is met: a gate may close in between, for the writers go on."""

        async def ask() -> None:
            while True:
                await self.daemon.post(path, **body)
                await asyncio.sleep(0.2)

        asking = asyncio.create_task(ask())
        try:
            await self.meets(place, action)
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    async def settled(self) -> Document:
        """The status once it streams, and the application may write."""
        return await self.daemon.until(
            lambda status: (
                status["phase"] == "STREAMING" and status["application_may_write"] is not None
            ),
            "it streams, and the fence is open",
        )

    async def cross(self, operation: str, store: str) -> None:
        """Bring the application to a store, if it is not there by now."""
        if (await self.settled())["application_may_write"] == store:
            return
        if operation == "cutover":
            await self.daemon.did("verify", level="full")

        async def crossed() -> bool:
            await self.daemon.post(operation)
            return bool((await self.settled())["application_may_write"] == store)

        await until(crossed, f"the application is on the {store}")

    async def verdict(self) -> None:
        """Everything applied: no difference, and the letters that belong there."""
        await self.settled()
        await self.daemon.applied(self.app.sink.ends)
        assert await self.app.differences("target") == []
        assert await self.app.differences("source") == []
        assert (await self.daemon.status())["stream"]["dead_letters"] == self.letters
        if (await self.daemon.status())["direction"] == "forward":
            report = await self.daemon.did("verify", level="full")
            assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
        assert self.app.active == (await self.daemon.status())["application_may_write"]
        await self.end()


Story = Callable[[Trial, str, str], Awaitable[None]]


async def copies(trial: Trial, place: str, action: str) -> None:
    async with trial.app.writing(pause_s=0.03):
        trial.armed(place, action)
        await trial.meets(place, action)
        await trial.ready()


async def streams(trial: Trial, place: str, action: str) -> None:
    await trial.ready()
    await trial.end()
    async with trial.app.writing(pause_s=0.03):
        trial.armed(place, action)
        await trial.meets(place, action)
        await trial.ready()


async def rejects(trial: Trial, place: str, action: str) -> None:
    await trial.ready()
    await trial.end()
    bad, _ = event("upsert", trial.first.source, 3)
    await trial.app.sink.emit([(bad, b"\xff not an event")])
    await trial.app.patch(trial.first, 3)
    trial.armed(place, action)
    await trial.meets(place, action)
    trial.letters = 1
    await trial.ready()


async def verifies(trial: Trial, place: str, action: str) -> None:
    await trial.ready()
    await trial.end()
    async with trial.app.writing(pause_s=0.03):
        await trial.asked("verify", place, action, level="full")
        await trial.ready()


async def repairs(trial: Trial, place: str, action: str) -> None:
    await trial.ready()
    app, spoilt = trial.app, trial.first
    app.spared = {1, 2}
    await app.target.delete(spoilt.target, [1], wait=True)
    await app.target.set_payload(spoilt.target, {"title": "wrong"}, points=[2], wait=True)
    report = await trial.daemon.did("verify", level="full")
    assert (report["missing"], report["different"]) == (1, 1)
    await trial.end()
    async with app.writing(pause_s=0.03):
        await trial.asked("repair", place, action)
        await trial.ready()
        await trial.daemon.did("repair")


async def retries(trial: Trial, place: str, action: str) -> None:
    trial.daemon.document["feed"]["event_bytes_max"] = "2KiB"
    trial.daemon.rewrite()
    await trial.ready()
    app, lettered = trial.app, trial.first
    old = lettered.records[2]
    image = Image(old.vector, {"title": "large", "text": "x" * 3000})
    lettered.records[2] = image
    moved = models.PointStruct(id=2, vector=list(image.vector), payload=image.payload)
    await app.source.upsert(lettered.source, [moved], wait=True)
    whole = {"vector": image.vector, "payload": image.payload, "epoch": 0}
    await app.sink.emit([event("upsert", lettered.source, 2, **whole)])
    app.spared = {2}
    await app.patch(lettered, 2)
    await trial.daemon.applied(app.sink.ends)
    assert len(await trial.daemon.letters()) == 1
    await trial.end()
    trial.daemon.document["feed"]["event_bytes_max"] = "1MiB"
    trial.daemon.rewrite()
    async with app.writing(pause_s=0.03):
        await trial.asked("dead-letters/retry", place, action)
        await trial.ready()
        await trial.daemon.did("dead-letters/retry")


async def cuts_over(trial: Trial, place: str, action: str) -> None:
    await trial.ready()
    await trial.daemon.did("verify", level="full")
    await trial.end()
    await crosses(trial, place, action, "cutover", "target")


async def reverts(trial: Trial, place: str, action: str) -> None:
    await trial.ready()
    await trial.cross("cutover", "target")
    await trial.end()
    await crosses(trial, place, action, "revert", "source")


async def crosses(trial: Trial, place: str, action: str, operation: str, store: str) -> None:
    async with trial.app.writing(pause_s=0.03):
        trial.armed(place, action)
        await trial.settled()
        await trial.insists(operation, place, action)
        await trial.daemon.start()
        await trial.cross(operation, store)
        changes = trial.app.changes
        await until(lambda: _beyond(trial.app, changes + 20), "the application writes again")


async def _beyond(app: Application, changes: int) -> bool:
    return app.changes >= changes


STORIES: dict[str, list[Story]] = {
    "capture": [copies],
    "copy": [copies],
    "backfill": [copies],
    "replay": [copies],
    "stream": [streams],
    "letters": [rejects],
    "verify": [verifies],
    "repair": [repairs],
    "retry": [retries],
    "crossing": [cuts_over, reverts],
}

IN_THE_SUITE = {
    (copies, "backfill.after-write", "die"),
    (streams, "stream.after-write", "die"),
    (rejects, "letters.after-keep", "die"),
    (repairs, "repair.holding", "hang"),
    (cuts_over, "crossing.switching", "die"),
    (reverts, "crossing.rested", "fail"),
}

CELLS = [
    pytest.param(story, place, action, id=f"{story.__name__}-{place}-{action}")
    for place in PLACES
    for story in STORIES[place.partition(".")[0]]
    for action in ACTIONS
    if os.environ.get("FAILPOINTS") == "all" or (story, place, action) in IN_THE_SUITE
]


@pytest.fixture
async def trial(
    rig: Rig,
    stores: tuple[str, str],
    changelog: tuple[ChangelogSink, Document],
    monkeypatch: pytest.MonkeyPatch,
) -> Trial:
    sink, feed = changelog
    collections = rig.collections(Mapping(rename={"title": "headline"}, vector="text"))
    app = await rig.application(stores, sink, collections, records=80)
    daemon = rig.daemon(
        stores,
        collections,
        feed,
        backfill={"page_rows": 10, "chunks": 4},
        stream={"drain_timeout": f"{DRAINS_S:g}s"},
        cutover=await rig.served(app),
    )
    return Trial(app, daemon, monkeypatch)


@pytest.mark.parametrize(("story", "place", "action"), CELLS)
async def test_a_process_that_ends_at_a_place_leaves_nothing_that_the_next_cannot_mend(
    trial: Trial, story: Story, place: str, action: str
) -> None:
    await story(trial, place, action)
    await trial.verdict()


async def test_a_daemon_that_is_told_of_a_place_that_does_not_exist_does_not_start(
    rig: Rig, stores: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = rig.daemon(stores, rig.collections(), {"kind": "none"})
    monkeypatch.setenv(VARIABLE, "nowhere=die")
    assert await daemon.run() == 2
    assert "there is no failpoint 'nowhere'" in daemon.child.tail()
