"""
Verification: prove that both stores are equal, while the stream runs.

A full *generation* reads every key both ways. Source to target finds what is missing and what
differs; target to source finds what is extra. What differs at first sight is a suspect
(`suspects`), and only what still differs when every excuse has been ruled out is a finding. The
log's positions at the beginning of the generation are kept: whatever was written since, the
last comparison of a cutover reads there. Memory holds one page and the suspects.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import msgspec

from replicator import failpoints
from replicator.clock import Clock
from replicator.errors import Refused, Rejected, Retryable
from replicator.migration.mirror import Gap, Mirror
from replicator.migration.pace import Pace
from replicator.migration.planned import read_plans
from replicator.migration.quality import overlap, rank_agreement, recall
from replicator.migration.routes import Atlas, wanted_target
from replicator.migration.suspects import Suspects
from replicator.migration.verified import Verified, keep_verified
from replicator.model.event import Key
from replicator.model.finding import Difference, Finding, SettingDifference
from replicator.model.point import Point
from replicator.model.position import Positions
from replicator.model.record import Chunk, EvidenceContext
from replicator.model.search import Query
from replicator.model.status import VerifyStatus
from replicator.ports.control import Report
from replicator.ports.state import StateStore
from replicator.ports.store import Page, Store
from replicator.settings.settings import VerifySettings
from replicator.settings.transform import CollectionSettings
from replicator.stream.configuration import configuration_differences
from replicator.stream.patience import Patience

_KEPT = 100
"""Findings in the report itself; the state store holds all."""


class Verification:
    """One generation, at one level. Not to be run twice at once."""

    def __init__(
        self,
        *,
        source: Store,
        target: Store,
        atlas: Atlas,
        collections: Sequence[CollectionSettings],
        mirror: Mirror,
        suspects: Suspects,
        state: StateStore,
        patience: Patience,
        settings: VerifySettings,
        clock: Clock,
        progress: VerifyStatus,
        positions: Callable[[], Positions],
        context: EvidenceContext,
    ) -> None:
        """`context`: what the result rests on."""
        self._context = context
        self._source = source
        self._target = target
        self._atlas = atlas
        self._collections = collections
        self._mirror = mirror
        self._suspects = suspects
        self._state = state
        self._patience = patience
        self._settings = settings
        self._clock = clock
        self._progress = progress
        self._positions = positions
        self._pace = Pace(settings.rate_max)
        self._first: list[Finding] = []
        self._counted = dict.fromkeys(Difference, 0)
        self._uncarried = 0
        self._started_at = 0.0

    async def run(self, level: str, queries: Sequence[Query] | None) -> Report:
        """Compare at a level (`counts`, `sample`, `full`) to the end."""
        self._started_at, begun_at = self._clock(), self._positions()
        progress = self._progress
        progress.phase, progress.level, progress.compared = "comparing", level, 0
        generation = progress.generation + 1
        try:
            if level != "counts":
                per_chunk = None if level == "full" else self._settings.sample
                await self._forward(per_chunk, generation)
                await self._backward(per_chunk, generation)
                progress.phase = "settling"
                await self._settle(generation)
            report = Report(
                level=level,
                generation=generation,
                started_at=self._started_at,
                finished_at=self._clock(),
                compared=progress.compared,
                missing=self._counted[Difference.MISSING],
                extra=self._counted[Difference.EXTRA],
                different=self._counted[Difference.DIFFERENT],
                uncarried=self._uncarried,
                hot=self._suspects.hot,
                counts=await self._counts(),
                configuration=await self._configuration(),
                findings=self._first,
                search=await self._search(queries),
            )
            if level == "full":
                await failpoints.reached("verify.before-complete")
                await self._complete(generation, begun_at)
                await failpoints.reached("verify.after-complete")
            await self._state.put("report", msgspec.json.encode(report))
        finally:
            progress.phase = "idle"
        progress.phase = "done"
        return report

    # -- both ways -------------------------------------------------------------------------

    async def _forward(self, rows_max: int | None, generation: int) -> None:
        for name in self._atlas.forward:
            async for page in self._pages(self._source, name, rows_max):
                rows = [(point.id, point) for point in page.points]
                gaps, uncarried = await self._mirror.against_target(name, rows)
                self._uncarried += len(page.rejected) + uncarried
                for gap in gaps:
                    await self._suspect(gap, generation)
                await self._did(len(rows))

    async def _backward(self, rows_max: int | None, generation: int) -> None:
        for name, route in self._atlas.forward.items():
            async for page in self._pages(self._target, route.store, rows_max):
                for gap in await self._unknown_to_source(name, page.points):
                    await self._suspect(gap, generation)
                await self._did(len(page.points))

    async def _unknown_to_source(self, name: str, points: Sequence[Point]) -> list[Gap]:
        """Target points that the source does not have. Those it has were compared the other
        way.
        """
        ids = self._atlas.forward[name].transform.ids
        candidates = [ids.candidates(point.id, point.payload) for point in points]
        wanted = {source_id: None for group in candidates for source_id in group}
        unknown = await self._mirror.unknown(name, list(wanted))
        return [
            Gap(Key(name, group[0] if group else point.id), Difference.EXTRA)
            for point, group in zip(points, candidates, strict=True)
            if all(source_id in unknown for source_id in group)
        ]

    async def _pages(
        self, store: Store, collection: str, rows_max: int | None
    ) -> AsyncIterator[Page]:
        """Every page of a collection, or about `rows_max` rows spread over it; a failure
        resumes.
        """
        chunks = await self._patience.until_answered(lambda: store.split(collection, 8))
        quota = None if rows_max is None else max(1, rows_max // max(1, len(chunks)))
        page_rows = (
            self._settings.page_rows if quota is None else min(quota, self._settings.page_rows)
        )
        for chunk in chunks:
            async for page in self._chunk(store, chunk, quota, page_rows):
                yield page

    async def _chunk(
        self, store: Store, chunk: Chunk, quota: int | None, page_rows: int
    ) -> AsyncIterator[Page]:
        who, backoff_s = object(), None
        cursor: str | None = None
        read, at_end = 0, False
        try:
            while not at_end and (quota is None or read < quota):
                try:
                    async for page in store.scan(chunk, cursor, page_rows):
                        self._patience.over(who)
                        backoff_s = None
                        yield page
                        read += len(page.points)
                        cursor = page.cursor
                        if quota is not None and read >= quota:
                            break
                    at_end = True
                except Retryable as error:
                    backoff_s = await self._patience.rest(who, error, backoff_s)
        finally:
            self._patience.over(who)

    async def _did(self, rows: int) -> None:
        self._progress.compared += rows
        await self._pace.rows(rows)

    async def _suspect(self, gap: Gap, generation: int) -> None:
        self._suspects.add(gap)
        if len(self._suspects) >= self._settings.suspects_max:
            await self._settle(generation)

    async def _settle(self, generation: int) -> None:
        findings = [
            Finding(
                key=gap.key,
                kind=gap.kind,
                detail=gap.detail,
                generation=generation,
                # A clock that was set back meanwhile must not make a finding of this run look
                # like one of an earlier run, which would be forgotten as healed.
                at=max(self._clock(), self._started_at),
            )
            for gap in await self._suspects.settle()
        ]
        if findings:
            await self._state.add_findings(findings)
            self._first += findings[: _KEPT - len(self._first)]
            for finding in findings:
                self._counted[finding.kind] += 1

    async def _complete(self, generation: int, positions: Positions) -> None:
        """Keep the generation; what earlier ones found and this one did not is healed."""
        after = 0
        while rows := await self._state.findings(1000, after):
            after = rows[-1][0]
            healed = [finding.key for _, finding in rows if finding.at < self._started_at]
            if healed:
                await self._state.clear_findings(healed)
        verified = Verified(
            generation=generation, at=self._clock(), positions=positions, context=self._context
        )
        await keep_verified(self._state, verified)
        progress = self._progress
        progress.generation, progress.at = generation, verified.at

    # -- counts and search quality ---------------------------------------------------------

    async def _counts(self) -> dict[str, list[int | None]]:
        counts = {}
        for name, route in self._atlas.forward.items():
            at_source = await self._patience.until_answered(partial(self._source.count, name))
            at_target = await self._patience.until_answered(
                partial(self._target.count, route.store)
            )
            counts[name] = [at_source, at_target]
        return counts

    async def _configuration(self) -> dict[str, list[SettingDifference]]:
        """What of the targets' configuration is not as planned, by the source's word."""
        plans = await read_plans(self._state)
        found: dict[str, list[SettingDifference]] = {}
        for collection in self._collections:
            # A migration that an earlier release began has no plan: one is made now.
            wanted = plans.get(collection.target) or await wanted_target(
                collection,
                self._atlas.sources[collection.source],
                self._target,
                capture_id=None,
            )
            actual = await self._patience.until_answered(
                partial(self._target.describe, collection.target)
            )
            if actual is None:
                continue  # a vanished collection is found by everything else
            differences = configuration_differences(wanted, actual, collection.accept)
            if differences:
                found[collection.source] = differences
        self._progress.configuration = sum(
            difference.blocks for each in found.values() for difference in each
        )
        return found

    async def _search(self, given: Sequence[Query] | None) -> dict[str, dict[str, object]]:
        results: dict[str, dict[str, object]] = {}
        for collection in self._collections:
            name = collection.source
            queries = given if given is not None else await self._stored_queries(collection)
            if queries:
                try:
                    results[name] = await self._compare_search(collection, queries)
                except Refused as error:
                    # A store that cannot search this way is no less equal for it.
                    results[name] = {"not_compared": error.message}
        recalls = [
            recall
            for result in results.values()
            if isinstance(recall := result.get("recall"), float)
        ]
        self._progress.recall = sum(recalls) / len(recalls) if recalls else None
        return results

    async def _stored_queries(self, collection: CollectionSettings) -> list[Query]:
        """Stored dense vectors, spread over the collection, that travel to the target."""
        wanted = self._settings.queries
        mapping = collection.transform.vectors
        queries: list[Query] = []
        if not wanted:
            return queries
        async for page in self._pages(self._source, collection.source, wanted):
            for point in page.points:
                for using, vector in point.vectors.items():
                    if isinstance(vector, bytes) and (mapping is None or using in mapping):
                        queries.append(
                            Query(
                                vector=vector,
                                using=using,
                                limit=self._settings.search_limit,
                                filter=collection.transform.filter,
                            )
                        )
                        break
            if len(queries) >= wanted:
                break
        return queries[:wanted]

    async def _compare_search(
        self, collection: CollectionSettings, queries: Sequence[Query]
    ) -> dict[str, object]:
        route = self._atlas.forward[collection.source]
        mapping = collection.transform.vectors or {}
        recalls, overlaps, ranks, source_ms, target_ms = [], [], [], [], []
        for query in queries:
            moved = msgspec.structs.replace(
                query, using=mapping.get(query.using, query.using), filter=None
            )
            started = time.perf_counter()
            at_source = await self._patience.until_answered(
                partial(self._source.search, collection.source, query), or_refused=True
            )
            between = time.perf_counter()
            at_target = await self._patience.until_answered(
                partial(self._target.search, route.store, moved), or_refused=True
            )
            source_ms.append((between - started) * 1000)
            target_ms.append((time.perf_counter() - between) * 1000)
            wanted = []
            for hit in at_source:
                try:
                    wanted.append(route.transform.target_id(Key(collection.source, hit.id)))
                except Rejected:
                    continue
            got = [hit.id for hit in at_target]
            recalls.append(recall(wanted, got, query.limit))
            overlaps.append(overlap(wanted, got))
            ranks.append(rank_agreement(wanted, got))
        return {
            "queries": len(queries),
            "k": max(query.limit for query in queries),
            "recall": _mean(recalls),
            "overlap": _mean(overlaps),
            "rank_agreement": _mean(ranks),
            "latency_ms": {"source": _mean(source_ms), "target": _mean(target_ms)},
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
