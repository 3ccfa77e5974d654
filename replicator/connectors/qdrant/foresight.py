"""What would happen: whether a collection could be made and used, and whether we may write.

Nothing here changes a collection. The probes of permission are changes of nothing: the server
judges the key before it looks at what is asked.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import grpc

from replicator.connectors.qdrant import failures
from replicator.connectors.qdrant.channel import Channel
from replicator.connectors.qdrant.configuration import creation
from replicator.connectors.qdrant.kind import QDRANT
from replicator.connectors.qdrant.schema import conflicts, index_type, read_schema
from replicator.connectors.qdrant.scopes import NO_SHARD_KEYS, write_scope
from replicator.connectors.qdrant.wire import wire
from replicator.errors import Refused, ReplicatorError
from replicator.model.finding import Severity
from replicator.model.schema import CollectionSchema

Told = tuple[Severity, str, str]


async def foresee(channel: Channel, wanted: CollectionSchema) -> CollectionSchema:
    """As `Foresight.foresee`."""
    request = wire().GetCollectionInfoRequest(collection_name=wanted.name)
    try:
        info = (await channel.call("Collections", "Get", request)).result
    except grpc.aio.AioRpcError as exc:
        if not failures.is_absent_collection(exc):
            raise failures.of_read(exc, channel.address) from exc
        creation(wanted)  # not sent: filling it in says whether it could be
        if wanted.scoped:
            await _require_cluster(channel, wanted.name)
        present: set[str] = set()
        made = CollectionSchema(
            name=wanted.name,
            vectors=wanted.vectors,
            indexes=wanted.indexes,
            points=0,
            scoped=wanted.scoped,
            **QDRANT.traits.facts(),
        )
    else:
        if found := conflicts(wanted, info):
            raise Refused("target-incompatible", "; ".join(found))
        present = set(info.payload_schema)
        made = read_schema(wanted.name, info, None)
    for field, kind in wanted.indexes.items():
        if field not in present and index_type(kind) is None:
            raise Refused("unsupported", f"Qdrant has no payload index of type {kind!r}")
    return made


async def _require_cluster(channel: Channel, absent: str) -> None:
    """
    Raises Refused("unsupported") where the server has no shard keys. One is asked for in a
    collection that is not there: a server alone says so before it looks for the collection.
    """
    request = wire().CreateShardKeyRequest(collection_name=absent, timeout=channel.timeout_s)
    write_scope(request.request.shard_key, "replicator-check")
    try:
        await channel.call("Collections", "CreateShardKey", request)
    except grpc.aio.AioRpcError as exc:
        if failures.is_standalone(exc):
            raise Refused("unsupported", NO_SHARD_KEYS) from exc


async def check_writing(channel: Channel, collections: Sequence[str]) -> list[Told]:
    """
    Try changes that change nothing: delete an alias that nobody has, and no points. A key that
    may not make collections may still write those that are there.
    """
    request = wire().ChangeAliases(timeout=channel.timeout_s)
    request.actions.add().delete_alias.alias_name = f"replicator-check-{uuid.uuid4()}"
    told: list[Told] = []
    try:
        await channel.change("UpdateAliases", request)
    except ReplicatorError as exc:
        told.append((Severity.WARNS, exc.code, exc.message))
        if exc.code != "permission-denied":
            return told
        told = [(Severity.WARNS, exc.code, f"{_MAY_NOT_MAKE}: {exc.message}")]
        for name in collections:
            told += await _may_not_write(channel, name)
    return told


_MAY_NOT_MAKE = (
    "this key may not create collections or move aliases; as a target, and for the way back, it"
    " must be able to write its collections"
)


async def _may_not_write(channel: Channel, name: str) -> list[Told]:
    request = wire().DeletePoints(collection_name=name, wait=True, timeout=channel.timeout_s)
    request.points.points.SetInParent()
    try:
        await channel.change("Delete", request, "Points")
    except ReplicatorError as exc:
        if exc.code == "permission-denied":
            message = f"this key may not write {name!r}: {exc.message}"
            return [(Severity.BLOCKS, exc.code, message)]
    return []
