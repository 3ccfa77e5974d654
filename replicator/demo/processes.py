"""The processes of the demonstration: real ones, started, killed and stopped one by one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from replicator.errors import Fatal

_STOP_S = 30.0
"""Longer than the daemon's own drain timeout; after it the process is killed."""
_TAIL_BYTES = 2000


class Child:
    """
    One Python process, its output in a log file. One that `talks` says where it listens in the
    first line of its standard output, and nothing after it.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], directory: Path, *, talks: bool = False
    ) -> None:
        self.name = name
        self._talks = talks
        self._arguments = [sys.executable, *arguments]
        self._log = directory / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, or start it again."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self._talks else log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def first_line(self, timeout_s: float) -> str:
        """The first line of its standard output. Raises Fatal when it ends or says nothing."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError as exc:
            raise Fatal("internal", f"the {self.name} said nothing in {timeout_s:g} s") from exc
        if not line:
            await self._process.wait()
            raise Fatal("internal", self.epitaph())
        return line.decode().strip()

    @property
    def ended(self) -> bool:
        """Whether it is not running."""
        return self._process is None or self._process.returncode is not None

    def epitaph(self) -> str:
        """How it ended, with the last of its log."""
        code = None if self._process is None else self._process.returncode
        tail = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        return f"the {self.name} ended with code {code}:\n{tail}"

    async def kill(self) -> None:
        """`kill -9`, and wait until the system has taken it down."""
        assert self._process is not None
        if not self.ended:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int | None:
        """Ask it to end, wait, and return its exit code; it is killed when out of time."""
        if self._process is None:
            return None
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return self._process.returncode


def free_address() -> str:
    """A loopback address that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return f"127.0.0.1:{port}"
