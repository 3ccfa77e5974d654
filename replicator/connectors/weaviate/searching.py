"""Searches, for the comparison of quality: by the index of a vector, tenant by tenant."""

from __future__ import annotations

import struct

from replicator.connectors.weaviate.channel import Channel
from replicator.connectors.weaviate.classes import Class
from replicator.connectors.weaviate.collection import Collections
from replicator.connectors.weaviate.failures import TenantGone, TenantInactive
from replicator.connectors.weaviate.filters import write_filter
from replicator.connectors.weaviate.messages import HOT, MULTI, SINGLE, Message, wire
from replicator.connectors.weaviate.tenants import Tenants, all_of
from replicator.errors import Refused
from replicator.model.filter import parse_search_filter
from replicator.model.point import MultiVector, within
from replicator.model.schema import VectorKind
from replicator.model.search import Hit, Query


class Searching:
    """Searches of one server."""

    def __init__(self, channel: Channel, collections: Collections, tenants: Tenants) -> None:
        self._channel = channel
        self._collections = collections
        self._tenants = tenants

    async def search(self, name: str, query: Query) -> list[Hit]:
        """As `StoreSearcher.search`. Raises Refused("unsupported") for what is not asked."""
        if query.exact:
            raise Refused("unsupported", "Weaviate is searched by its index")
        kept = await self._collections.present(name, "source-missing")
        request = _asked(kept, query)
        if not kept.tenants:
            return await self._search(request, None)
        tenants = await self._tenants.of(name)
        active = [each for each, status in tenants.items() if status == HOT]
        found = await all_of([self._search(_of(request, each), each) for each in active])
        hits = [hit for some in found for hit in some]
        return sorted(hits, key=lambda hit: -hit.score)[: query.limit]

    async def _search(self, request: Message, scope: str | None) -> list[Hit]:
        try:
            reply = await self._channel.read("Search", request)
        except (TenantGone, TenantInactive):
            return []
        return [
            # Less is nearer; of a product, it is the negative.
            Hit(within(scope, each.metadata.id), -each.metadata.distance)
            for each in reply.results
        ]


def _asked(kept: Class, query: Query) -> Message:
    vector = kept.vectors.get(query.using)
    if vector is None:
        raise Refused("unsupported", f"{kept.name} has no vector {query.using!r}")
    request = wire().SearchRequest(collection=kept.name, limit=query.limit, uses_127_api=True)
    request.properties.SetInParent()
    request.metadata.uuid = True
    request.metadata.distance = True
    match vector.kind, query.vector:
        case VectorKind.DENSE, bytes() as data:
            told = request.near_vector.vectors.add(vector_bytes=data, type=SINGLE)
        case VectorKind.MULTI, MultiVector(rows=rows, data=data):
            head = struct.pack("<H", len(data) // 4 // rows)
            told = request.near_vector.vectors.add(vector_bytes=head + data, type=MULTI)
        case _:
            raise Refused("unsupported", f"the vector {query.using!r} is of another kind")
    if vector.wire is not None:
        told.name = vector.wire
        request.near_vector.targets.target_vectors.append(vector.wire)
    if query.filter:
        request.filters.CopyFrom(write_filter(parse_search_filter(query.filter), kept))
    return request


def _of(request: Message, tenant: str) -> Message:
    """The same search, within a tenant."""
    made = wire().SearchRequest()
    made.CopyFrom(request)
    made.tenant = tenant
    return made
