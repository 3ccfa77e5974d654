"""
A real Weaviate server, one for the whole session: that of WEAVIATE_URL (and WEAVIATE_GRPC_URL),
or the one that `make weaviate` built. Without either the tests that need it are skipped.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from replicator.testing.store_faults.server import SECRET

VERSION = "1.38.1"
STARTUP_S = 60.0
"""A busy machine takes ten."""

WEAVIATE_URL = os.environ.get("WEAVIATE_URL", "")
_GRPC_PORT = 50051


class WeaviatePlace(msgspec.Struct, frozen=True):
    """Where a server is, by REST and by gRPC; both as `host:port`."""

    rest: str
    grpc: str

    @property
    def section(self) -> dict[str, str]:
        """As a section of a configuration says it."""
        return {
            "kind": "weaviate",
            "url": f"http://{self.rest}",
            "grpc_url": f"http://{self.grpc}",
        }


def built() -> Path:
    """Where `make weaviate` leaves the server."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vector-replicator" / f"weaviate-{VERSION}" / "weaviate-server"


@pytest.fixture(scope="session")
def weaviate_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviatePlace]:
    """The server. The tests that use it share it: make classes of your own."""
    if WEAVIATE_URL:
        rest = WEAVIATE_URL.removeprefix("http://").rstrip("/")
        grpc = os.environ.get("WEAVIATE_GRPC_URL", "").removeprefix("http://").rstrip("/")
        yield WeaviatePlace(rest, grpc or f"{rest.partition(':')[0]}:{_GRPC_PORT}")
        return
    if not built().exists():
        pytest.skip("no Weaviate: build one with `make weaviate`, or set WEAVIATE_URL")
    server = WeaviateServer(tmp_path_factory.mktemp("weaviate"))
    try:
        yield server.start()
    finally:
        server.stop()


class WeaviateServer:
    """A server of its own, which keeps its data and its log in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> WeaviatePlace:
        """Begin; where it is."""
        rest, grpc, *others = _free_ports(6)
        names = ("CLUSTER_GOSSIP_BIND_PORT", "CLUSTER_DATA_BIND_PORT", "RAFT_PORT")
        told = {
            **dict(zip((*names, "RAFT_INTERNAL_RPC_PORT"), map(str, others), strict=True)),
            "GRPC_PORT": str(grpc),
            "CLUSTER_HOSTNAME": "node1",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "RAFT_BOOTSTRAP_EXPECT": "1",
            "PERSISTENCE_DATA_PATH": str(self._folder / "data"),
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true",
            # Without it a server turns away whoever sends a key.
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": SECRET,
            "AUTHENTICATION_APIKEY_USERS": "tests",
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
            "LOG_LEVEL": "warning",
            # The disk of whoever tests may be as full as it likes.
            "DISK_USE_READONLY_PERCENTAGE": "100",
            # Without it no class may let its objects expire.
            "OBJECTS_TTL_DELETE_SCHEDULE": "@hourly",
        }
        command = [str(built()), "--host", "127.0.0.1", "--port", str(rest)]
        log = self._folder / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*command, "--scheme", "http"], stdout=out, stderr=out, env=os.environ | told
            )
        _wait_until_up(self._process, rest, log)
        return WeaviatePlace(f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}")

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is None:
            return
        # What it would do to end well, nobody reads.
        self._process.kill()
        self._process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_S
    url = f"http://127.0.0.1:{port}/v1/.well-known/ready"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"weaviate did not come up: {log.read_text(errors='replace')[-2000:]}")


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
