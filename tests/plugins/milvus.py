"""A real milvus-lite server, one for the whole session; or another Milvus, by `MILVUS_URI`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

STARTUP_S = 60.0
"""A busy machine takes ten."""

MILVUS_URI = os.environ.get("MILVUS_URI", "")
"""The address of a whole Milvus, to be tested on instead."""


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address. The tests that use it share it: make collections of your own."""
    if MILVUS_URI:
        yield MILVUS_URI
        return
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    try:
        yield server.start()
    finally:
        server.stop()


class MilvusServer:
    """A milvus-lite of its own, which keeps its data and its log in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = _free_port()

    def start(self) -> str:
        """Begin, or go on after `kill` under the same port; the address."""
        command = [str(Path(sys.executable).with_name("milvus-lite")), "server"]
        command += ["--data-dir", str(self._folder / "data")]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        log = self._folder / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        _wait_until_up(self._process, self._port, log)
        return f"http://127.0.0.1:{self._port}"

    def kill(self) -> None:
        """End it at once, whatever it does."""
        assert self._process is not None, "start comes first"
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it, if it runs. It takes its time to write what it holds, which nobody reads."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(
        f"milvus-lite did not come up: {log.read_text(errors='replace')[-2000:]}"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
