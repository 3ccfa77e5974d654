"""Reading the body of a command."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from replicator.errors import Refused

T = TypeVar("T")


async def body_of(request: web.Request, kind: type[T]) -> T:
    """The body as `kind`; an empty body is an empty map. Raises Refused("bad-request")."""
    body = await request.read()
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.DecodeError as exc:
        raise Refused("bad-request", f"the body: {exc}") from exc
