"""A real Chroma server, one for the whole session."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

STARTUP_S = 60.0
"""A busy machine takes ten."""


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address. The tests that use it share it: make collections of your own."""
    server = ChromaServer(tmp_path_factory.mktemp("chroma"))
    try:
        yield server.start()
    finally:
        server.stop()


class ChromaServer:
    """A server of its own, which keeps its data and its log in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Begin, or go on after `kill`; the address, another one each time."""
        port = _free_port()
        command = [str(Path(sys.executable).with_name("chroma")), "run"]
        command += ["--path", str(self._folder / "data")]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        told = {"HOME": str(self._folder), "ANONYMIZED_TELEMETRY": "False"}
        log = self._folder / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, env=os.environ | told
            )
        url = f"http://127.0.0.1:{port}"
        _wait_until_up(self._process, url, log)
        return url

    def kill(self) -> None:
        """End it at once, whatever it does."""
        assert self._process is not None, "start comes first"
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/api/v2/heartbeat", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"chroma did not come up: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
