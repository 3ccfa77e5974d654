"""
Indexes of vectors: which one a collection is planned with, and how it is made.

It is made after the copy, when that takes a fraction of the time that growing it row by row
takes. pgvector builds none for more dimensions than fit on a page of it, and none for sparse
vectors of more than 1,000 values; such columns are searched by looking at all, which the plan
says as `flat`, so that it is named before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from replicator.connectors.pgvector.kind import PGVECTOR
from replicator.connectors.pgvector.statements import quoted, statement
from replicator.connectors.pgvector.table import (
    DEFAULTS,
    OPERATORS,
    OPTIONS,
    TYPES,
    Table,
    Vectors,
)
from replicator.model.configuration import neutral
from replicator.model.schema import (
    CollectionSchema,
    IndexKind,
    Precision,
    VectorIndex,
    VectorKind,
    VectorSchema,
)

DIMENSIONS_MAX = {Precision.FLOAT32: 2_000, Precision.FLOAT16: 4_000}
"""Of an index (HNSW_MAX_DIM, IVFFLAT_MAX_DIM of pgvector), by what its column keeps."""

_FLAT = VectorIndex(kind=IndexKind.FLAT)
_METHODS = {IndexKind.HNSW: "hnsw", IndexKind.IVF: "ivfflat"}
_WITHIN = {"m": (2, 100), "ef_construction": (4, 1000), "lists": (1, 32_768)}
"""What pgvector takes for each; more or less is the nearest of these, and named as a loss."""

TYPE_OF = {kept: name for name, kept in TYPES.items()}
"""Kind and precision of a vector → the type of its column."""


def plan(wanted: CollectionSchema) -> CollectionSchema:
    """As `Planner.plan`. Fields of a payload have no index of their own here."""
    made = neutral(wanted, PGVECTOR.traits.vectors)
    given = wanted.vectors or {"": VectorSchema()}
    planned = made.vectors or given
    vectors = {
        name: msgspec.structs.replace(
            vector, index=_planned(vector, given[name].index), required=False
        )
        for name, vector in planned.items()
    }
    return msgspec.structs.replace(made, vectors=vectors, indexes={})


def _planned(vector: VectorSchema, asked: VectorIndex) -> VectorIndex:
    kind = asked.kind or IndexKind.HNSW
    if vector.kind is not VectorKind.DENSE:
        return VectorIndex()
    if (
        kind is IndexKind.FLAT
        or vector.size is None
        or vector.size > DIMENSIONS_MAX[vector.precision]
        or vector.distance is None
    ):
        return _FLAT
    words: dict[str, int] = {}
    for word in OPTIONS[kind]:
        given = getattr(asked, word)
        least, most = _WITHIN[word]
        words[word] = (
            getattr(DEFAULTS[kind], word) if given is None else min(max(given, least), most)
        )
    if kind is IndexKind.HNSW:
        words["ef_construction"] = max(words["ef_construction"], 2 * words["m"])
    return msgspec.structs.replace(DEFAULTS[kind], **words)


def missing(table: Table, planned: CollectionSchema) -> Iterator[str]:
    """The statements that make what indexes the plan has and the table has not."""
    for name, vector in (planned.vectors or {}).items():
        there = table.vectors.get(name)
        if there is not None and _lacks(there, vector):
            yield _statement(table, there, vector)


def _lacks(there: Vectors, planned: VectorSchema) -> bool:
    """One that a person made there, with another method or other numbers, is theirs."""
    wants = planned.index.kind in _METHODS and planned.distance is not None
    return wants and there.schema.index.kind not in _METHODS


def _statement(table: Table, there: Vectors, planned: VectorSchema) -> str:
    index, distance = planned.index, planned.distance
    assert index.kind is not None
    assert distance is not None
    options = ", ".join(f"{word} = {getattr(index, word)}" for word in OPTIONS[index.kind])
    word, _ = OPERATORS[distance]
    return statement(
        "create_index",
        table=table.place,
        method=_METHODS[index.kind],
        column=quoted(there.column),
        operators=table.of_extension(f"{there.type}_{word}_ops"),
        options=f"WITH ({options})",
    )
