"""
The daemon: one process around one migration.

It comes up whether or not the stores do: the HTTP server is started first and answers to the
last, so that probes and people always learn how things stand. The first signal drains, and the
exit code tells how it ended: 0 done or drained, 1 failed, 2 refused, 3 the environment was not
there for a job that had to have it, 130 and 143 for a second signal.

The loop is uvloop, which serves sockets with less Python than the standard library's; nothing
relies on it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import structlog
import uvloop

from replicator import failpoints
from replicator.daemon import address, logs
from replicator.daemon.heartbeat import fields, heartbeat
from replicator.daemon.lifetime import Lifetime
from replicator.daemon.signals import StopSignals
from replicator.daemon.until import Goal, Until
from replicator.daemon.watch import watch
from replicator.errors import Refused, ReplicatorError
from replicator.http.server import HttpServer
from replicator.ports.control import Control
from replicator.settings.feeds import feed_kind
from replicator.settings.settings import Settings
from replicator.wiring import Assembly

T = TypeVar("T")

Factory = Callable[[Settings], AbstractAsyncContextManager[Assembly]]
"""Builds the parts and, leaving, lets go of them. Connects to nothing."""

log = structlog.get_logger()


def run_daemon(settings: Settings, factory: Factory, goal: Goal | None = None) -> None:
    """
    Run until the migration ends, the goal is reached, or a signal asks. Returns when all that
    was begun is finished; raises the ReplicatorError that ended it otherwise.
    """
    logs.configure(settings.log)
    if armed := failpoints.arm(os.environ.get(failpoints.VARIABLE, "")):
        log.warning("failpoints armed", places=armed)
    run_loop(_serve(settings, factory, None if goal is None else Until(goal)))


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a process's main coroutine on its loop; of a group of errors, one is raised."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(main)
        except BaseExceptionGroup as group:
            raise telling(group) from group
        finally:
            faulthandler.cancel_dump_traceback_later()


def telling(error: BaseException) -> BaseException:
    """The one error of a group that says what happened: a defect before anything expected."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [telling(each) for each in error.exceptions]
    defects = [leaf for leaf in leaves if not isinstance(leaf, ReplicatorError)]
    return (defects or leaves)[0]


async def _serve(settings: Settings, factory: Factory, until: Until | None) -> None:
    stop = StopSignals()
    stop.listen()
    lifetime = Lifetime(
        settings.stream,
        until=until,
        beat=lambda service: _beat(service, settings.log.interval),
    )
    async with factory(settings) as assembly:
        service = assembly.service
        server = HttpServer(
            settings.http,
            control=service,
            metrics=assembly.metrics,
            feed=feed_kind(settings.feed),
        )
        await server.start()
        try:
            address.announce(settings.state.path, server.url)
            log.info("daemon started", name=settings.name, url=server.url)
            await lifetime.run(service, stop)
            log.info("daemon stopped", **await _last_fields(assembly))
        finally:
            address.withdraw(settings.state.path)
            await server.close()


async def _beat(service: Control, interval_s: float) -> None:
    """The periodic line, and between two of them what begins and ends."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(heartbeat(service, interval_s), name="heartbeat")
        tasks.create_task(watch(service), name="watch")


async def _last_fields(assembly: Assembly) -> dict[str, object]:
    try:
        return fields(await assembly.service.status())
    except Refused:
        return {}  # it was stopped before it had read its state
