"""
The backfill: copy every row of the source to the target, once, resumably.

    capture persisted ─► settle ─► ensure target ─► split
                    ─► N readers, each: scan a page ─► transform ─► write ─► persist the cursor

Each collection is cut into chunks that are persisted and never recomputed; a chunk's cursor is
persisted after its rows are durable, so a crash repeats at most one page of each chunk under
way. Nothing else writes the target meanwhile: changes made during the copy wait in the feed and
are replayed afterwards from the captured positions, which is what makes the copy's age
harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from replicator import failpoints
from replicator.errors import Blocked, Refused, Rejected
from replicator.metrics import Metrics
from replicator.migration.copy.pace import Pace
from replicator.migration.preflight.planned import keep_plans, read_plans
from replicator.migration.preflight.routes import Atlas, wanted_target
from replicator.migration.preflight.shared import Targets
from replicator.model.event import Key
from replicator.model.finding import Severity
from replicator.model.letter import RejectedRecord
from replicator.model.point import PointId
from replicator.model.record import ChunkState
from replicator.model.schema import CollectionSchema
from replicator.model.write import Upsert, Write
from replicator.ports.state import StateStore
from replicator.ports.store import Page, Planner, StoreWriter
from replicator.ports.transform import Row
from replicator.settings.settings import BackfillSettings, Settings
from replicator.stream.letters import DeadLetters
from replicator.stream.ownership import Lease, Revoked
from replicator.stream.patience import Patience
from replicator.stream.reading import Reader
from replicator.stream.writing import Writer


async def prepare_target(
    settings: Settings,
    *,
    source: Reader,
    target: Reader,
    writer: Writer,
    lease: Lease,
    capture_id: str,
    wipe: Sequence[str],
    resumed: bool,
    state: StateStore,
) -> None:
    """
    Make every target collection exist, empty or with this capture's mark. Only collections
    named in `wipe` are ever wiped, and none once rows were copied (`resumed`); a store that
    keeps no mark is then trusted. Raises Blocked("target-not-empty").
    """
    kept = await read_plans(state) if resumed else {}
    targets = Targets()
    # Before anything is wiped or made, of any collection, everything has been looked at.
    at_target: dict[str, CollectionSchema | None] = {}
    for collection in settings.collections:
        name = collection.target
        if name not in at_target:
            at_target[name] = await target.describe(name)
        if resumed and at_target[name] is None:
            raise Blocked(
                "target-missing", f"target collection {name!r} vanished during the copy"
            )
        if name in kept:
            continue
        schema = await source.schema(collection.source)
        wanted = await wanted_target(collection, schema, target.store, capture_id=capture_id)
        try:
            targets.add(collection, schema, wanted, at_target[name])
        except Refused as error:
            raise Blocked(error.code, f"target/{name}: {error.message}") from error
    for finding in targets.losses():
        if finding.severity is Severity.BLOCKS:
            raise Blocked(finding.code, f"{finding.subject}: {finding.message}")
    plans = kept | targets.plans
    await keep_plans(state, plans)
    known = (capture_id, None) if resumed else (capture_id,)
    for name in await _to_wipe(target, at_target, known, () if resumed else wipe):
        await writer.administer(lease, partial(target.store.wipe, name))
    for name in at_target:
        await writer.administer(lease, partial(target.store.ensure, plans[name]))


async def _to_wipe(
    target: Reader,
    at_target: Mapping[str, CollectionSchema | None],
    known: Sequence[str | None],
    wipe: Sequence[str],
) -> list[str]:
    """Collections of another origin that may be wiped. Raises Blocked for one that may not."""
    to_wipe = []
    for name, found in at_target.items():
        if found is None or found.capture_id in known:
            continue
        # A new capture never trusts an old copy: what was deleted since would live on.
        count = await target.count(name)
        if name in wipe:
            to_wipe.append(name)
        elif count != 0:
            raise Blocked(
                "target-not-empty",
                f"target collection {name!r} holds {count or 'some'} points "
                "that this capture did not copy",
            )
    return to_wipe


class Backfill:
    """One run of the copy; a later run goes on where it ended. `stop` ends it at a page's
    end.
    """

    def __init__(
        self,
        *,
        source: Reader,
        target: StoreWriter,
        writer: Writer,
        lease: Lease,
        atlas: Atlas,
        state: StateStore,
        letters: DeadLetters,
        patience: Patience,
        pace: Pace,
        settings: BackfillSettings,
        metrics: Metrics,
    ) -> None:
        self._source = source
        self._target = target
        self._writer = writer
        self._lease = lease
        self._atlas = atlas
        self._state = state
        self._letters = letters
        self._patience = patience
        self._pace = pace
        self._settings = settings
        self._metrics = metrics
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the pages under way."""
        self._stopping.set()

    async def run(self) -> bool:
        """Copy what is not copied; whether everything is."""
        states = await self._chunks()
        todo = [state for state in states if not state.done]
        self._pace.progress.copied = sum(state.rows for state in states)
        self._pace.progress.estimated = await self._estimate()
        await self._state.put("estimate", msgspec.json.encode(self._pace.progress.estimated))
        async with asyncio.TaskGroup() as group:
            for number in range(self._settings.readers):
                group.create_task(self._read_chunks(todo), name=f"backfill reader {number}")
        if self._stopping.is_set():
            return False
        await failpoints.reached("backfill.before-finish")
        plans = await read_plans(self._state)
        for store in self._atlas.stores:
            if isinstance(self._target, Planner) and store in plans:
                configuring = partial(self._target.configure, plans[store])
                await self._writer.administer(self._lease, configuring)
            ending = partial(self._target.finish_bulk, store)
            with self._patience.waits.waiting(
                "index-build", f"{store}: the target builds its index"
            ):
                await self._lease.while_held(self._patience.until_answered(ending))
        await failpoints.reached("backfill.after-finish")
        return True

    async def _chunks(self) -> list[ChunkState]:
        states = await self._state.chunks()
        cut = {state.chunk.collection for state in states}
        for name in self._atlas.forward:
            if name not in cut:
                chunks = await self._source.split(
                    name, self._settings.chunks, self._atlas.scopes.get(name)
                )
                await self._state.add_chunks(name, chunks)
        return await self._state.chunks()

    async def _estimate(self) -> int | None:
        counts = [
            await self._source.count(name, self._atlas.scopes.get(name), route.where)
            for name, route in self._atlas.forward.items()
        ]
        return None if None in counts else sum(count or 0 for count in counts)

    async def _read_chunks(self, todo: list[ChunkState]) -> None:
        try:
            while todo and not self._stopping.is_set():
                await self._copy(todo.pop(0))
        except Revoked:
            return  # what was in flight is answered; the rest is copied by the next run

    async def _copy(self, state: ChunkState) -> None:
        """Copy the rest of a chunk, through any number of failures of the source."""
        scan = self._source.scan(
            state.chunk,
            state.cursor,
            self._settings.page_rows,
            where=self._atlas.forward[state.chunk.collection].where,
            budget=self._pace,
            lease=self._lease,
        )
        async with aclosing(scan) as pages:
            async for page in pages:
                state = await self._carry(state, page)
                # Not to be held while the next one is read.
                del page
                if self._stopping.is_set():
                    return
        if not state.done:
            await self._state.advance(msgspec.structs.replace(state, done=True))

    async def _carry(self, state: ChunkState, page: Page) -> ChunkState:
        route = self._atlas.forward[state.chunk.collection]
        writes: dict[PointId, Write] = {}
        keys: dict[PointId, Key] = {}
        refused: list[RejectedRecord] = []
        for row in page.rejected:
            key = None if row.id is None else Key(route.collection, row.id)
            refused.append(self._letters.of_row(key, row.error, row.raw, row.place))
        items = [Row(Key(route.collection, point.id), point) for point in page.points]
        for item, write in zip(items, await route.writes(items, self._lease), strict=True):
            if isinstance(write, Rejected):
                refused.append(self._letters.of_row(item.key, write, None, ""))
            elif isinstance(write, Upsert):  # what the filter leaves out is not to be deleted
                writes[write.id] = write
                keys[write.id] = item.key
        rows = len(page.points) + len(page.rejected)
        if writes:
            await failpoints.reached("backfill.before-write")
            written = await self._writer.write(self._lease, route.store, list(writes.values()))
            refused += [
                self._letters.of_row(keys[point_id], error, None, "")
                for point_id, error in written.rejected.items()
            ]
        if refused:
            await self._letters.keep_rows(refused, self._lease)
        await failpoints.reached("backfill.after-write")
        # Invariant 8: the cursor moves only past rows that are durable.
        state = ChunkState(
            state.chunk, page.cursor, state.rows + rows, done=page.cursor is None
        )
        await self._state.advance(state)
        await failpoints.reached("backfill.after-cursor")
        self._pace.progress.copied += rows
        self._metrics.backfill_records.inc(rows)
        return state
