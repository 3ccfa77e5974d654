"""From a person's own table, of columns, to Qdrant and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import asyncpg
from msgspec.structs import replace

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records, connect, float32
from tests.matrix.access import DIMENSION, Access, Ids
from tests.matrix.play import play
from tests.matrix.stores.pgvector import PGVECTOR, TableAccess
from tests.matrix.stores.qdrant import QDRANT, QdrantAccess

FIELDS = ("title", "n", "score", "draft", "tags")


class ColumnsAccess(TableAccess):
    """Every field of the payload is a column, and the database adds one by itself."""

    options: ClassVar[Document] = {"distance": "dot"}

    async def create(self, name: str, ids: Ids) -> None:
        assert ids is Ids.INTEGER
        await self._pool.execute(
            f'CREATE TABLE "{name}" (id bigint PRIMARY KEY, title text NOT NULL, n int,'
            f" score float8, draft boolean, tags text[], embedding vector({DIMENSION}),"
            " words int GENERATED ALWAYS AS (length(title)) STORED)"
        )

    async def write(self, name: str, records: Records) -> None:
        rows = [
            (each, str(list(image.vector)), *(image.payload.get(field) for field in FIELDS))
            for each, image in records.items()
        ]
        await self._pool.executemany(
            f'INSERT INTO "{name}" (id, embedding, {", ".join(FIELDS)}) VALUES'
            " ($1, $2::text::vector, $3, $4, $5, $6, $7) ON CONFLICT (id) DO UPDATE SET"
            f" {', '.join(f'{each} = EXCLUDED.{each}' for each in ('embedding', *FIELDS))}",
            rows,
        )

    async def patch(
        self, name: str, point_id: Id, changed: Document, gone: Sequence[str], whole: Image
    ) -> None:
        unset = ", ".join(f"{field} = NULL" for field in gone)
        await self._pool.execute(
            f'UPDATE "{name}" SET title = $2, {unset} WHERE id = $1',
            *(point_id, changed["title"]),
        )

    async def read(self, name: str) -> Records:
        rows = await self._pool.fetch(
            f'SELECT id, embedding::text, {", ".join(FIELDS)} FROM "{name}"'
        )
        return {
            row["id"]: Image(
                float32(json.loads(row["embedding"])),
                {field: row[field] for field in FIELDS if row[field] is not None},
            )
            for row in rows
        }


class CountedAccess(QdrantAccess):
    """The target of it: the table counts the words, as far as the copy saw it."""

    async def read(self, name: str) -> Records:
        found = await super().read(name)
        for image in found.values():
            image.payload.pop("words", None)
        return found


@asynccontextmanager
async def columns(address: str, _: Path) -> AsyncIterator[Access]:
    pool = await asyncpg.create_pool(address, min_size=0, max_size=4)
    yield ColumnsAccess(address, pool)
    await pool.close()


@asynccontextmanager
async def counted(address: str, _: Path) -> AsyncIterator[Access]:
    client = connect(address)
    yield CountedAccess(address, client)
    await client.close()


async def test_a_live_application_moves_from_a_table_to_qdrant_and_back(
    stores: tuple[str, str], postgres_dsn: str, tmp_path: Path
) -> None:
    table = replace(PGVECTOR, opened=columns, nested=False)
    qdrant = replace(QDRANT, opened=counted)
    told = await play(tmp_path, (table, postgres_dsn), (qdrant, stores[1]), points=600)
    assert told["live"]
