"""Requests over REST: what there is for classes, tenants and shards."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from replicator.connectors.weaviate import failures
from replicator.connectors.weaviate.kind import WeaviateSettings
from replicator.errors import Refused, Unavailable
from replicator.settings.credentials import without

CONNECT_S = 10.0
"""How long a connection may take. It is a part of no request, so that nothing was sent."""


class _Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    retry_after: str


class Rest:
    """
    Each request once. Connects with the first, in the loop that runs then. Every method raises
    what `failures` makes of an answer.
    """

    def __init__(self, settings: WeaviateSettings) -> None:
        self._root = f"{settings.url.rstrip('/')}/v1"
        self.who = f"Weaviate at {settings.address()}"
        key = settings.api_key.reveal()
        self._told = [key]
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout_s = float(settings.timeout)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def version(self) -> str:
        """The server's."""
        return str((await self._asked("GET", "/meta"))["version"])

    async def names(self) -> list[str]:
        """Of all classes, sorted."""
        told = await self._asked("GET", "/schema")
        return sorted(each["class"] for each in told.get("classes") or [])

    async def find(self, name: str) -> dict[str, Any] | None:
        """The document of a class, or None. A name that no class can have leads to none."""
        answer = await self._exchange("GET", _of(name), None, writes=False)
        if answer.status == 404:
            return None
        found: dict[str, Any] = self._decoded(answer, writes=False)
        # The server takes a small first letter for a capital one.
        return found if found.get("class") == name else None

    async def create(self, document: dict[str, Any]) -> bool:
        """Make a class; False where somebody else was first."""
        answer = await self._exchange("POST", "/schema", document, writes=True)
        if answer.status == 422 and b"already exists" in answer.body:
            return False
        self._decoded(answer, writes=True)
        return True

    async def replace(self, name: str, document: dict[str, Any]) -> None:
        """Change what of a class may be changed."""
        await self._asked("PUT", _of(name), document)

    async def make_tenants(self, name: str, tenants: list[str]) -> None:
        """One that is there stays as it is. Raises Refused("store-refused") for a bad name."""
        await self._asked("POST", f"{_of(name)}/tenants", [{"name": each} for each in tenants])

    async def set_tenant(self, name: str, tenant: str, *, active: bool) -> None:
        """Activate or deactivate one."""
        status = "HOT" if active else "COLD"
        wanted = [{"name": tenant, "activityStatus": status}]
        await self._asked("PUT", f"{_of(name)}/tenants", wanted)

    async def drop_tenants(self, name: str, tenants: list[str]) -> None:
        """With all that they hold."""
        await self._asked("DELETE", f"{_of(name)}/tenants", tenants)

    async def shards(self, name: str) -> dict[str, str]:
        """Shard → its status, of those of a class that the server names."""
        told = await self._asked("GET", f"{_of(name)}/shards")
        return {each["name"]: each.get("status") or "" for each in told}

    async def close(self) -> None:
        """Break off what is under way. Idempotent."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _asked(self, method: str, path: str, body: Any = None) -> Any:
        writes = method != "GET"
        return self._decoded(
            await self._exchange(method, path, body, writes=writes), writes=writes
        )

    def _decoded(self, answer: _Answer, *, writes: bool) -> Any:
        if answer.status >= 300:
            raise failures.of_status(
                answer.status,
                _message(answer.body),
                self.who,
                writes=writes,
                retry_after=answer.retry_after,
            )
        try:
            return msgspec.json.decode(answer.body) if answer.body else None
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise Refused("store-refused", f"{self.who} is no Weaviate: {exc}") from exc

    async def _exchange(self, method: str, path: str, body: Any, *, writes: bool) -> _Answer:
        data = None if body is None else msgspec.json.encode(body)
        session = self._open()
        try:
            async with session.request(
                method, self._root + path, data=data, headers=self._headers,
                allow_redirects=False,
            ) as reply:  # fmt: skip
                told = await reply.read()
                if reply.status >= 300:
                    # A server may repeat the key that it does not know.
                    told = without(told.decode(errors="replace"), self._told).encode()
                return _Answer(reply.status, told, reply.headers.get("Retry-After", ""))
        except aiohttp.ClientConnectorError as exc:
            raise Unavailable(
                "store-unavailable", f"{self.who} does not answer: {exc}"
            ) from exc
        except aiohttp.ConnectionTimeoutError as exc:
            raise Unavailable(
                "store-unavailable", f"{self.who} lets nobody connect within {CONNECT_S} s"
            ) from exc
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            why = f"{self.who} broke off: {type(exc).__name__} {exc}".strip()
            raise failures.lost(why, writes=writes) from exc

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            if self._closed:
                raise Unavailable("store-unavailable", "the connection was closed")
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout_s + CONNECT_S,
                    connect=CONNECT_S,
                    sock_read=self._timeout_s,
                ),
                connector=aiohttp.TCPConnector(limit=0),
            )
        return self._session


def _of(name: str) -> str:
    return f"/schema/{quote(name, safe='')}"


def _message(body: bytes) -> str:
    """What the server says is wrong, in the two forms that it has for it, or the body."""
    try:
        told = msgspec.json.decode(body)
        if isinstance(told, dict):
            if isinstance(errors := told.get("error"), list):
                return "; ".join(str(each["message"]) for each in errors)
            if "message" in told:
                return str(told["message"])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
        pass
    return body.decode(errors="replace")
