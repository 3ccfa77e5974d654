"""
A folder of shards of Qdrant's engine as a store.

The engine is synchronous, and gives vectors as Python floats, which no second thread would make
faster. So all work is done by one thread, in the order of the calls. That is why the late-write
bound is zero: a call that was cancelled may still be carried out, but before anything that is
asked for later; and with the process dies the thread.

A collection is one chunk: its pages come from that thread one after the other anyway.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import qdrant_edge as edge

from replicator.codecs.payload import check_payload
from replicator.codecs.rules import check_collection, check_write
from replicator.connectors.qdrant_embedded import reading
from replicator.connectors.qdrant_embedded.configuration import (
    conflicts,
    plan,
    read_configuration,
    write_configuration,
)
from replicator.connectors.qdrant_embedded.folder import listed, need_room, why_unfit
from replicator.connectors.qdrant_embedded.indexes import create_indexes, kind_of, options_of
from replicator.connectors.qdrant_embedded.kind import QDRANT_EMBEDDED, QdrantEmbeddedSettings
from replicator.connectors.qdrant_embedded.points import (
    engine_point,
    engine_vector,
    id_of,
)
from replicator.connectors.qdrant_embedded.shard import EmbeddedShard, Notes
from replicator.errors import Refused, Rejected, Unavailable
from replicator.model.finding import CheckFinding, Severity
from replicator.model.pages import PAGE_BYTES, PageSize, size_of
from replicator.model.point import BareId, Point, PointId, bare
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Patch, Receipt, Upsert, WriteBatch
from replicator.ports.store import Page

T = TypeVar("T")

_REFUSALS = {
    errno.EACCES: "permission-denied",
    errno.EPERM: "permission-denied",
    errno.EROFS: "permission-denied",
    errno.ENOTDIR: "config-invalid",
    errno.EEXIST: "config-invalid",
    errno.ENAMETOOLONG: "config-invalid",
}
"""What waiting does not mend."""


class QdrantEmbeddedStore:
    """The port Store over a folder with a shard for each collection."""

    def __init__(self, settings: QdrantEmbeddedSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: of the points that one page of a scan holds, about."""
        self._root = Path(settings.path)
        self._page_bytes = page_bytes
        self._shards: dict[str, EmbeddedShard] = {}
        self._sizes: dict[str, PageSize] = {}
        self._closed = False
        # One thread: see the top of this file.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qdrant-embedded")

    @property
    def traits(self) -> Traits:
        """Those of its kind."""
        return QDRANT_EMBEDDED.traits

    @property
    def staleness_s(self) -> float:
        """The engine shows what it has written."""
        return 0.0

    @property
    def late_write_bound_s(self) -> float:
        """See the top of this file."""
        return 0.0

    # -- reading --------------------------------------------------------------------------
    async def collections(self) -> list[str]:
        """Those whose shards lie in the folder."""
        return await self._do(lambda: listed(self._root))

    async def describe(self, collection: str) -> CollectionSchema | None:
        """The schema, with an exact count of points; None when there is no such shard."""
        return await self._do(lambda: self._described(collection))

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """One chunk; see the top of this file."""
        del parts
        await self._do(lambda: self._shard(collection).opened("source-missing"))
        return [Chunk(0, collection, "")]

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncGenerator[Page, None]:
        """Pages of points in the order of ids, smaller where the points are large."""
        async for page in self._scan(chunk.collection, after, page_rows, vectors=True):
            yield page
            # Not to be held while the next one is read.
            del page

    async def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncGenerator[Page, None]:
        """As `KeyReader.scan_keys`."""
        async for page in self._scan(
            chunk.collection, after, page_rows, vectors=False, payload=bool(fields)
        ):
            for point in page.points:
                point.payload = {k: v for k, v in point.payload.items() if k in fields}
            yield page
            del page

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """As `KeyReader.present`."""
        return await self._do(lambda: reading.present(self._shard(collection), ids))

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """
        The points that exist; an id that Qdrant cannot hold is absent. Raises Rejected, naming
        the id, for a point that cannot be read.
        """
        return await self._do(lambda: reading.fetch(self._shard(collection), ids))

    async def count(self, collection: str) -> int | None:
        """Exact."""
        return await self._do(lambda: reading.count(self._shard(collection)))

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """The nearest points, best first: by the engine's index, or `exact`."""
        if query.filter is not None:
            raise Refused("unsupported", "shards in a folder are searched without a filter")
        wanted = edge.QueryRequest(
            limit=query.limit,
            query=edge.Query.Nearest(engine_vector(query.vector), query.using or None),
            params=edge.SearchParams(exact=query.exact),
        )
        found = await self._do(lambda: self._shard(collection).read(lambda e: e.query(wanted)))
        return [Hit(id_of(point), point.score) for point in found]

    # -- writing --------------------------------------------------------------------------
    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """The collection as `ensure` would make it, and nothing else."""
        return plan(wanted)

    async def configure(self, planned: CollectionSchema) -> None:
        """Nothing waits for the end of the bulk load."""

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """See `Foresight`."""
        check_collection(wanted, self.traits.vectors)

        def look() -> CollectionSchema:
            present = self._described(wanted.name)
            if present is None:
                planned = plan(wanted)
                write_configuration(planned)
                return msgspec.structs.replace(planned, points=0)
            _check_conflicts(wanted, present)
            return present

        return await self._do(look)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """
        See StoreWriter. Raises Refused for a collection that cannot hold the vectors, or holds
        points under another mark.
        """
        check_collection(wanted, self.traits.vectors)

        def prepare() -> None:
            shard = self._shard(wanted.name)
            present = self._described(wanted.name)
            if present is None:
                planned = plan(wanted)
                need_room(self._root, 0)
                shard.make(
                    write_configuration(planned),
                    create_indexes(planned),
                    Notes(wanted.capture_id, made=True),
                )
                return
            _check_conflicts(wanted, present)
            if wanted.capture_id not in (None, present.capture_id):
                if present.points:
                    raise Refused(
                        "target-not-empty",
                        f"{wanted.name} holds {present.points} points and bears the mark"
                        f" {present.capture_id!r}, not {wanted.capture_id!r}",
                    )
                shard.keep(Notes(wanted.capture_id, made=present.made))

        await self._do(prepare)

    async def mark(self, collection: str, mark: Mark) -> None:
        """In a file beside the shard's own."""

        def leave() -> None:
            shard = self._shard(collection)
            shard.opened("target-missing")
            made = shard.notes().made
            shard.keep(Notes(mark.capture_id, mark.epoch, mark.incarnation, made))

        await self._do(leave)

    async def wipe(self, collection: str) -> None:
        """Put an empty shard of the same configuration in its place. A deletion of all points
        would stand in the engine's log, and be repeated after a crash.
        """

        def empty() -> None:
            shard = self._shard(collection)
            present = self._described(collection)
            if present is None:
                return
            document, notes = shard.configuration(), Notes(made=shard.notes().made)
            need_room(self._root, 0)
            shard.make(document, create_indexes(present), notes)

        await self._do(empty)

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Write a batch and force it to the disk."""

        def write() -> Receipt:
            shard = self._shard(batch.collection)
            shard.opened("target-missing")
            schema = self._schema(batch.collection)
            points: list[Point] = []
            gone: list[BareId] = []
            rejected: list[tuple[PointId, Rejected]] = []
            for one in batch.writes:
                assert not isinstance(one, Patch), "a shard is given whole points only"
                try:
                    check_write(one, schema, self.traits)
                    if isinstance(one, Upsert):
                        check_payload(one.point.payload)
                        points.append(one.point)
                    else:
                        gone.append(bare(one.id))
                except Rejected as error:
                    rejected.append((one.id, error))
            need_room(self._root, sum(map(size_of, points)))
            operations = []
            if points:
                upserts = list(map(engine_point, points))
                operations.append(edge.UpdateOperation.upsert_points(upserts))
            if gone:
                operations.append(edge.UpdateOperation.delete_points(list(gone)))
            shard.write(operations)
            return Receipt(tuple(rejected))

        return await self._do(write)

    async def finish_bulk(self, collection: str) -> None:
        """Build the indexes of vectors, which the engine does when it is told to."""
        await self._do(lambda: self._shard(collection).optimize())

    # -- the whole ------------------------------------------------------------------------
    async def check(self) -> list[CheckFinding]:
        """Whether the folder is one that shards lie in, or can."""
        if why := await self._do(lambda: why_unfit(self._root)):
            place = f"{QDRANT_EMBEDDED.name} {self._root}"
            return [CheckFinding(Severity.BLOCKS, "config-invalid", place, why)]
        return []

    async def check_writing(self, collections: Sequence[str]) -> list[CheckFinding]:
        """Whether the folders may be written, and whether there is room."""

        def look() -> list[CheckFinding]:
            found = {}
            for name in collections:
                folder = (self._root / name).absolute()
                place = next(each for each in (folder, *folder.parents) if each.exists())
                if not os.access(place, os.W_OK):
                    found["permission-denied"] = f"{place} may not be written"
            try:
                need_room(self._root, 0)
            except Unavailable as error:
                found[error.code] = error.message
            return [
                CheckFinding(Severity.BLOCKS, code, QDRANT_EMBEDDED.name, text)
                for code, text in found.items()
            ]

        return await self._do(look)

    async def close(self) -> None:
        """Let go of the shards, after the call under way. Idempotent."""
        if self._closed:
            return
        self._closed = True

        def let_go() -> None:
            for shard in self._shards.values():
                shard.close()

        await self._do(let_go)
        self._thread.shutdown(wait=False)

    # -- in the thread --------------------------------------------------------------------
    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, _translating, work
        )

    def _shard(self, collection: str) -> EmbeddedShard:
        if collection not in self._shards:
            self._shards[collection] = EmbeddedShard(self._root, collection)
        return self._shards[collection]

    def _described(self, collection: str) -> CollectionSchema | None:
        shard = self._shard(collection)
        if not shard.is_there:
            return None
        return msgspec.structs.replace(self._schema(collection), points=reading.count(shard))

    def _schema(self, collection: str) -> CollectionSchema:
        shard = self._shard(collection)
        info = shard.read(lambda e: e.info())
        notes = shard.notes()
        return CollectionSchema(
            name=collection,
            indexes={field: kind_of(index) for field, index in info.payload_schema.items()},
            index_options={
                field: options
                for field, index in info.payload_schema.items()
                if (options := options_of(index))
            },
            capture_id=notes.capture_id,
            mark_epoch=notes.epoch,
            mark_incarnation=notes.incarnation,
            made=notes.made,
            details={
                "segments": info.segments_count,
                "indexed_vectors": info.indexed_vectors_count,
            },
            **read_configuration(shard.configuration()),
            **self.traits.facts(),
        )

    async def _scan(
        self,
        collection: str,
        after: str | None,
        page_rows: int,
        *,
        vectors: bool,
        payload: bool = True,
    ) -> AsyncGenerator[Page, None]:
        size = self._sizes.setdefault(collection, PageSize(self._page_bytes))
        cursor = after
        while True:
            rows = size.rows(page_rows) if vectors or payload else page_rows
            page = await self._do(
                partial(
                    reading.page,
                    self._shard(collection),
                    cursor,
                    rows,
                    vectors=vectors,
                    payload=payload,
                )
            )
            if vectors:
                size.saw(len(page.points), sum(map(size_of, page.points)))
            cursor = page.cursor
            yield page
            del page
            if cursor is None:
                return


def _check_conflicts(wanted: CollectionSchema, present: CollectionSchema) -> None:
    if found := conflicts(wanted, present):
        raise Refused("target-incompatible", f"{wanted.name}: {'; '.join(found)}")


def _translating(work: Callable[[], T]) -> T:
    try:
        return work()
    except OSError as exc:
        code = _REFUSALS.get(exc.errno or 0)
        if code is not None:
            raise Refused(code, str(exc)) from exc
        raise Unavailable("store-unavailable", str(exc)) from exc
