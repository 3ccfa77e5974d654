"""One connection of a client through the proxy, and a request that was caught on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from replicator.testing.proxy.exchange import PREFACE, Frames, Kind, Part, Turns, frame
from replicator.testing.proxy.replies import Reply

_READ_BYTES = 1 << 16
_CANCEL = (8).to_bytes(4, "big")
"""Why a stream of HTTP/2 is given up."""


class Caught:
    """
    A request that the proxy holds, once it came: nothing of it has reached the server. One of
    the methods says what becomes of it.
    """

    def __init__(self, number: int) -> None:
        self.left = number
        """Requests that come before it, and itself."""
        self.seen = asyncio.Event()
        self.answered = asyncio.Event()
        """The server has answered it, or will no more."""
        self.over = asyncio.Event()
        """Nothing more is to become of it."""
        self.delivered = False
        self._held: list[Part] = []
        self._link: Link | None = None
        self._shown = 0

    async def comes(self, task: asyncio.Task[object]) -> bool:
        """Wait until it has come; False when the task ended before."""
        seen = asyncio.create_task(self.seen.wait(), name="caught")
        try:
            await asyncio.wait({seen, task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            seen.cancel()
        return self.seen.is_set()

    async def deliver(self, shown: int = 0) -> None:
        """
        Give it to the server, and wait until that has answered. Of the answer the client gets
        the first `shown` bytes, and then nothing more. It may be called when the client has
        given up: the request lands late then.
        """
        link = self._require()
        self.delivered, self._shown = True, shown
        # A server that hears that nobody waits any more may leave it: here it was quicker.
        link.send([part for part in self._held if not part.resets])
        await self.answered.wait()
        self.over.set()

    def pass_on(self) -> None:
        """Go on as if nothing had been."""
        link = self._require()
        link.caught = None
        link.send(self._held)
        self.over.set()

    def answer(self, reply: Reply) -> None:
        """Answer instead of the server, which hears of no more than that it was begun."""
        self._require().reply(self._held, reply)
        self.answered.set()
        self.over.set()

    def cut(self, sent: int = 0) -> None:
        """Break the connection, on both sides; the server got the first `sent` bytes of it."""
        link = self._require()
        if sent and not self.delivered:
            link.send([Part(b"".join(part.data for part in self._held)[:sent])])
        link.break_off()
        self.over.set()

    def on(self, link: Link) -> None:
        """It came, on this connection."""
        self._link = link
        self.seen.set()

    def hold(self, part: Part) -> None:
        """Keep what came of it."""
        self._held.append(part)

    def show(self, data: bytes) -> bytes:
        """What the client gets of this much more of the answer."""
        shown, self._shown = data[: self._shown], max(0, self._shown - len(data))
        return shown

    def _require(self) -> Link:
        assert self._link is not None, "wait until it has come"
        return self._link


class Link:
    """One connection of a client, and ours to the server for it."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        catching: Callable[[], Caught | None],
    ) -> None:
        """`catching`: told of each request, who catches it."""
        self.caught: Caught | None = None
        self._client_reader, self._client = client
        self._server_reader, self._server = server
        self._catching = catching
        self._exchange: Turns | Frames | None = None
        self._stream = 0
        self._given_up: set[int] = set()
        """Streams that the server does not hear of any more."""

    async def run(self) -> None:
        """Pass on until one side ends. A request that is held outlives its client."""
        requests = asyncio.create_task(self._requests(), name="proxy requests")
        replies = asyncio.create_task(self._replies(), name="proxy replies")
        try:
            await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requests.cancel()
            replies.cancel()
            await asyncio.gather(requests, replies, return_exceptions=True)
            self.break_off()
            if self.caught is not None:
                self.caught.answered.set()
            # However they were closed: what matters is that they are.
            closing = (self._client.wait_closed(), self._server.wait_closed())
            await asyncio.gather(*closing, return_exceptions=True)

    def send(self, parts: list[Part]) -> None:
        """Give the server what was held."""
        with suppress(RuntimeError):  # it hung up meanwhile
            self._server.write(b"".join(part.data for part in parts))

    def reply(self, held: list[Part], reply: Reply) -> None:
        """Answer the client; where requests go one after the other, the connection ends."""
        self._client.write(reply(self._stream))
        if not isinstance(self._exchange, Frames):
            self._client.write_eof()
            return
        # The server must have seen the headers, for those to come refer to them. They are no
        # request without what follows them.
        self._given_up.add(self._stream)
        self.caught = None
        given_up = Part(frame(Kind.RST_STREAM, self._stream, _CANCEL))
        begun = [part for part in held if part.begins and part.stream == self._stream]
        rest = [part for part in held if part.stream != self._stream]
        self.send([*begun, given_up, *rest])

    def break_off(self) -> None:
        """Hang up on both sides; what was sent is sent."""
        self._client.transport.abort()
        self._server.close()

    async def _requests(self) -> None:
        with suppress(ConnectionError):
            while data := await self._client_reader.read(_READ_BYTES):
                if self._exchange is None:
                    self._exchange = Frames() if PREFACE.startswith(data[:3]) else Turns()
                for part in self._exchange.requests(data):
                    await self._request(part)
        if self.caught is not None and not self.caught.over.is_set():
            # Only the client has gone: what is to become of the request is not said yet.
            await self.caught.over.wait()

    async def _request(self, part: Part) -> None:
        if part.stream in self._given_up:
            return
        if part.begins and self.caught is None:
            self.caught, self._stream = self._catching(), part.stream
            if self.caught is not None:
                self.caught.hold(part)
                self.caught.on(self)
                return
        if self.caught is None or self.caught.delivered:
            if not (self.caught is not None and part.resets):
                self._server.write(part.data)
                await self._server.drain()
        else:
            self.caught.hold(part)

    async def _replies(self) -> None:
        with suppress(ConnectionError):
            while data := await self._server_reader.read(_READ_BYTES):
                if self._exchange is None:
                    self._client.write(data)  # a server that speaks first
                    continue
                for part in self._exchange.replies(data):
                    self._replied(part)

    def _replied(self, part: Part) -> None:
        caught = self.caught
        if part.stream in self._given_up:
            return
        if caught is None or not caught.delivered:
            self._client.write(part.data)
        elif part.replies or part.ends:
            self._client.write(caught.show(part.data))
            if part.ends:
                caught.answered.set()
