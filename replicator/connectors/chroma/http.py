"""Chroma's REST interface, version 2."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from replicator.connectors.chroma import failures
from replicator.connectors.chroma.api import (
    Found,
    Metadata,
    Record,
    Reply,
    Wanted,
    columns,
)
from replicator.connectors.chroma.kind import ChromaSettings
from replicator.errors import OutcomeUnknown, Rejected, Unavailable
from replicator.settings.credentials import without

T = TypeVar("T")

LARGEST_REPLY = 64 << 20
"""Bytes of a reply that are taken in where a smaller one can be asked for. Half of it splits
pages of large records more often; twice it may hold twice the memory for each read under way.
"""

CONNECT_S = 10.0
"""How long a connection may take. It is a part of no request, so that nothing was sent."""

_encode = msgspec.json.Encoder().encode
_floats = msgspec.json.Decoder(list[float]).decode


class _Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    retry_after: str


class _Checks(msgspec.Struct, frozen=True):
    max_batch_size: int


class _Collection(msgspec.Struct, frozen=True):
    id: str
    name: str
    dimension: int | None = None
    metadata: Metadata | None = None
    configuration_json: dict[str, Any] = {}

    def found(self) -> Found:
        return Found(
            id=self.id,
            name=self.name,
            dimension=self.dimension,
            configuration=self.configuration_json,
            metadata=self.metadata or {},
        )


class _Columns(msgspec.Struct, frozen=True):
    ids: list[str]
    embeddings: list[msgspec.Raw] | None = None
    metadatas: list[Metadata | None] | None = None
    documents: list[str | None] | None = None
    uris: list[str | None] | None = None

    def records(self) -> list[Record]:
        nothing: list[None] = [None] * len(self.ids)
        return [
            Record(id=each, vector=_packed(raw), metadata=metadata, document=document, uri=uri)
            for each, raw, metadata, document, uri in zip(
                self.ids,
                self.embeddings or nothing,
                self.metadatas or nothing,
                self.documents or nothing,
                self.uris or nothing,
                strict=True,
            )
        ]


class _Nearest(msgspec.Struct, frozen=True):
    ids: list[list[str]]
    distances: list[list[float]]


def _packed(raw: msgspec.Raw | None) -> bytes | None:
    """A vector of numbers in JSON, as bytes; one after the other, since a list of Python floats
    takes eight times their room.
    """
    if raw is None or bytes(raw) == b"null":
        return None
    numbers = _floats(raw)
    return struct.pack(f"<{len(numbers)}f", *numbers)


class HttpApi:
    """As `Api`. Connects with the first request, in the loop that runs then."""

    def __init__(self, settings: ChromaSettings) -> None:
        base = settings.url.rstrip("/")
        self.address = settings.address().partition("#")[0]
        self._root = f"{base}/api/v2"
        tenant, database = quote(settings.tenant, safe=""), quote(settings.database, safe="")
        self._database = f"{self._root}/tenants/{tenant}/databases/{database}"
        self._headers = {"Content-Type": "application/json"}
        self._told = [settings.token.reveal()]
        if token := settings.token.reveal():
            name, value = (
                ("X-Chroma-Token", token)
                if settings.plan == "cloud"
                else ("Authorization", f"Bearer {token}")
            )
            self._headers[name] = value
        self._timeout_s = float(settings.timeout)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def check(self) -> str:
        """As in Api."""
        version = await self._read("GET", f"{self._root}/version", str)
        await self._read("GET", self._database, dict[str, Any])
        return version

    async def records_max(self) -> int:
        """As in Api."""
        checks = await self._read("GET", f"{self._root}/pre-flight-checks", _Checks)
        return checks.max_batch_size

    async def names(self, offset: int, limit: int) -> list[str]:
        """As in Api."""
        path = f"{self._database}/collections?offset={offset}&limit={limit}"
        return [each.name for each in await self._read("GET", path, list[_Collection])]

    async def find(self, name: str) -> Found | None:
        """As in Api."""
        path = f"{self._database}/collections/{quote(name, safe='')}"
        answer = await self._exchange("GET", path, None, writes=False)
        if answer.status == 404 and not failures.names_the_database(answer.body):
            return None
        return self._decoded(answer, _Collection, writes=False).found()

    async def create(
        self, name: str, configuration: dict[str, Any], metadata: Metadata
    ) -> None:
        """As in Api."""
        wanted: dict[str, Any] = {"name": name, "configuration": configuration}
        if metadata:
            wanted["metadata"] = metadata
        path = f"{self._database}/collections"
        answer = await self._exchange("POST", path, wanted, writes=True)
        if answer.status != 409:
            self._decoded(answer, dict, writes=True)

    async def modify(self, collection: str, metadata: Metadata) -> None:
        """As in Api."""
        path = f"{self._database}/collections/{collection}"
        await self._write("PUT", path, {"new_metadata": metadata})

    async def count(self, collection: str) -> int:
        """As in Api."""
        return await self._read("GET", self._of(collection, "count"), int)

    async def page(
        self, collection: str, wanted: Wanted, offset: int, limit: int, *, bounded: bool
    ) -> Reply:
        """As in Api."""
        asked = {"include": wanted.include, "offset": offset, "limit": limit}
        return await self._records(collection, asked, bounded=bounded)

    async def get(
        self, collection: str, wanted: Wanted, ids: Sequence[str], *, bounded: bool = False
    ) -> Reply:
        """As in Api."""
        assert ids, "without ids everything is asked for"
        asked = {"include": wanted.include, "ids": ids}
        return await self._records(collection, asked, bounded=bounded)

    async def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """As in Api. Bytes become base64 in JSON, which the server takes for vectors."""
        await self._write("POST", self._of(collection, "upsert"), columns(records))

    async def update(self, collection: str, records: Sequence[Record]) -> None:
        """As in Api."""
        await self._write("POST", self._of(collection, "update"), columns(records))

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """As in Api."""
        assert ids, "without ids nobody knows what is meant"
        await self._write("POST", self._of(collection, "delete"), {"ids": ids})

    async def query(
        self, collection: str, vector: Sequence[float], limit: int
    ) -> list[tuple[str, float]]:
        """As in Api."""
        asked = {"query_embeddings": [vector], "n_results": limit, "include": ["distances"]}
        found = await self._read("POST", self._of(collection, "query"), _Nearest, asked)
        return list(zip(found.ids[0], found.distances[0], strict=True))

    async def close(self) -> None:
        """Break off what is under way. Idempotent."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- requests --------------------------------------------------------------------------

    def _of(self, collection: str, what: str) -> str:
        return f"{self._database}/collections/{collection}/{what}"

    async def _records(self, collection: str, asked: Any, *, bounded: bool) -> Reply:
        path = self._of(collection, "get")
        answer = await self._exchange(
            "POST", path, asked, writes=False, most=LARGEST_REPLY if bounded else None
        )
        found = self._decoded(answer, _Columns, writes=False)
        return Reply(found.records(), len(answer.body))

    async def _read(self, method: str, path: str, kind: type[T], asked: Any = None) -> T:
        answer = await self._exchange(method, path, asked, writes=False)
        return self._decoded(answer, kind, writes=False)

    async def _write(self, method: str, path: str, asked: Any) -> None:
        answer = await self._exchange(method, path, asked, writes=True)
        self._decoded(answer, dict, writes=True)

    def _decoded(self, answer: _Answer, kind: type[T], *, writes: bool) -> T:
        if answer.status >= 300:
            raise failures.of_status(
                answer.status,
                answer.body,
                self.address,
                writes=writes,
                retry_after=answer.retry_after,
            )
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise failures.no_chroma(self.address, str(exc), writes=writes) from exc

    async def _exchange(
        self, method: str, path: str, asked: Any, *, writes: bool, most: int | None = None
    ) -> _Answer:
        """
        Whatever is answered. A request that never left is Unavailable; of a write that left
        and was not answered the outcome is unknown.
        """
        try:
            data = None if asked is None else _encode(asked)
        except UnicodeEncodeError as exc:
            raise Rejected("field-invalid", f"a text is not Unicode: {exc}") from exc
        session = self._open()
        try:
            async with session.request(
                method, path, data=data, headers=self._headers, allow_redirects=False
            ) as reply:
                body = await _body(reply, most)
                if reply.status >= 300:
                    # A server may repeat the token that it does not know.
                    body = without(body.decode(errors="replace"), self._told).encode()
                return _Answer(reply.status, body, reply.headers.get("Retry-After", ""))
        except aiohttp.ClientConnectorError as exc:
            raise Unavailable(
                "store-unavailable", f"{self.address} does not answer: {exc}"
            ) from exc
        except aiohttp.ConnectionTimeoutError as exc:
            raise Unavailable(
                "store-unavailable", f"{self.address} lets nobody connect within {CONNECT_S} s"
            ) from exc
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            why = f"{type(exc).__name__} {exc}".strip()
            if not writes:
                raise Unavailable(
                    "store-unavailable", f"a read from {self.address} broke off: {why}"
                ) from exc
            raise OutcomeUnknown(
                "outcome-unknown", f"a write to {self.address} broke off: {why}"
            ) from exc

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
                # How many requests there may be at once is decided by the engine.
                connector=aiohttp.TCPConnector(limit=0),
            )
        return self._session


async def _body(reply: aiohttp.ClientResponse, most: int | None) -> bytes:
    if most is None:
        return await reply.read()
    body = bytearray()
    async for part in reply.content.iter_any():
        body += part
        if len(body) > most:
            reply.close()
            raise Rejected("value-too-large", f"a reply of more than {most} bytes")
    return bytes(body)
