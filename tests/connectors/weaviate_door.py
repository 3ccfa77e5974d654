"""
One address for both of Weaviate's: whoever greets as HTTP/2 does is led to gRPC, anybody else
to REST. So a proxy in front of it meets every request of a connector, whichever way it goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from replicator.testing.proxy.exchange import PREFACE
from tests.plugins.weaviate import WeaviatePlace

_READ_BYTES = 1 << 16


@asynccontextmanager
async def door(place: WeaviatePlace) -> AsyncIterator[str]:
    """The one address, as long as it lasts."""
    guests: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        guests[task] = writer
        try:
            await _lead(place, reader, writer)
        finally:
            del guests[task]

    server = await asyncio.start_server(enter, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        left = dict(guests)
        for writer in left.values():
            writer.transport.abort()
        await asyncio.gather(*left, return_exceptions=True)


async def _lead(
    place: WeaviatePlace, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writers = [writer]
    with suppress(OSError):  # one of the two hung up
        first = await reader.read(_READ_BYTES)
        is_grpc = bool(first) and PREFACE.startswith(first[:3])
        host, _, port = (place.grpc if is_grpc else place.rest).partition(":")
        to, back = await asyncio.open_connection(host, int(port))
        writers.append(back)
        back.write(first)
        ways = [
            asyncio.create_task(_carry(reader, back), name="to weaviate"),
            asyncio.create_task(_carry(to, writer), name="from weaviate"),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    for each in writers:
        each.close()
    await asyncio.gather(*(each.wait_closed() for each in writers), return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
