"""
Collections as a whole: look at one, make one ready for a copy, empty one, end a bulk load.

Every step may be repeated after a crash or a lost reply: it looks first, and does what is left.
"""

from __future__ import annotations

import asyncio

import grpc

from replicator.connectors.qdrant import bulk, failures
from replicator.connectors.qdrant.bulk import CAPTURE_KEY, Indexing
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.schema import (
    conflicts,
    copy_collection,
    index_type,
    read_schema,
    write_collection,
    write_mark,
)
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Refused, Retryable
from replicator.model.schema import CollectionSchema, Mark
from replicator.settings.stores import QdrantSettings

POLL_S = 0.1
"""First wait between two looks at an optimisation; it doubles up to `POLL_S_MAX`."""
POLL_S_MAX = 2.0


class Collections:
    """The collections of one server."""

    def __init__(self, channel: Channel, settings: QdrantSettings) -> None:
        self._channel = channel
        self._settings = settings

    async def describe(self, name: str) -> CollectionSchema | None:
        """The schema with an exact count, or None."""
        info = await self._info(name)
        if info is None:
            return None
        try:
            points = await self.count(name)
        except Refused as exc:
            if exc.code == "source-missing":
                return None
            raise
        return read_schema(name, info, points)

    async def count(self, name: str) -> int:
        """Exact. Raises Refused when there is no such collection."""
        request = wire().CountPoints(
            collection_name=name, exact=True, timeout=self._channel.timeout_s
        )
        reply = await self._channel.read("Points", "Count", request)
        found: int = reply.result.count
        return found

    async def ensure(self, wanted: CollectionSchema) -> None:
        """Create what is missing, and leave the mark."""
        info = await self._info(wanted.name)
        if info is None:
            await self._create(wanted)
            info = await self._present(wanted.name)
        if found := conflicts(wanted, info):
            raise Refused("target-incompatible", f"{wanted.name}: {'; '.join(found)}")
        await self._prepare(wanted, info)
        for field, kind in wanted.indexes.items():
            if field not in info.payload_schema:
                await self._create_index(wanted.name, field, kind)

    async def wipe(self, name: str) -> None:
        """
        Delete the collection and create it anew with its configuration, indexes and aliases.

        Deleting by filter would keep old segments and replay its log after a crash against
        points written since. A crash between the two steps leaves no collection: `ensure` makes
        one then.
        """
        info = await self._info(name)
        if info is None:
            return
        fresh = copy_collection(name, info)
        bulk.write_fresh(fresh, info)
        fresh.timeout = self._channel.timeout_s
        aliases = await self.aliases()
        await self._channel.change(
            "Delete",
            wire().DeleteCollection(collection_name=name, timeout=self._channel.timeout_s),
        )
        await self._channel.change("Create", fresh)
        for field, index in info.payload_schema.items():
            request = self._index_request(name, field, index.data_type - 1)
            if index.HasField("params"):
                request.field_index_params.CopyFrom(index.params)
            await self._channel.change("CreateFieldIndex", request, "Points")
        for alias in sorted(alias for alias, target in aliases.items() if target == name):
            await self.point_alias(alias, name)

    async def finish_bulk(self, name: str) -> None:
        """
        Switch indexing on again and wait until the collection is green, however long the index
        takes: the caller bounds the wait.
        """
        info = await self._present(name)
        if bulk.read_indexing(info) is Indexing.DEFERRED:
            request = self._update_request(name)
            bulk.write_restoration(request, info)
            await self._channel.change("Update", request)
        statuses, wait_s = wire().enum("CollectionStatus"), POLL_S
        while True:
            info = await self._present(name)
            if info.status == statuses["Green"]:
                return
            if info.status == statuses["Red"]:
                raise Retryable(
                    "store-unavailable",
                    f"{name} is red: {info.optimizer_status.error or 'see the server log'}",
                )
            if info.status == statuses["Grey"]:
                # Optimisations wait for a change since the server started: this is one.
                request = self._update_request(name)
                request.optimizers_config.SetInParent()
                await self._channel.change("Update", request)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, POLL_S_MAX)

    async def aliases(self) -> dict[str, str]:
        """Alias → collection."""
        reply = await self._channel.read(
            "Collections", "ListAliases", wire().ListAliasesRequest()
        )
        return {found.alias_name: found.collection_name for found in reply.aliases}

    async def point_alias(self, alias: str, name: str) -> None:
        """Move the alias in one request, which the server does as one step."""
        request = wire().ChangeAliases(timeout=self._channel.timeout_s)
        if alias in await self.aliases():
            request.actions.add().delete_alias.alias_name = alias
        creation = request.actions.add().create_alias
        creation.alias_name, creation.collection_name = alias, name
        await self._channel.change("UpdateAliases", request)

    async def mark(self, name: str, mark: Mark) -> None:
        """Replace the mark, whatever the collection holds."""
        request = self._update_request(name)
        write_mark(request.metadata, mark)
        await self._channel.change("Update", request)
        left = read_schema(name, await self._present(name), None)
        if left.mark != mark:
            raise Refused(
                "unsupported",
                f"the server keeps no metadata of {name}: Qdrant 1.16 or newer does",
            )

    async def _create(self, wanted: CollectionSchema) -> None:
        request = wire().CreateCollection(
            collection_name=wanted.name, timeout=self._channel.timeout_s
        )
        write_collection(request, wanted)
        bulk.write_created(request)
        if wanted.capture_id is not None:
            request.metadata[CAPTURE_KEY].string_value = wanted.capture_id
        if self._settings.shard_number is not None:
            request.shard_number = self._settings.shard_number
        if self._settings.replication_factor is not None:
            request.replication_factor = self._settings.replication_factor
        await self._channel.change("Create", request)

    async def _prepare(self, wanted: CollectionSchema, info: Message) -> None:
        """Leave the mark and defer indexing, which only an empty collection allows."""
        schema = read_schema(wanted.name, info, None)
        mark = wanted.capture_id is not None and wanted.capture_id != schema.capture_id
        defer = self._settings.defer_indexing and bulk.read_indexing(info) is Indexing.CREATED
        if not mark and not defer:
            return
        points = await self.count(wanted.name)
        if points and mark:
            raise Refused(
                "target-not-empty",
                f"{wanted.name} holds {points} points and bears the mark {schema.capture_id!r},"
                f" not {wanted.capture_id!r}",
            )
        request = self._update_request(wanted.name)
        if mark:
            request.metadata[CAPTURE_KEY].string_value = wanted.capture_id
        if defer and not points:
            bulk.write_deferral(request, info)
        await self._channel.change("Update", request)
        left = read_schema(wanted.name, await self._present(wanted.name), None)
        if left.capture_id != (wanted.capture_id or schema.capture_id):
            raise Refused(
                "unsupported",
                f"the server keeps no metadata of {wanted.name}: Qdrant 1.16 or newer does",
            )

    async def _create_index(self, name: str, field: str, kind: str) -> None:
        number = index_type(kind)
        if number is None:
            raise Refused("unsupported", f"Qdrant has no payload index of type {kind!r}")
        await self._channel.change(
            "CreateFieldIndex", self._index_request(name, field, number), "Points"
        )

    def _index_request(self, name: str, field: str, number: int) -> Message:
        return wire().CreateFieldIndexCollection(
            collection_name=name,
            wait=True,
            field_name=field,
            field_type=number,
            timeout=self._channel.timeout_s,
        )

    def _update_request(self, name: str) -> Message:
        return wire().UpdateCollection(collection_name=name, timeout=self._channel.timeout_s)

    async def _present(self, name: str) -> Message:
        info = await self._info(name)
        if info is None:
            raise Refused("target-missing", f"Qdrant has no collection {name!r}")
        return info

    async def _info(self, name: str) -> Message | None:
        request = wire().GetCollectionInfoRequest(collection_name=name)
        try:
            return (await self._channel.call("Collections", "Get", request)).result
        except grpc.aio.AioRpcError as exc:
            if failures.is_absent_collection(exc):
                return None
            raise failures.of_read(exc) from exc
