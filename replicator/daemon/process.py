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
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog
import uvloop

from replicator.daemon import address, logs
from replicator.daemon.heartbeat import fields, heartbeat
from replicator.daemon.signals import StopSignals
from replicator.daemon.until import Goal, Until
from replicator.errors import Blocked, Fatal, ReplicatorError, Unavailable
from replicator.http.server import HttpServer
from replicator.settings.settings import Settings
from replicator.wiring import Assembly, Service

_CLOSE_S = 3.0
"""What a drain may take beyond the lanes' own deadline, to persist positions; and again, when
it is cancelled. With the default of 20 s all ends within the 30 s that Kubernetes gives."""
_LOOK_S = 0.2
"""How often a job looks whether its goal is reached. A look is free; a job lasts minutes."""

Factory = Callable[[Settings], AbstractAsyncContextManager[Assembly]]
"""Builds the parts and, leaving, lets go of them. Connects to nothing."""

log = structlog.get_logger()


def run_daemon(settings: Settings, factory: Factory, goal: Goal | None = None) -> None:
    """
    Run until the migration ends, the goal is reached, or a signal asks. Returns when all that
    was begun is finished; raises the ReplicatorError that ended it otherwise.
    """
    logs.configure(settings.log)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(Daemon(settings, goal).serve(factory))
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


class Daemon:
    """Owns the tasks of the process."""

    def __init__(self, settings: Settings, goal: Goal | None) -> None:
        self._settings = settings
        self._until = None if goal is None else Until(goal)

    async def serve(self, factory: Factory) -> None:
        """The whole life of the process."""
        stop = StopSignals()
        stop.listen()
        async with factory(self._settings) as assembly:
            server = HttpServer(
                self._settings.http, control=assembly.service, metrics=assembly.metrics
            )
            await server.start()
            try:
                address.announce(self._settings.state.path, server.url)
                log.info("daemon started", name=self._settings.name, url=server.url)
                await self._run(assembly.service, stop)
                status = await assembly.service.status()
                log.info("daemon stopped", **fields(status))
            finally:
                address.withdraw(self._settings.state.path)
                await server.close()

    async def _run(self, service: Service, stop: StopSignals) -> None:
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(
                heartbeat(service, self._settings.log.interval), name="heartbeat"
            )
            work = tasks.create_task(self._work(service, stop), name="migration")
            asked = tasks.create_task(self._asked(service, stop), name="stop")
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                asker = "the job" if stop.received is None else stop.received.name
                log.info("daemon draining", asked_by=asker)
                await self._drain(service, work)
            beat.cancel()
            asked.cancel()
        lost = asked.result() if not asked.cancelled() else None
        if lost is not None:
            raise lost

    async def _work(self, service: Service, stop: StopSignals) -> None:
        """Run the migration. A daemon waits for its environment; a job fails without it."""
        pause = float(self._settings.stream.backoff_min)
        while not stop.asked:
            try:
                await service.run()
                break
            except Unavailable as error:
                if self._until is not None:
                    raise
                log.warning("waiting to start", code=error.code, error=error.message)
            await stop.wait(pause)
            pause = min(pause * 2, self._settings.stream.backoff_max)

    async def _asked(self, service: Service, stop: StopSignals) -> Blocked | None:
        """
        Until a signal asks for the end, or a job has reached its goal. Returns why it never
        will: the stream is drained before that is raised.
        """
        if self._until is None:
            await stop.wait()
            return None
        try:
            while not (stop.asked or self._until.reached(await service.status())):
                await stop.wait(_LOOK_S)
        except Blocked as error:
            return error
        return None

    async def _drain(self, service: Service, work: asyncio.Task[None]) -> None:
        """Invariant 8: within its deadline, whatever hangs."""
        deadline = self._settings.stream.drain_timeout + _CLOSE_S
        # Should even the cancellation below not end it (a thread that never returns, a loop
        # that does not turn), the process leaves, and says where it stood.
        faulthandler.dump_traceback_later(deadline + _CLOSE_S, exit=True, file=2)
        service.request_drain()
        await asyncio.wait({work}, timeout=deadline)
        if not work.done():
            raise Fatal("draining-timeout", f"not drained within {deadline:g} s")
