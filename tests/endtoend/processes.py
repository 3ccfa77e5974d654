"""Child processes of the tests: started, signalled, killed and waited for, with their output
kept in a file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

WITHIN_S = 60.0
"""A daemon is up in three seconds on an idle machine; a busy one may need many times that."""


class Child:
    """One Python process. It may be started again after its end."""

    def __init__(self, arguments: Sequence[str], log: Path, **environment: str) -> None:
        self._arguments = [sys.executable, *arguments]
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    def start(self) -> None:
        assert not self.running, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, and wait until the system has taken it down."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def lives(self, seconds: float) -> bool:
        """Whether it is still there after a time; sooner when it is not."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    async def end(self, within_s: float = WITHIN_S) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        try:
            return await asyncio.to_thread(self._process.wait, within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {within_s:g} s: {self.tail()}") from None

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return await self.end()

    def tail(self, size: int = 4000) -> str:
        return self.log.read_bytes()[-size:].decode(errors="replace")


class StoreServer:
    """A local store server on a port and a folder that outlive its process."""

    def __init__(self, directory: Path) -> None:
        self._port = free_port()
        self._child = Child(
            ["-m", "replicator.local_store", str(directory), f"127.0.0.1:{self._port}"],
            directory.with_suffix(".log"),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, or start it again, and wait until it listens."""
        self._child.start()
        deadline = time.monotonic() + WITHIN_S
        while not self._listens():
            assert self._child.running, self._child.tail()
            assert time.monotonic() < deadline, self._child.tail()
            time.sleep(0.02)

    def kill(self) -> None:
        self._child.kill()

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return True
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(
    true: Callable[[], Awaitable[Any]], what: str, within_s: float = WITHIN_S
) -> Any:
    """What `true` gives once that is something; the test fails when it is not in time."""
    last: Any = None
    try:
        async with asyncio.timeout(within_s):
            while not (last := await true()):
                await asyncio.sleep(0.05)
            return last
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None
