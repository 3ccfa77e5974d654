"""
Collections as a whole: look at one, make one ready for a copy, empty one, end a bulk load.

Every step may be repeated after a crash or a lost reply: it looks first, and does what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import msgspec

from replicator.connectors.qdrant import bulk, failures
from replicator.connectors.qdrant.bulk import CAPTURE_KEY, Indexing
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.configuration import (
    copy_collection,
    copy_late_params,
    creation,
    index_creation,
    plan,
    update,
)
from replicator.connectors.qdrant.filters import write_filter
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.connectors.qdrant.schema import (
    conflicts,
    index_type,
    is_custom_sharded,
    read_schema,
    read_vector_schemas,
    write_mark,
)
from replicator.connectors.qdrant.scopes import select
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Refused, Rejected, Retryable
from replicator.model.configuration import configuration_differences
from replicator.model.filter import Filter
from replicator.model.schema import CollectionSchema, Distance, Mark

_EXACT_FORBIDDEN = "Exact search disabled"
"""What a server says where strict mode's `search_allow_exact` is off."""

POLL_S = 0.1
"""First wait between two looks at an optimisation; it doubles up to `POLL_S_MAX`."""
POLL_S_MAX = 2.0


class Collections:
    """The collections of one server."""

    def __init__(self, channel: Channel, settings: QdrantSettings) -> None:
        self._channel = channel
        self._settings = settings

    async def names(self) -> list[str]:
        """What there is, sorted."""
        reply = await self._channel.read("Collections", "List", wire().ListCollectionsRequest())
        return sorted(each.name for each in reply.collections)

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
        schema = read_schema(name, info, points)
        known = await self._known_aliases()
        if known is None:
            return schema
        physical = known.get(name, name)
        names = sorted(alias for alias, leads_to in known.items() if leads_to == physical)
        return msgspec.structs.replace(schema, physical=physical, aliases=tuple(names))

    async def physical(self, name: str) -> str | None:
        """The collection behind a name; None where the key may not ask for aliases."""
        known = await self._known_aliases()
        return None if known is None else known.get(name, name)

    async def _known_aliases(self) -> dict[str, str] | None:
        try:
            return await self.aliases()
        except Refused as exc:
            # A key for some collections only may not list what there is.
            if exc.code in ("permission-denied", "unsupported"):
                return None
            raise

    async def is_scoped(self, name: str) -> bool:
        """Whether ids are unique only within a shard key."""
        info = await self._info(name)
        return info is not None and is_custom_sharded(info)

    async def larger_is_nearer(self, name: str, using: str) -> bool:
        """What the scores of searches by a vector mean."""
        vectors = read_vector_schemas((await self._present(name)).config.params)
        distance = vectors[using].distance if using in vectors else None
        return distance not in (Distance.EUCLID, Distance.MANHATTAN)

    async def count(
        self, name: str, scopes: Sequence[str] = (), where: Filter | None = None
    ) -> int:
        """
        Of all points, or of those of these scopes, and of those that match. Exact where strict
        mode allows it, else what the server reckons, which is 0 for an empty collection alone.
        Raises Refused when there is no such collection.
        """
        request = wire().CountPoints(
            collection_name=name, exact=True, timeout=self._channel.timeout_s
        )
        for scope in scopes:
            select(request, scope)
        if where is not None:
            write_filter(request.filter, where)
        try:
            reply = await self._channel.read("Points", "Count", request)
        except (Rejected, Refused) as exc:
            if _EXACT_FORBIDDEN not in exc.message:
                raise
            request.exact = False
            reply = await self._channel.read("Points", "Count", request)
        found: int = reply.result.count
        return found

    async def ensure(self, wanted: CollectionSchema) -> None:
        """Create what is missing, and leave the mark."""
        wanted = await self._resolved(wanted)
        info = await self._info(wanted.name)
        if info is None:
            await self._create(wanted)
            info = await self._present(wanted.name)
        elif await self._is_outdated(wanted, info):
            await self._replace(wanted)
            info = await self._present(wanted.name)
        if found := conflicts(wanted, info):
            raise Refused("target-incompatible", f"{wanted.name}: {'; '.join(found)}")
        await self._prepare(wanted, info)
        for field, kind in wanted.indexes.items():
            if field not in info.payload_schema:
                await self._create_index(wanted, field, kind)

    async def configure(self, planned: CollectionSchema) -> None:
        """
        Put in force what waited for the end of the bulk load. Only in a collection that we
        made; what it lacks is found by comparing it with the plan, so it may be repeated, and
        a change that was lost on its way is made again.
        """
        planned = await self._resolved(planned)
        info = await self._present(planned.name)
        state = bulk.read_indexing(info)
        if state is Indexing.FOREIGN:
            return
        request = update(planned, info)
        if state is not Indexing.RESTORED:
            request = request or self._update_request(planned.name)
            bulk.write_restoration(request, info)
        if request is not None:
            request.timeout = self._channel.timeout_s
            await self._channel.change("Update", request)

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
        aliases = await self.aliases()
        # Deleting an alias deletes nothing.
        name = aliases.get(name, name)
        fresh = copy_collection(name, info)
        bulk.write_fresh(fresh, info)
        fresh.timeout = self._channel.timeout_s
        late = self._update_request(name)
        late.params.CopyFrom(copy_late_params(info))
        await self._delete(name)
        await self._channel.change("Create", fresh)
        if late.params.ListFields():
            await self._channel.change("Update", late)
        for field, index in info.payload_schema.items():
            request = wire().CreateFieldIndexCollection(
                collection_name=name,
                wait=True,
                field_name=field,
                field_type=index.data_type - 1,
                timeout=self._channel.timeout_s,
            )
            if index.HasField("params"):
                request.field_index_params.CopyFrom(index.params)
            await self._channel.change("CreateFieldIndex", request, "Points")
        await self._point_aliases(aliases, name)

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

    async def _resolved(self, wanted: CollectionSchema) -> CollectionSchema:
        """Under the collection's own name: what changes a collection knows no aliases."""
        name = await self.physical(wanted.name) or wanted.name
        return msgspec.structs.replace(wanted, name=name)

    async def _create(self, wanted: CollectionSchema) -> None:
        planned = plan(wanted, self._settings)
        request = creation(planned)
        bulk.write_deferred_creation(request, indexing=self._settings.defer_indexing)
        request.timeout = self._channel.timeout_s
        if wanted.capture_id is not None:
            request.metadata[CAPTURE_KEY].string_value = wanted.capture_id
        await self._channel.change("Create", request)

    async def _is_outdated(self, wanted: CollectionSchema, info: Message) -> bool:
        """Whether we made it, for another plan, and it was emptied since."""
        if bulk.read_indexing(info) is not Indexing.CREATED:
            return False
        present = read_schema(wanted.name, info, None)
        if not configuration_differences(plan(wanted, self._settings), present):
            return False
        return not await self.count(wanted.name)

    async def _replace(self, wanted: CollectionSchema) -> None:
        """
        Make an empty collection of ours anew. A crash between the two steps leaves none, and
        the next `ensure` makes it; only aliases that led to it are then gone.
        """
        creation(plan(wanted, self._settings))  # raises before anything is deleted
        aliases = await self.aliases()
        await self._delete(wanted.name)
        await self._create(wanted)
        await self._point_aliases(aliases, wanted.name)

    async def _delete(self, name: str) -> None:
        request = wire().DeleteCollection(collection_name=name, timeout=self._channel.timeout_s)
        await self._channel.change("Delete", request)

    async def _point_aliases(self, aliases: dict[str, str], name: str) -> None:
        for alias in sorted(alias for alias, leads_to in aliases.items() if leads_to == name):
            await self.point_alias(alias, name)

    async def _prepare(self, wanted: CollectionSchema, info: Message) -> None:
        """Leave the mark and defer indexing, which only an empty collection allows."""
        schema = read_schema(wanted.name, info, None)
        mark = wanted.capture_id is not None and wanted.capture_id != schema.capture_id
        defer = bulk.read_indexing(info) is Indexing.CREATED
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
            bulk.write_deferral(request, info, indexing=self._settings.defer_indexing)
        await self._channel.change("Update", request)
        left = read_schema(wanted.name, await self._present(wanted.name), None)
        if left.capture_id != (wanted.capture_id or schema.capture_id):
            raise Refused(
                "unsupported",
                f"the server keeps no metadata of {wanted.name}: Qdrant 1.16 or newer does",
            )

    async def _create_index(self, wanted: CollectionSchema, field: str, kind: str) -> None:
        number = index_type(kind)
        if number is None:
            raise Refused("unsupported", f"Qdrant has no payload index of type {kind!r}")
        request = index_creation(wanted, field, number)
        request.timeout = self._channel.timeout_s
        await self._channel.change("CreateFieldIndex", request, "Points")

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
            raise failures.of_read(exc, self._channel.address) from exc
