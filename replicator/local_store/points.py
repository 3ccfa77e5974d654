"""The Points service: writes, reads and searches of one collection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import qdrant_edge as edge

from replicator.connectors.qdrant.wire import Message, wire
from replicator.local_store import incoming, outgoing
from replicator.local_store.answers import invalid, of_engine, unsupported
from replicator.local_store.collections import Collection, Collections
from replicator.local_store.filters import read_filter
from replicator.local_store.indexes import kept_params, read_index
from replicator.local_store.limits import Sizes
from replicator.local_store.shard import Shard
from replicator.local_store.shard_keys import once

_WAIT_S = 60.0
"""How long a write is waited for when the request names no timeout, as on a server."""

_UPDATES = {
    "Upsert": "upsert",
    "Delete": "delete_points",
    "SetPayload": "set_payload",
    "OverwritePayload": "overwrite_payload",
    "DeletePayload": "delete_payload",
    "ClearPayload": "clear_payload",
    "UpdateVectors": "update_vectors",
    "DeleteVectors": "delete_vectors",
}
"""Methods that write, and what PointsUpdateOperation calls the same."""


class Points:
    """The methods of the service."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._unwaited: set[asyncio.Task[Any]] = set()

    def methods(self) -> dict[str, Callable[[Message], Awaitable[Message]]]:
        """Those that are there, by their names."""
        return {method: self._update_method(kind) for method, kind in _UPDATES.items()} | {
            "UpdateBatch": self.update_batch,
            "CreateFieldIndex": self.create_index,
            "DeleteFieldIndex": self.delete_index,
            "Get": self.get,
            "Scroll": self.scroll,
            "Count": self.count,
            "Query": self.query,
            "QueryBatch": self.query_batch,
        }

    async def update_batch(self, request: Message) -> Message:
        """Operations one after the other; the first that fails ends the batch."""
        if not request.operations:
            raise invalid("Validation error in body: operations must not be empty")
        collection = self._collections.find(request.collection_name)
        reply = wire().UpdateBatchResponse()
        for operation in request.operations:
            kind = operation.WhichOneof("operation")
            if kind is None or kind.endswith("_deprecated"):
                raise invalid("Malformed PointsUpdateOperation type")
            message = getattr(operation, kind)
            shards = collection.written(message)
            await self._judge(collection, kind, message)
            work = partial(_update, kind, message, collection.shapes)
            await self._write(collection, shards, request, reply.result.add(), work)
        return reply

    async def create_index(self, request: Message) -> Message:
        """Index a payload field."""
        collection = self._collections.find(request.collection_name)
        there = self._collections.indexes(collection)
        collection.limits.check_index_count(len(there.keys() - {request.field_name}))
        kept = kept_params(request)
        operation = edge.UpdateOperation.create_field_index(
            request.field_name, read_index(request)
        )
        reply = await self._write_one(
            collection,
            list(collection.shards.values()),
            request,
            lambda shard: shard.update(operation),
        )
        await self._collections.keep_index(
            collection, request.field_name, kept.SerializeToString()
        )
        return reply

    async def delete_index(self, request: Message) -> Message:
        """Drop the index of a payload field."""
        operation = edge.UpdateOperation.delete_field_index(request.field_name)
        collection = self._collections.find(request.collection_name)
        reply = await self._write_one(
            collection,
            list(collection.shards.values()),
            request,
            lambda shard: shard.update(operation),
        )
        await self._collections.keep_index(collection, request.field_name, None)
        return reply

    async def get(self, request: Message) -> Message:
        """Points by their ids."""
        collection = self._found(request)
        ids: list[Any] = [incoming.read_id(point_id) for point_id in request.ids]
        payload = outgoing.selected_payload(
            request.with_payload, request.HasField("with_payload"), False
        )
        vectors = outgoing.selected_vectors(request.with_vectors)

        found = await _of_each(
            collection.read(request), lambda shard: shard.retrieve(ids, payload, vectors)
        )
        reply = wire().GetResponse()
        for key, record in once(found, _id_of):
            outgoing.write_record(reply.result.add(), record, key)
        return reply

    async def scroll(self, request: Message) -> Message:
        """Points in the order of their ids."""
        if request.HasField("order_by"):
            raise unsupported("scrolling by payload")
        if request.HasField("limit") and request.limit == 0:
            raise invalid("Validation error in body: limit must be 1 or larger")
        collection = self._found(request)
        limit = request.limit if request.HasField("limit") else 10
        wanted = edge.ScrollRequest(
            offset=incoming.read_id(request.offset) if request.HasField("offset") else None,
            limit=limit + 1,
            filter=read_filter(request.filter) if request.HasField("filter") else None,
            with_payload=outgoing.selected_payload(
                request.with_payload, request.HasField("with_payload"), True
            ),
            with_vector=outgoing.selected_vectors(request.with_vectors),
        )
        found = await _of_each(collection.read(request), lambda shard: shard.scroll(wanted)[0])
        records = once(sorted(found, key=_order), _id_of)
        reply = wire().ScrollResponse()
        for key, record in records[:limit]:
            outgoing.write_record(reply.result.add(), record, key)
        if len(records) > limit:
            outgoing.write_id(reply.next_page_offset, records[limit][1].id)
        return reply

    async def count(self, request: Message) -> Message:
        """Always exact."""
        wanted = edge.CountRequest(
            filter=read_filter(request.filter) if request.HasField("filter") else None,
            exact=True,
        )
        collection = self._found(request)
        shards = collection.read(request).values()
        reply = wire().CountResponse()
        counts = [await shard.read(lambda engine: engine.count(wanted)) for shard in shards]
        reply.result.count = sum(counts)
        return reply

    async def query(self, request: Message) -> Message:
        """The nearest to a vector or to a point, a random sample, or the first by id."""
        if request.prefetch or request.HasField("lookup_from"):
            raise unsupported("prefetches and lookups")
        collection = self._found(request)

        shards = collection.read(request)
        wanted = _read_query(request, collection, await _meant(request, shards))
        found = await _of_each(shards, lambda shard: shard.query(wanted))
        nearest = collection.larger_is_nearer(request.using)
        if len(shards) > 1:
            found.sort(key=lambda each: -each[1].score if nearest else each[1].score)
        reply = wire().QueryResponse()
        for key, point in once(found, _id_of)[: wanted.limit]:
            shown = reply.result.add()
            outgoing.write_record(shown, point, key)
            shown.score = point.score
            shown.version = point.version
        return reply

    async def query_batch(self, request: Message) -> Message:
        """Several, each as `query`; one that fails spoils them all."""
        reply = wire().QueryBatchResponse()
        for query in request.query_points:
            answer = await self.query(query)
            reply.result.add().result.extend(answer.result)
        return reply

    async def drain(self) -> None:
        """Wait for the writes that nobody waits for."""
        while self._unwaited:
            await asyncio.wait(self._unwaited)

    def _update_method(self, kind: str) -> Callable[[Message], Awaitable[Message]]:
        async def update(request: Message) -> Message:
            collection = self._collections.find(request.collection_name)
            shards = collection.written(request)
            await self._judge(collection, kind, request)
            work = partial(_update, kind, request, collection.shapes)
            return await self._write_one(collection, shards, request, work)

        return update

    async def _judge(self, collection: Collection, kind: str, message: Message) -> None:
        """What a server refuses before it looks at a single point."""
        incoming.check_depths(kind, message)
        limits = collection.limits
        limits.check_write(kind, message, self._collections.indexes(collection))
        if kind in ("upsert", "update_vectors") and limits.sizes_matter:
            shards = list(collection.shards.values())
            engines = [await shard.read(edge.EdgeShard.info) for shard in shards]
            points = sum(engine.points_count for engine in engines)
            limits.check_sizes(
                Sizes(points, collection.shapes.values(), collection.payload_bytes)
            )
        if kind == "upsert":
            collection.payload_bytes += sum(
                value.ByteSize() for point in message.points for value in point.payload.values()
            )

    def _found(self, request: Message) -> Collection:
        """The collection that is read, if its limits allow it."""
        collection = self._collections.find(request.collection_name)
        collection.limits.check_read(request, self._collections.indexes(collection))
        return collection

    async def _write_one(
        self,
        collection: Collection,
        shards: Sequence[Shard],
        request: Message,
        work: Callable[[edge.EdgeShard], None],
    ) -> Message:
        reply = wire().PointsOperationResponse()
        await self._write(collection, shards, request, reply.result, work)
        return reply

    async def _write(
        self,
        collection: Collection,
        shards: Sequence[Shard],
        request: Message,
        result: Message,
        work: Callable[[edge.EdgeShard], None],
    ) -> None:
        """Write, and fill an `UpdateResult`. Past the request's timeout the write goes on."""
        statuses = wire().enum("UpdateStatus")
        collection.operations += 1
        result.operation_id = collection.operations
        task = asyncio.create_task(_all_written(shards, work), name="local store write")
        self._unwaited.add(task)
        task.add_done_callback(self._forget)
        if not request.wait:
            result.status = statuses["Acknowledged"]
            return
        timeout_s = float(request.timeout) if request.HasField("timeout") else _WAIT_S
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if done:
            task.result()
        result.status = statuses["Completed" if done else "WaitTimeout"]

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._unwaited.discard(task)
        if not task.cancelled():
            # Whoever waits for it raises it; without a waiter a server is silent too.
            task.exception()


