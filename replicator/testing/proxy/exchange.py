"""
Where requests and replies begin and end in the bytes of a connection.

Client and server take turns in most protocols: what a client sends first, or after the server
has said something, begins a request, and whatever the server says then is the reply. HTTP/2 is
another matter, for both sides speak whenever they like: settings, pings, windows. There a
request begins with HEADERS of the client, and a reply ends with a frame of the server that ends
its stream. A connection is HTTP/2 when its first bytes say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import msgspec

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 says first."""

_HEADER_BYTES = 9
_ENDS_STREAM = 0x1


class Kind(IntEnum):
    """Types of HTTP/2's frames that matter here (RFC 9113, 6)."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3


class Part(msgspec.Struct, frozen=True):
    """Some bytes of one side."""

    data: bytes
    begins: bool = False
    """Of a client: a request begins here."""
    replies: bool = False
    """Of a server: it belongs to a reply, and is nothing about the connection."""
    ends: bool = False
    """Of a server: a reply is at its end, as far as that can be told."""
    resets: bool = False
    """Of a client: a request is given up."""
    stream: int = 0
    """Which of HTTP/2's streams it belongs to."""


class Turns:
    """Two sides that take turns."""

    def __init__(self) -> None:
        self._clients = False

    def requests(self, data: bytes) -> Iterator[Part]:
        """What a client said."""
        begins, self._clients = not self._clients, True
        yield Part(data, begins=begins)

    def replies(self, data: bytes) -> Iterator[Part]:
        """What the server said."""
        self._clients = False
        yield Part(data, replies=True, ends=True)


class Frames:
    """Two sides that speak HTTP/2."""

    def __init__(self) -> None:
        self._of_client = b""
        self._of_server = b""
        self._greeted = False

    def requests(self, data: bytes) -> Iterator[Part]:
        """What a client said, a frame at a time."""
        self._of_client += data
        if not self._greeted:
            if len(self._of_client) < len(PREFACE):
                return
            self._greeted = True
            self._of_client = self._of_client[len(PREFACE) :]
            yield Part(PREFACE)
        frames, self._of_client = _cut(self._of_client)
        for frame in frames:
            yield Part(
                frame,
                begins=frame[3] == Kind.HEADERS,
                resets=frame[3] == Kind.RST_STREAM,
                stream=_stream(frame),
            )

    def replies(self, data: bytes) -> Iterator[Part]:
        """What the server said, a frame at a time."""
        frames, self._of_server = _cut(self._of_server + data)
        for frame in frames:
            kind, flags = frame[3], frame[4]
            replies = kind in (Kind.DATA, Kind.HEADERS)
            ends = kind == Kind.RST_STREAM or (replies and bool(flags & _ENDS_STREAM))
            yield Part(frame, replies=replies, ends=ends, stream=_stream(frame))


def frame(kind: Kind, stream: int, content: bytes, flags: int = 0) -> bytes:
    """One frame of HTTP/2."""
    head = len(content).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + content


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole frames at the beginning, and what is left."""
    frames: list[bytes] = []
    while len(data) >= _HEADER_BYTES:
        size = _HEADER_BYTES + int.from_bytes(data[:3], "big")
        if len(data) < size:
            break
        frames.append(data[:size])
        data = data[size:]
    return frames, data


def _stream(frame: bytes) -> int:
    return int.from_bytes(frame[5:9], "big") & 0x7FFFFFFF
