"""Searches, for the comparison of quality: by the index of the field."""

from __future__ import annotations

from replicator.connectors.milvus.field_types import Type
from replicator.connectors.milvus.filters import translated
from replicator.connectors.milvus.layout import Layout, Vectors
from replicator.connectors.milvus.layouts import Layouts
from replicator.connectors.milvus.vectors import dense_bytes, sparse_bytes
from replicator.connectors.milvus.wire import wire
from replicator.errors import Refused
from replicator.model.point import MultiVector, SparseVector
from replicator.model.schema import VectorKind
from replicator.model.search import Hit, Query

_TOP_K = 16_384
"""The vendor's page of limits."""

_EXPRESSION = 1
"""The `DslType` of a filter that is an expression."""


class Searching:
    """Searches of one database."""

    def __init__(self, layouts: Layouts) -> None:
        self._layouts = layouts

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """As `StoreSearcher.search`."""
        if query.exact:
            raise Refused("unsupported", "Milvus is searched by its index")
        layout = await self._layouts.source(collection)
        there = _asked(layout, query)
        request = wire().SearchRequest(
            dsl=translated(query.filter, layout),
            dsl_type=_EXPRESSION,
            nq=1,
            use_default_consistency=False,
            placeholder_group=_placeholder(there, query),
        )
        if layout.partition is not None:
            request.partition_names.append(layout.partition)
        told = {
            "anns_field": there.field,
            "topk": str(min(query.limit, _TOP_K)),
            "params": "{}",
            "round_decimal": "-1",
        }
        for key, value in told.items():
            request.search_params.add(key=key, value=value)
        reply = await self._layouts.read(collection, "Search", request)
        found = reply.results
        ids = found.ids.str_id.data or found.ids.int_id.data
        return [Hit(key, score) for key, score in zip(ids, found.scores, strict=True)]


def _asked(layout: Layout, query: Query) -> Vectors:
    there = layout.vectors.get(query.using)
    if there is None:
        raise Refused("bad-request", f"{layout.name} has no vector {query.using!r}")
    kind = VectorKind.SPARSE if isinstance(query.vector, SparseVector) else VectorKind.DENSE
    if isinstance(query.vector, MultiVector) or kind is not there.schema.kind:
        raise Refused("bad-request", f"the vector {query.using!r} is of another kind")
    return there


def _placeholder(there: Vectors, query: Query) -> bytes:
    vector = query.vector
    group = wire().PlaceholderGroup()
    told = group.placeholders.add(tag="$0", type=int(there.type))
    if there.type is Type.SPARSE_VECTOR:
        told.values.append(sparse_bytes(vector))
    else:
        assert isinstance(vector, bytes), "looked at before"
        told.values.append(dense_bytes(there.type, vector))
    made: bytes = group.SerializeToString()
    return made
