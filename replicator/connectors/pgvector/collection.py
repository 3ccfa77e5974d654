"""
Collections as a whole: make one ready for a copy, mark one, empty one.

Our marks are rows of a table of ours, by the number that the database gave the table (its oid).
A table that was dropped and restored from a dump has another one: it bears no mark then, and is
known for what it is. A comment on the table would have come back with the dump, and vouched for
rows of another day.

What columns mean stands in comments on them, which a dump is to bring back.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from replicator.codecs.rules import check_collection
from replicator.connectors.pgvector import indexes
from replicator.connectors.pgvector.catalogue import Extension, read_extension
from replicator.connectors.pgvector.connections import COUNT_S, Connections, Session
from replicator.connectors.pgvector.kind import MARKS, NAME_BYTES_MAX, PGVECTOR
from replicator.connectors.pgvector.reading import count
from replicator.connectors.pgvector.statements import literal, quoted, statement
from replicator.connectors.pgvector.table import PAYLOAD, SPARSE_DIMENSIONS, Said, Table
from replicator.connectors.pgvector.tables import Tables
from replicator.errors import Refused
from replicator.model.schema import (
    CollectionSchema,
    Distance,
    IdKinds,
    Mark,
    Precision,
    VectorKind,
    VectorSchema,
)

KEY = "id"
EMBEDDING = "embedding"

_KEY_TYPES = {
    IdKinds.UINT64: "bigint",
    IdKinds.UUID: "uuid",
    # The order of bytes is the same on every machine, and the cheapest.
    IdKinds.STRING: 'text COLLATE "C"',
}
_HALVES_SINCE = (0, 7)


class _Marked(msgspec.Struct, frozen=True):
    mark: Mark | None = None
    made: bool = False
    finished: bool = True


class Collections:
    """The tables of one schema."""

    def __init__(self, connections: Connections, tables: Tables, schema: str) -> None:
        self._connections = connections
        self._tables = tables
        self._schema = schema
        self._marks = quoted(schema, MARKS)

    async def names(self) -> list[str]:
        """The tables of the schema that hold vectors, sorted."""
        async with self._connections.reading() as session:
            found = await session.rows(statement("names"), self._schema)
        return sorted(row[0] for row in found)

    async def describe(self, name: str) -> CollectionSchema | None:
        """The schema with an exact count, or None."""
        try:
            async with self._connections.reading(COUNT_S) as session:
                table = await self._tables.find(session, name, fresh=True)
                if table is None:
                    return None
                marked = await self._marked(session, table)
                return _described(table, marked, await count(session, table))
        except Refused as exc:
            if exc.code == "source-missing":
                return None  # it was dropped meanwhile
            raise

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """As `Foresight.foresee`."""
        check_collection(wanted, PGVECTOR.traits.vectors)
        async with self._connections.reading() as session:
            table = await self._tables.find(session, wanted.name, fresh=True)
            if table is not None:
                _check_conflicts(table, wanted)
                return _described(table, await self._marked(session, table), None)
            _check_version(await _extension(session), wanted)
        planned = indexes.plan(wanted)
        facts = PGVECTOR.traits.facts()
        facts["ids"] = PGVECTOR.traits.ids.of_collection(wanted.ids)
        return msgspec.structs.replace(planned, points=0, made=True, **facts)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """As `StoreWriter.ensure`. Raises Refused for a table that cannot hold the vectors, or
        holds points under another mark.
        """
        check_collection(wanted, PGVECTOR.traits.vectors)
        async with self._connections.writing(COUNT_S) as session:
            table = await self._tables.find(session, wanted.name, fresh=True)
            if table is None:
                table = await self._make(session, wanted)
            _check_conflicts(table, wanted)
            if wanted.capture_id is None:
                return
            marked = await self._marked(session, table)
            present = None if marked.mark is None else marked.mark.capture_id
            if present == wanted.capture_id:
                return
            if await session.value(statement("has_rows", table=table.place)):
                raise Refused(
                    "target-not-empty",
                    f"{wanted.name} holds points and bears the mark {present!r}, not"
                    f" {wanted.capture_id!r}",
                )
            await self._put(session, table, Mark(wanted.capture_id))

    async def mark(self, name: str, mark: Mark) -> None:
        """As `StoreWriter.mark`."""
        async with self._connections.writing() as session:
            await self._put(session, await self._tables.target(session, name), mark)

    async def wipe(self, name: str) -> None:
        """Remove every row and the mark, both or neither. Raises Refused where other tables
        refer to its rows, which would go with them.
        """
        async with self._connections.writing() as session:
            table = await self._tables.find(session, name, fresh=True)
            if table is None:
                return
            await session.do(statement("truncate", table=table.place))
            if await self._are_marked(session):
                await session.rows(statement("take_mark", marks=self._marks), table.oid)

    async def configure(self, planned: CollectionSchema) -> None:
        """Make the indexes that waited for the end of the copy, as long as that takes."""
        async with self._connections.writing(0) as session:
            table = await self._tables.target(session, planned.name, fresh=True)
            for sql in indexes.missing(table, planned):
                await session.do(sql)
            if await self._are_marked(session):
                await session.rows(statement("put_finished", marks=self._marks), table.oid)

    async def finish_bulk(self, name: str) -> None:
        """Tell the planner of the server what the table holds now."""
        async with self._connections.writing(0) as session:
            table = await self._tables.target(session, name)
            await session.do(statement("analyze", table=table.place))

    async def _make(self, session: Session, wanted: CollectionSchema) -> Table:
        extension = await _extension(session)
        _check_version(extension, wanted)
        place = quoted(self._schema, wanted.name)
        vectors = wanted.vectors or {"": VectorSchema()}
        columns = dict(_columns(vectors))
        ids = PGVECTOR.traits.ids.of_collection(wanted.ids)
        declared = [f"{quoted(KEY)} {_KEY_TYPES[ids]} PRIMARY KEY"]
        comments = {PAYLOAD: Said(payload=True)}
        for name, vector in vectors.items():
            declared.append(f"{quoted(columns[name])} {_type(vector, extension)}")
            comments[columns[name]] = Said(vector=name, distance=vector.distance)
        declared.append(f"{quoted(PAYLOAD)} jsonb NOT NULL DEFAULT '{{}}'")
        await session.do(statement("create_table", table=place, columns=", ".join(declared)))
        for column, said in comments.items():
            named = quoted(self._schema, wanted.name, column)
            text = literal(str(said))
            await session.do(statement("comment_on_column", column=named, text=text))
        table = await self._tables.target(session, wanted.name)
        await session.do(statement("create_marks", marks=self._marks))
        await session.rows(statement("put_made", marks=self._marks), table.oid, table.name)
        return table

    async def _put(self, session: Session, table: Table, mark: Mark) -> None:
        await session.do(statement("create_marks", marks=self._marks))
        await session.rows(
            statement("put_mark", marks=self._marks),
            table.oid,
            table.name,
            mark.capture_id,
            mark.epoch,
            mark.incarnation,
        )

    async def _are_marked(self, session: Session) -> bool:
        return bool(await session.value(statement("are_there_marks"), self._marks))

    async def _marked(self, session: Session, table: Table) -> _Marked:
        if not await self._are_marked(session):
            return _Marked()
        row = await session.row(statement("mark_of", marks=self._marks), table.oid)
        if row is None:
            return _Marked()
        capture_id, epoch, incarnation, made, finished = row
        mark = None if capture_id is None else Mark(capture_id, epoch, incarnation)
        return _Marked(mark, made, finished)


async def _extension(session: Session) -> Extension:
    extension = await read_extension(session)
    if extension is None:
        raise Refused(
            "unsupported",
            "the database has no extension `vector`: a superuser, or whoever may, runs CREATE"
            " EXTENSION vector",
        )
    return extension


def _described(table: Table, marked: _Marked, points: int | None) -> CollectionSchema:
    mark = marked.mark or Mark("")
    return msgspec.structs.replace(
        table.schema_of(points),
        capture_id=mark.capture_id or None,
        mark_epoch=mark.epoch,
        mark_incarnation=mark.incarnation,
        made=marked.made,
        unfinished=marked.made and not marked.finished,
    )


def _columns(vectors: dict[str, VectorSchema]) -> Iterator[tuple[str, str]]:
    """Name of each vector → its column: of the same name, where one can have it."""
    taken = {KEY, PAYLOAD, EMBEDDING}
    for number, name in enumerate(vectors):
        column = name or EMBEDDING
        fits = len(column.encode()) <= NAME_BYTES_MAX and "\0" not in column
        if name and (column in taken or not fits):
            column = f"{EMBEDDING}_{number}"
        taken.add(column)
        yield name, column


def _type(vector: VectorSchema, extension: Extension) -> str:
    name = quoted(extension.schema, indexes.TYPE_OF[vector.kind, vector.precision])
    if vector.kind is VectorKind.SPARSE:
        return f"{name}({SPARSE_DIMENSIONS})"
    return name if vector.size is None else f"{name}({vector.size})"


def _check_version(extension: Extension, wanted: CollectionSchema) -> None:
    for name, vector in (wanted.vectors or {}).items():
        new = (
            vector.kind is VectorKind.SPARSE
            or vector.precision is Precision.FLOAT16
            or vector.distance is Distance.MANHATTAN
        )
        if new and extension.numbers < _HALVES_SINCE:
            raise Refused(
                "unsupported",
                f"the vector {name!r} needs pgvector 0.7 (halfvec, sparsevec, L1), and the"
                f" database has {extension.version}",
            )


def _check_conflicts(table: Table, wanted: CollectionSchema) -> None:
    conflicts = []
    for name, vector in (wanted.vectors or {}).items():
        there = table.vectors.get(name)
        if there is None:
            conflicts.append(
                f"it has no vector {name!r}, which `vectors` of its options may name"
            )
            continue
        held = there.schema
        if held.kind is not vector.kind:
            conflicts.append(f"the vector {name!r} is {held.kind.value}")
        if None not in (held.size, vector.size) and held.size != vector.size:
            conflicts.append(
                f"the vector {name!r} has {held.size} dimensions, not {vector.size}"
            )
        if None not in (held.distance, vector.distance) and held.distance != vector.distance:
            conflicts.append(
                f"the vector {name!r} is compared by {held.distance.value}"  # type: ignore[union-attr]
            )
    if conflicts:
        raise Refused("target-incompatible", f"{table.name}: {'; '.join(conflicts)}")
