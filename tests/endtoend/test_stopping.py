"""Whoever stops a daemon that waits does not wait with it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.endtoend.daemon import Daemon
from tests.endtoend.events import ChangelogSink
from tests.endtoend.processes import StoreServer
from tests.endtoend.rig import Rig

Changelog = tuple[ChangelogSink, dict[str, Any]]

DRAIN = {"stream": {"drain_timeout": "20s", "backoff_max": "30s"}}
_AT_ONCE_S = 5.0
"""A second or so of the daemon's, and what a busy machine adds; far below the drain timeout."""


async def stopped_within(daemon: Daemon) -> float:
    begun = time.monotonic()
    assert await daemon.child.terminate() == 0
    return time.monotonic() - begun


async def test_while_it_waits_for_a_store_to_begin_with(
    rig: Rig, servers: tuple[StoreServer, StoreServer], changelog: Changelog
) -> None:
    sink, feed = changelog
    urls = (servers[0].url, servers[1].url)
    collections = rig.collections()
    await rig.application(urls, sink, collections, records=5)
    servers[1].kill()
    daemon = rig.daemon(urls, collections, feed, **DRAIN)
    await daemon.start()
    await daemon.not_ready("target-unavailable")
    assert await stopped_within(daemon) < _AT_ONCE_S


async def test_while_it_waits_for_what_a_dead_process_may_have_sent(
    rig: Rig, servers: tuple[StoreServer, StoreServer], changelog: Changelog
) -> None:
    sink, feed = changelog
    urls = (servers[0].url, servers[1].url)
    collections = rig.collections()
    await rig.application(urls, sink, collections, records=5)
    daemon = rig.daemon(urls, collections, feed, **DRAIN)
    daemon.document["target"]["late_write_bound"] = "10m"
    daemon.rewrite()
    await daemon.start()
    await daemon.phase("BACKFILL")
    await asyncio.sleep(1.0)  # beyond `settle`, into the wait
    assert await stopped_within(daemon) < _AT_ONCE_S
