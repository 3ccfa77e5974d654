"""
One connection to a Milvus server, and calls over it: each request once.

The vendor's client repeats by itself whatever ends in an error of gRPC, lost replies of writes
included, until its timeout, and there is no way to tell it not to. So it is not used: a receipt
here means one thing.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from replicator.connectors.milvus import failures
from replicator.connectors.milvus.failures import Answer
from replicator.connectors.milvus.kind import MilvusSettings, port_of
from replicator.connectors.milvus.wire import SERVICE, Message, wire
from replicator.errors import Refused, Rejected, ReplicatorError, Unavailable
from replicator.settings.credentials import without

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    # A failure to connect must mean that nothing was sent by an earlier, hidden attempt.
    ("grpc.enable_retries", 0),
    # Two connectors of one process, to one server, with different tokens, do not share.
    ("grpc.use_local_subchannel_pool", 1),
    # Who calls waits longer and longer by itself; grpc's own waiting would call a server away
    # that has long been back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", failures.LARGEST_REPLY),
)


class Channel:
    """Makes calls with a deadline and the token, and translates what goes wrong."""

    def __init__(self, settings: MilvusSettings) -> None:
        parts = urlsplit(settings.uri)
        host = parts.hostname or ""
        name = f"[{host}]" if ":" in host else host
        self.address = f"{name}:{port_of(settings.uri)}"
        self.database = settings.database
        self.timeout_s = float(settings.timeout)
        self._tls = parts.scheme == "https"
        self._ca_file = settings.ca_file
        token = settings.token.reveal()
        self._told = [token, token.partition(":")[2], _encoded(token)] if token else []
        self._metadata: tuple[tuple[str, str], ...] = (("dbname", settings.database),)
        if token:
            self._metadata += (("authorization", _encoded(token)),)
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._closed = False

    async def read(self, method: str, request: Message) -> Message:
        """Ask, and translate whatever goes wrong as that of a read."""
        return await self._translated(method, request, writes=False)

    async def write(self, method: str, request: Message) -> Message:
        """Ask, and translate whatever goes wrong as that of a write."""
        return await self._translated(method, request, writes=True)

    async def change(self, method: str, request: Message) -> Message:
        """Change a collection as a whole: no record is to blame for a refusal."""
        try:
            return await self.write(method, request)
        except Rejected as exc:
            raise Refused("target-incompatible", exc.message) from exc

    async def ask(self, method: str, request: Message, *, writes: bool = False) -> Message:
        """
        Ask, and leave the server's own refusal as an Answer, for those who look into it; what
        else goes wrong is translated.
        """
        call = self._callable(method)
        try:
            reply = await call(request, timeout=self.timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as exc:
            details = without(exc.details() or "", self._told)
            raise failures.of_transport(exc, self.address, details, writes=writes) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            # Closing the channel cancels its calls, but nobody cancelled this task: for the
            # caller it is a connection that broke.
            raise self._broken(writes=writes) from None
        # What only changes something is answered by a status and nothing else.
        status = reply if reply.DESCRIPTOR.name == "Status" else reply.status
        if failures.is_refusal(status):
            status.reason = without(status.reason, self._told)
            status.detail = without(status.detail, self._told)
            raise Answer(status)
        return reply

    def translated(self, answer: Answer, *, writes: bool) -> ReplicatorError:
        """What the server's refusal means."""
        return failures.of_answer(answer, self.address, writes=writes)

    async def close(self) -> None:
        """Break off what is under way and disconnect. Idempotent."""
        self._closed = True
        channel, self._channel = self._channel, None
        self._calls.clear()
        if channel is not None:
            await channel.close()

    async def _translated(self, method: str, request: Message, *, writes: bool) -> Message:
        try:
            return await self.ask(method, request, writes=writes)
        except Answer as exc:
            raise self.translated(exc, writes=writes) from exc

    def _broken(self, *, writes: bool) -> ReplicatorError:
        empty = grpc.aio.Metadata()
        said = "the connection was closed during the call"
        error = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, empty, empty, said)
        return failures.of_transport(error, self.address, said, writes=writes)

    def _callable(self, method: str) -> Any:
        found = self._calls.get(method)
        if found is None:
            if self._closed:
                raise Unavailable("store-unavailable", "the connection was closed")
            request, reply = wire().methods()[method]
            found = self._open().unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString,
            )
            self._calls[method] = found
        return found

    def _open(self) -> grpc.aio.Channel:
        # Opened late, because grpc binds a channel to the loop that runs when it is made.
        if self._channel is None:
            if self._tls:
                credentials = grpc.ssl_channel_credentials(_certificates(self._ca_file))
                self._channel = grpc.aio.secure_channel(
                    self.address, credentials, options=_OPTIONS
                )
            else:
                self._channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        return self._channel


def _encoded(token: str) -> str:
    return base64.b64encode(token.encode()).decode()


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
