"""
Reading a store: what waits, splits, measures and closes for everybody who reads one.

There is one reader for each store, beside the `Writer`, and nothing else calls what a store
offers for reading. So five things are done here once, and cannot be forgotten elsewhere:

* *Patience.* A read changes nothing and can be repeated. Whoever reads a store that is away
  waits, and the waits say for what. A scan goes on behind the last page that it handed on. Who
  asks a question of several parts, and repeats the whole of it, asks by `once`: there every
  error is the caller's.
* *One bad row hides no other.* What is fetched by id is cut in halves until the row that is no
  point stands alone, and comes back with its reason; a scan hands on such rows with the page.
* *Bytes, not rows.* Nobody knows how large rows are before some were read. Scans begin with
  small pages and open anew with larger ones as the rows allow, and with smaller ones after a
  page that was more than a page may hold; what is asked for by id comes in parts of that size.
* *Reads say what they want.* Keys alone cost no vectors where the store can leave them out; of
  one that cannot, whole points are read. What a filter excludes is left out by a store that is
  sure of it (`Narrower`); whoever reads judges by the whole filter all the same. Who compares
  asks the `consistent` reader, which asks the store for agreement where it has a choice.
* *Nothing is left open.* However a scan ends (its end, an error, `break`, a cancelled task),
  the store's own iterator is closed, and a cursor at the server with it. For that the caller
  closes the scan: `async with aclosing(reader.scan(…)) as pages`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from enum import Enum
from functools import partial
from typing import Protocol, TypeVar

from replicator.errors import Refused, Rejected, ReplicatorError, Retryable, recovery
from replicator.metrics import Metrics
from replicator.model.filter import Filter
from replicator.model.pages import PAGE_BYTES, PageSize, size_of
from replicator.model.point import Point, PointId
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema
from replicator.model.scopes import Scopes
from replicator.model.search import Hit, Query
from replicator.model.traits import Traits
from replicator.ports.store import (
    BatchSearcher,
    ConsistentReader,
    KeyReader,
    Narrower,
    Page,
    ScopeReader,
    Store,
    StoreWriter,
)
from replicator.stream.ownership import Lease
from replicator.stream.patience import Patience

T = TypeVar("T")

Images = tuple[dict[PointId, Point], dict[PointId, Rejected]]
"""The points that exist; and those that exist and are no points, with the reason. An id in
neither is absent."""


class Want(Enum):
    """What a scan is to bring."""

    POINTS = "points"
    KEYS = "keys"
    """Ids, and the payload fields that were named. More, from a store that cannot do less."""


class RowBudget(Protocol):
    """How many rows may be read in which time."""

    async def rows(self, count: int) -> None:
        """So many rows were read: wait until the next may be."""
        ...


class Reader:
    """
    Reads one store. Shared by all who do; safe for concurrent use.

    A refusal is waited out like an absence, for a person mends it meanwhile; but not by a scan,
    nor where `or_refused` is said.
    """

    def __init__(
        self,
        store: Store,
        *,
        patience: Patience | None = None,
        connector: str = "",
        metrics: Metrics | None = None,
        page_bytes: int = PAGE_BYTES,
    ) -> None:
        """`patience`: None where everything is to be asked once. `page_bytes`: of what is held
        at once, about.
        """
        self._use(store)
        self._patience = patience
        self._connector = connector
        self._metrics = metrics
        self._page_bytes = page_bytes
        self._sizes: dict[str, PageSize] = {}

    @property
    def once(self) -> Reader:
        """The same without patience, for whoever repeats a question of several parts as a
        whole.
        """
        impatient = copy.copy(self)
        impatient._patience = None
        return impatient

    @property
    def consistent(self) -> Reader:
        """
        The same, of what the store's replicas agree on, where it can be asked for that: for
        whoever compares, or reads back what was written.
        """
        careful = copy.copy(self)
        if isinstance(self._store, ConsistentReader):
            careful._use(self._store.consistent())
        return careful

    def _use(self, store: Store) -> None:
        self._store = store
        self._keys = store if isinstance(store, KeyReader) else None
        self._narrower = store if isinstance(store, Narrower) else None
        self._batches = store if isinstance(store, BatchSearcher) else None

    @property
    def narrows(self) -> bool:
        """Whether scans of the store leave out what a filter excludes, where it is sure."""
        return self._narrower is not None

    @property
    def store(self) -> StoreWriter:
        """The store, for what is no read."""
        return self._store

    @property
    def traits(self) -> Traits:
        """What the store is."""
        return self._store.traits

    @property
    def staleness_s(self) -> float:
        """How long a read may lag a write that returned."""
        return self._store.staleness_s

    # -- collections -----------------------------------------------------------------------

    async def collections(self) -> list[str]:
        """As `StoreReader.collections`."""
        return await self._ask("collections", self._store.collections)

    async def describe(
        self, collection: str, *, or_refused: bool = False
    ) -> CollectionSchema | None:
        """As `StoreReader.describe`."""
        asking = partial(self._store.describe, collection)
        return await self._ask("describe", asking, or_refused=or_refused)

    async def schema(self, collection: str) -> CollectionSchema:
        """As `describe`, of a collection of the source. One that is missing is waited for;
        asked once, it raises Refused("source-missing").
        """

        async def described() -> CollectionSchema:
            found = await self._store.describe(collection)
            if found is None:
                raise Refused("source-missing", f"the source has no collection {collection!r}")
            return found

        return await self._ask("describe", described)

    async def split(
        self, collection: str, parts: int, scopes: Scopes | None = None
    ) -> list[Chunk]:
        """As `StoreReader.split`; of these scopes alone, where they are named."""
        asking = partial(self._store.split, collection, parts)
        if scopes is not None and scopes.names is not None:
            scoped = self._scoped(collection)
            asking = partial(scoped.split_scopes, collection, parts, scopes.names)
        return await self._ask("split", asking)

    async def count(
        self,
        collection: str,
        scopes: Scopes | None = None,
        where: Filter | None = None,
    ) -> int | None:
        """As `StoreReader.count`, of the points that a scan gives; of scopes by name, of all
        that is in them, for a store is not asked for both at once.
        """
        asking = partial(self._store.count, collection)
        if scopes is not None and scopes.names is not None:
            asking = partial(self._scoped(collection).count_scopes, collection, scopes.names)
        elif where is not None and self._narrower is not None:
            asking = partial(self._narrower.count_where, collection, where)
        return await self._ask("count", asking)

    def _scoped(self, collection: str) -> ScopeReader:
        """The store as one with scopes. Raises Refused("scopes-absent")."""
        if not isinstance(self._store, ScopeReader):
            raise Refused("scopes-absent", f"this store has no scopes in {collection!r}")
        return self._store

    async def search(self, collection: str, query: Query, *, tries: int = 1) -> list[Hit]:
        """
        As `StoreSearcher.search`. A search may take longer than the store allows however often
        it is asked, so that it is asked so often and no more; raises what it raised last.
        """
        asking = partial(self._store.search, collection, query)
        who, backoff_s = object(), None
        try:
            while True:
                tries -= 1
                try:
                    return await self._try("search", asking)
                except Retryable as error:
                    if self._patience is None or tries < 1:
                        raise
                    backoff_s = await self._patience.rest(who, error, backoff_s)
        finally:
            self._over(who)

    async def search_many(
        self, collection: str, queries: Sequence[Query]
    ) -> list[list[Hit]] | None:
        """
        As `BatchSearcher.search_many`, asked once; None of a store that answers them one by
        one.
        """
        if self._batches is None:
            return None
        asking = partial(self._batches.search_many, collection, queries)
        return await self._try("search", asking)

    # -- points by id ----------------------------------------------------------------------

    def room(self, collection: str, wanted: int) -> int:
        """How many of the wanted points make a page, as far as the rows are known."""
        return self._size(collection).rows(wanted)

    async def fetch(
        self, collection: str, ids: Sequence[PointId], *, or_refused: bool = False
    ) -> Images:
        """
        The images of all these ids at once. For as many as there is `room` for, or for points
        that are known to be of a page's size; else `fetch_parts`.
        """
        found: dict[PointId, Point] = {}
        unreadable: dict[PointId, Rejected] = {}
        parts = [ids] if ids else []
        while parts:
            part = parts.pop()
            asking = partial(self._store.fetch, collection, part)
            try:
                found.update(await self._ask("fetch", asking, or_refused=or_refused))
            except Rejected as error:
                if len(part) == 1:
                    unreadable[part[0]] = error
                else:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
        self._size(collection).saw(len(found), sum(map(size_of, found.values())))
        return found, unreadable

    async def fetch_parts(
        self, collection: str, ids: Sequence[PointId]
    ) -> AsyncGenerator[tuple[Sequence[PointId], Images], None]:
        """
        The images of these ids, some at a time, each with the ids that were asked for: as many
        as make a page. Let go of one part before the next is asked for.
        """
        begin = 0
        while begin < len(ids):
            some = ids[begin : begin + self.room(collection, len(ids) - begin)]
            images = await self.fetch(collection, some)
            yield some, images
            del images
            begin += len(some)

    async def present(self, collection: str, ids: Sequence[PointId]) -> set[PointId]:
        """Which of these ids exist, readable or not."""
        if self._keys is not None:
            return await self._ask("present", partial(self._keys.present, collection, ids))
        there: set[PointId] = set()
        async with aclosing(self.fetch_parts(collection, ids)) as parts:
            async for _, (found, unreadable) in parts:
                there |= found.keys() | unreadable.keys()
                del found
        return there

    async def fetch_fields(
        self, collection: str, ids: Sequence[PointId], fields: Sequence[str]
    ) -> dict[PointId, Point]:
        """The points that exist, with these fields of the payload at least. Of a store that
        narrows.
        """
        assert self._narrower is not None, "elsewhere whole points are as good"
        asking = partial(self._narrower.fetch_fields, collection, ids, fields)
        return await self._ask("fetch", asking)

    # -- scans -----------------------------------------------------------------------------

    async def scan(
        self,
        chunk: Chunk,
        after: str | None,
        page_rows: int,
        *,
        want: Want = Want.POINTS,
        fields: Sequence[str] = (),
        where: Filter | None = None,
        budget: RowBudget | None = None,
        lease: Lease | None = None,
    ) -> AsyncGenerator[Page, None]:
        """
        The pages of a chunk, from its beginning or after a cursor, however often the store is
        away meanwhile; to be closed. A page has at most `page_rows` rows. Let go of it before
        the next is asked for. `where`: points that do not match may be missing, and may come.
        `budget` is waited for between pages. `lease`: no wait is longer than it is held; raises
        Revoked. Raises Refused as the store does.
        """
        scan: Callable[[str | None, int], AsyncIterator[Page]]
        size: PageSize | None = self._size(chunk.collection)
        if want is Want.KEYS and self._keys is not None:
            scan = partial(self._keys.scan_keys, chunk, fields=fields)
            size = None  # keys are small
        elif where is not None and self._narrower is not None:
            scan = partial(self._narrower.scan_where, chunk, where=where)
        else:
            scan = partial(self._store.scan, chunk)
        who, backoff_s = object(), None
        cursor, at_end = after, False
        try:
            while not at_end:
                asked = page_rows if size is None else size.rows(page_rows)
                try:
                    async with _closing(scan(cursor, asked)) as pages:
                        while (page := await self._page(pages)) is not None:
                            self._over(who)
                            backoff_s = None
                            cursor, at_end = page.cursor, page.cursor is None
                            rows = len(page.points) + len(page.rejected)
                            anew = size is not None and _outgrown(size, page, asked, page_rows)
                            yield page
                            # Not to be held while the next one is read.
                            del page
                            if budget is not None:
                                await _held(lease, budget.rows(rows))
                            if at_end or anew:
                                break
                        else:
                            at_end = True
                except Retryable as error:
                    if self._patience is None:
                        raise
                    resting = self._patience.rest(who, error, backoff_s)
                    backoff_s = await _held(lease, resting)
        finally:
            self._over(who)

    async def _page(self, pages: AsyncIterator[Page]) -> Page | None:
        return await self._try("scan", partial(anext, pages, None))

    # -- the way there and back ------------------------------------------------------------

    async def _ask(
        self, operation: str, call: Callable[[], Awaitable[T]], *, or_refused: bool = False
    ) -> T:
        asking = partial(self._try, operation, call)
        if self._patience is None:
            return await asking()
        return await self._patience.until_answered(asking, or_refused=or_refused)

    async def _try(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answer = await call()
        except ReplicatorError as error:
            if self._metrics is not None:
                self._metrics.read_failed(recovery(error).value)
            raise
        if self._metrics is not None:
            self._metrics.read(self._connector, operation, loop.time() - began)
        return answer

    def _over(self, who: object) -> None:
        if self._patience is not None:
            self._patience.over(who)

    def _size(self, collection: str) -> PageSize:
        return self._sizes.setdefault(collection, PageSize(self._page_bytes))


def _outgrown(size: PageSize, page: Page, asked: int, page_rows: int) -> bool:
    """Whether a scan is to be opened anew: its pages hold too much, or less than they may."""
    page_bytes = sum(map(size_of, page.points))
    size.saw(len(page.points), page_bytes)
    rows = size.rows(page_rows)
    if page_bytes > size.bytes_max:
        return rows < asked
    return rows > asked and len(page.points) >= asked


@asynccontextmanager
async def _closing(pages: AsyncIterator[Page]) -> AsyncIterator[AsyncIterator[Page]]:
    """The store's own scan, closed on every way out."""
    try:
        yield pages
    finally:
        if (close := getattr(pages, "aclose", None)) is not None:
            await close()


async def _held(lease: Lease | None, wait: Awaitable[T]) -> T:
    return await (wait if lease is None else lease.while_held(wait))
