"""
Which column of a table is what: the key, vectors, the payload.

Options say so first, then comments that we left on the columns of a table that we made, then
the table itself: its primary key, the types of its columns. So a table that a person made needs
neither, and one of ours is read as it was written, whatever columns are added to it later.

A dump carries the comments, so that a restored table is read like the one that was dumped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from replicator.connectors.pgvector.catalogue import (
    Column,
    Extension,
    Index,
    Relation,
    read_extension,
    read_relation,
)
from replicator.connectors.pgvector.connections import Session
from replicator.connectors.pgvector.kind import PGVECTOR, PgvectorOptions
from replicator.connectors.pgvector.statements import quoted
from replicator.errors import Refused
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    IdLimits,
    IndexKind,
    Precision,
    VectorIndex,
    VectorKind,
    VectorSchema,
)

SPARSE_DIMENSIONS = PGVECTOR.traits.vectors.sparse_dimensions_max
PAYLOAD = "payload"
_COMMENT = re.compile(r"replicator (\{.*\})")

_INTEGERS = {"int2": 15, "int4": 31, "int8": 63}
_KEYS = {
    **dict.fromkeys(_INTEGERS, (IdKinds.UINT64, "bigint")),
    **dict.fromkeys(("text", "varchar"), (IdKinds.STRING, "text")),
    "uuid": (IdKinds.UUID, "uuid"),
}
"""Type of a column → the ids it holds, and the type they travel as."""

TYPES = {
    "vector": (VectorKind.DENSE, Precision.FLOAT32),
    "halfvec": (VectorKind.DENSE, Precision.FLOAT16),
    "sparsevec": (VectorKind.SPARSE, Precision.FLOAT32),
}
"""Type of a column → the vectors it holds."""

OPERATORS = {
    Distance.EUCLID: ("l2", "<->"),
    Distance.DOT: ("ip", "<#>"),
    Distance.COSINE: ("cosine", "<=>"),
    Distance.MANHATTAN: ("l1", "<+>"),
}
"""Distance → its word in the names of operator classes, and its operator."""

_METHODS = {"hnsw": IndexKind.HNSW, "ivfflat": IndexKind.IVF}
OPTIONS = {IndexKind.HNSW: ("m", "ef_construction"), IndexKind.IVF: ("lists",)}
"""What an index is told, as pgvector and the neutral words call it."""

DEFAULTS = {
    IndexKind.HNSW: VectorIndex(kind=IndexKind.HNSW, m=16, ef_construction=64),
    IndexKind.IVF: VectorIndex(kind=IndexKind.IVF, lists=100),
}
"""What pgvector takes for an index where nobody says."""

_TABLES = ("r", "p")


class Said(msgspec.Struct, frozen=True):
    """What a comment of ours says of a column."""

    vector: str | None = None
    distance: Distance | None = None
    payload: bool = False

    def __str__(self) -> str:
        said = {k: v for k, v in msgspec.structs.asdict(self).items() if v not in (None, False)}
        return f"replicator {msgspec.json.encode(said).decode()}"


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """A column of vectors."""

    column: str
    type: str
    size: int | None
    """Dimensions; of sparse ones, those that their indices are below."""
    schema: VectorSchema


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table as a collection."""

    schema: str
    name: str
    oid: int
    extension: Extension
    key: Column
    ids: IdKinds
    key_type: str
    """bigint, text or uuid: what ids travel as."""
    id_limits: IdLimits
    vectors: dict[str, Vectors]
    payload: str | None
    """The jsonb column that is the payload; None where `fields` are."""
    fields: dict[str, Column]
    left: tuple[str, ...]
    """Columns that are nothing of a point."""

    @property
    def place(self) -> str:
        """Its name in SQL."""
        return quoted(self.schema, self.name)

    def of_extension(self, name: str) -> str:
        """A type, function or operator class of pgvector, in SQL."""
        return quoted(self.extension.schema, name)

    def schema_of(self, points: int | None = None) -> CollectionSchema:
        """What the table says of itself."""
        facts = PGVECTOR.traits.facts()
        facts |= {"ids": self.ids, "id_limits": self.id_limits}
        facts["null_is_absence"] = self.payload is None
        vectors = {name: each.schema for name, each in self.vectors.items()}
        return CollectionSchema(name=self.name, vectors=vectors, points=points, **facts)


async def find_table(
    session: Session, schema: str, name: str, options: PgvectorOptions
) -> Table | None:
    """
    The table as it is now; None where there is none. Raises Refused("unsupported") for one that
    cannot be a collection, and says why.
    """
    relation = await read_relation(session, schema, name)
    if relation is None:
        return None
    extension = await read_extension(session)
    if extension is None:
        raise Refused("unsupported", "the database has no extension `vector`")
    try:
        return _table(schema, name, relation, extension, options)
    except _Unfit as exc:
        raise Refused("unsupported", f"the table {name!r} {exc}") from None


class _Unfit(Exception):
    """Why a relation is no collection."""


def _table(
    schema: str, name: str, relation: Relation, extension: Extension, options: PgvectorOptions
) -> Table:
    if relation.kind not in _TABLES:
        raise _Unfit("is a view or a foreign table, whose rows have no key")
    if relation.parent:
        raise _Unfit("has tables that inherit from it, so that its key is not unique")
    columns = {column.name: column for column in relation.columns}
    for chosen in filter(None, (options.key, options.payload, *options.vectors)):
        if chosen not in columns:
            raise _Unfit(f"has no column {chosen!r}, which the options name")
    key = _key(relation, columns, options.key)
    ids, key_type = _KEYS[key.type]
    vectors = _vectors(relation, extension, options)
    taken = {key.name, *(each.column for each in vectors.values())}
    rest = [column for column in relation.columns if column.name not in taken]
    payload = _payload(rest, options.payload)
    own = {
        column.name: column
        for column in rest
        if payload is None and not column.generated and not _holds_vectors(column, extension)
    }
    return Table(
        schema=schema,
        name=name,
        oid=relation.oid,
        extension=extension,
        key=key,
        ids=ids,
        key_type=key_type,
        id_limits=_limits(key),
        vectors=vectors,
        payload=payload,
        fields=own,
        left=tuple(c.name for c in rest if c.name != payload and c.name not in own),
    )


