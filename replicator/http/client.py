"""
The control port over HTTP: what the command line speaks while a daemon runs.

Requests that look wait a few seconds for an answer. Requests that command wait as long as the
work takes: the daemon finishes it with or without us.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

import aiohttp
import msgspec

from replicator.errors import Fatal, Unavailable
from replicator.http import wire
from replicator.http.failures import error_from
from replicator.http.routes import route_of
from replicator.model.command import Command
from replicator.model.finding import Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.record import JournalEntry
from replicator.model.report import Report
from replicator.model.status import Status
from replicator.settings.units import Secret

T = TypeVar("T")

_CONNECT_S = 3.0
_LOOK_S = 15.0
"""A status comes from memory; a daemon that takes longer is stuck, or its machine is."""
_PAGE = 1000


class HttpControl:
    """`Control` of a running daemon. Use as an async context manager."""

    def __init__(self, url: str, token: Secret) -> None:
        self._url = url.rstrip("/")
        self._token = token.reveal()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpControl:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._session = aiohttp.ClientSession(headers=headers)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def do(self, command: Command[T]) -> T:
        """As in Control."""
        route = route_of(command)
        answer = await self._post(route.path, route.write(command))
        if route.told is None:
            return cast("T", None)
        with _as_it_was():
            return route.told.read(answer)

    async def status(self) -> Status:
        """As in Control."""
        return _struct(await self._get("/v1/status"), Status)

    async def journal(self, limit: int) -> list[JournalEntry]:
        """As in Control."""
        told = await self._get("/v1/journal", limit=str(limit))
        return [_struct(entry, JournalEntry) for entry in told["entries"]]

    async def report(self) -> Report | None:
        """As in Control."""
        told = await self._get("/v1/report")
        return None if told is None else _struct(told, Report)

    async def letters(
        self, state: LetterState | None, limit: int, after: int
    ) -> Sequence[DeadLetter]:
        """As in Control; asks page by page."""
        found: list[DeadLetter] = []
        while limit > 0:
            page = {"limit": str(min(limit, _PAGE)), "after": str(after)}
            if state is not None:
                page["state"] = state.value
            told = (await self._get("/v1/dead-letters", **page))["letters"]
            if not told:
                break
            found += [_struct(letter, DeadLetter) for letter in told]
            limit -= len(told)
            after = found[-1].number
        return found

    async def letter_bytes(self, number: int) -> RejectedRecord:
        """As in Control."""
        return _struct(await self._get(f"/v1/dead-letters/{number}"), RejectedRecord)

    async def findings(self) -> AsyncIterator[Finding]:
        """As in Control; read line by line."""
        patient = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_LOOK_S)
        try:
            async with self._open.get(
                f"{self._url}/v1/findings", timeout=patient, read_bufsize=1 << 20
            ) as response:
                if response.status >= 400:
                    raise error_from(_json(await response.read()), response.status)
                async for line in response.content:
                    yield _struct(_json(line), Finding)
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise _away(self._url, exc) from exc

    async def _get(self, path: str, **query: str) -> Any:
        timeout = aiohttp.ClientTimeout(total=_LOOK_S, sock_connect=_CONNECT_S)
        return await self._ask("GET", path, timeout, params=query)

    async def _post(self, path: str, body: bytes) -> Any:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        return await self._ask(
            "POST",
            path,
            timeout,
            data=io.BytesIO(body),
            headers={"Content-Type": "application/json"},
        )

    async def _ask(
        self, method: str, path: str, timeout: aiohttp.ClientTimeout, **more: Any
    ) -> Any:
        try:
            async with self._open.request(
                method, self._url + path, timeout=timeout, **more
            ) as response:
                body, status = await response.read(), response.status
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise _away(self._url, exc) from exc
        if status >= 400:
            raise error_from(_json(body), status)
        return _json(body)

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "HttpControl is used as an async context manager"
        return self._session


def _away(url: str, exc: Exception) -> Unavailable:
    reason = str(exc) or type(exc).__name__
    return Unavailable("daemon-unavailable", f"the daemon at {url}: {reason}")


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as exc:
        raise Fatal("internal", f"the daemon's answer is no JSON: {exc}") from exc


def _struct(source: Any, kind: type[wire.T]) -> wire.T:
    with _as_it_was():
        return wire.struct(source, kind)


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    try:
        yield
    except msgspec.ValidationError as exc:
        raise Fatal("internal", f"the daemon's answer is not what it was: {exc}") from exc
