"""
Writing a batch: one request in the ordinary case.

A batch travels as one UpdateBatch, which the server applies operation by operation and stops at
the first that fails. What it would refuse is found before anything is sent, as far as it can be
told from the record and the collection's vectors. A patch refused by the server itself (a limit
of the collection, a memory bound) may leave its vectors applied without its payload; any other
refused write leaves nothing.

A patch of an absent point is a failure too ("No point with id"), after the operations before it
took effect. It is no poison:

1. everything is sent at once;
2. on that failure the ids are looked up, and everything is sent again (every operation may be
   repeated): the patches without vectors by a filter for their id, which does nothing where the
   point is absent, and those with vectors where the lookup found the point. The others with
   vectors go alone, several at a time, so that the write itself says of each whether its point
   is absent: a lookup may be answered by a replica that lags;
3. should a point vanish between the two, all patches with vectors go alone.

A server that bounds the points of one upsert gets several in one request.

Where a collection has shard keys, those that points are upserted to are made before; a key that
others remove meanwhile makes the request fail, and it is looked and sent again.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import msgspec

from replicator.connectors.qdrant import failures
from replicator.connectors.qdrant.batch import EncodedBatch, Shapes
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.reading import Reading, ScopeGone
from replicator.connectors.qdrant.schema import read_vector_schemas
from replicator.connectors.qdrant.scopes import ShardKeys, all_of, can_be, some
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import OutcomeUnknown, Rejected, ReplicatorError, Retryable
from replicator.model.point import PointId, scope_of
from replicator.model.write import Patch, Receipt, Upsert, WriteBatch

_LOOKS = 3
"""How often a batch is sent where a shard key goes between the look for it and the write."""

_ALONE = 16
"""Patches that go alone, at a time. One after the other, five hundred of absent points took as
many round trips; many more would be a load that the limit of writes in flight knows nothing
of."""


class Writing:
    """Writes batches over one channel."""

    def __init__(self, channel: Channel, keys: ShardKeys, reading: Reading) -> None:
        self._channel = channel
        self._keys = keys
        self._reading = reading
        self._shapes: dict[str, Shapes | None] = {}
        """What was last seen of each collection's vectors."""
        self._points_max: dict[str, int] = {}
        """What a server lets one upsert hold, of collections where it said so."""

    async def apply(self, batch: WriteBatch) -> Receipt:
        """As `StoreWriter.apply`."""
        for _ in range(_LOOKS):
            batch, gone = await self._in_scopes(batch)
            try:
                receipt = await self._apply(batch)
            except ScopeGone:
                # What was seen is no more. What was sent is repeated.
                self._keys.forget(batch.collection)
                continue
            return msgspec.structs.replace(receipt, absent=(*gone, *receipt.absent))
        # Each answer said what was done, so that nothing is on its way.
        raise Retryable("store-unavailable", "shard keys go while they are written to")

    async def _in_scopes(self, batch: WriteBatch) -> tuple[WriteBatch, list[PointId]]:
        """
        Make the scopes that points are written to. Of the others that are not there, what is
        left to write and the ids of the patches that find nothing.
        """
        scopes = {scope_of(write.id) for write in batch.writes} - {None}
        wanted = {scope for scope in scopes if scope is not None and can_be(scope)}
        missing = await self._keys.missing(batch.collection, wanted) if wanted else set()
        for write in batch.writes:
            scope = scope_of(write.id)
            if isinstance(write, Upsert) and scope is not None and scope in missing:
                await self._keys.make(batch.collection, scope)
                missing.discard(scope)
        if not missing:
            return batch, []
        left = tuple(write for write in batch.writes if scope_of(write.id) not in missing)
        gone = [
            write.id
            for write in batch.writes
            if isinstance(write, Patch) and scope_of(write.id) in missing
        ]
        return WriteBatch(batch.collection, left), gone

    async def _apply(self, batch: WriteBatch) -> Receipt:
        encoded = await self._encode(batch)
        absent: list[PointId] = []
        try:
            if not await self._send(
                batch.collection, encoded, [patch.operations for patch in encoded.patches]
            ):
                absent = await self._send_around(batch.collection, encoded)
        except Rejected as exc:
            # The collection may have changed since it was looked at.
            self._shapes.pop(batch.collection, None)
            if not self._learned(batch, exc):
                raise
            return await self._apply(batch)
        return Receipt(rejected=tuple(encoded.rejected), absent=tuple(absent))

    async def _encode(self, batch: WriteBatch) -> EncodedBatch:
        known = batch.collection in self._shapes
        shapes = self._shapes[batch.collection] if known else await self._look(batch.collection)
        points_max = self._points_max.get(batch.collection)
        encoded = EncodedBatch(batch.writes, shapes, points_max)
        if known and encoded.misfits:
            # A vector may have been added: nothing is refused on old knowledge.
            shapes = await self._look(batch.collection)
            encoded = EncodedBatch(batch.writes, shapes, points_max)
        return encoded

    async def _look(self, collection: str) -> Shapes | None:
        """The collection's vectors; None when they cannot be seen: the write says why."""
        request = wire().GetCollectionInfoRequest(collection_name=collection)
        self._shapes.pop(collection, None)
        try:
            reply = await self._channel.read("Collections", "Get", request)
        except ReplicatorError as exc:
            if exc.code == "permission-denied":
                self._shapes[collection] = None
            return None
        shapes = read_vector_schemas(reply.result.config.params)
        self._shapes[collection] = shapes
        return shapes

    def _learned(self, batch: WriteBatch, error: Rejected) -> bool:
        """Whether the refusal names a limit that smaller upserts keep."""
        limit = failures.named_limit(error.message)
        if limit is None or limit.name not in ("upsert limit", "upsert_max_batchsize"):
            return False
        upserts = sum(isinstance(write, Upsert) for write in batch.writes)
        at_most = min(self._points_max.get(batch.collection, upserts), upserts)
        if limit.most < 1 or limit.most >= at_most:
            return False
        self._points_max[batch.collection] = limit.most
        return True

    async def _send_around(self, collection: str, encoded: EncodedBatch) -> list[PointId]:
        """Write a batch of which some patch finds no point, and return the ids of those."""
        patches = encoded.patches
        present = await self._reading.glance(collection, [patch.id for patch in patches])
        plain = [patch for patch in patches if not patch.sets_vectors]
        absent = [patch.id for patch in plain if patch.id not in present]
        by_filter = [patch.if_present() for patch in plain]
        with_vectors = [patch for patch in patches if patch.sets_vectors]
        together = [patch.operations for patch in with_vectors if patch.id in present]
        alone = [patch for patch in with_vectors if patch.id not in present]
        # By filter first: none of them fails, so one failure says that a point of `together`
        # vanished, and everything before it has been applied.
        if not await self._send(collection, encoded, [*by_filter, *together]):
            alone = with_vectors
        for few in some(alone, _ALONE):
            there = await all_of(
                [self._send(collection, EncodedBatch(()), [patch.operations]) for patch in few]
            )
            absent += [patch.id for patch, found in zip(few, there, strict=True) if not found]
        return absent

    async def _send(
        self, collection: str, encoded: EncodedBatch, patches: Sequence[tuple[Message, ...]]
    ) -> bool:
        """Send, and wait until it is durable. False: some patch found no point."""
        request = encoded.request(patches)
        if not request.operations:
            return True
        request.collection_name = collection
        request.wait = True
        request.timeout = self._channel.timeout_s
        # Writes of one key that go through two nodes in turn must stay in turn.
        request.ordering.type = wire().enum("WriteOrderingType")["Strong"]
        try:
            reply = await self._channel.call("Points", "UpdateBatch", request)
        except grpc.aio.AioRpcError as exc:
            if failures.is_absent_point(exc) and patches:
                return False
            if failures.is_absent_scope(exc):
                raise ScopeGone from exc
            raise failures.of_write(exc, self._channel.address) from exc
        _require_completed(reply.result, len(request.operations))
        return True


def _require_completed(results: Sequence[Message], expected: int) -> None:
    """Only Completed is applied; Acknowledged and WaitTimeout are promises."""
    statuses = {number: name for name, number in wire().enum("UpdateStatus").items()}
    answers = {statuses.get(result.status, str(result.status)) for result in results}
    if answers != {"Completed"} or len(results) != expected:
        raise OutcomeUnknown(
            "outcome-unknown",
            f"Qdrant answered {expected} operations with {len(results)} results:"
            f" {', '.join(sorted(answers))}",
        )