async def _of_each(
    shards: Mapping[str, Shard], work: Callable[[edge.EdgeShard], Sequence[Any]]
) -> list[tuple[str, Any]]:
    """What each shard answers, with its key."""
    return [(key, record) for key, shard in shards.items() for record in await shard.read(work)]


def _id_of(found: tuple[str, Any]) -> Any:
    return found[1].id


def _order(found: tuple[str, Any]) -> tuple[bool, Any]:
    """Numbers first, then UUIDs."""
    point_id = found[1].id
    return (False, point_id) if isinstance(point_id, int) else (True, str(point_id))


async def _all_written(shards: Sequence[Shard], work: Callable[[edge.EdgeShard], None]) -> None:
    await asyncio.gather(*(shard.write(work) for shard in shards))


def _update(
    kind: str, message: Message, shapes: incoming.Shapes, shard: edge.EdgeShard
) -> None:
    for operation in incoming.read_update(kind, message, shapes):
        shard.update(operation)


def _read_query(request: Message, collection: Collection, meant: Any) -> edge.QueryRequest:
    wanted = request.query
    kind = wanted.WhichOneof("variant") if request.HasField("query") else None
    filters: list[Any] = [read_filter(request.filter)] if request.HasField("filter") else []
    query: Any = None
    match kind:
        case None:
            pass
        case "sample":
            query = edge.Sample.Random
        case "nearest":
            using = request.using
            if wanted.nearest.WhichOneof("variant") == "id":
                point_id, vector = incoming.read_id(wanted.nearest.id), meant
                filters.append(edge.Filter(must_not=[edge.HasIdCondition({point_id})]))
            else:
                vector = incoming.read_vector(wanted.nearest, using, collection.shapes)
            query = edge.Query.Nearest(vector, using or None)
        case _:
            raise unsupported(f"query {kind!r}")
    return edge.QueryRequest(
        limit=request.limit if request.HasField("limit") else 10,
        offset=request.offset if request.HasField("offset") else None,
        query=query,
        filter=edge.Filter(must=filters) if filters else None,
        score_threshold=request.score_threshold
        if request.HasField("score_threshold")
        else None,
        params=_read_params(request.params) if request.HasField("params") else None,
        with_payload=outgoing.selected_payload(
            request.with_payload, request.HasField("with_payload"), False
        ),
        with_vector=outgoing.selected_vectors(request.with_vectors),
    )


def _read_params(params: Message) -> edge.SearchParams:
    return edge.SearchParams(
        hnsw_ef=params.hnsw_ef if params.HasField("hnsw_ef") else None,
        exact=params.exact,
        indexed_only=params.indexed_only,
    )


async def _meant(request: Message, shards: Mapping[str, Shard]) -> Any:
    """The vector of the point that a query names, if it names one."""
    nearest = request.query.nearest
    if request.query.WhichOneof("variant") != "nearest" or (
        nearest.WhichOneof("variant") != "id"
    ):
        return None
    point_id = incoming.read_id(nearest.id)
    for _, record in await _of_each(
        shards, lambda shard: shard.retrieve([point_id], False, True)
    ):
        vector = record.vector
        return vector[request.using] if isinstance(vector, dict) else vector
    raise of_engine(RuntimeError(f"No point with id {point_id}"))
