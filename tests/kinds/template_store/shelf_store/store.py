"""
A SQLite file as a store.

All work is done by one thread, in the order of the calls: a call that was cancelled is carried
out before anything that is asked for later, which is why no write may land late.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from typing import TypeVar
from zlib import crc32

import msgspec

from replicator.codecs.rules import check_collection, check_write
from replicator.errors import Refused, Rejected, Unavailable
from replicator.model.point import Payload, Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, Mark, VectorSchema
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Delete, Patch, Receipt, Write, WriteBatch
from replicator.ports.store import Page, RejectedRow
from shelf_store.kind import SHELF
from shelf_store.nearest import nearest

T = TypeVar("T")
Row = tuple[str, bytes, bytes]
"""Id, vector and payload."""

_FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)

_SLOTS = 64
"""What a chunk is made of: a key's slot is a function of its id, so that chunks stay right
whatever is written later. More would allow more readers than one file can feed."""

_POINT = "SELECT id, vector, payload FROM points WHERE collection = ?"


class ShelfStore:
    """The port Store over one file."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shelf")
        self._file: sqlite3.Connection | None = None

    @property
    def traits(self) -> Traits:
        return SHELF.traits

    @property
    def staleness_s(self) -> float:
        return 0.0

    @property
    def late_write_bound_s(self) -> float:
        """See the top of this file."""
        return 0.0

    # -- reading
    async def collections(self) -> list[str]:
        def look(file: sqlite3.Connection) -> list[str]:
            rows = file.execute("SELECT name FROM collections").fetchall()
            return sorted(name for [name] in rows)

        return await self._do(look)

    async def describe(self, collection: str) -> CollectionSchema | None:
        return await self._do(lambda file: _described(file, collection))

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        await self._do(lambda file: _existing(file, collection))
        parts = min(parts, _SLOTS)
        edges = [_SLOTS * part // parts for part in range(parts + 1)]
        return [
            Chunk(number=part, collection=collection, spec=f"{edges[part]}-{edges[part + 1]}")
            for part in range(parts)
        ]

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncIterator[Page]:
        """In the order of ids; the cursor is the last one."""
        low, high = map(int, chunk.spec.split("-"))
        query = f"{_POINT} AND slot >= ? AND slot < ? AND id > ? ORDER BY id LIMIT ?"

        def read(file: sqlite3.Connection, after: str) -> list[Row]:
            _existing(file, chunk.collection)
            asked = (chunk.collection, low, high, after, page_rows)
            return file.execute(query, asked).fetchall()

        last = after or ""
        while True:
            rows = await self._do(partial(read, after=last))
            ends = len(rows) < page_rows
            last = last if ends else rows[-1][0]
            yield _page(chunk.collection, rows, None if ends else last)
            if ends:
                return

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        def read(file: sqlite3.Connection) -> dict[PointId, Point]:
            _existing(file, collection)
            found = (_held(file, collection, point_id) for point_id in ids)
            return {point.id: point for point in found if point is not None}

        return await self._do(read)

    async def count(self, collection: str) -> int | None:
        return (await self._do(lambda file: _existing(file, collection))).points

    async def search(self, collection: str, query: Query) -> list[Hit]:
        def look(file: sqlite3.Connection) -> list[Hit]:
            [vector] = (_existing(file, collection).vectors or {}).values()
            rows = file.execute(_POINT, (collection,)).fetchall()
            points = _page(collection, rows, None).points
            return nearest(points, query, vector.distance or Distance.COSINE)

        return await self._do(look)

    # -- writing
    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """So that `check` finds beforehand what `ensure` would refuse."""
        return await self._do(lambda file: _described(file, wanted.name) or _made_of(wanted))

    async def ensure(self, wanted: CollectionSchema) -> None:
        def make(file: sqlite3.Connection) -> None:
            if _described(file, wanted.name) is None:
                [vector] = (_made_of(wanted).vectors or {}).values()
                distance = vector.distance.value if vector.distance else None
                file.execute(
                    "INSERT INTO collections (name, size, distance) VALUES (?, ?, ?)",
                    (wanted.name, vector.size, distance),
                )
            if wanted.capture_id is not None:
                file.execute(
                    "UPDATE collections SET capture_id = ? WHERE name = ?",
                    (wanted.capture_id, wanted.name),
                )

        await self._do(make)

    async def mark(self, collection: str, mark: Mark) -> None:
        def leave(file: sqlite3.Connection) -> None:
            _existing(file, collection)
            file.execute(
                "UPDATE collections SET capture_id = ?, mark_epoch = ?, mark_incarnation = ?"
                " WHERE name = ?",
                (mark.capture_id, mark.epoch, mark.incarnation, collection),
            )

        await self._do(leave)

    async def wipe(self, collection: str) -> None:
        def empty(file: sqlite3.Connection) -> None:
            file.execute("DELETE FROM points WHERE collection = ?", (collection,))
            file.execute(
                "UPDATE collections SET capture_id = NULL, mark_epoch = 0, mark_incarnation = 0"
                " WHERE name = ?",
                (collection,),
            )

        await self._do(empty)

    async def apply(self, batch: WriteBatch) -> Receipt:
        """One transaction: durable when it returns, and nothing of it when it fails."""

        def write(file: sqlite3.Connection) -> Receipt:
            schema = _existing(file, batch.collection)
            rejected: list[tuple[PointId, Rejected]] = []
            for one in batch.writes:
                try:
                    check_write(one, schema, self.traits)
                except Rejected as error:
                    rejected.append((one.id, error))
                    continue
                _carry_out(file, batch.collection, one)
            return Receipt(tuple(rejected))

        return await self._do(write)

    async def finish_bulk(self, collection: str) -> None:
        """There is no index to wait for."""

    async def close(self) -> None:
        def let_go() -> None:
            if self._file is not None:
                self._file.close()
                self._file = None

        await asyncio.get_running_loop().run_in_executor(self._thread, let_go)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Work in the thread and in a transaction, with errors translated."""

        def run() -> T:
            try:
                if self._file is None:
                    self._file = sqlite3.connect(
                        self._path, self._timeout_s, check_same_thread=False
                    )
                    sql = files("shelf_store").joinpath("schema.sql").read_text("utf-8")
                    self._file.executescript(sql)
                with self._file as file:
                    return work(file)
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode in _FORBIDDEN:
                    # No waiting mends it.
                    raise Refused("permission-denied", f"{self._path}: {exc}") from exc
                raise Unavailable("store-unavailable", f"{self._path}: {exc}") from exc

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def _described(file: sqlite3.Connection, collection: str) -> CollectionSchema | None:
    row = file.execute(
        "SELECT size, distance, capture_id, mark_epoch, mark_incarnation FROM collections"
        " WHERE name = ?",
        (collection,),
    ).fetchone()
    if row is None:
        return None
    size, distance, capture_id, epoch, incarnation = row
    [points] = file.execute(
        "SELECT count(*) FROM points WHERE collection = ?", (collection,)
    ).fetchone()
    vector = VectorSchema(
        size=size, distance=None if distance is None else Distance(distance), required=True
    )
    return CollectionSchema(
        name=collection,
        vectors={"": vector},
        points=points,
        capture_id=capture_id,
        mark_epoch=epoch,
        mark_incarnation=incarnation,
        **SHELF.traits.facts(),
    )


def _made_of(wanted: CollectionSchema) -> CollectionSchema:
    """The collection that `ensure` makes. Raises Refused for one that a shelf cannot hold."""
    check_collection(wanted, SHELF.traits.vectors)
    vector = (wanted.vectors or {}).get("")
    if vector is None or vector.size is None:
        raise Refused("unsupported", "a shelf must know how long its vectors are")
    kept = VectorSchema(size=vector.size, distance=vector.distance, required=True)
    return CollectionSchema(name=wanted.name, vectors={"": kept}, **SHELF.traits.facts())


def _existing(file: sqlite3.Connection, collection: str) -> CollectionSchema:
    schema = _described(file, collection)
    if schema is None:
        raise Refused("source-missing", f"there is no collection {collection!r} on the shelf")
    return schema


def _held(file: sqlite3.Connection, collection: str, point_id: PointId) -> Point | None:
    if not isinstance(point_id, str):
        return None  # SQLite would compare it as a text
    row = file.execute(f"{_POINT} AND id = ?", (collection, point_id)).fetchone()
    return None if row is None else _point(row)


def _point(row: Row) -> Point:
    """Raises Rejected for a row that somebody else wrote and that is no point."""
    point_id, vector, payload = row
    try:
        return Point(point_id, {"": vector}, msgspec.json.decode(payload, type=Payload))
    except msgspec.MsgspecError as exc:
        raise Rejected("value-malformed", f"{point_id!r}: {exc}", "payload") from exc


def _page(collection: str, rows: Sequence[Row], cursor: str | None) -> Page:
    """What can be read of these rows, and which cannot."""
    points: list[Point] = []
    rejected: list[RejectedRow] = []
    for row in rows:
        try:
            points.append(_point(row))
        except Rejected as error:
            raw = msgspec.json.encode(row)
            rejected.append(RejectedRow(id=row[0], place=collection, error=error, raw=raw))
    return Page(points, cursor, tuple(rejected))


def _carry_out(file: sqlite3.Connection, collection: str, write: Write) -> None:
    """Let a write take effect."""
    assert not isinstance(write, Patch), "a shelf is given whole points only: see its traits"
    if isinstance(write, Delete):
        file.execute(
            "DELETE FROM points WHERE collection = ? AND id = ?", (collection, write.id)
        )
        return
    point = write.point
    kept: Payload = {name: value for name, value in point.payload.items() if value is not None}
    file.execute(
        "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)",
        (
            collection,
            point.id,
            crc32(str(point.id).encode()) % _SLOTS,
            point.vectors[""],
            msgspec.json.encode(kept),
        ),
    )
