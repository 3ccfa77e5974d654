"""An application that answers fences, switches and hooks over HTTP, on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


class Application:
    """Records what it is sent; `status`, `body` and `mood` say how it answers."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Any]] = []
        self.authorization: str | None = None
        self.status = 200
        self.body: bytes = b"{}"
        self.mood = "answer"
        self.asked = asyncio.Event()
        self.release = asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/gate", self._answer)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/gate"))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.received.append((request.method, body))
        self.authorization = request.headers.get("Authorization")
        self.asked.set()
        match self.mood:
            case "hang":
                await self.release.wait()
            case "drop":
                _hang_up(request)
            case "half":
                answer = web.StreamResponse(headers={"Content-Length": "1000"})
                await answer.prepare(request)
                await answer.write(b"{")
                _hang_up(request)
                return answer
        return web.Response(status=self.status, body=self.body, headers={"Location": "/gate"})


def _hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.close()
