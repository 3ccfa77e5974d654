"""
The collections of a database, as they are kept; looked at once, and again where that is asked.

To look takes three requests, which would cost more than a page of small rows. What was seen is
let go of when the server says that there is no such collection, or another one. A collection
that cannot be read because it is not loaded is loaded: Milvus keeps loaded ones loaded over
its restarts, milvus-lite does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from replicator.connectors.milvus.channel import Channel
from replicator.connectors.milvus.failures import NO_INDEX, Answer
from replicator.connectors.milvus.kind import MilvusOptions
from replicator.connectors.milvus.layout import Layout, layout_of
from replicator.connectors.milvus.wire import Message, wire
from replicator.errors import Refused, ReplicatorError, Unavailable

_DEFAULTS = MilvusOptions()
_LOADED = 3
_LOOK_S = 0.1
"""Between two looks whether a collection is loaded. An empty one is at once; of a large one it
takes minutes, in which ten questions a second are no load."""

_MISSING = ("source-missing", "target-missing")


class Layouts:
    """Those of one database, with the options of each."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._known: dict[str, Layout] = {}
        self.options: dict[str, MilvusOptions] = {}

    def choose(self, name: str, options: MilvusOptions) -> None:
        """How a collection is kept."""
        self.options[name] = options
        self._known.pop(name, None)

    async def find(self, name: str, *, fresh: bool = False) -> Layout | None:
        """
        The collection; None where there is none. Raises Refused("unsupported") for one that
        cannot be read as points.
        """
        if not fresh and name in self._known:
            return self._known[name]
        self._known.pop(name, None)
        try:
            described = await self._channel.ask("DescribeCollection", self._named(
                wire().DescribeCollectionRequest(), name
            ))  # fmt: skip
            partitions = await self._channel.ask("ShowPartitions", self._named(
                wire().ShowPartitionsRequest(), name
            ))  # fmt: skip
            indexes = await self._indexes(name)
        except Answer as exc:
            if exc.is_absent:
                return None
            raise self._channel.translated(exc, writes=False) from exc
        layout = layout_of(
            name,
            described,
            list(partitions.partition_names),
            indexes,
            self.options.get(name, _DEFAULTS),
        )
        self._known[name] = layout
        return layout

    async def source(self, name: str, *, fresh: bool = False) -> Layout:
        """The same of one that is read. Raises Refused("source-missing")."""
        layout = await self.find(name, fresh=fresh)
        if layout is None:
            raise Refused("source-missing", f"Milvus has no collection {name!r}")
        return layout

    async def target(self, name: str, *, fresh: bool = False) -> Layout:
        """The same of one that is written. Raises Refused("target-missing")."""
        layout = await self.find(name, fresh=fresh)
        if layout is None:
            raise Refused("target-missing", f"Milvus has no collection {name!r}")
        return layout

    async def read(self, name: str, method: str, request: Message) -> Message:
        """Ask something of a collection, which is loaded for it where it is not."""
        try:
            try:
                return await self._channel.ask(method, self._named(request, name))
            except Answer as exc:
                if not exc.is_not_loaded:
                    raise
            await self.load(name)
            return await self._channel.ask(method, request)
        except Answer as exc:
            raise self._told(name, self._channel.translated(exc, writes=False)) from exc

    async def write(self, name: str, method: str, request: Message) -> Message:
        """Change points of a collection."""
        try:
            return await self._channel.write(method, self._named(request, name))
        except ReplicatorError as exc:
            raise self._told(name, exc) from exc.__cause__

    async def load(self, name: str) -> None:
        """Have a collection loaded, and wait until it is; no longer than one request may."""
        try:
            await self._channel.ask("LoadCollection", self._named(
                wire().LoadCollectionRequest(), name
            ))  # fmt: skip
            async with asyncio.timeout(self._channel.timeout_s):
                while True:
                    if await self._is_loaded(name):
                        return
                    await asyncio.sleep(_LOOK_S)
        except Answer as exc:
            raise self._channel.translated(exc, writes=False) from exc
        except TimeoutError:
            raise Unavailable(
                "store-unavailable", f"Milvus is loading the collection {name!r} still"
            ) from None

    def forget(self, name: str) -> None:
        """Look anew: it was changed."""
        self._known.pop(name, None)

    async def _is_loaded(self, name: str) -> bool:
        request = self._named(wire().GetLoadStateRequest(), name)
        reply = await self._channel.ask("GetLoadState", request)
        return bool(reply.state == _LOADED)

    async def _indexes(self, name: str) -> Mapping[str, dict[str, str]]:
        request = self._named(wire().DescribeIndexRequest(), name)
        try:
            reply = await self._channel.ask("DescribeIndex", request)
        except Answer as exc:
            if exc.code == NO_INDEX:
                return {}
            raise
        return {
            each.field_name: {param.key: param.value for param in each.params}
            for each in reply.index_descriptions
        }

    def _told(self, name: str, error: ReplicatorError) -> ReplicatorError:
        """The error; what is known of the collection may be of another one by now."""
        if error.code in (*_MISSING, "target-rejected", "store-refused"):
            self.forget(name)
        return error

    def _named(self, request: Any, name: str) -> Any:
        request.db_name = self._channel.database
        request.collection_name = name
        return request
