"""The proxy itself: listens, and knows its connections."""

from __future__ import annotations

import asyncio
from types import TracebackType

from replicator.testing.proxy.link import Caught, Link

_HOST = "127.0.0.1"


class Proxy:
    """`async with Proxy(server) as proxy:` answers at `proxy.address`, both `host:port`."""

    def __init__(self, server: str) -> None:
        self._host, _, self._port = server.rpartition(":")
        self._listener: asyncio.Server | None = None
        self._own_port = 0
        self._catching: list[Caught] = []
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self.requests = 0
        """How many have come."""

    @property
    def address(self) -> str:
        """`host:port`, the same for as long as it lives."""
        return f"{_HOST}:{self._own_port}"

    def catch(self, number: int = 1) -> Caught:
        """Hold a request: the next one, or the second from now on, and so forth."""
        caught = Caught(number)
        self._catching.append(caught)
        return caught

    def spare(self) -> None:
        """Catch nothing that has not come yet."""
        self._catching.clear()

    async def refuse(self) -> None:
        """Be away: break every connection, and let nobody connect."""
        assert self._listener is not None, "it refuses already"
        listener, self._listener = self._listener, None
        listener.close()
        for link in self._links:
            link.break_off()
        await self.idle()

    async def accept(self) -> None:
        """Be there again, at the same address."""
        assert self._listener is None, "it accepts already"
        self._listener = await asyncio.start_server(self._connected, _HOST, self._own_port)

    async def idle(self) -> None:
        """Wait until there is no connection."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._links)

    async def __aenter__(self) -> Proxy:
        await self.accept()
        assert self._listener is not None
        self._own_port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="proxy connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection(self._host, int(self._port))
        except OSError:
            writer.transport.abort()
            return
        link = Link((reader, writer), server, self._caught)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            async with self._changed:
                self._changed.notify_all()

    def _caught(self) -> Caught | None:
        self.requests += 1
        for caught in self._catching:
            caught.left -= 1
            if caught.left == 0:
                self._catching.remove(caught)
                return caught
        return None