def _key(relation: Relation, columns: dict[str, Column], chosen: str) -> Column:
    unique = [index for index in relation.indexes if index.unique and index.whole]
    if chosen:
        if [chosen] not in [index.columns for index in unique]:
            raise _Unfit(f"has no unique index on {chosen!r} alone, which is to be the key")
        if not columns[chosen].required:
            raise _Unfit(f"has a key {chosen!r} that may be NULL")
        found = columns[chosen]
    else:
        primary = next((index for index in unique if index.primary), None)
        if primary is None:
            raise _Unfit(
                "has no primary key (or a deferrable one); name a unique column as `key`"
            )
        if len(primary.columns) != 1:
            listed = ", ".join(map(str, primary.columns))
            raise _Unfit(
                f"has a primary key of several columns ({listed}), and an id is one value; add"
                " a unique column, and name it as `key`"
            )
        found = columns[str(primary.columns[0])]
    if found.type not in _KEYS or found.place != "pg_catalog":
        raise _Unfit(f"has a key of type {found.type}; it must be an integer, text or uuid")
    if not found.exact:
        raise _Unfit(
            f"has a key {found.name!r} whose collation takes different texts for equal"
        )
    return found


def _limits(key: Column) -> IdLimits:
    limits = PGVECTOR.traits.ids.limits
    if (bits := _INTEGERS.get(key.type)) is None:
        return limits
    return msgspec.structs.replace(
        limits, integer_min=-(1 << bits), integer_max=(1 << bits) - 1
    )


def _vectors(
    relation: Relation, extension: Extension, options: PgvectorOptions
) -> dict[str, Vectors]:
    there = {
        column.name: column
        for column in relation.columns
        if _holds_vectors(column, extension) and not column.generated
    }
    if options.vectors:
        for chosen in options.vectors:
            if chosen not in there:
                raise _Unfit(
                    f"has a column {chosen!r} that holds no vectors such as there are here"
                    " (vector, halfvec, sparsevec; a bit string is none)"
                )
        names = dict(options.vectors)
    else:
        names = {
            name: said.vector
            for name, column in there.items()
            if (said := read_comment(column)).vector is not None
        } or (dict.fromkeys(there, "") if len(there) == 1 else {name: name for name in there})
    if len(set(names.values())) < len(names):
        raise _Unfit("has two columns that are to be one vector")
    return {
        vector: _of_column(there[name], relation.indexes, options.distance)
        for name, vector in names.items()
    }


def _holds_vectors(column: Column, extension: Extension) -> bool:
    return column.type in TYPES and column.place == extension.schema


def _of_column(column: Column, indexes: list[Index], told: str) -> Vectors:
    kind, precision = TYPES[column.type]
    size = column.modifier if column.modifier > 0 else None
    distance, index = _index_of(column, indexes)
    if distance is None and told:
        distance = Distance(told)
    sparse = kind is VectorKind.SPARSE
    return Vectors(
        column=column.name,
        type=column.type,
        size=size or (SPARSE_DIMENSIONS if sparse else None),
        schema=VectorSchema(
            kind=kind,
            size=None if sparse else size,
            distance=distance,
            required=column.required,
            precision=precision,
            # Of sparse vectors other stores have no such word.
            index=VectorIndex() if sparse else index,
        ),
    )


def _index_of(column: Column, indexes: list[Index]) -> tuple[Distance | None, VectorIndex]:
    """By what the vectors of a column are compared, as its indexes say, or our comment."""
    found = dict(_indexed(column, indexes))
    said = read_comment(column).distance
    if said in found or not found:
        return said, found.get(said, VectorIndex(kind=IndexKind.FLAT))
    if len(found) == 1:
        [(distance, words)] = found.items()
        return distance, words
    return None, VectorIndex()  # several, and nobody says which


def _indexed(
    column: Column, indexes: list[Index]
) -> Iterator[tuple[Distance | None, VectorIndex]]:
    for index in indexes:
        kind = _METHODS.get(index.method)
        if kind is None or not index.whole or index.columns[0] != column.name:
            continue
        for distance, (word, _) in OPERATORS.items():
            if index.operators == f"{column.type}_{word}_ops":
                told = dict(option.split("=", 1) for option in index.options)
                words = {word: int(told[word]) for word in OPTIONS[kind] if word in told}
                yield distance, msgspec.structs.replace(DEFAULTS[kind], **words)


def _payload(rest: list[Column], chosen: str) -> str | None:
    for column in rest:
        if column.name == chosen or (not chosen and read_comment(column).payload):
            if (column.type, column.place) != ("jsonb", "pg_catalog"):
                raise _Unfit(f"has a column {column.name!r} that is no jsonb")
            return column.name
    if chosen:
        raise _Unfit(f"has a column {chosen!r} that is key or vector, and no payload")
    if [(column.name, column.type) for column in rest] == [(PAYLOAD, "jsonb")]:
        return PAYLOAD
    return None


def read_comment(column: Column) -> Said:
    """What we said of a column, or nothing."""
    match = _COMMENT.fullmatch(column.comment or "")
    if match is None:
        return Said()
    try:
        return msgspec.json.decode(match[1], type=Said)
    except msgspec.MsgspecError:
        return Said()
