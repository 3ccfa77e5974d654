"""The daemon as the demonstration sees it: a child process with an HTTP port, which may die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from replicator.demo.processes import Child
from replicator.demo.progress import Progress
from replicator.errors import Fatal, Refused, Unavailable
from replicator.http.client import HttpControl
from replicator.model.phase import Phase
from replicator.model.status import Status

_ANSWER_S = 40.0
"""A daemon that does not answer for so long is stuck: it starts in a few seconds."""
_LOOK_INTERVAL_S = 0.1
_STUCK = frozenset({Phase.BLOCKED, Phase.HELD, Phase.ABORTED})


class Replication:
    """Start, watch, kill and stop `replicator run`."""

    def __init__(self, config: Path, control: HttpControl, progress: Progress) -> None:
        program = "from replicator.cli.main import main; main()"
        arguments = ["-c", program, "run", "--config", str(config)]
        self._child = Child("daemon", arguments, config.parent)
        self._progress = progress
        self._applied_before = 0
        self._applied = 0
        self.control = control
        self.kills = 0

    @property
    def applied(self) -> int:
        """Events applied, over all lives of the daemon, as far as its status told."""
        return self._applied_before + self._applied

    async def start(self) -> None:
        """Start it."""
        await self._child.start()

    async def crash(self) -> None:
        """`kill -9`, and start again at once."""
        await self._child.kill()
        self.kills += 1
        self._applied_before += self._applied
        self._applied = 0
        await self._child.start()

    async def stop(self) -> int | None:
        """SIGTERM; its exit code."""
        return await self._child.stop()

    async def status(self) -> Status:
        """Its status, waiting while it starts. Raises Fatal when it has ended or is stuck."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                while True:
                    if self._child.ended:
                        raise Fatal("internal", self._child.epitaph())
                    try:
                        status = await self.control.status()
                        break
                    except (Unavailable, Refused):  # not yet, while it starts
                        await asyncio.sleep(_LOOK_INTERVAL_S)
        except TimeoutError as exc:
            raise Fatal("internal", f"no status in {_ANSWER_S:g} s") from exc
        self._applied = max(self._applied, status.stream.applied)
        return status

    async def until(
        self, holds: Callable[[Status], bool], what: str, timeout_s: float = 90.0
    ) -> Status:
        """
        Watch until something holds, and return the status then. Raises Fatal when it does not
        within the time, or cannot any more.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            status = await self.status()
            self._progress.show(status)
            if holds(status):
                return status
            if status.phase in _STUCK:
                raise Fatal("internal", f"{status.phase.value}: {status.reason}")
            if loop.time() > deadline:
                raise Fatal("internal", f"not {what} within {timeout_s:g} s: {status}")
            await asyncio.sleep(_LOOK_INTERVAL_S)
