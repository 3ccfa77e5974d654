"""
A proxy in front of a server, which goes wrong when a test says so.

It works on bytes and connections, so it stands in front of whatever speaks TCP without TLS:
HTTP, gRPC, the protocol of PostgreSQL. A test catches a request on its way and says what
becomes of it; nothing here happens by the clock:

    async with Proxy("127.0.0.1:6334") as proxy:
        store = open_store(proxy.address)
        caught = proxy.catch(2)               # the second request from now on
        writing = asyncio.create_task(store.apply(batch), name="write")
        await caught.seen.wait()              # it is held; nothing of it has reached the server
        await caught.deliver()                # the server has answered, and nobody heard it
        caught.cut()                          # the connection breaks

`proxy` listens; `link` is one connection, and what is caught on it; `exchange` finds where
requests and replies begin in the bytes; `replies` makes answers that the server did not give.
"""

from __future__ import annotations

from replicator.testing.proxy.link import Caught
from replicator.testing.proxy.proxy import Proxy
from replicator.testing.proxy.replies import Reply, grpc_reply, http_reply

__all__ = ["Caught", "Proxy", "Reply", "grpc_reply", "http_reply"]
