"""
One pair of stores, played to its end.

Between two stores that live: copy under writes, a `kill -9` in the midst of it, replay,
verification, cutover, writes at the target, revert, and more writes. Everything else is a plain
copy, killed in its midst as well. What both stores hold is judged by the application, which
reads them by their own clients.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.endtoend.application import Collection
from tests.endtoend.daemon import Daemon, Document, settings
from tests.endtoend.events import ChangelogSink
from tests.matrix.access import Entry
from tests.matrix.application import PairApplication, Store

_COPY_S = 10.0
"""What a copy would take that is not killed: long, so that a kill finds it at work on a machine
that is busy as well."""
_KILLED_AT = 0.1
"""Of the rows."""
_PAUSE_S = 0.05
"""Of a writer between two changes. Four that change a tenth of so small a collection in a
second would let no two searches find the same in both stores."""


async def play(
    directory: Path,
    source: tuple[Entry, str],
    target: tuple[Entry, str],
    *,
    points: int,
    seed: int = 1,
    within_s: float = 60.0,
) -> Document:
    """
    A pair, of kinds and the addresses of their servers. What was done, in figures; raises
    AssertionError for whatever is not as it must be.
    """
    (one, at), (other, there) = source, target
    async with AsyncExitStack() as stack:
        first = Store(one, await stack.enter_async_context(one.opened(at, directory)))
        second = first
        if one.kind != other.kind:
            access = await stack.enter_async_context(other.opened(there, directory))
            second = Store(other, access)
        tag = uuid4().hex[:8]
        collection = Collection(source=f"Docs_{tag}", target=f"Copy_{tag}")
        sink = ChangelogSink(directory / "changes.db")
        stack.push_async_callback(sink.close)
        app = PairApplication((first, second), sink, [collection], seed=seed)
        await app.create(points)
        stack.push_async_callback(second.access.drop, collection.target)
        stack.push_async_callback(first.access.drop, collection.source)
        live = one.live and other.live
        url = await stack.enter_async_context(app.served())
        daemon = daemon_of(directory, app, live=live, url=url)
        daemon.within_s = within_s
        stack.callback(daemon.kill)
        await (there_and_back if live else copied)(app, daemon, points)
        return {
            "live": live,
            "points": len(collection.records),
            "changes": app.changes - points,
            "changes_at_target": app.changes_at_target,
            "starts": daemon.starts,
        }


def daemon_of(
    directory: Path, app: PairApplication, *, live: bool, url: str, **more: Any
) -> Daemon:
    """Of a migration between the application's stores, with its fence and switch at `url`."""
    feed = {"kind": "changelog", "path": str(directory / "changes.db")}
    document = settings(
        directory,
        source="",
        target="",
        collections=[
            {
                "source": each.source,
                "target": each.target,
                "source_options": app.stores[0].access.options,
                "target_options": app.stores[1].access.options,
                "accept": list(app.stores[0].entry.losses),
            }
            for each in app.collections
        ],
        feed=feed if live else {"kind": "none"},
        **more,
    )
    document["source"], document["target"] = (each.access.section for each in app.stores)
    if live:
        document["cutover"]["fence"] = {"kind": "http", "url": f"{url}/fence"}
        document["cutover"]["switch"] = {"kind": "http", "url": f"{url}/switch"}
    return Daemon(directory, document)


async def killed(daemon: Daemon, points: int) -> None:
    """Let it copy some, and kill it; the next life copies as fast as it can."""
    daemon.document["backfill"] = {"rate_max": points / _COPY_S, "page_rows": 50}
    daemon.rewrite()
    daemon.spawn()

    def at_work(status: Document) -> bool:
        return bool(status["backfill"]["copied"] >= points * _KILLED_AT)

    status = await daemon.until(at_work, "it copies")
    assert status["phase"] == "BACKFILL", "the copy was over before it could be killed"
    daemon.kill()
    del daemon.document["backfill"]
    daemon.rewrite()


async def copied(app: PairApplication, daemon: Daemon, points: int) -> None:
    """A plain copy, and what it leaves at both stores."""
    await killed(daemon, points)
    code = await daemon.run()
    assert code == 0, daemon.child.tail()
    assert await app.differences("target") == []
    assert await app.differences("source") == []


async def there_and_back(app: PairApplication, daemon: Daemon, points: int) -> None:
    """A live migration, its cutover, and its revert."""
    async with app.writing(pause_s=_PAUSE_S):
        await killed(daemon, points)
        await daemon.start()
        await daemon.phase("STREAMING")
        await app.progress(60)
        report = await daemon.did("verify", level="full")
        assert [report[kind] for kind in ("missing", "extra", "different")] == [0, 0, 0]
        assert report["compared"] >= points * 0.8
        await daemon.crossed("cutover")
        assert (app.active, app.epoch, app.fenced) == ("target", 1, False)
        await app.progress(100)
    await daemon.applied(app.sink.ends)
    assert app.changes_at_target > 50
    assert await app.differences("target") == []
    assert await app.differences("source") == []

    async with app.writing(pause_s=_PAUSE_S):
        await daemon.did("revert")
        assert (app.active, app.epoch, app.fenced) == ("source", 2, False)
        await app.progress(50)
    await daemon.applied(app.sink.ends)
    assert await app.differences("source") == []
    assert await app.differences("target") == []
    assert (await daemon.status())["stream"]["dead_letters"] == 0
    assert await daemon.child.terminate() == 0
