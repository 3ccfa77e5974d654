"""
Answers that a server did not give: of HTTP/1.1, and of gRPC.

A gRPC status without a message is one HEADERS frame of HTTP/2 that ends its stream. Its fields
are written as literals that no table remembers (RFC 7541, 6.2.2), so that the tables of client
and server stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from replicator.testing.proxy.exchange import Kind, frame

Reply = Callable[[int], bytes]
"""The bytes of an answer, of the HTTP/2 stream that was asked on (0 in other protocols)."""

_STATUS_200 = b"\x88"
_ENDS_STREAM_AND_HEADERS = 0x1 | 0x4


def http_reply(status: int, body: str = "", **headers: str) -> Reply:
    """An answer of HTTP/1.1; of the names of headers, `_` becomes `-`."""
    content = body.encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields |= {"Content-Length": str(len(content)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return lambda _: f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + content


def grpc_reply(status: int, message: str, **trailers: str) -> Reply:
    """A status of gRPC (5 is NOT_FOUND); of the names of trailers, `_` becomes `-`."""
    fields = {"content-type": "application/grpc", "grpc-status": str(status)}
    fields |= {"grpc-message": message.replace("%", "%25")}
    fields |= {name.replace("_", "-"): value for name, value in trailers.items()}
    block = _STATUS_200 + b"".join(
        b"\x00" + _text(name) + _text(value) for name, value in fields.items()
    )

    return lambda stream: frame(Kind.HEADERS, stream, block, _ENDS_STREAM_AND_HEADERS)


def _text(text: str) -> bytes:
    data = text.encode("ascii")
    assert len(data) < 127, "a longer one is written otherwise"
    return bytes([len(data)]) + data
