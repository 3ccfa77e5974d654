"""
The daemon's HTTP: probes, metrics, status, the page for people, and control.

It runs on the migration's own loop and answers from memory, so it stays up while a store is
away, while the migration is BLOCKED or HELD, and during a drain.
"""

from __future__ import annotations

import socket

import structlog
from aiohttp import hdrs, web

from replicator.errors import Fatal, Refused, ReplicatorError
from replicator.http import failures
from replicator.http.auth import Guard, Next, parse_listen
from replicator.http.commands import Commands
from replicator.http.errands import Errands
from replicator.http.letters import Letters
from replicator.http.observe import Observe, answer
from replicator.http.page import Page
from replicator.metrics import Metrics
from replicator.ports.control import Control
from replicator.settings.settings import HttpServerSettings

_BODY_BYTES_MAX = 8 << 20
"""Holds a thousand queries of 1536 numbers in base64; more is no question but a burden."""
_GOODBYE_S = 2.0
"""How long requests under way may take once the server closes."""

log = structlog.get_logger()


class HttpServer:
    """Serve one migration. `start`, then `close`."""

    def __init__(
        self,
        settings: HttpServerSettings,
        *,
        control: Control,
        metrics: Metrics,
        feed: str = "",
    ) -> None:
        """`feed`: the kind of the migration's feed, which hints speak of."""
        self._host, self._port = parse_listen(settings.listen)
        self._guard = Guard(self._host, settings.token)
        self._feed = feed
        self._errands = Errands()
        app = web.Application(middlewares=[self._gate], client_max_size=_BODY_BYTES_MAX)
        app.add_routes(
            [
                *Observe(control, metrics, feed).routes(),
                *Commands(control, self._errands).routes(),
                *Letters(control).routes(),
                *Page().routes(),
            ]
        )
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=False, shutdown_timeout=_GOODBYE_S
        )

    async def start(self) -> None:
        """Listen. Raises Refused("listen-failed") when the address is taken or not ours."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host or None, self._port)
        try:
            await site.start()
        except (OSError, socket.gaierror) as exc:
            await self._runner.cleanup()
            raise Refused("listen-failed", f"cannot listen on {self._shown()}: {exc}") from exc

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the server, with the port it really has."""
        host, port = self._runner.addresses[0][:2]
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        return (
            f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
        )

    async def close(self) -> None:
        """Stop listening, end what requests began, and let go."""
        await self._errands.close()
        await self._runner.cleanup()

    @web.middleware
    async def _gate(self, request: web.Request, handler: Next) -> web.StreamResponse:
        try:
            self._guard.check(request)
            return await handler(request)
        except ReplicatorError as error:
            return _refusal(error, self._feed)
        except web.HTTPException as exc:
            return _of_aiohttp(request, exc)
        except ConnectionResetError:
            raise  # the client went away; there is nobody to answer
        except Exception:
            log.exception("request failed", path=request.path)
            return _refusal(
                Fatal("internal", "the request met a defect; the log has it"), self._feed
            )

    def _shown(self) -> str:
        return f"{self._host or '*'}:{self._port}"


def _refusal(error: ReplicatorError, feed: str) -> web.Response:
    response = answer(failures.document(error, feed), failures.status_of(error))
    if error.code == "unauthorised":
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return response


def _of_aiohttp(request: web.Request, exc: web.HTTPException) -> web.Response:
    """The framework's own refusals (no route, wrong method, body too large) in our form."""
    missing = exc.status == web.HTTPNotFound.status_code
    code = "not-found" if missing else "bad-request"
    message = f"{request.method} {request.path}: {exc.reason.lower()}"
    return answer(failures.document(Refused(code, message)), exc.status)
