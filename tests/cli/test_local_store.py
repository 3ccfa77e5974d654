from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.terminal import PROGRAM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_it_says_where_it_listens_and_ends_cleanly(tmp_path: Path, number: int) -> None:
    store = subprocess.Popen(
        [*PROGRAM, "local-store", "--path", str(tmp_path / "store"), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert store.stdout is not None
        host, _, port = store.stdout.readline().strip().rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
        store.send_signal(number)
        _, err = store.communicate(timeout=30)
        assert (store.returncode, err) == (0, "")
    finally:
        store.kill()
        store.communicate()
