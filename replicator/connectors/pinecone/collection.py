"""
Namespaces as a whole: which vectors the index has, and whether it can be used at all.

An index says once, when it is made, which vectors its records have; every namespace has the
same. It is not made here: it costs money, in a cloud and a region that somebody must choose. A
namespace is, so that it is there before its first record.
"""

from __future__ import annotations

import msgspec
from pinecone.models.indexes.deployment import PodDeployment
from pinecone.models.indexes.index import IndexModel
from pinecone.models.indexes.schema import DenseVectorField, SparseVectorField

from replicator.codecs.rules import check_collection
from replicator.connectors.pinecone.index import Index
from replicator.connectors.pinecone.kind import PINECONE
from replicator.errors import Refused
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    VectorKind,
    VectorSchema,
)

_DISTANCES = {
    "cosine": Distance.COSINE,
    "dotproduct": Distance.DOT,
    "euclidean": Distance.EUCLID,
}
_METRICS = {distance: metric for metric, distance in _DISTANCES.items()}

_DENSE, _SPARSE = "_values", "_sparse_values"
"""How the control plane calls the vectors of an index that was made by dimension and metric."""


class Shape(msgspec.Struct, frozen=True):
    """The vectors of an index. `dimension` is None where they are sparse."""

    dimension: int | None
    metric: str

    @property
    def distance(self) -> Distance | None:
        """None of a metric that this release does not know."""
        return _DISTANCES.get(self.metric)


class Collections:
    """The namespaces of one index."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._shape: Shape | None = None

    async def shape(self) -> Shape:
        """
        Which vectors there are; asked once, for an index keeps them. Raises
        Refused("unsupported") for an index that is not used by its vectors, or not serverless.
        """
        if self._shape is None:
            model = await self._index.model()
            self._shape = await self._told() if model is None else _shape_of(model)
        return self._shape

    async def describe(self, name: str, sparse: str) -> CollectionSchema | None:
        """The schema, or None; `sparse`: a vector of this name beside the dense one."""
        shape = await self.shape()
        return _schema(name, shape, sparse) if await self._index.has(name) else None

    async def schema(self, name: str, sparse: str) -> CollectionSchema:
        """What a namespace of this name holds, whether it is there or not."""
        return _schema(name, await self.shape(), sparse)

    async def foresee(self, wanted: CollectionSchema, sparse: str) -> CollectionSchema:
        """As `Foresight.foresee`."""
        vectors = dict(wanted.vectors or {})
        beside = vectors.pop(sparse, None) if sparse else None
        if beside is not None and beside.kind is not VectorKind.SPARSE:
            raise Refused("unsupported", f"{sparse!r} is sparse by the collection's options")
        plain = msgspec.structs.replace(wanted, vectors=vectors)
        check_collection(plain, PINECONE.traits.vectors)
        shape = await self.shape()
        _check_conflicts(self._index.place, plain, shape)
        return _schema(wanted.name, shape, sparse)

    async def ensure(self, wanted: CollectionSchema, sparse: str) -> None:
        """As `StoreWriter.ensure`."""
        await self.foresee(wanted, sparse)
        await self._index.make(wanted.name)

    async def _told(self) -> Shape:
        stats = await self._index.stats()
        sparse = stats.vector_type == "sparse"
        return Shape(None if sparse else stats.dimension, stats.metric or "")


def _shape_of(model: IndexModel) -> Shape:
    fields = model.schema.fields
    if isinstance(model.deployment, PodDeployment):
        raise Refused(
            "unsupported",
            f"the index {model.name!r} lies on pods, which list no ids; make a serverless index"
            " of its collection first",
        )
    dense, sparse = fields.get(_DENSE), fields.get(_SPARSE)
    if isinstance(dense, DenseVectorField):
        return Shape(dense.dimension, dense.metric)
    if isinstance(sparse, SparseVectorField):
        return Shape(None, "dotproduct")
    raise Refused(
        "unsupported",
        f"the index {model.name!r} holds documents, or embeds texts by itself: it has"
        f" {', '.join(sorted(fields)) or 'no fields'}, and is not read and written by vectors",
    )


def _schema(name: str, shape: Shape, sparse: str) -> CollectionSchema:
    if shape.dimension is None:
        vectors = {"": VectorSchema(kind=VectorKind.SPARSE, required=True)}
    else:
        dense = VectorSchema(size=shape.dimension, distance=shape.distance, required=True)
        vectors = {"": dense}
        if sparse:
            vectors[sparse] = VectorSchema(kind=VectorKind.SPARSE)
    return CollectionSchema(name=name, vectors=vectors, **PINECONE.traits.facts())


def _check_conflicts(place: str, wanted: CollectionSchema, shape: Shape) -> None:
    vector = (wanted.vectors or {}).get("")
    if vector is None:
        return
    kind = VectorKind.SPARSE if shape.dimension is None else VectorKind.DENSE
    conflicts = []
    if vector.kind is not kind:
        conflicts.append(f"vectors are {kind.value}, not {vector.kind.value}")
    elif kind is VectorKind.DENSE:
        if vector.size not in (None, shape.dimension):
            conflicts.append(f"vectors have {shape.dimension} components, not {vector.size}")
        if vector.distance is not None and vector.distance is not shape.distance:
            conflicts.append(
                f"they are compared by {shape.metric}, not {vector.distance.value}"
            )
    if conflicts:
        raise Refused(
            "target-incompatible",
            f"the index {place}: {'; '.join(conflicts)}. Make one that fits:"
            f" {_command(vector)}",
        )


def _command(vector: VectorSchema) -> str:
    """How an index for these vectors is made, with the vendor's client."""
    if vector.kind is VectorKind.SPARSE:
        like = 'metric="dotproduct", vector_type="sparse"'
    else:
        metric = _METRICS.get(vector.distance or Distance.COSINE, "cosine")
        like = f'dimension={vector.size or "…"}, metric="{metric}"'
    return (
        f'Pinecone().indexes.create(name="…", {like},'
        ' spec=ServerlessSpec(cloud="aws", region="us-east-1"))'
    )
