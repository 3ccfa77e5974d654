"""
Writing a batch: one request in the ordinary case.

A batch travels as one UpdateBatch, which the server applies operation by operation and stops at
the first that fails. A patch of an absent point is such a failure ("No point with id"), after
the operations before it took effect. It is no poison:

1. everything is sent at once;
2. on that failure the ids are looked up. The patches of those that are there are sent again
   with the rest (every operation may be repeated), and each of the others alone, so that the
   write itself says of every single one whether it is absent: a lookup may be answered by a
   replica that lags;
3. should a point vanish between the two, all patches go one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import grpc

from replicator.connectors.qdrant import failures
from replicator.connectors.qdrant.batch import EncodedBatch, EncodedPatch
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.points import read_id, write_id
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import OutcomeUnknown
from replicator.model.point import PointId
from replicator.model.write import Receipt, WriteBatch


class Writing:
    """Writes batches over one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def apply(self, batch: WriteBatch) -> Receipt:
        """As `StoreWriter.apply`."""
        encoded = EncodedBatch(batch.writes)
        absent: list[PointId] = []
        if not await self._send(batch.collection, encoded, encoded.patches):
            absent = await self._send_around(batch.collection, encoded)
        return Receipt(rejected=tuple(encoded.rejected), absent=tuple(absent))

    async def _send_around(self, collection: str, encoded: EncodedBatch) -> list[PointId]:
        """Write a batch of which some patch finds no point, and return the ids of those."""
        present = await self._present(collection, [patch.id for patch in encoded.patches])
        together = [patch for patch in encoded.patches if patch.id in present]
        alone = [patch for patch in encoded.patches if patch.id not in present]
        if not await self._send(collection, encoded, together):
            alone = encoded.patches
        nothing = EncodedBatch(())
        return [
            patch.id for patch in alone if not await self._send(collection, nothing, [patch])
        ]

    async def _present(self, collection: str, ids: Iterable[PointId]) -> set[PointId]:
        request = wire().GetPoints(collection_name=collection, timeout=self._channel.timeout_s)
        request.with_payload.enable = False
        for point_id in ids:
            write_id(request.ids.add(), point_id)
        reply = await self._channel.read("Points", "Get", request)
        return {read_id(point.id) for point in reply.result}

    async def _send(
        self, collection: str, encoded: EncodedBatch, patches: Sequence[EncodedPatch]
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
            raise failures.of_write(exc) from exc
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
