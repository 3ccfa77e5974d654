"""A command in a process of its own, on a terminal of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

# What a terminal starts hears ^C, even where the tests run in the background and do not.
_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from replicator.cli.main import main
main()
"""
PROGRAM = [sys.executable, "-c", _PROGRAM]


class Terminal:
    """Type, interrupt, and read what appears."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self._terminal, side = pty.openpty()
        self._process = subprocess.Popen(
            [*PROGRAM, "--config", str(config), *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
        )
        os.close(side)
        self._deadline = threading.Timer(60, self._process.kill)
        self._deadline.start()
        self.seen = ""

    def until(self, text: str) -> None:
        """Read until a text has appeared."""
        while text not in self.seen:
            chunk = self._read()
            assert chunk, f"{text!r} never came: {self.seen}"

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self._process.wait()

    def close(self) -> None:
        self._deadline.cancel()
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _read(self) -> str:
        try:
            chunk = os.read(self._terminal, 4096).decode()
        except OSError:  # Linux's way of saying that the other side is closed
            return ""
        self.seen += chunk
        return chunk
