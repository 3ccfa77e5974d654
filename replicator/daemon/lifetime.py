"""
The lifetime of a service in a process: run, be asked to stop, drain, end.

Shared by the daemon and by commands that carry data themselves. Whoever asks, a signal or a
goal that is reached, the service is drained within its deadline; only a second signal is
faster.
"""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from replicator.daemon.signals import StopSignals
from replicator.daemon.until import Until
from replicator.errors import Blocked, Fatal, Refused, ReplicatorError, Unavailable
from replicator.model.command import Resume
from replicator.model.phase import Phase
from replicator.settings.settings import StreamSettings
from replicator.wiring import Service

_CLOSE_S = 3.0
"""What a drain may take beyond the lanes' own deadline, to persist positions, and what a
cancellation may take after it. With the default of 20 s all ends within the 30 s that
Kubernetes gives."""
_LOOK_S = 0.2
"""How often a job looks whether its goal is reached. A look is free; a job lasts minutes."""

Beat = Callable[[Service], Coroutine[Any, Any, None]]
"""Runs beside the service and tells of it, until cancelled."""

log = structlog.get_logger()


class Lifetime:
    """Runs one service once."""

    def __init__(self, settings: StreamSettings, *, until: Until | None, beat: Beat) -> None:
        self._settings = settings
        self._until = until
        self._beat = beat

    async def run(self, service: Service, stop: StopSignals) -> None:
        """
        Returns when the service has ended or is drained. Raises, maybe in a group, what ended
        it otherwise.
        """
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(self._beat(service), name="beat")
            work = tasks.create_task(self._work(service, stop), name="migration")
            asked = tasks.create_task(self._asked(service, stop), name="stop")
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                asker = "the job" if stop.received is None else stop.received.name
                log.info("draining", asked_by=asker)
                await self._drain(service, work)
            beat.cancel()
            asked.cancel()
        lost = asked.result() if not asked.cancelled() else None
        if lost is not None:
            raise lost

    async def _work(self, service: Service, stop: StopSignals) -> None:
        """Run the service. A daemon waits for its environment; a job fails without it."""
        pause = float(self._settings.backoff_min)
        while not stop.asked:
            try:
                await service.run()
                break
            except Unavailable as error:
                if self._until is not None:
                    raise
                log.warning("waiting to start", code=error.code, error=error.message)
            await stop.wait(pause)
            pause = min(pause * 2, self._settings.backoff_max)

    async def _asked(self, service: Service, stop: StopSignals) -> ReplicatorError | None:
        """
        Until a signal asks for the end, or a job has reached its goal. Returns why it never
        will: the stream is drained before that is raised.
        """
        if self._until is None:
            await stop.wait()
            return None
        try:
            await self._resume(service, stop)
            while not stop.asked:
                status = await service.status()
                if self._until.reached(status):
                    break
                self._until.has_patience(status, asyncio.get_running_loop().time())
                await stop.wait(_LOOK_S)
        except (Blocked, Refused, Unavailable) as error:
            return error
        return None

    @staticmethod
    async def _resume(service: Service, stop: StopSignals) -> None:
        """Whoever starts a job again wants it to try again, after a new check."""
        while not stop.asked:
            try:
                status = await service.status()
            except Refused:
                await stop.wait(_LOOK_S)  # it has no status before it has read its state
                continue
            if status.phase is Phase.BLOCKED:
                await service.do(Resume())
            return

    async def _drain(self, service: Service, work: asyncio.Task[None]) -> None:
        """Invariant 8: within its deadline, whatever hangs."""
        deadline = self._settings.drain_timeout + _CLOSE_S
        # Should even the cancellation below not end it (a thread that never returns, a loop
        # that does not turn), the process leaves, and says where it stood.
        faulthandler.dump_traceback_later(deadline + _CLOSE_S, exit=True, file=2)
        service.request_drain()
        await asyncio.wait({work}, timeout=deadline)
        if not work.done():
            raise Fatal("draining-timeout", f"not drained within {deadline:g} s")
