"""Requests that change something: one POST for each command of the control port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal

import msgspec
from aiohttp import web

from replicator.http import wire
from replicator.http.bodies import body_of
from replicator.http.errands import Errands
from replicator.http.observe import answer
from replicator.http.queries import VerifyBody, verify_request
from replicator.model.finding import Blocker
from replicator.model.phase import Direction
from replicator.ports.control import Control, CutoverRequest

DIRECTION_OF = {"source": Direction.FORWARD, "target": Direction.REVERSE}
"""Which store the application writes, and the direction that this is."""


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """An empty body."""


class RepairRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/repair`; without a collection, the keys that were found."""

    collection: str | None = None


class AnswerRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/answer`."""

    yes: bool


class OwnRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/own`."""

    store: Literal["source", "target"]


class AcknowledgeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/acknowledge`."""

    code: str
    note: str = ""


class Commands:
    """Each command runs to its end, whether or not the client waits for it."""

    def __init__(self, control: Control, errands: Errands) -> None:
        self._control = control
        self._errands = errands

    def routes(self) -> list[web.RouteDef]:
        """The routes of this part."""
        return [
            web.post("/v1/pause", self._plain(self._control.pause)),
            web.post("/v1/resume", self._plain(self._control.resume)),
            web.post("/v1/complete", self._plain(self._control.complete)),
            web.post("/v1/abort", self._plain(self._control.abort)),
            web.post("/v1/own", self.own),
            web.post("/v1/answer", self.answer),
            web.post("/v1/acknowledge", self.acknowledge),
            web.post("/v1/tune", self.tune),
            web.post("/v1/verify", self.verify),
            web.post("/v1/verify/cancel", self.cancel_verification),
            web.post("/v1/repair", self.repair),
            web.post("/v1/cutover", self._switch(self._control.cutover)),
            web.post("/v1/revert", self._switch(self._control.revert)),
        ]

    async def own(self, request: web.Request) -> web.Response:
        """A person's word on which store the application writes."""
        store = (await body_of(request, OwnRequest)).store
        await self._errands.run("own", self._control.own(DIRECTION_OF[store]))
        return await self._status()

    async def answer(self, request: web.Request) -> web.Response:
        """A person's answer to the question of the fence or switch."""
        yes = (await body_of(request, AnswerRequest)).yes
        await self._errands.run("answer", self._control.answer(yes))
        return await self._status()

    async def acknowledge(self, request: web.Request) -> web.Response:
        """A person's word that a latched fact is dealt with."""
        asked = await body_of(request, AcknowledgeRequest)
        work = self._control.acknowledge(asked.code, asked.note)
        await self._errands.run("acknowledge", work)
        return await self._status()

    async def cancel_verification(self, request: web.Request) -> web.Response:
        """Stop the verification under way."""
        await body_of(request, Nothing)
        work = self._control.cancel_verification()
        return answer({"cancelled": await self._errands.run("cancel", work)})

    async def tune(self, request: web.Request) -> web.Response:
        """Change limits; the answer holds all of them."""
        changes = await body_of(request, dict[str, str | int | float])
        told = {name: str(value) for name, value in changes.items()}
        return answer({"tunables": await self._errands.run("tune", self._control.tune(told))})

    async def verify(self, request: web.Request) -> web.Response:
        """Verify to the end; the answer is the report."""
        asked = verify_request(await body_of(request, VerifyBody))
        report = await self._errands.run("verify", self._control.verify(asked))
        return answer(wire.document(report))

    async def repair(self, request: web.Request) -> web.Response:
        """Repair to the end."""
        asked = await body_of(request, RepairRequest)
        repaired = await self._errands.run("repair", self._control.repair(asked.collection))
        return answer({"repaired": repaired})

    def _plain(
        self, command: Callable[[], Coroutine[Any, Any, None]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def run(request: web.Request) -> web.Response:
            await body_of(request, Nothing)
            await self._errands.run(request.path, command())
            return await self._status()

        return run

    def _switch(
        self, command: Callable[[CutoverRequest], Coroutine[Any, Any, list[Blocker]]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def run(request: web.Request) -> web.Response:
            asked = await body_of(request, CutoverRequest)
            blockers = await self._errands.run(request.path, command(asked))
            return answer({"blockers": [wire.blocker(each) for each in blockers]})

        return run

    async def _status(self) -> web.Response:
        return answer(wire.document(await self._control.status()))
