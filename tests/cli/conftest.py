"""A configuration with stores in files, a daemon in memory behind HTTP, and commands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result

from replicator.cli.main import cli
from replicator.daemon import address
from replicator.http.server import HttpServer
from replicator.metrics import Metrics
from replicator.settings.settings import HttpServerSettings
from replicator.testing.memory_control import MemoryControl

T = TypeVar("T")
Run = Callable[..., Result]

CONFIG = """\
name = "articles"
[source]
kind = "jsonl"
path = "{folder}/source"
[target]
kind = "jsonl"
path = "{folder}/target"
[[collections]]
source = "articles"
target = "articles_v2"
[feed]
kind = "changelog"
path = "{folder}/changes.db"
settle = "10ms"
[state]
path = "{folder}/state.db"
[http]
listen = "127.0.0.1:0"
[cutover]
delivery_timeout = "0s"
[log]
format = "json"
"""


class Served:
    """A migration in memory, served from a loop of its own thread."""

    def __init__(self, state: Path) -> None:
        self._state = str(state)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.control = self.call(self._make())
        self.server = self.call(self._start())
        address.announce(self._state, self.server.url)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on that loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self.call(self.server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _make(self) -> MemoryControl:
        return MemoryControl()

    async def _start(self) -> HttpServer:
        server = HttpServer(
            HttpServerSettings(listen="127.0.0.1:0"),
            control=self.control,
            metrics=Metrics("articles", "1.0"),
        )
        await server.start()
        return server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file beside its stores."""
    path = tmp_path / "replicator.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


@pytest.fixture
def replicator(config: Path) -> Run:
    """Run a command with that configuration."""

    def run(*arguments: str, **more: Any) -> Result:
        return CliRunner().invoke(cli, ["--config", str(config), *arguments], **more)

    return run


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A daemon that runs on the configuration's state."""
    served = Served(tmp_path / "state.db")
    yield served
    served.close()


@pytest.fixture
def control(served: Served) -> MemoryControl:
    """The migration behind the daemon. Change it before a command, not during one."""
    return served.control
