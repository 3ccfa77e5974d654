"""Calls over gRPC: what there is for many objects at once."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from replicator.connectors.weaviate import failures
from replicator.connectors.weaviate.kind import GRPC_PORT, WeaviateSettings
from replicator.connectors.weaviate.messages import METHODS, SERVICE, Message, wire
from replicator.errors import Unavailable
from replicator.settings.credentials import without

LARGEST_REPLY = 64 << 20
"""Bytes of a reply that are taken in; a larger one is refused before it is read, and asked for
in parts. Half of it splits pages of large points more often; twice it may hold twice the
memory for each read under way."""

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", LARGEST_REPLY),
    # A failure to connect must mean that nothing was sent by an earlier, hidden attempt.
    ("grpc.enable_retries", 0),
    # Two connectors of one process, to one server, with different keys, do not share.
    ("grpc.use_local_subchannel_pool", 1),
    # Who calls waits longer and longer by itself; grpc's own waiting would add to it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Channel:
    """Makes calls with a deadline and the API key. Opened by the first, in the running loop."""

    def __init__(self, settings: WeaviateSettings) -> None:
        self.address, self._tls = _endpoint(settings)
        self._timeout_s = float(settings.timeout)
        key = settings.api_key.reveal()
        self._told = [key]
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._closed = False

    async def read(self, method: str, request: Message) -> Message:
        """Call. Raises what `failures` makes of a failed read."""
        return await self._call(method, request, writes=False)

    async def write(self, method: str, request: Message) -> Message:
        """Call. Raises what `failures` makes of a failed write."""
        return await self._call(method, request, writes=True)

    async def _call(self, method: str, request: Message, *, writes: bool) -> Message:
        who = f"Weaviate at {self.address}"
        call = self._callable(method)(request, timeout=self._timeout_s, metadata=self._metadata)
        try:
            return await call
        except grpc.aio.AioRpcError as exc:
            raise failures.of_call(self._discreet(exc), who, writes=writes) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            # Closing the channel cancels its calls, but nobody cancelled this task.
            raise failures.lost(f"{who}: the connection was closed", writes=writes) from None

    def _discreet(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """The error without the key, which a server may repeat that does not know it."""
        details = error.details() or ""
        shown = without(details, self._told)
        if shown == details:
            return error
        return grpc.aio.AioRpcError(
            error.code(), error.initial_metadata(), error.trailing_metadata(), shown
        )

    async def close(self) -> None:
        """Break off what is under way and disconnect. Idempotent."""
        self._closed = True
        channel, self._channel = self._channel, None
        self._calls.clear()
        if channel is not None:
            await channel.close()

    def _callable(self, method: str) -> Any:
        found = self._calls.get(method)
        if found is None:
            if self._closed:
                raise Unavailable("store-unavailable", "the connection was closed")
            request, reply = (getattr(wire(), name) for name in METHODS[method])
            found = self._calls[method] = self._open().unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString,
            )
        return found

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = (
                grpc.aio.secure_channel(
                    self.address, grpc.ssl_channel_credentials(), options=_OPTIONS
                )
                if self._tls
                else grpc.aio.insecure_channel(self.address, options=_OPTIONS)
            )
        return self._channel


def _endpoint(settings: WeaviateSettings) -> tuple[str, bool]:
    """Address, and whether to use TLS."""
    parts = urlsplit(settings.grpc_url or settings.url)
    secure = parts.scheme in ("https", "grpcs")
    port = parts.port or (443 if secure else GRPC_PORT)
    if not settings.grpc_url:
        port = GRPC_PORT
    host = parts.hostname or "localhost"
    return f"{f'[{host}]' if ':' in host else host}:{port}", secure
