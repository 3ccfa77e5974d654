"""What stands in the way, of reading and of writing, as the database tells before it is asked
to do either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replicator.connectors.pgvector.catalogue import read_extension
from replicator.connectors.pgvector.connections import Connections
from replicator.connectors.pgvector.kind import PgvectorSettings
from replicator.connectors.pgvector.statements import statement
from replicator.connectors.pgvector.table import Table
from replicator.connectors.pgvector.tables import Tables
from replicator.errors import ReplicatorError
from replicator.model.finding import Severity

Told = tuple[Severity, str, str]

_SERVER_SINCE = 140_000
_SOUND_SINCE = (0, 8, 3)
_UNSOUND = (
    "an HNSW index of pgvector below 0.8.3 can be corrupted by a vacuum, and its parallel build"
    " below 0.8.2 writes beyond its memory: the database has {version}"
)


async def check(
    connections: Connections, settings: PgvectorSettings, tables: Tables
) -> list[Told]:
    """As `SelfCheck.check`, of the collections too whose options are known."""
    try:
        async with connections.reading() as session:
            server = await session.row(statement("server"), settings.schema)
            extension = await read_extension(session)
            told = list(_of_server(settings, server["version"], server["standby"]))
            if not server["schema"]:
                message = f"the database has no schema {settings.schema!r}"
                told.append((Severity.BLOCKS, "store-refused", message))
            if extension is None:
                message = "the database has no extension `vector`; run CREATE EXTENSION vector"
                return [*told, (Severity.BLOCKS, "unsupported", message)]
            if extension.numbers < _SOUND_SINCE:
                message = _UNSOUND.format(version=extension.version)
                told.append((Severity.WARNS, "unsupported", message))
            for name in tables.options:
                told += _of_table(await tables.find(session, name))
    except ReplicatorError as exc:
        return [(Severity.BLOCKS, exc.code, exc.message)]
    return told


def _of_server(settings: PgvectorSettings, version: int, standby: bool) -> Iterator[Told]:
    if version < _SERVER_SINCE:
        message = f"PostgreSQL 14 or newer is needed, and this is {version // 10_000}"
        yield Severity.BLOCKS, "unsupported", message
    if standby and not settings.staleness:
        message = (
            "the server is a standby, which shows what its primary had some time ago; set"
            " `staleness`, or name the primary"
        )
        yield Severity.WARNS, "unsupported", message


def _of_table(table: Table | None) -> Iterator[Told]:
    if table is not None and table.left:
        message = (
            f"of {table.name!r} the columns {', '.join(table.left)} are neither key, vector nor"
            " payload, and stay behind"
        )
        yield Severity.INFORMS, "unsupported", message


async def check_writing(
    connections: Connections, settings: PgvectorSettings, tables: Tables, names: Sequence[str]
) -> list[Told]:
    """As `WriteCheck.check_writing`."""
    told: list[Told] = []
    try:
        async with connections.reading() as session:
            may = await session.row(statement("may_write"), settings.schema)
            if not may["temporary"]:
                message = "this role may not make temporary tables (TEMP on the database)"
                told.append((Severity.BLOCKS, "permission-denied", message))
            if not may["make"]:
                message = f"this role may make no tables in the schema {settings.schema!r}"
                told.append((Severity.WARNS, "permission-denied", message))
            if may["read_only"]:
                message = "the server takes no writes: it is a standby, or set to read only"
                told.append((Severity.BLOCKS, "store-refused", message))
            for name in names:
                table = await tables.find(session, name)
                if table is None:
                    continue
                sql = statement("may_write_table")
                lacking = [row[0] for row in await session.rows(sql, table.oid)]
                if lacking:
                    message = f"this role may not {', '.join(lacking)} in {name!r}"
                    told.append((Severity.BLOCKS, "permission-denied", message))
                told += _of_keys(table)
    except ReplicatorError as exc:
        told.append((Severity.WARNS, exc.code, exc.message))
    return told


def _of_keys(table: Table) -> Iterator[Told]:
    if table.key.counted:
        message = (
            f"ids of {table.name!r} come from a sequence, which does not follow the rows that"
            " are copied: set it above the largest id (setval) before the application writes"
            " there"
        )
        yield Severity.WARNS, "id-collision", message
