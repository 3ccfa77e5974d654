"""The server: starts, answers, flushes now and then, and stops without losing anything."""

from __future__ import annotations

import asyncio
import fcntl
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO

import grpc
import grpc.aio

from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Refused
from replicator.local_store.answers import Method, behaviour, not_here
from replicator.local_store.collections import Collections
from replicator.local_store.points import Points

API_VERSION = "1.18.0"
"""The Qdrant release whose behaviour is followed, as the health check gives it."""

FLUSH_INTERVAL_S = 5.0
"""How often writes are forced to disk, as on a server. They survive the death of the process
without it, and only the loss of power at most this long."""

READERS = 2
"""Threads for reads. More would only queue for the interpreter's lock."""

STOP_GRACE_S = 10.0
"""How long calls under way may take to end when the server stops."""

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Without it two servers share a port, and each gets some of the calls.
    ("grpc.so_reuseport", 0),
)


class LocalStoreServer:
    """
    `async with LocalStoreServer(path) as server:` answers at `server.url` until the block ends.

    `listen` is `host:port`; port 0 takes a free one. `interceptors` may delay or refuse calls,
    in tests. One server at a time per path: a second one raises Refused.
    """

    def __init__(
        self,
        path: str | Path,
        listen: str = "127.0.0.1:0",
        *,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        self._path = Path(path)
        self._listen = listen
        self._interceptors = interceptors
        self._address = ""
        self._lock: IO[bytes] | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._server: grpc.aio.Server | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._collections: Collections | None = None
        self._points: Points | None = None

    @property
    def address(self) -> str:
        """`host:port` as bound."""
        return self._address

    @property
    def url(self) -> str:
        """What a client is given."""
        return f"http://{self._address}"

    async def start(self) -> str:
        """Open what is stored, begin to answer, and return the address."""
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self._address

    async def _start(self) -> None:
        self._lock = await asyncio.to_thread(_lock, self._path)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._collections = collections = Collections(self._path, self._readers)
        await collections.open()
        self._points = points = Points(collections)
        server = grpc.aio.server(options=_OPTIONS, interceptors=tuple(self._interceptors))
        server.add_generic_rpc_handlers(
            (
                _service("Qdrant", {"HealthCheck": _health}),
                _service("Collections", _collection_methods(collections)),
                _service("Points", points.methods()),
                _service("Snapshots", {}),
            )
        )
        host = self._listen.rpartition(":")[0]
        try:
            port = server.add_insecure_port(self._listen)
        except RuntimeError as exc:
            raise Refused("config-invalid", f"cannot listen at {self._listen}: {exc}") from exc
        await server.start()
        self._server = server
        self._address = f"{host}:{port}"
        self._flushing = asyncio.create_task(self._flush_often(), name="local store flush")

    async def stop(self) -> None:
        """Let calls under way end, flush and close. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(STOP_GRACE_S)
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
        await self._close()

    async def __aenter__(self) -> LocalStoreServer:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _close(self) -> None:
        if self._points is not None:
            await self._points.drain()
        if self._collections is not None:
            await self._collections.close()
        if self._readers is not None:
            self._readers.shutdown(wait=False)
        if self._lock is not None:
            self._lock.close()
        self._points = self._collections = self._readers = self._lock = None

    async def _flush_often(self) -> None:
        assert self._collections is not None
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self._collections.flush()


async def serve(path: str | Path, listen: str, ready: Callable[[str], None]) -> None:
    """
    Serve until SIGTERM or SIGINT, then stop without losing anything. `ready` is called with the
    bound address.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with LocalStoreServer(path, listen) as server:
            ready(server.address)
            await stopping.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _lock(path: Path) -> IO[bytes]:
    path.mkdir(parents=True, exist_ok=True)
    file = (path / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        raise Refused("state-locked", f"another server has {path} open") from exc
    return file


def _collection_methods(collections: Collections) -> dict[str, Method]:
    return {
        "Create": collections.create,
        "Update": collections.update,
        "Delete": collections.delete,
        "Get": collections.get,
        "List": collections.list,
        "CreateShardKey": collections.create_key,
        "DeleteShardKey": collections.delete_key,
        "ListShardKeys": collections.list_keys,
        "CollectionExists": collections.exists,
        "UpdateAliases": collections.update_aliases,
        "ListAliases": collections.list_aliases,
        "ListCollectionAliases": collections.list_aliases,
    }


def _service(name: str, methods: dict[str, Method]) -> grpc.GenericRpcHandler:
    handlers = {}
    for method, (request, reply) in wire().methods(name).items():
        answer = behaviour(methods[method]) if method in methods else not_here
        handlers[method] = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=reply.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(f"qdrant.{name}", handlers)


async def _health(_: Message) -> Message:
    return wire().HealthCheckReply(
        title=f"replicator local store over qdrant-edge {version('qdrant-edge-py')}",
        version=API_VERSION,
    )
