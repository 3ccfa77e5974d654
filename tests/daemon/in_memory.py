"""A daemon around a migration in memory: `python in_memory.py STATE MODE [GOAL]`.

$DRAIN_S is its drain timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.daemon.process import run_daemon
from replicator.daemon.until import Goal
from replicator.errors import Blocked, Fatal, ReplicatorError, Unavailable, exit_code
from replicator.metrics import Metrics
from replicator.model.phase import Phase
from replicator.settings.feeds import NoFeedSettings
from replicator.settings.settings import (
    HttpServerSettings,
    LogSettings,
    Settings,
    StateSettings,
    StreamSettings,
)
from replicator.settings.units import Duration
from replicator.testing.memory_control import MemoryControl
from replicator.wiring import Assembly


def say(text: str) -> None:
    """A line that the test waits for."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Misbehaving(MemoryControl):
    """What `mode` names goes wrong."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        match self.mode:
            case "stuck-feed":
                raise Fatal("feed-stuck", "no record for 120 s")
            case "away" if self.runs < 3:
                raise Unavailable("target-unavailable", "connection refused")
            case "defect":
                raise KeyError("a defect")
            case "two-errors":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._fail(Blocked("log-truncated", "t/0 begins at 9")))
                    tasks.create_task(self._fail(Fatal("feed-stuck", "no record")))
            case "blocked":
                self.shown.phase = Phase.BLOCKED
                self.shown.reason = "t/0 begins at 9"
            case "done":
                return
        await super().run()
        if self.mode == "never-drains":
            await asyncio.Event().wait()
        if self.mode == "loop-stuck":
            say("the loop stands still")
            threading.Event().wait()
        say("drained")

    async def _fail(self, error: ReplicatorError) -> None:
        raise error


@contextlib.asynccontextmanager
async def factory(settings: Settings) -> AsyncIterator[Assembly]:
    mode = sys.argv[2]
    if mode == "signal-while-building":
        os.kill(os.getpid(), signal.SIGTERM)
    try:
        yield Assembly(Misbehaving(mode), Metrics(settings.name, "1.0"))
    finally:
        say("closed")


settings = Settings(
    name="articles",
    source=JsonlSettings(path="source"),
    target=JsonlSettings(path="target"),
    collections=[],
    feed=NoFeedSettings(),
    state=StateSettings(path=sys.argv[1]),
    http=HttpServerSettings(listen="127.0.0.1:0"),
    stream=StreamSettings(
        drain_timeout=Duration(float(os.environ.get("DRAIN_S", "60"))),
        backoff_min=Duration(0.01),
    ),
    log=LogSettings(format="json", interval=Duration(0.05)),
)

if __name__ == "__main__":
    goal = Goal(sys.argv[3]) if len(sys.argv) > 3 else None
    try:
        run_daemon(settings, factory, goal)
    except ReplicatorError as error:
        sys.stderr.write(f"error[{error.code}]: {error.message}\n")
        sys.exit(exit_code(error))
