"""Requests that change something: one POST for each command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from replicator.http import wire
from replicator.http.errands import Errands
from replicator.http.observe import answer
from replicator.http.routes import ROUTES, Route
from replicator.ports.control import Control


class Commands:
    """Each command runs to its end, whether or not the client waits for it."""

    def __init__(self, control: Control, errands: Errands) -> None:
        self._control = control
        self._errands = errands

    def routes(self) -> list[web.RouteDef]:
        """The routes of this part."""
        return [web.post(route.path, self._serve(route)) for route in ROUTES]

    def _serve(self, route: Route[Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            command = route.read(await request.read())
            done = await self._errands.run(command.name, self._control.do(command))
            if route.told is None:
                return answer(wire.document(await self._control.status()))
            return answer(route.told.write(done))

        return serve
