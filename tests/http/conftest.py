"""A real server in front of a migration in memory, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from replicator.http.client import HttpControl
from replicator.http.server import HttpServer
from replicator.metrics import Metrics
from replicator.settings.settings import HttpServerSettings
from replicator.settings.units import Secret
from replicator.testing.memory_control import MemoryControl

TOKEN = Secret("correct horse")


@pytest.fixture
def control() -> MemoryControl:
    return MemoryControl()


@pytest.fixture
async def server(control: MemoryControl) -> AsyncIterator[HttpServer]:
    server = HttpServer(
        HttpServerSettings(listen="127.0.0.1:0"),
        control=control,
        metrics=Metrics("articles", "1.0"),
    )
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def guarded(control: MemoryControl) -> AsyncIterator[HttpServer]:
    """The same, with a token."""
    server = HttpServer(
        HttpServerSettings(listen="127.0.0.1:0", token=TOKEN),
        control=control,
        metrics=Metrics("articles", "1.0"),
    )
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def remote(server: HttpServer) -> AsyncIterator[HttpControl]:
    async with HttpControl(server.url, Secret("")) as remote:
        yield remote
