"""
The control port over HTTP: what the command line speaks while a daemon runs.

Requests that look wait a few seconds for an answer. Requests that command wait as long as the
work takes: the daemon finishes it with or without us.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any

import aiohttp
import msgspec

from replicator.errors import Fatal, Unavailable
from replicator.http import wire
from replicator.http.failures import error_from
from replicator.http.queries import verify_body
from replicator.model.finding import Blocker, Finding
from replicator.model.letter import DeadLetter, LetterState, RejectedRecord
from replicator.model.phase import Direction
from replicator.model.record import JournalEntry
from replicator.model.status import Status
from replicator.ports.control import CutoverRequest, Report, VerifyRequest
from replicator.settings.units import Secret

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

    async def status(self) -> Status:
        """As in Control."""
        return _struct(await self._get("/v1/status"), Status)

    async def journal(self, limit: int) -> list[JournalEntry]:
        """As in Control."""
        told = await self._get("/v1/journal", limit=str(limit))
        return [_struct(entry, JournalEntry) for entry in told["entries"]]

    async def pause(self) -> None:
        """As in Control."""
        await self._post("/v1/pause")

    async def resume(self) -> None:
        """As in Control."""
        await self._post("/v1/resume")

    async def tune(self, changes: dict[str, str]) -> dict[str, str]:
        """As in Control."""
        told: dict[str, str] = (await self._post("/v1/tune", changes))["tunables"]
        return told

    async def verify(self, request: VerifyRequest) -> Report:
        """As in Control."""
        return _struct(await self._post("/v1/verify", verify_body(request)), Report)

    async def report(self) -> Report | None:
        """As in Control."""
        told = await self._get("/v1/report")
        return None if told is None else _struct(told, Report)

    async def repair(self, collection: str | None) -> int:
        """As in Control."""
        told = await self._post("/v1/repair", {"collection": collection})
        return int(told["repaired"])

    async def cutover(self, request: CutoverRequest) -> list[Blocker]:
        """As in Control."""
        return _blockers(await self._post("/v1/cutover", request))

    async def revert(self, request: CutoverRequest) -> list[Blocker]:
        """As in Control."""
        return _blockers(await self._post("/v1/revert", request))

    async def answer(self, yes: bool) -> None:
        """As in Control."""
        await self._post("/v1/answer", {"yes": yes})

    async def acknowledge(self, code: str, note: str) -> None:
        """As in Control."""
        await self._post("/v1/acknowledge", {"code": code, "note": note})

    async def cancel_verification(self) -> bool:
        """As in Control."""
        return bool((await self._post("/v1/verify/cancel"))["cancelled"])

    async def complete(self) -> None:
        """As in Control."""
        await self._post("/v1/complete")

    async def abort(self) -> None:
        """As in Control."""
        await self._post("/v1/abort")

    async def own(self, direction: Direction) -> None:
        """As in Control."""
        store = "source" if direction is Direction.FORWARD else "target"
        await self._post("/v1/own", {"store": store})

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

    async def retry_letters(self, numbers: Sequence[int] | None) -> dict[int, str]:
        """As in Control."""
        body = {"numbers": None if numbers is None else list(numbers)}
        told = await self._post("/v1/dead-letters/retry", body)
        return {int(number): outcome for number, outcome in told["outcomes"].items()}

    async def discard_letters(self, numbers: Sequence[int]) -> int:
        """As in Control."""
        told = await self._post("/v1/dead-letters/discard", {"numbers": list(numbers)})
        return int(told["discarded"])

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

    async def _post(self, path: str, body: Any = None) -> Any:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        return await self._ask(
            "POST",
            path,
            timeout,
            data=io.BytesIO(msgspec.json.encode({} if body is None else body)),
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
    try:
        return wire.struct(source, kind)
    except msgspec.ValidationError as exc:
        raise Fatal("internal", f"the daemon's answer is not what it was: {exc}") from exc


def _blockers(told: Any) -> list[Blocker]:
    return msgspec.convert(told["blockers"], list[Blocker])
