"""
A directory of JSONL files as a store.

All work on files is done by one thread of the store's own, in the order of the calls. That
order is why the late-write bound is zero: a call that was cancelled may still be carried out,
but before anything that is asked for later; and with the process dies the thread.
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
from replicator.connectors.jsonl.change import line_of
from replicator.connectors.jsonl.kind import JSONL, JsonlSettings
from replicator.connectors.jsonl.line import Header, encode
from replicator.connectors.jsonl.log import CollectionLog, create, replace
from replicator.connectors.jsonl.names import file_name, listed
from replicator.connectors.jsonl.scan import Row, cut, keys_of, page_of, rows_of
from replicator.errors import Refused, Rejected, Unavailable
from replicator.model.finding import CheckFinding, Severity
from replicator.model.pages import PAGE_BYTES
from replicator.model.point import Point, PointId, scope_of
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, Distance, Mark
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.model.write import Receipt, WriteBatch
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


class JsonlStore:
    """The port Store over a directory with one `<collection>.jsonl` for each collection."""

    def __init__(self, settings: JsonlSettings, page_bytes: int = PAGE_BYTES) -> None:
        """`page_bytes`: of the lines that one page of a scan holds, about."""
        self._settings = settings
        self._page_bytes = page_bytes
        self._directory = Path(settings.path)
        self._logs: dict[str, CollectionLog] = {}
        self._closed = False
        # One thread: see the top of this file.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jsonl")

    @property
    def traits(self) -> Traits:
        """Those of its kind."""
        return JSONL.traits

    @property
    def staleness_s(self) -> float:
        """Every read looks at the file's end first."""
        return 0.0

    @property
    def late_write_bound_s(self) -> float:
        """See the top of this file."""
        return 0.0

    # -- reading --------------------------------------------------------------------------
    async def collections(self) -> list[str]:
        """Those whose files lie in the directory, under the names that files have here."""

        def look() -> list[str]:
            if not self._directory.exists():
                return []
            return listed(self._directory.iterdir())

        return await self._do(look)

    async def describe(self, collection: str) -> CollectionSchema | None:
        """What the file's header says; without one, that nothing is known of its vectors."""
        return await self._do(lambda: self._described(collection))

    async def split(self, collection: str, parts: int) -> list[Chunk]:
        """At most `parts` chunks, fewer where each would read less than `segment_bytes`."""
        return cut(collection, await self._parts(collection, parts))

    async def split_scopes(
        self, collection: str, parts: int, scopes: Collection[str]
    ) -> list[Chunk]:
        """As `ScopeReader.split_scopes`."""
        return cut(collection, await self._parts(collection, parts), scopes)

    async def _parts(self, collection: str, parts: int) -> int:
        size = await self._do(lambda: self._existing(collection).size)
        return max(1, min(parts, size // self._settings.segment_bytes))

    async def scan(
        self, chunk: Chunk, after: str | None, page_rows: int
    ) -> AsyncGenerator[Page, None]:
        """
        Points in the order of their ids, integers first, each as it is when its page is read;
        then, in the first chunk, the lines that are no points and have no id.
        """
        rows = await self._do(lambda: rows_of(self._existing(chunk.collection), chunk, after))
        begin = 0
        while begin < max(len(rows), 1):
            rest = rows[begin : begin + page_rows + 1]
            page, taken = await self._do(partial(self._page, chunk, rest, page_rows))
            begin += max(taken, 1)
            yield page
            # Not to be held while the next one is read.
            del page

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
        rows = await self._do(lambda: rows_of(self._existing(chunk.collection), chunk, after))
        for start in range(0, max(len(rows), 1), page_rows):
            yield keys_of(rows[start : start + page_rows], start + page_rows >= len(rows))

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """As `KeyReader.present`; one whose line is no point is present."""

        def look() -> set[PointId]:
            log = self._existing(collection)
            found = set()
            for point_id in ids:
                with suppress(Rejected):
                    if canonical_id(point_id) in log.offsets:
                        found.add(point_id)
            return found

        return await self._do(look)

    async def fetch(self, collection: str, ids: Sequence[PointId]) -> dict[PointId, Point]:
        """
        The points that exist. Raises Rejected, naming the id, when the line of one is no point:
        to leave it out would say that it is absent.
        """

        def read() -> dict[PointId, Point]:
            log = self._existing(collection)
            found: dict[PointId, Point] = {}
            for point_id in ids:
                try:
                    at = canonical_id(point_id)
                except Rejected:
                    continue  # no line can have this id
                try:
                    point = log.point(at)
                except Rejected as error:
                    raise Rejected(
                        error.code, f"{collection!r}, id {point_id!r}: {error}", error.path
                    ) from error
                if point is not None:
                    found[point_id] = point
            return found

        return await self._do(read)

    async def count(self, collection: str) -> int | None:
        """Ids that exist, those whose line is no point included."""
        return await self._do(lambda: len(self._existing(collection).offsets))

    async def count_scopes(self, collection: str, scopes: Collection[str]) -> int | None:
        """As `ScopeReader.count_scopes`."""
        return await self._do(
            lambda: sum(
                scope_of(point_id) in scopes for point_id in self._existing(collection).offsets
            )
        )

    async def search(self, collection: str, query: Query) -> list[Hit]:
        """As `search_many`."""
        return (await self.search_many(collection, [query]))[0]

    async def search_many(self, collection: str, queries: Sequence[Query]) -> list[list[Hit]]:
        """
        By looking at every point, once for all; under cosine where the header names no
        distance.
        """

        def look() -> list[list[Hit]]:
            log = self._existing(collection)
            declared = [(log.layout.vectors or {}).get(query.using) for query in queries]
            distances = [
                (vector.distance if vector else None) or Distance.COSINE for vector in declared
            ]
            return nearest(log.points(), queries, distances)

        return await self._do(look)

    # -- writing --------------------------------------------------------------------------
    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """All of it: a header keeps what the file itself has no use for."""
        if wanted.chosen:
            raise Refused("config-invalid", "a file has no options of a target")
        return msgspec.structs.replace(wanted, points=None, details={}, **self.traits.facts())

    async def configure(self, planned: CollectionSchema) -> None:
        """Nothing waits for the end of a bulk load."""

    async def ensure(self, wanted: CollectionSchema) -> None:
        """Make the file; in one that exists, leave the mark in a further header line."""

        def make() -> None:
            header = Header(
                collection=wanted.name, capture_id=wanted.capture_id, schema=Layout.of(wanted)
            )
            log = self._log(wanted.name)
            if not log.refresh():
                create(self._path(wanted.name), header)
            with log.exclusively() as descriptor:
                present = log.header
                if present is not None:
                    header = msgspec.structs.replace(
                        present, capture_id=wanted.capture_id or present.capture_id
                    )
                elif log.offsets or log.unreadable():
                    # Another program's points: nobody knows that they are as `wanted` says.
                    header = msgspec.structs.replace(header, schema=Layout())
                if header != present:
                    log.append(descriptor, [encode(header)])

        await self._do(make)

    async def mark(self, collection: str, mark: Mark) -> None:
        """A further header line, which counts from then on."""

        def leave() -> None:
            log = self._existing(collection)
            with log.exclusively() as descriptor:
                header = log.header or Header(collection=collection, schema=log.layout)
                marked = msgspec.structs.replace(
                    header,
                    capture_id=mark.capture_id,
                    mark_epoch=mark.epoch,
                    mark_incarnation=mark.incarnation,
                )
                if marked != log.header:
                    log.append(descriptor, [encode(marked)])

        await self._do(leave)

    async def wipe(self, collection: str) -> None:
        """An empty file in place of the old one, with the schema and without the mark."""

        def empty() -> None:
            log = self._log(collection)
            if not log.refresh():
                return
            with log.exclusively():
                header = Header(collection=collection, schema=log.layout)
                replace(self._path(collection), [encode(header) + b"\n"])

        await self._do(empty)

    async def apply(self, batch: WriteBatch) -> Receipt:
        """Append a line a write, in one piece; synced before it returns if `fsync` is set."""

        def write() -> Receipt:
            log = self._log(batch.collection)
            with log.exclusively() as descriptor:
                lines: list[bytes] = []
                rejected: list[tuple[PointId, Rejected]] = []
                for one in batch.writes:
                    try:
                        line = line_of(log, one)
                    except Rejected as error:
                        rejected.append((one.id, error))
                        continue
                    if line is not None:
                        lines.append(line)
                if lines:
                    log.append(descriptor, lines)
            return Receipt(tuple(rejected))

        return await self._do(write)

    async def finish_bulk(self, collection: str) -> None:
        """Rewrite the file with one line a point, if it has more."""

        def compact() -> None:
            log = self._log(collection)
            with log.exclusively():
                log.compact()

        await self._do(compact)

    async def check(self) -> list[CheckFinding]:
        """Whether the directory can be used."""

        def look() -> list[CheckFinding]:
            if self._directory.exists() and not self._directory.is_dir():
                text = f"{self._directory} is no directory"
                return [CheckFinding(Severity.BLOCKS, "config-invalid", "jsonl", text)]
            return []

        return await self._do(look)

    async def check_writing(self, collections: Sequence[str]) -> list[CheckFinding]:
        """Whether the files may be written; the folder is asked where there is none yet."""

        def look() -> list[CheckFinding]:
            found = []
            for path in map(self._path, collections):
                place = next(each for each in (path, *path.absolute().parents) if each.exists())
                if not os.access(place, os.W_OK):
                    text = f"{place} may not be written"
                    found.append(
                        CheckFinding(Severity.BLOCKS, "permission-denied", "jsonl", text)
                    )
            return list(dict.fromkeys(found))

        return await self._do(look)

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """A file holds whatever comes, unless another program's header says something else."""

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
        """Let go of the files, after the call under way. Idempotent."""
        if self._closed:
            return
        self._closed = True

        def let_go() -> None:
            for log in self._logs.values():
                log.close()

        await self._do(let_go)
        self._thread.shutdown(wait=False)

    # -- in the thread --------------------------------------------------------------------
    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, _translating, work
        )

    def _path(self, collection: str) -> Path:
        return self._directory / file_name(collection)

    def _log(self, collection: str) -> CollectionLog:
        if collection not in self._logs:
            self._logs[collection] = CollectionLog(self._path(collection), self._settings.fsync)
        return self._logs[collection]

    def _existing(self, collection: str) -> CollectionLog:
        log = self._log(collection)
        if not log.refresh():
            raise Refused("source-missing", f"there is no file {self._path(collection)}")
        return log

    def _page(self, chunk: Chunk, rows: Sequence[Row], rows_max: int) -> tuple[Page, int]:
        """`rows` has one more than the page may, where there are more: it goes on behind it."""
        log = self._existing(chunk.collection)
        return page_of(log, rows, rows_max, self._page_bytes)

    def _described(self, collection: str) -> CollectionSchema | None:
        log = self._log(collection)
        if not log.refresh():
            return None
        unreadable = len(log.unreadable())
        return CollectionSchema(
            name=collection,
            **log.layout.facts(),
            points=len(log.offsets),
            capture_id=log.header.capture_id if log.header else None,
            mark_epoch=log.header.mark_epoch if log.header else 0,
            mark_incarnation=log.header.mark_incarnation if log.header else 0,
            details={"unreadable_lines": unreadable} if unreadable else {},
            **self.traits.facts(),
        )


def _translating(work: Callable[[], T]) -> T:
    try:
        return work()
    except OSError as exc:
        code = _REFUSALS.get(exc.errno or 0)
        if code is not None:
            raise Refused(code, str(exc)) from exc
        raise Unavailable("store-unavailable", str(exc)) from exc
