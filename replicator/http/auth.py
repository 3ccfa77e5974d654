"""
Who may ask what.

- On loopback without a token, everything is allowed to whoever is on this machine. A web page
  that a person here visits is not: its requests carry a foreign `Host` (a name re-bound to
  127.0.0.1), or cannot carry `Content-Type: application/json` without a preflight that we never
  grant.
- With a token, whatever commands, and whatever shows the application's keys and values, needs
  it. Probes, metrics, status and the status page stay open: they hold counts and names only.
- Off loopback a token is not optional.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from replicator.errors import Refused
from replicator.settings.units import Secret

_OPEN: Final = frozenset({"/", "/livez", "/readyz", "/metrics", "/v1/status"})

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def parse_listen(listen: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises Refused("config-invalid")."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise Refused("config-invalid", f"http.listen: {listen!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine only. A name other than localhost is not taken for it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Decide on each request before anything else sees it."""

    def __init__(self, host: str, token: Secret) -> None:
        self._loopback = is_loopback(host)
        self._token = token.reveal().encode()
        if not self._loopback and not self._token:
            raise Refused(
                "config-invalid",
                f"http.listen: {host or 'every address'} is not loopback: set http.token",
            )

    def check(self, request: web.Request) -> None:
        """Raises Refused ("bad-request", "unauthorised")."""
        if self._loopback and not is_loopback(_name(request.host)):
            raise Refused("bad-request", f"this server is not {request.host!r}")
        if request.method == hdrs.METH_POST and request.content_type != "application/json":
            raise Refused("bad-request", "send `Content-Type: application/json`")
        open_to_all = request.method != hdrs.METH_POST and request.path in _OPEN
        if self._token and not open_to_all and not self._knows(request):
            raise Refused("unauthorised", "this request needs the token")

    def _knows(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        same = hmac.compare_digest(token.strip().encode(errors="replace"), self._token)
        return same and scheme.lower() == "bearer"


def _name(host: str) -> str:
    """The host of a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
