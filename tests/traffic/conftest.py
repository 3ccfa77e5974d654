from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.traffic.application import Application


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    application = Application()
    await application.server.start_server()
    yield application
    application.release.set()
    await application.server.close()


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://user:secret@127.0.0.1:{held.getsockname()[1]}/gate?token=secret"
