"""
Searches, for the comparison of quality.

By the index of the column where there is one, which then looks at as many candidates as are
asked for, and goes on where a filter left too few (pgvector 0.8). An exact search asks for an
order that the index does not have.
"""

from __future__ import annotations

from typing import Any

from replicator.connectors.pgvector.connections import Connections
from replicator.connectors.pgvector.filters import write_filter
from replicator.connectors.pgvector.rows import key_of
from replicator.connectors.pgvector.statements import quoted, statement
from replicator.connectors.pgvector.table import OPERATORS, Table, Vectors
from replicator.connectors.pgvector.tables import Tables
from replicator.connectors.pgvector.vectors import text_of
from replicator.errors import Refused
from replicator.model.filter import parse_search_filter
from replicator.model.point import MultiVector, SparseVector
from replicator.model.schema import Distance, IndexKind, VectorKind
from replicator.model.search import Hit, Query

_CANDIDATES = 40
"""What HNSW looks at where nobody says, and so the most that it finds."""

_CANDIDATES_MAX = 1_000
_ITERATIVE_SINCE = (0, 8)


class Searching:
    """Searches of one database."""

    def __init__(self, connections: Connections, tables: Tables) -> None:
        self._connections = connections
        self._tables = tables

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """As `StoreSearcher.search`."""
        async with self._connections.reading() as session:
            table = await self._tables.source(session, collection, fresh=True)
            column, distance = _asked(table, query)
            if settings := _settings(table, column, query):
                await session.do("; ".join(settings))
            values: list[Any] = [text_of(query.vector, column.size)]
            where = "TRUE"
            if query.filter:
                where = write_filter(parse_search_filter(query.filter), table, values)
            sql = statement(
                "nearest",
                key=key_of(table),
                column=quoted(column.column),
                operator=f"{quoted(table.extension.schema)}.{OPERATORS[distance][1]}",
                type=table.of_extension(column.type),
                table=table.place,
                where=where,
                exactly="+ 0" if query.exact else "",
                rows=str(query.limit),
            )
            rows = await session.rows(sql, *values)
        return [Hit(row["key"], -float(row["distance"])) for row in rows]


def _asked(table: Table, query: Query) -> tuple[Vectors, Distance]:
    column = table.vectors.get(query.using)
    if column is None:
        raise Refused("bad-request", f"{table.name} has no vector {query.using!r}")
    kind = VectorKind.SPARSE if isinstance(query.vector, SparseVector) else VectorKind.DENSE
    if isinstance(query.vector, MultiVector) or kind is not column.schema.kind:
        raise Refused("bad-request", f"the vector {query.using!r} is of another kind")
    if column.schema.distance is None:
        raise Refused(
            "unsupported",
            f"no index of {table.name!r} says by what the vector {query.using!r} is compared",
        )
    return column, column.schema.distance


def _settings(table: Table, column: Vectors, query: Query) -> list[str]:
    if query.exact or column.schema.index.kind is not IndexKind.HNSW:
        return []
    told = []
    if query.limit > _CANDIDATES:
        told.append(f"SET LOCAL hnsw.ef_search = {min(query.limit, _CANDIDATES_MAX)}")
    if table.extension.numbers >= _ITERATIVE_SINCE:
        told.append("SET LOCAL hnsw.iterative_scan = strict_order")
    return told
