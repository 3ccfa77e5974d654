"""
Writing a batch: objects are replaced as a whole, and then what is to go is deleted.

The server makes a class of whatever name an object bears, and properties of whatever fields, so
that the class is looked at first, and an object holds nothing that it has no property for. An
object that the server refuses is refused alone. But where a shard takes no writes, it answers
for the first object of a batch and says nothing of the others, as if it had kept them: one such
answer is one of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replicator.codecs.rules import check_write
from replicator.connectors.weaviate import failures
from replicator.connectors.weaviate.channel import Channel
from replicator.connectors.weaviate.classes import Class
from replicator.connectors.weaviate.collection import Collections
from replicator.connectors.weaviate.failures import TenantGone, TenantInactive
from replicator.connectors.weaviate.kind import REQUEST_BYTES
from replicator.connectors.weaviate.messages import CONTAINS_ANY, Message, wire
from replicator.connectors.weaviate.objects import object_of
from replicator.connectors.weaviate.rest import Rest
from replicator.connectors.weaviate.tenants import (
    Tenants,
    by_scope,
    check_scope,
    inactive_write,
)
from replicator.errors import OutcomeUnknown, Refused, Rejected, Retryable
from replicator.model.point import BareId, PointId, scope_of
from replicator.model.traits import Traits
from replicator.model.write import Delete, Receipt, Upsert, WriteBatch

_BESIDE = 64
"""Bytes of an object in a request beside its own."""


class Writing:
    """Writes to one server."""

    def __init__(
        self,
        channel: Channel,
        rest: Rest,
        collections: Collections,
        tenants: Tenants,
        *,
        traits: Traits,
        level: int,
    ) -> None:
        """`level`: how many replicas must have a write."""
        self._channel = channel
        self._rest = rest
        self._collections = collections
        self._tenants = tenants
        self._traits = traits
        self._level = level

    async def apply(self, batch: WriteBatch) -> Receipt:
        """As `StoreWriter.apply`."""
        kept = await self._collections.present(batch.collection)
        schema = await self._collections.schema(kept)
        objects: list[tuple[PointId, Message]] = []
        deletes: list[PointId] = []
        rejected: dict[PointId, Rejected] = {}
        for write in batch.writes:
            try:
                check_write(write, schema, self._traits)
                if (scope := scope_of(write.id)) is not None:
                    check_scope(scope)
                match write:
                    case Upsert(point=point):
                        objects.append((write.id, _fitting(object_of(point, kept))))
                    case Delete():
                        deletes.append(write.id)
                    case _:
                        raise AssertionError("a store without patches is given none")
            except Rejected as error:
                rejected[write.id] = error
        if kept.tenants and objects:
            await self._tenants.make(kept.name, {str(scope_of(each)) for each, _ in objects})
        for some in _requests(objects):
            rejected |= await self._put(kept, some)
        for scope, ids in by_scope(deletes).items():
            await self._delete(kept, scope, ids)
        order = [write.id for write in batch.writes if write.id in rejected]
        return Receipt(rejected=tuple((each, rejected[each]) for each in order))

    async def _put(
        self, kept: Class, some: Sequence[tuple[PointId, Message]]
    ) -> dict[PointId, Rejected]:
        request = wire().BatchObjectsRequest(
            objects=[each for _, each in some], consistency_level=self._level
        )
        reply = await self._channel.write("BatchObjects", request)
        who = f"Weaviate at {self._channel.address}"
        found: dict[PointId, Rejected] = {}
        # What is of the batch as a whole is raised, wherever in it it was said.
        for error in reply.errors:
            try:
                found[some[error.index][0]] = failures.of_object(error.error, who)
            except TenantGone as exc:
                self._tenants.forget(kept.name)
                raise Retryable("store-unavailable", f"{kept.name}: {exc}") from exc
            except TenantInactive as exc:
                raise inactive_write(kept.name, str(exc)) from exc
        return found

    async def _delete(self, kept: Class, scope: str | None, ids: Sequence[BareId]) -> None:
        request = wire().BatchDeleteRequest(collection=kept.name, consistency_level=self._level)
        if scope is not None:
            request.tenant = scope
        request.filters.operator = CONTAINS_ANY
        request.filters.target.property = "_id"
        request.filters.value_text_array.values[:] = [str(each) for each in ids]
        try:
            reply = await self._channel.write("BatchDelete", request)
        except TenantGone:
            return  # and with it whatever it held
        except TenantInactive as exc:
            raise inactive_write(kept.name, str(exc)) from exc
        if reply.failed:
            raise await self._undeleted(kept, int(reply.failed))

    async def _undeleted(self, kept: Class, count: int) -> Refused | OutcomeUnknown:
        """Why objects were not deleted: the answer says how many, the shards may say why."""
        closed = [
            name
            for name, status in (await self._rest.shards(kept.name)).items()
            if status == "READONLY"
        ]
        said = f"{self._rest.who} did not delete {count} objects of {kept.name}"
        if closed:
            return Refused(
                "permission-denied",
                f"{said}: the shards {', '.join(closed)} are READONLY; set them to READY again",
            )
        return OutcomeUnknown("outcome-unknown", said)


def _fitting(made: Message) -> Message:
    size = made.ByteSize()
    if size + _BESIDE > REQUEST_BYTES:
        raise Rejected(
            "value-too-large",
            f"the object takes {size} bytes, and a request to Weaviate {REQUEST_BYTES}",
        )
    return made


def _requests(
    objects: Sequence[tuple[PointId, Message]],
) -> Iterator[list[tuple[PointId, Message]]]:
    some: list[tuple[PointId, Message]] = []
    size = 0
    for each in objects:
        needs = each[1].ByteSize() + _BESIDE
        if some and size + needs > REQUEST_BYTES:
            yield some
            some, size = [], 0
        some.append(each)
        size += needs
    if some:
        yield some
