"""PostgreSQL with pgvector, by asyncpg and in SQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import asyncpg

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, float32
from tests.matrix.access import DIMENSION, Access, Entry, Ids
from tests.plugins.postgres import PostgresServer

_TYPES = {Ids.INTEGER: "bigint", Ids.UUID: "uuid", Ids.TEXT: "text"}


class TableAccess:
    """Tables of a key, a vector and a jsonb column, as the replicator makes them too."""

    options: ClassVar[Document] = {"payload": "payload", "distance": "dot"}

    def __init__(self, dsn: str, pool: Any) -> None:
        self.section: Document = {"kind": "pgvector", "dsn": dsn, "late_write_bound": "500ms"}
        self._pool = pool

    async def create(self, name: str, ids: Ids) -> None:
        await self._pool.execute(
            f'CREATE TABLE "{name}" (id {_TYPES[ids]} PRIMARY KEY,'
            f" embedding vector({DIMENSION}), payload jsonb)"
        )

    async def _key(self, name: str) -> str:
        """The type of a table's key, whoever made it."""
        return str(
            await self._pool.fetchval(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = $1::text::regclass AND attname = 'id'",
                f'"{name}"',
            )
        )

    async def write(self, name: str, records: Records) -> None:
        rows = [
            (str(each), str(list(image.vector)), json.dumps(image.payload))
            for each, image in records.items()
        ]
        await self._pool.executemany(
            f'INSERT INTO "{name}" (id, embedding, payload) VALUES'
            f" ($1::text::{await self._key(name)}, $2::text::vector, $3::text::jsonb)"
            " ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding,"
            " payload = EXCLUDED.payload",
            rows,
        )

    async def patch(
        self,
        name: str,
        point_id: Id,
        changed: Document,
        gone: Sequence[str],
        whole: Image,
    ) -> None:
        await self._pool.execute(
            f'UPDATE "{name}" SET payload = (payload - $2::text[]) || $3::text::jsonb'
            f" WHERE id = $1::text::{await self._key(name)}",
            *(str(point_id), list(gone), json.dumps(changed)),
        )

    async def delete(self, name: str, point_id: Id) -> None:
        await self._pool.execute(
            f'DELETE FROM "{name}" WHERE id = $1::text::{await self._key(name)}', str(point_id)
        )

    async def read(self, name: str) -> Records:
        is_number = await self._key(name) == "bigint"
        rows = await self._pool.fetch(
            f'SELECT id::text, embedding::text, payload::text FROM "{name}"'
        )
        return {
            int(row["id"]) if is_number else row["id"]: Image(
                float32(json.loads(row["embedding"])), json.loads(row["payload"])
            )
            for row in rows
        }

    async def drop(self, name: str) -> None:
        await self._pool.execute(f'DROP TABLE IF EXISTS "{name}"')


@contextmanager
def started(_: Path) -> Iterator[str]:
    server = PostgresServer()
    try:
        server.start()
        yield server.database()
    finally:
        server.remove()


@asynccontextmanager
async def opened(address: str, _: Path) -> AsyncIterator[Access]:
    pool = await asyncpg.create_pool(address, min_size=0, max_size=4)
    try:
        yield TableAccess(address, pool)
    finally:
        await pool.close()


PGVECTOR = Entry(
    kind="pgvector",
    fixture="postgres_dsn",
    started=started,
    opened=opened,
    ids=Ids.INTEGER,
    accepts=frozenset(Ids),
    mixed=False,
    nested=True,
    needs_schema=True,
    losses=("loss-vector-index",),  # these tables have none, and are looked through
)
