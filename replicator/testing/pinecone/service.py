"""
The service over HTTP: the control plane on one port, and each index on one of its own.

    async with PineconeService() as service:
        await service.create("articles", dimension=8)
        client = AsyncPinecone(api_key=service.api_key, host=service.url)
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import msgspec
from aiohttp import web

from replicator.testing.pinecone.faults import Faults, Loss
from replicator.testing.pinecone.index import Index
from replicator.testing.pinecone.limits import Limits, Rates
from replicator.testing.pinecone.records import Refusal, bad
from replicator.testing.pinecone.vectors import Asked, Operation, Reply, Vectors

_LOOPBACK = "127.0.0.1"
_HTTP_BYTES = 64 << 20
"""More than any request may have: what is too large is refused in the service's own words."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PineconeService:
    """One project. To be entered and left; its indexes go with it."""

    def __init__(
        self,
        *,
        api_key: str = "pinecone-key",
        staleness_s: float = 0.0,
        limits: Limits | None = None,
        rates: Rates | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rates`: by default none is enforced, so that a test of something else need not
        wait.
        """
        self.api_key = api_key
        self.url = ""
        """Of the control plane."""
        self.indexes: dict[str, Index] = {}
        self.hosts: dict[str, str] = {}
        """Of each index, as the control plane says it."""
        self.faults = Faults(rates or Rates(), clock)
        self._staleness_s = staleness_s
        self._limits = limits or Limits()
        self._clock = clock
        self._runners: list[web.AppRunner] = []

    async def __aenter__(self) -> Self:
        self.url = await self._listen(
            {
                ("GET", "/indexes"): ("control", self._list),
                ("GET", "/indexes/{name}"): ("control", self._describe),
            }
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for runner in reversed(self._runners):
            await runner.cleanup()

    async def create(
        self, name: str, *, dimension: int | None, metric: str = "cosine"
    ) -> Index:
        """An index, ready. `dimension` None: of sparse vectors alone."""
        index = Index(
            name,
            dimension=dimension,
            metric=metric,
            clock=self._clock,
            staleness_s=self._staleness_s,
        )
        routes = Vectors(index, self._limits, self.faults).routes()
        self.hosts[name] = await self._listen(routes)
        self.indexes[name] = index
        return index

    # -- the control plane ------------------------------------------------------------------

    def _list(self, _: Asked) -> Reply:
        return Reply({"indexes": [self._described(each) for each in self.indexes.values()]})

    def _describe(self, asked: Asked) -> Reply:
        index = self.indexes.get(asked.path["name"])
        if index is None:
            raise Refusal(404, 5, f"Resource {asked.path['name']} not found")
        return Reply(self._described(index))

    def _described(self, index: Index) -> dict[str, Any]:
        """As the API of 2026-07 has it: the vectors of an index that was made by dimension and
        metric are fields of reserved names.
        """
        dense = {"type": "dense_vector", "dimension": index.dimension, "metric": index.metric}
        sparse = {"type": "sparse_vector"}
        fields = {"_values": dense} if index.dimension else {"_sparse_values": sparse}
        return {
            "name": index.name,
            "status": {"ready": True, "state": "Ready"},
            "schema": {"fields": fields},
            "deployment": {
                "deployment_type": "managed",
                "cloud": "aws",
                "region": "us-east-1",
            },
            "deletion_protection": "disabled",
            "host": self.hosts[index.name],
        }

    # -- HTTP -------------------------------------------------------------------------------

    async def _listen(self, routes: dict[tuple[str, str], tuple[str, Operation]]) -> str:
        app = web.Application(client_max_size=_HTTP_BYTES)
        for (method, path), (name, operation) in routes.items():
            app.router.add_route(method, path, self._handler(name, operation))
        runner = web.AppRunner(app, access_log=None, max_line_size=_HTTP_BYTES)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, _LOOPBACK, 0).start()
        return f"http://{_LOOPBACK}:{runner.addresses[0][1]}"

    def _handler(self, name: str, operation: Operation) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Api-Key") != self.api_key:
                return web.Response(status=401, text="Invalid API Key")
            try:
                asked = await self._asked(request)
                lost = self.faults.next(name)
                reply = None if lost is Loss.BEFORE else operation(asked)
            except Refusal as refusal:
                return _refused(refusal)
            if lost is not None or reply is None:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            return web.Response(
                body=msgspec.json.encode(reply.body),
                content_type="application/json",
                headers=reply.headers,
            )

        return handle

    async def _asked(self, request: web.Request) -> Asked:
        if len(request.raw_path) > self._limits.url_bytes:
            raise Refusal(414, 3, "Request-URI Too Large")
        body = await request.read()
        try:
            given = msgspec.json.decode(body) if body else {}
        except msgspec.DecodeError as error:
            raise bad(f"Invalid JSON: {error}") from error
        if not isinstance(given, dict):
            raise bad("The body must be an object")
        query = {key: request.query.getall(key) for key in request.query}
        return Asked(query, request.match_info, given, len(body))


def _refused(refusal: Refusal) -> web.Response:
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = f"{refusal.retry_after_s:g}"
    return web.Response(
        status=refusal.status,
        body=msgspec.json.encode(
            {"code": refusal.code, "message": refusal.message, "details": []}
        ),
        content_type="application/json",
        headers=headers,
    )
