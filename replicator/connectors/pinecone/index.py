"""
The index, as the vendor's client speaks to it: each request once, and no faster than it may.

The client retries by itself, three times, lost replies too, and what it is told of retries it
keeps for its control plane. So its transport for the index is made anew without: a receipt then
means one thing. It has no more connections than `_CONNECTIONS`, and a request waits for one;
how many there are at once is decided by the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pinecone import AsyncPinecone, RetryConfig
from pinecone._internal.constants import DATA_PLANE_API_VERSION
from pinecone._internal.http_client import AsyncHTTPClient
from pinecone.async_client.async_index import AsyncIndex
from pinecone.errors.exceptions import PineconeError
from pinecone.models.indexes.index import IndexModel
from pinecone.models.vectors.responses import (
    DescribeIndexStatsResponse,
    ListResponse,
    QueryResponse,
)
from pinecone.models.vectors.vector import Vector

from replicator.connectors.pinecone import failures
from replicator.connectors.pinecone.kind import DEFAULT_NAMESPACE, PineconeSettings
from replicator.errors import Refused, Unavailable

T = TypeVar("T")

_CONNECTIONS = 100

_PER_SECOND = {"upsert": 100.0, "delete": 100.0, "query": 100.0, "fetch": 100.0, "list": 200.0}
"""Requests: the first three of a namespace, the others of the index; the vendor's page of
limits. Kept for each of them, a little of a budget is left for whoever else is at work."""

_SHARE = 0.9
_OF_INDEX = frozenset({"fetch", "list"})
_UNLIMITED = frozenset({"query", "fetch", "list"})
"""On dedicated read nodes."""

PAGE_IDS = 100
"""On a page of a list: no page has more."""


class Pace:
    """Requests of one kind, each no sooner than the last one allows."""

    def __init__(self, per_second: float) -> None:
        self._apart_s = 1.0 / per_second
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until one more may be sent."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self._apart_s
        if at > now:
            await asyncio.sleep(at - now)


class Index:
    """
    One index. Connects with the first request, in the loop that runs then.

    Every method raises what `failures` makes of it. A namespace that is not there is no error
    of a read by id, of a list, or of a deletion: it holds nothing.
    """

    def __init__(self, settings: PineconeSettings) -> None:
        self._settings = settings
        self._key = settings.api_key.reveal()
        self._paces: dict[tuple[str, str], Pace] = {}
        self._opening = asyncio.Lock()
        self._client: AsyncPinecone | None = None
        self._index: AsyncIndex | None = None
        self._model: IndexModel | None = None
        self._closed = False

    @property
    def place(self) -> str:
        """Which index, for a message."""
        return self._settings.address()

    # -- as a whole -------------------------------------------------------------------------

    async def model(self) -> IndexModel | None:
        """What the control plane knows of it; None where it is not asked. Raises
        Refused("target-missing") without such an index.
        """
        await self._opened()
        return self._model

    async def stats(self) -> DescribeIndexStatsResponse:
        """Dimension and metric; the counts lag."""
        return await self._ask(lambda index: index.describe_index_stats())

    async def namespaces(self) -> list[str]:
        """Those that are there, sorted; "" is the default one."""
        found: list[str] = []
        token: str | None = None
        while True:

            async def page(index: AsyncIndex, token: str | None = token) -> Any:
                return await index.list_namespaces_paginated(pagination_token=token)

            reply = await self._ask(page)
            found += [each.name for each in reply.namespaces]
            token = None if reply.pagination is None else reply.pagination.next
            if not token:
                return sorted({"" if each == DEFAULT_NAMESPACE else each for each in found})

    async def has(self, namespace: str) -> bool:
        """Whether it is there. The default one always is."""
        if not namespace:
            await self._opened()
            return True

        async def look(index: AsyncIndex) -> bool:
            try:
                await index.describe_namespace(name=namespace)
            except PineconeError as exc:
                if failures.is_absent_namespace(exc):
                    return False
                raise
            return True

        return await self._ask(look)

    async def count(self, namespace: str) -> int:
        """How many records it has, about: the counts lag."""

        async def look(index: AsyncIndex) -> int:
            try:
                found = await index.describe_namespace(name=namespace or DEFAULT_NAMESPACE)
            except PineconeError as exc:
                if failures.is_absent_namespace(exc):
                    return 0
                raise
            return found.record_count

        return await self._ask(look)

    async def make(self, namespace: str) -> None:
        """A namespace without records; one that is there stays as it is."""
        if await self.has(namespace):
            return

        async def create(index: AsyncIndex) -> None:
            await index.create_namespace(name=namespace)

        try:
            await self._ask(create, writes=True)
        except Refused as exc:
            # Somebody else was first.
            if exc.code != "store-refused" or not await self.has(namespace):
                raise

    # -- reads ------------------------------------------------------------------------------

    async def ids(self, namespace: str, prefix: str, token: str | None, limit: int) -> Ids:
        """A page of the ids that begin so, in their order."""

        async def page(index: AsyncIndex) -> ListResponse:
            return await index.list_paginated(
                prefix=prefix or None,
                limit=min(limit, PAGE_IDS),
                pagination_token=token,
                namespace=namespace,
            )

        reply = await self._or_nothing("list", namespace, page, ListResponse())
        following = None if reply.pagination is None else reply.pagination.next
        return Ids([each.id for each in reply.vectors if each.id is not None], following)

    async def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Vector]:
        """The records that there are."""

        async def get(index: AsyncIndex) -> dict[str, Vector]:
            return dict((await index.fetch(ids=list(ids), namespace=namespace)).vectors)

        nothing: dict[str, Vector] = {}
        return await self._or_nothing("fetch", namespace, get, nothing)

    async def query(self, namespace: str, limit: int, **asked: Any) -> QueryResponse:
        """The nearest records, ids and scores alone."""
        return await self._paced(
            "query", namespace, lambda index: index.query(
                top_k=limit, namespace=namespace, **asked
            ),
        )  # fmt: skip

    # -- writes -----------------------------------------------------------------------------

    async def upsert(self, namespace: str, records: Sequence[dict[str, Any]]) -> None:
        """All of them or none."""
        await self._paced(
            "upsert", namespace, lambda index: index.upsert(
                vectors=records, namespace=namespace
            ), writes=True,
        )  # fmt: skip

    async def delete(self, namespace: str, ids: Sequence[str] | None) -> None:
        """These records, or with None every one; the namespace stays."""
        every = ids is None
        await self._or_nothing(
            "delete", namespace, lambda index: index.delete(
                ids=None if ids is None else list(ids), delete_all=every, namespace=namespace
            ), None, writes=True,
        )  # fmt: skip

    async def close(self) -> None:
        """Break off what is under way. Idempotent."""
        self._closed = True
        index, self._index = self._index, None
        client, self._client = self._client, None
        if index is not None:
            await index.close()
        if client is not None:
            await client.close()

    # -- requests ---------------------------------------------------------------------------

    async def _or_nothing(
        self,
        what: str,
        namespace: str,
        call: Callable[[AsyncIndex], Awaitable[T]],
        nothing: T,
        *,
        writes: bool = False,
    ) -> T:
        async def asked(index: AsyncIndex) -> T:
            try:
                return await call(index)
            except PineconeError as exc:
                if failures.is_absent_namespace(exc):
                    return nothing
                raise

        return await self._paced(what, namespace, asked, writes=writes)

    async def _paced(
        self,
        what: str,
        namespace: str,
        call: Callable[[AsyncIndex], Awaitable[T]],
        *,
        writes: bool = False,
    ) -> T:
        if self._settings.plan != "dedicated" or what not in _UNLIMITED:
            key = (what, "" if what in _OF_INDEX else namespace)
            if key not in self._paces:
                self._paces[key] = Pace(_PER_SECOND[what] * _SHARE)
            await self._paces[key].turn()
        return await self._ask(call, writes=writes)

    async def _ask(
        self, call: Callable[[AsyncIndex], Awaitable[T]], *, writes: bool = False
    ) -> T:
        index = await self._opened()
        try:
            return await call(index)
        except PineconeError as exc:
            raise failures.of(exc, self.place, self._key, writes=writes) from exc
        except RuntimeError as exc:
            # What the transport says of a request after it was closed, or while it was.
            if not self._closed:
                raise
            raise failures.lost(f"{self.place}: {exc}", writes=writes) from exc

    async def _opened(self) -> AsyncIndex:
        async with self._opening:
            if self._closed:
                raise Unavailable("store-unavailable", "the connection was closed")
            if self._index is None:
                self._index = await self._connect()
            return self._index

    async def _connect(self) -> AsyncIndex:
        if self._client is None:
            # At INFO it logs every address, and with it ids.
            logging.getLogger("httpx").setLevel(logging.WARNING)
            self._client = AsyncPinecone(
                api_key=self._key,
                host=self._settings.control,
                timeout=float(self._settings.timeout),
                retry_config=RetryConfig(max_retries=0),
                connection_pool_maxsize=_CONNECTIONS,
            )
        host = self._settings.host or await self._host()
        try:
            index = await self._client.index(host=host)
        except PineconeError as exc:
            raise failures.of(exc, self.place, self._key, writes=False) from exc
        config = replace(index._config, retry_config=RetryConfig(max_retries=0))
        index._http = AsyncHTTPClient(config, DATA_PLANE_API_VERSION)
        return index

    async def _host(self) -> str:
        assert self._client is not None, "made before"
        name = self._settings.index
        try:
            self._model = await self._client.indexes.describe(name)
        except PineconeError as exc:
            error = failures.of(exc, self.place, self._key, writes=False)
            if error.code == "source-missing":
                raise Refused("source-missing", f"Pinecone has no index {name!r}") from exc
            raise error from exc
        if not self._model.host:
            raise Unavailable("store-unavailable", f"the index {name!r} is not ready yet")
        return self._model.host


class Ids:
    """A page of a list, and the token of the next one; None behind the last."""

    def __init__(self, ids: list[str], token: str | None) -> None:
        self.ids = ids
        self.token = token or None
