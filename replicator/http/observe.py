"""What can be looked at: probes, metrics, status, journal, findings, report."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from replicator.errors import Refused, ReplicatorError, hint_of
from replicator.http import wire
from replicator.metrics import Metrics
from replicator.ports.control import Control

log = structlog.get_logger()

_JOURNAL_ENTRIES = 200
"""What one screen of history needs."""
_JOURNAL_ENTRIES_MAX = 10_000


def answer(body: Any, status: int = 200) -> web.Response:
    """A JSON answer that nobody caches."""
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def number(request: web.Request, name: str, default: int, most: int) -> int:
    """An integer of the query string, from 0 to `most`. Raises Refused("bad-request")."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 18 or int(text) > most:
        raise Refused("bad-request", f"{name}: expected an integer up to {most}, not {text!r}")
    return int(text)


class Observe:
    """Requests that change nothing."""

    def __init__(self, control: Control, metrics: Metrics, feed: str = "") -> None:
        self._control = control
        self._metrics = metrics
        self._feed = feed

    def routes(self) -> list[web.RouteDef]:
        """The routes of this part."""
        return [
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.get("/v1/status", self.status),
            web.get("/v1/journal", self.journal),
            web.get("/v1/findings", self.findings),
            web.get("/v1/report", self.report),
        ]

    async def livez(self, _: web.Request) -> web.Response:
        """The loop answers, and nothing else is claimed."""
        return answer({"live": True})

    async def readyz(self, _: web.Request) -> web.Response:
        """503 with reasons while the migration does not do its work."""
        try:
            status = await self._control.status()
        except Refused as refused:
            hint = hint_of(refused.code, self._feed)
            reason = {"code": refused.code, "message": refused.message, "hint": hint}
            return answer({"ready": False, "phase": None, "reasons": [reason]}, status=503)
        reasons = wire.document(status)["not_ready"]
        return answer(
            {"ready": status.ready, "phase": status.phase, "reasons": reasons},
            status=200 if status.ready else 503,
        )

    async def metrics(self, _: web.Request) -> web.Response:
        """Prometheus text; the gauges are those of the status at this moment."""
        self._metrics.show(await self._control.status())
        return web.Response(
            body=generate_latest(self._metrics.registry),
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    async def status(self, _: web.Request) -> web.Response:
        """The whole status."""
        return answer(wire.document(await self._control.status()))

    async def journal(self, request: web.Request) -> web.Response:
        """The newest `limit` entries, oldest of them first."""
        limit = number(request, "limit", _JOURNAL_ENTRIES, _JOURNAL_ENTRIES_MAX)
        entries = await self._control.journal(limit)
        return answer({"entries": [wire.document(entry) for entry in entries]})

    async def findings(self, request: web.Request) -> web.StreamResponse:
        """
        Every finding, one JSON line each; as many as there are, without holding them. When the
        state fails half-way the connection breaks, so that a short list never looks complete.
        """
        response = web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        try:
            async for finding in self._control.findings():
                await response.write(msgspec.json.encode(wire.document(finding)) + b"\n")
        except ReplicatorError as error:
            log.error("findings broken off", code=error.code, error=error.message)
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    async def report(self, _: web.Request) -> web.Response:
        """The last verification's report, `null` before the first."""
        report = await self._control.report()
        return answer(None if report is None else wire.document(report))
