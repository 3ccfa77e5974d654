"""One connection to a Qdrant server, and calls over it."""

from __future__ import annotations

import asyncio
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from replicator.connectors.qdrant import failures
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Refused, Rejected, Unavailable
from replicator.settings.credentials import without, without_credentials

DEFAULT_PORT = 6334

GRACE_S = 5.0
"""How much longer than the server's own deadline the client waits, so that the server's answer,
which says more, comes first. Without it every slow write would have an unknown outcome."""

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    # A failure to connect must mean that nothing was sent by an earlier, hidden attempt.
    ("grpc.enable_retries", 0),
    # Two connectors of one process, to one server, with different keys, do not share.
    ("grpc.use_local_subchannel_pool", 1),
    # Who calls waits longer and longer by itself. grpc's own waiting, up to two minutes, would
    # call a server away that has long been back; much less would be a load on one that is not.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Channel:
    """Makes calls with the server's deadline, the API key and a translated failure."""

    def __init__(self, settings: QdrantSettings) -> None:
        self.address, self._tls = _endpoint(settings.url)
        self._timeout_s = float(settings.timeout)
        self._ca_file = settings.ca_file
        self._server_timeout_s: int | None = None
        self._metadata = (
            (("api-key", settings.api_key.reveal()),) if settings.api_key.reveal() else ()
        )
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[tuple[str, str], Any] = {}
        self._closed = False

    @property
    def timeout_s(self) -> int:
        """The server's deadline for one request; its messages count whole seconds."""
        ours = max(1, ceil(self._timeout_s))
        return ours if self._server_timeout_s is None else min(ours, self._server_timeout_s)

    async def read(self, service: str, method: str, request: Message) -> Message:
        """Call, and translate a failure as that of a read."""
        try:
            return await self.call(service, method, request)
        except grpc.aio.AioRpcError as exc:
            raise failures.of_read(exc, self.address) from exc

    async def write(self, service: str, method: str, request: Message) -> Message:
        """Call, and translate a failure as that of a write."""
        try:
            return await self.call(service, method, request)
        except grpc.aio.AioRpcError as exc:
            raise failures.of_write(exc, self.address) from exc

    async def change(
        self, method: str, request: Message, service: str = "Collections"
    ) -> Message:
        """Call a change of a collection as a whole: no record is to blame for a refusal."""
        try:
            return await self.write(service, method, request)
        except Rejected as exc:
            raise Refused("target-incompatible", f"Qdrant: {exc.message}") from exc

    async def call(self, service: str, method: str, request: Message) -> Message:
        """
        Call, and leave a failure as grpc's own error, for those who look into it. A server that
        allows no deadline as long as ours is given its own longest one.
        """
        try:
            return await self._call(service, method, request)
        except grpc.aio.AioRpcError as exc:
            limit = failures.named_limit(exc.details())
            if limit is None or limit.name != "timeout" or not 0 < limit.most < self.timeout_s:
                raise
            # Refused before anything was done, so it may be asked again at once.
            self._server_timeout_s = limit.most
            request.timeout = self.timeout_s
            return await self._call(service, method, request)

    async def _call(self, service: str, method: str, request: Message) -> Message:
        call = self._callable(service, method)(
            request, timeout=self._timeout_s + GRACE_S, metadata=self._metadata
        )
        try:
            return await call
        except grpc.aio.AioRpcError as exc:
            raise self._discreet(exc) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            # Closing the channel cancels its calls, but nobody cancelled this task: for the
            # caller it is a connection that broke.
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.CANCELLED,
                grpc.aio.Metadata(),
                grpc.aio.Metadata(),
                "the connection was closed during the call",
            ) from None

    def _discreet(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """The error without the key, which a server may repeat that does not know it."""
        details = error.details() or ""
        shown = without(details, [key for _, key in self._metadata])
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

    def _callable(self, service: str, method: str) -> Any:
        found = self._calls.get((service, method))
        if found is None:
            if self._closed:
                raise Unavailable("store-unavailable", "the connection was closed")
            request, reply = wire().methods(service)[method]
            found = self._open().unary_unary(
                f"/qdrant.{service}/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString,
            )
            self._calls[service, method] = found
        return found

    def _open(self) -> grpc.aio.Channel:
        # Opened late, because grpc binds a channel to the loop that runs when it is made.
        if self._channel is None:
            # The server bounds nothing. grpc's own 4 MiB for replies would split every other
            # page; no bound at all would let one page of large points take all memory.
            options = (*_OPTIONS, ("grpc.max_receive_message_length", failures.LARGEST_REPLY))
            self._channel = (
                grpc.aio.secure_channel(
                    self.address,
                    grpc.ssl_channel_credentials(_certificates(self._ca_file)),
                    options=options,
                )
                if self._tls
                else grpc.aio.insecure_channel(self.address, options=options)
            )
        return self._channel


def _certificates(ca_file: str) -> bytes | None:
    if not ca_file:
        return None
    try:
        found = Path(ca_file).read_bytes()
    except (OSError, ValueError) as exc:
        raise Refused("config-invalid", f"ca_file: {ca_file} cannot be read: {exc}") from exc
    if b"-----BEGIN CERTIFICATE-----" not in found:
        # grpc takes anything, and then fails each connection without saying why.
        raise Refused("config-invalid", f"ca_file: {ca_file} holds no certificate in PEM")
    return found


def _endpoint(url: str) -> tuple[str, bool]:
    """Address and whether to use TLS, of `http://host:port`, `https://…` or `host:port`."""
    shown = without_credentials(url)
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError as exc:
        raise Refused("config-invalid", f"the url {shown!r} is malformed: {exc}") from exc
    if not host or parts.scheme not in ("", "http", "https", "grpc", "grpcs"):
        raise Refused("config-invalid", f"the url {shown!r} names no http or https address")
    if parts.path.strip("/"):
        raise Refused(
            "config-invalid", f"the url {shown!r} has a path, which gRPC does not use"
        )
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}", parts.scheme in ("https", "grpcs")
