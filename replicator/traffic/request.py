"""
One HTTP request to something of the user's: a fence, a switch, a hook.

What matters to the caller is whether the other side may have acted: a request that never left
can be repeated without a thought, one whose reply is lost cannot.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import msgspec

from replicator.errors import Refused, Retryable, Unavailable
from replicator.settings.credentials import without
from replicator.settings.units import Secret

_BODY_BYTES_MAX = 64 << 10
"""As much of a reply as is read. Replies are a word or two; an error page may be long."""
_SHOWN_MAX = 300
_BUSY = frozenset({429, 503})


class ReplyLost(Retryable):
    """The request was sent and no whole reply came: the other side may have acted."""


class Reply(msgspec.Struct, frozen=True):
    """A whole reply, whatever it says."""

    status: int
    body: bytes
    told: tuple[str, ...] = ()
    """What the request told in confidence: a reply may repeat it."""

    @property
    def ok(self) -> bool:
        """Redirects count as failures: a POST that is redirected may arrive as a GET."""
        return 200 <= self.status < 300

    @property
    def busy(self) -> bool:
        """The other side asks to come again later, and did nothing."""
        return self.status in _BUSY

    @property
    def text(self) -> str:
        """The body, without what was told in confidence."""
        return without(self.body.decode("utf-8", "replace"), self.told).strip()

    def __str__(self) -> str:
        text = self.text[:_SHOWN_MAX]
        return f"status {self.status}" + (f": {text}" if text else "")


async def request(
    method: str,
    url: str,
    *,
    code: str,
    timeout_s: float,
    token: Secret | None = None,
    body: dict[str, Any] | None = None,
) -> Reply:
    """
    Send a JSON body and read the reply. Raises, with `code`, Unavailable when nothing was sent,
    ReplyLost when that cannot be said, Refused when the URL is none.
    """
    if token and "@" in url.partition("//")[2].partition("/")[0]:
        raise Refused(code, "a token and a user in the URL exclude each other")
    headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = msgspec.json.encode(body)
    # Half of the time is for the connection, so that a host that is away is told from a reply
    # that is lost.
    limits = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s / 2)
    what = f"{method} {_without_secrets(url)}"
    try:
        async with (
            asyncio.timeout(timeout_s),
            aiohttp.ClientSession(headers=headers, timeout=limits) as session,
            session.request(method, url, data=data, allow_redirects=False) as answer,
        ):
            said = await _beginning(answer.content)
            return Reply(answer.status, said, _told(url, token))
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
        raise Unavailable(code, f"{what}: {exc}") from exc
    except (ValueError, aiohttp.NonHttpUrlClientError) as exc:
        raise Refused(code, f"{what}: no URL to send to") from exc
    except TimeoutError as exc:
        raise ReplyLost(code, f"{what}: no reply within {timeout_s:g} s") from exc
    except aiohttp.ClientError as exc:
        raise ReplyLost(code, f"{what}: {type(exc).__name__}: {exc}") from exc


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while len(body) < _BODY_BYTES_MAX and (part := await content.read(_BODY_BYTES_MAX)):
        body += part
    return bytes(body)


def _told(url: str, token: Secret | None) -> tuple[str, ...]:
    """The parts of a request that may be credentials."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    values = [value for _, value in parse_qsl(parts.query)]
    secret = token.reveal() if token else ""
    return secret, user, *user.split(":"), parts.query, *values


def _without_secrets(url: str) -> str:
    """The URL without user, password and query, any of which may hold a credential."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "the URL"
