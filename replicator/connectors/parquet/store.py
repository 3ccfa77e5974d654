"""
A directory of Parquet files as a store.

All work on files is done by one thread of the store's own, in the order of the calls. On this
machine that is why the late-write bound is zero: a call that was cancelled may still be carried
out, but before anything that is asked for later; and with the process dies the thread. What is
sent to an object store may still land after it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from replicator.codecs.keys import canonical_id
from replicator.codecs.layout import Layout
from replicator.codecs.nearest import nearest
from replicator.codecs.payload import check_payload
from replicator.codecs.rules import check_write
from replicator.connectors.parquet.collection import ParquetCollection, listed
from replicator.connectors.parquet.kind import PARQUET, ParquetOptions, ParquetSettings
from replicator.connectors.parquet.places import LocalPlace, Place, RemotePlace
from replicator.connectors.parquet.scan import Walk, cut
from replicator.errors import Refused, Rejected, Unavailable
from replicator.model.finding import CheckFinding, Severity
from replicator.model.pages import PAGE_BYTES
from replicator.model.point import Point, PointId, scope_of
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, Mark
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
    errno.EISDIR: "config-invalid",
    errno.ENAMETOOLONG: "config-invalid",
}
"""What waiting does not mend."""
_DENIED = ("ACCESS_DENIED", "AccessDenied", "Forbidden")
"""What object stores say of it, in words alone."""
_REMOTE_LATE_S = 60.0
"""How long an upload whose end was not seen may still take to be in force. Half of it risks
that an old manifest replaces a newer one; twice it only slows recovery."""


class ParquetStore:
    """The port Store over a directory with a folder, or a file, for each collection."""

    def __init__(self, settings: ParquetSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: of the points that one page of a scan holds, about."""
        self._settings = settings
        self._page_bytes = page_bytes
        self._place: Place = (
            RemotePlace(settings.path)
            if settings.is_remote
            else LocalPlace(Path(settings.path))
        )
        self._options: dict[str, ParquetOptions] = {}
        self._collections: dict[str, ParquetCollection] = {}
        self._closed = False
        # One thread: see the top of this file.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parquet")

    @property
    def traits(self) -> Traits:
        """Those of its kind."""
        return PARQUET.traits

    @property
    def staleness_s(self) -> float:
        """Every read looks at the manifest first."""
        return 0.0

    @property
    def late_write_bound_s(self) -> float:
        """See the top of this file."""
        return _REMOTE_LATE_S if self._settings.is_remote else 0.0

    def choose(self, collection: str, options: ParquetOptions) -> None:
        """As in Optioned."""
        self._options[collection] = options

    # -- reading --------------------------------------------------------------------------
    async def collections(self) -> list[str]:
        """Those whose folders or files lie in the directory; a folder without any part, and
        without a manifest, is none.
        """
        return await self._do(lambda: listed(self._place))

    async def describe(self, collection: str) -> CollectionSchema | None:
        """What the manifest says; of another program's files, that nothing is known of their
        vectors.
        """
        return await self._do(lambda: self._described(collection))

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """At most `parts` chunks, and no more than there are row groups."""
        return await self._do(lambda: cut(self._existing(collection), parts))

    async def split_scopes(
        self, collection: str, parts: int, scopes: Collection[str]
    ) -> list[Chunk]:
        """As `ScopeReader.split_scopes`."""
        return await self._do(lambda: cut(self._existing(collection), parts, scopes))

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncGenerator[Page, None]:
        """Points in the order of the parts and their rows, of the parts that are there now."""
        walk = await self._do(lambda: Walk(self._existing(chunk.collection), chunk, after))
        try:
            while True:
                page = await self._do(partial(walk.page, page_rows, self._page_bytes))
                is_last = page.cursor is None
                yield page
                # Not to be held while the next one is read.
                del page
                if is_last:
                    return
        finally:
            if not self._closed:
                await self._do(walk.close)

    async def scan_keys(
        self, chunk: Chunk, after: str | None, page_rows: int, fields: Sequence[str] = ()
    ) -> AsyncGenerator[Page, None]:
        """As `KeyReader.scan_keys`: from the index, unless there are fields to be read."""
        if fields:
            async with aclosing(self.scan(chunk, after, page_rows)) as pages:
                async for page in pages:
                    yield page
                    del page
            return
        walk = await self._do(lambda: Walk(self._existing(chunk.collection), chunk, after))
        keys = walk.keys(page_rows)
        more = True
        while more:
            # The last page has no cursor, and always comes.
            page = await self._do(partial(next, keys))
            more = page.cursor is not None
            yield page
            del page

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """As `KeyReader.present`; one whose row is no point is present."""

        def look() -> set[PointId]:
            index = self._existing(collection).index
            found = set()
            for point_id in ids:
                with suppress(Rejected):
                    if canonical_id(point_id) in index:
                        found.add(point_id)
            return found

        return await self._do(look)

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """
        The points that exist. Raises Rejected, naming the id, when the row of one is no point:
        to leave it out would say that it is absent.
        """
        return await self._do(lambda: self._existing(collection).fetch(ids))

    async def count(self, collection: str) -> int | None:
        """Ids that exist, those whose row is no point included."""
        return await self._do(lambda: len(self._existing(collection).index))

    async def count_scopes(self, collection: str, scopes: Collection[str]) -> int | None:
        """As `ScopeReader.count_scopes`."""
        return await self._do(
            lambda: sum(scope_of(each) in scopes for each in self._existing(collection).index)
        )

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """As `search_many`."""
        return (await self.search_many(collection, [query]))[0]

    async def search_many(self, collection: str, queries: Sequence[Query]) -> list[list[Hit]]:
        """
        By looking at every point, once for all; under cosine where the manifest names no
        distance.
        """

        def look() -> list[list[Hit]]:
            files = self._existing(collection)
            declared = [(files.layout.vectors or {}).get(query.using) for query in queries]
            distances = [
                (vector.distance if vector else None) or Distance.COSINE for vector in declared
            ]
            return nearest(files.points(), queries, distances)

        return await self._do(look)

    # -- writing --------------------------------------------------------------------------
    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """All of it: a manifest keeps what the files have no use for."""
        return msgspec.structs.replace(wanted, points=None, details={}, **self.traits.facts())

    async def configure(self, planned: CollectionSchema) -> None:
        """Nothing waits for the end of a bulk load."""

    async def ensure(self, wanted: CollectionSchema) -> None:
        """Make the folder and its manifest; in one that exists, leave the mark."""
        files = self._files(wanted.name)
        await self._do(lambda: files.make(Layout.of(wanted), wanted.capture_id))

    async def mark(self, collection: str, mark: Mark) -> None:
        """In the manifest."""
        await self._do(
            lambda: self._files(collection).mark(
                capture_id=mark.capture_id,
                mark_epoch=mark.epoch,
                mark_incarnation=mark.incarnation,
            )
        )

    async def wipe(self, collection: str) -> None:
        """Take every part away; the manifest keeps the schema."""
        await self._do(lambda: self._files(collection).wipe())

    async def apply(self, batch: WriteBatch) -> Receipt:
        """A part of its own for what is written, synced before it returns."""

        def write() -> Receipt:
            described = self._described(batch.collection)
            if described is None:
                where = self._files(batch.collection).place
                raise Refused("target-missing", f"there is no {where}")
            points: dict[PointId, Point] = {}
            gone: list[PointId] = []
            rejected: list[tuple[PointId, Rejected]] = []
            for one in batch.writes:
                assert not isinstance(one, Patch), "a file is given whole points only"
                try:
                    check_write(one, described, self.traits)
                    point_id = canonical_id(one.id)
                    if isinstance(one, Upsert):
                        check_payload(one.point.payload)
                        points[point_id] = msgspec.structs.replace(one.point, id=point_id)
                    else:
                        gone.append(point_id)
                except Rejected as error:
                    rejected.append((one.id, error))
            self._files(batch.collection).change(list(points.values()), gone)
            return Receipt(tuple(rejected))

        return await self._do(write)

    async def finish_bulk(self, collection: str) -> None:
        """Gather what is left of small parts."""
        await self._do(lambda: self._files(collection).finish())

    async def check(self) -> list[CheckFinding]:
        """Whether the directory can be used, or the file system behind the URL."""

        def look() -> list[CheckFinding]:
            if self._settings.is_remote:
                self._place.stamp("_")
                return []
            directory = Path(self._settings.path)
            if directory.exists() and not directory.is_dir():
                text = f"{directory} is no directory"
                return [CheckFinding(Severity.BLOCKS, "config-invalid", "parquet", text)]
            return []

        try:
            return await self._do(look)
        except (Refused, Unavailable) as error:
            return [CheckFinding(Severity.BLOCKS, error.code, "parquet", error.message)]

    async def check_writing(self, collections: Sequence[str]) -> list[CheckFinding]:
        """Whether the folders may be written; the one above is asked where there is none."""

        def look() -> list[CheckFinding]:
            found = []
            for name in collections:
                path = Path(self._files(name).place)
                place = next(each for each in (path, *path.absolute().parents) if each.exists())
                if not os.access(place, os.W_OK):
                    text = f"{place} may not be written"
                    found.append(
                        CheckFinding(Severity.BLOCKS, "permission-denied", "parquet", text)
                    )
            return list(dict.fromkeys(found))

        if self._settings.is_remote:
            return []  # only a write could tell
        return await self._do(look)

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """Files hold whatever comes, unless the manifest that is there says something else."""

        def look() -> CollectionSchema:
            return self._described(wanted.name) or CollectionSchema(
                name=wanted.name,
                vectors=wanted.vectors,
                indexes=wanted.indexes,
                points=0,
                scoped=wanted.scoped,
                **self.traits.facts(),
            )

        return await self._do(look)

    async def close(self) -> None:
        """End after the call under way. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._do(lambda: None)
        self._thread.shutdown(wait=False)

    # -- in the thread --------------------------------------------------------------------
    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, _translating, work
        )

    def _files(self, collection: str) -> ParquetCollection:
        if collection not in self._collections:
            options = self._options.get(collection, ParquetOptions())
            self._collections[collection] = ParquetCollection(
                self._place, collection, self._settings, options
            )
        return self._collections[collection]

    def _existing(self, collection: str) -> ParquetCollection:
        files = self._files(collection)
        if not files.refresh():
            raise Refused("source-missing", f"there is no {files.place}, and no such file")
        return files

    def _described(self, collection: str) -> CollectionSchema | None:
        files = self._files(collection)
        if not files.refresh():
            return None
        unreadable = files.unreadable()
        manifest = files.manifest
        return CollectionSchema(
            name=collection,
            **files.layout.facts(),
            points=len(files.index),
            capture_id=None if manifest is None else manifest.capture_id,
            mark_epoch=0 if manifest is None else manifest.mark_epoch,
            mark_incarnation=0 if manifest is None else manifest.mark_incarnation,
            details={"unreadable_rows": unreadable} if unreadable else {},
            **self.traits.facts(),
        )


def _translating(work: Callable[[], T]) -> T:
    try:
        return work()
    except OSError as exc:
        code = _REFUSALS.get(exc.errno or 0)
        if any(word in str(exc) for word in _DENIED):
            code = "permission-denied"
        if code is not None:
            raise Refused(code, str(exc)) from exc
        raise Unavailable("store-unavailable", str(exc)) from exc
