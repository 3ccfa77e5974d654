"""
Verification: prove that both stores are equal, while the stream runs.

A full *generation* reads every key both ways. Source to target finds what is missing and what
differs; target to source finds what is extra. What differs at first sight is a suspect
(`suspects`), and only what still differs when every excuse has been ruled out is a finding. The
log's positions at the beginning of the generation are kept: whatever was written since, the
last comparison of a cutover reads there. Memory holds one page and the suspects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from replicator import failpoints
from replicator.clock import Clock
from replicator.migration.copy.pace import Pace
from replicator.migration.equality.mirror import Gap, Mirror
from replicator.migration.equality.searching import Searching, assign, below
from replicator.migration.equality.suspects import Suspects
from replicator.migration.evidence.verified import Verified, keep_verified
from replicator.migration.preflight.planned import read_plans
from replicator.migration.preflight.routes import Atlas, wanted_target
from replicator.model.configuration import configuration_differences
from replicator.model.event import Key
from replicator.model.filter import Filter
from replicator.model.finding import Difference, Finding, SettingDifference
from replicator.model.point import MultiVector, Point, Vector
from replicator.model.position import Positions
from replicator.model.record import EvidenceContext
from replicator.model.report import Report
from replicator.model.scopes import Scopes
from replicator.model.search import Query
from replicator.model.status import VerifyStatus
from replicator.ports.state import StateStore
from replicator.ports.store import Page
from replicator.settings.settings import VerifySettings
from replicator.settings.transform import CollectionSettings
from replicator.stream.ids import ORIGIN
from replicator.stream.reading import Reader, RowBudget, Want

_KEPT = 100
"""Findings in the report itself; the state store holds all."""

_QUERY_ROWS = 32
"""Rows of a multi-vector that is asked with."""


class Verification:
    """One generation, at one level. Not to be run twice at once."""

    def __init__(
        self,
        *,
        source: Reader,
        target: Reader,
        atlas: Atlas,
        collections: Sequence[CollectionSettings],
        mirror: Mirror,
        suspects: Suspects,
        state: StateStore,
        settings: VerifySettings,
        clock: Clock,
        progress: VerifyStatus,
        positions: Callable[[], Positions],
        context: EvidenceContext,
    ) -> None:
        """`context`: what the result rests on."""
        self._context = context
        self._source = source.consistent
        self._target = target.consistent
        self._atlas = atlas
        self._collections = collections
        self._mirror = mirror
        self._suspects = suspects
        self._state = state
        self._settings = settings
        self._clock = clock
        self._progress = progress
        self._positions = positions
        self._pace = Pace(settings.rate_max)
        self._first: list[Finding] = []
        self._counted = dict.fromkeys(Difference, 0)
        self._uncarried = 0
        self._unasked: list[str] = []
        """Queries that were put to no collection."""
        self._read: dict[str, list[int]] = {}
        """Keys read from source and target, where all were."""
        self._started_at = 0.0

    async def run(self, level: str, queries: Sequence[Query] | None) -> Report:
        """Compare at a level (`counts`, `sample`, `full`) to the end."""
        self._started_at, begun_at = self._clock(), self._positions()
        progress = self._progress
        progress.phase, progress.level, progress.compared = "comparing", level, 0
        progress.expected = None
        generation = progress.generation + 1
        try:
            if level == "full":
                progress.expected = await self._expected()
            if level != "counts":
                per_chunk = None if level == "full" else self._settings.sample
                await self._forward(per_chunk, generation)
                await self._backward(per_chunk, generation)
                progress.phase = "settling"
                await self._settle(generation)
            counts = await self._counts()
            search = await self._search(queries)
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
                counts=counts,
                configuration=await self._configuration(),
                findings=self._first,
                search=search,
                below=list(progress.recall_below),
                warnings=self._warnings(counts, search, begun_at == self._positions()),
            )
            if level == "full":
                await failpoints.reached("verify.before-complete")
                await self._complete(report, begun_at)
                await failpoints.reached("verify.after-complete")
            await self._state.put("report", msgspec.json.encode(report))
        finally:
            progress.phase = "idle"
        progress.phase = "done"
        return report

    # -- both ways -------------------------------------------------------------------------

    async def _forward(self, rows_max: int | None, generation: int) -> None:
        for name in self._atlas.forward:
            at_source, scopes = self._atlas.at_source(name), self._atlas.scopes.get(name)
            reading = self._pages(
                self._source,
                at_source,
                scopes,
                rows_max,
                where=self._atlas.forward[name].where,
                budget=self._pace,
            )
            async with aclosing(reading) as pages:
                async for page in pages:
                    rows = [(point.id, point) for point in page.points]
                    gaps, uncarried = await self._mirror.against_target(name, rows)
                    self._uncarried += len(page.rejected) + uncarried
                    for gap in gaps:
                        await self._suspect(gap, generation)
                    read = len(rows) + len(page.rejected)
                    # Not to be held while the next one is read.
                    del page, rows
                    self._count(name, 0, read, rows_max)

    async def _backward(self, rows_max: int | None, generation: int) -> None:
        for name, route in self._atlas.forward.items():
            # Extras are found by their keys: no vector is read for it.
            reading = self._pages(
                self._target,
                route.store,
                self._atlas.scopes_at_target(name),
                rows_max,
                want=Want.KEYS,
                budget=self._pace,
            )
            async with aclosing(reading) as pages:
                async for page in pages:
                    for gap in await self._unknown_to_source(name, page.points):
                        await self._suspect(gap, generation)
                    read = len(page.points)
                    del page
                    self._count(name, 1, read, rows_max)

    def _count(self, name: str, store: int, rows: int, rows_max: int | None) -> None:
        progress = self._progress
        progress.compared += rows
        if progress.expected is not None:
            progress.expected = max(progress.expected, progress.compared)
        if rows_max is None:
            self._read.setdefault(name, [0, 0])[store] += rows

    async def _unknown_to_source(self, name: str, points: Sequence[Point]) -> list[Gap]:
        """Target points that the source does not have. Those it has were compared the other
        way.
        """
        transform = self._atlas.forward[name].transform
        candidates = [transform.candidates(point.id, point.payload) for point in points]
        wanted = {source_id: None for group in candidates for source_id in group}
        unknown = await self._mirror.unknown(name, list(wanted))
        return [
            Gap(Key(name, group[0] if group else point.id), Difference.EXTRA)
            for point, group in zip(points, candidates, strict=True)
            if all(source_id in unknown for source_id in group)
        ]

    async def _pages(
        self,
        store: Reader,
        collection: str,
        scopes: Scopes | None,
        rows_max: int | None,
        *,
        want: Want = Want.POINTS,
        where: Filter | None = None,
        budget: RowBudget | None = None,
    ) -> AsyncGenerator[Page, None]:
        """Every page of a collection, or about `rows_max` rows spread over it. Keys come with
        what tells which source key they belong to.
        """
        chunks = await store.split(collection, 8, scopes)
        quota = None if rows_max is None else max(1, rows_max // max(1, len(chunks)))
        page_rows = (
            self._settings.page_rows if quota is None else min(quota, self._settings.page_rows)
        )
        for chunk in chunks:
            read = 0
            scan = store.scan(
                chunk,
                None,
                page_rows,
                want=want,
                fields=ORIGIN,
                where=where,
                budget=budget,
            )
            async with aclosing(scan) as pages:
                async for page in pages:
                    read += len(page.points)
                    yield page
                    del page
                    if quota is not None and read >= quota:
                        break

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

    async def _complete(self, report: Report, positions: Positions) -> None:
        """Keep the generation; what earlier ones found and this one did not is healed."""
        after = 0
        while rows := await self._state.findings(1000, after):
            after = rows[-1][0]
            healed = [finding.key for _, finding in rows if finding.at < self._started_at]
            if healed:
                await self._state.clear_findings(healed)
        verified = Verified(
            generation=report.generation,
            at=self._clock(),
            positions=positions,
            misconfigured=report.misconfigured,
            below=report.below,
            context=self._context,
        )
        await keep_verified(self._state, verified)
        progress = self._progress
        progress.generation, progress.at = report.generation, verified.at

    # -- counts and search quality ---------------------------------------------------------

    async def _counts(self) -> dict[str, list[int | None]]:
        counts = {}
        for name, route in self._atlas.forward.items():
            at_source = await self._source.count(
                self._atlas.at_source(name), self._atlas.scopes.get(name)
            )
            at_target = await self._target.count(
                route.store, self._atlas.scopes_at_target(name)
            )
            counts[name] = [at_source, at_target]
        return counts

    async def _expected(self) -> int | None:
        """How many rows will be read, both ways; None where a store cannot say."""
        counts: list[int | None] = []
        for name, route in self._atlas.forward.items():
            at_source, scopes = self._atlas.at_source(name), self._atlas.scopes.get(name)
            counts.append(await self._source.count(at_source, scopes, route.where))
            at_target = self._atlas.scopes_at_target(name)
            counts.append(await self._target.count(route.store, at_target))
        return None if None in counts else sum(count or 0 for count in counts)

    async def _configuration(self) -> dict[str, list[SettingDifference]]:
        """What of the targets' configuration is not as planned, by the source's word."""
        plans = await read_plans(self._state)
        found: dict[str, list[SettingDifference]] = {}
        for collection in self._collections:
            # A migration that an earlier release began has no plan: one is made now.
            wanted = plans.get(collection.target) or await wanted_target(
                collection,
                self._atlas.sources[collection.source],
                self._target.store,
                capture_id=None,
            )
            actual = await self._target.describe(collection.target)
            if actual is None:
                continue  # a vanished collection is found by everything else
            differences = configuration_differences(wanted, actual, collection.accept)
            if differences:
                found[collection.source] = differences
        self._progress.configuration = sum(
            difference.blocks for each in found.values() for difference in each
        )
        return found

    async def _search(self, given: Sequence[Query] | None) -> dict[str, dict[str, Any]]:
        searching = Searching(source=self._source, target=self._target, atlas=self._atlas)
        if given is None:
            asked = {c.source: await self._stored_queries(c) for c in self._collections}
        else:
            asked, self._unasked = assign(given, self._atlas.sources)
        results = {
            collection.source: await searching.compare(collection, queries)
            for collection in self._collections
            if (queries := asked[collection.source])
        }
        compared = [figures for figures in results.values() if "recall" in figures]
        progress = self._progress
        progress.recall = min((figures["recall"] for figures in compared), default=None)
        progress.recall_upper = min(
            (figures["recall_high"] for figures in compared), default=None
        )
        progress.recall_below = below(results, self._settings.recall_min)
        return results

    async def _stored_queries(self, collection: CollectionSettings) -> list[Query]:
        """
        Stored vectors, spread over the collection and over its vectors, that travel to the
        target. Those of points that travel: others have no answer there to be found.
        """
        wanted = self._settings.queries
        mapping = collection.transform.vectors
        queries: list[Query] = []
        asked: Counter[str] = Counter()
        if not wanted:
            return queries
        name = self._atlas.at_source(collection.source)
        scopes = self._atlas.scopes.get(collection.source)
        where = self._atlas.forward[collection.source].where
        reading = self._pages(self._source, name, scopes, wanted, where=where)
        async with aclosing(reading) as pages:
            async for page in pages:
                for point in page.points:
                    names = [n for n in point.vectors if mapping is None or n in mapping]
                    if not names:
                        continue
                    using = min(names, key=lambda name: asked[name])
                    asked[using] += 1
                    queries.append(
                        Query(
                            vector=_as_query(point.vectors[using]),
                            using=using,
                            limit=self._settings.search_limit,
                            filter=collection.transform.filter,
                        )
                    )
                if len(queries) >= wanted:
                    break
        return queries[:wanted]

    def _warnings(
        self,
        counts: dict[str, list[int | None]],
        search: dict[str, dict[str, Any]],
        quiet: bool,
    ) -> list[str]:
        """
        What is worth a look, and no finding. Counts are the stores' own, taken at two moments:
        they say little while events are applied (not `quiet`).
        """
        found = list(self._unasked)
        filters = {c.source: c.transform.filter for c in self._collections}
        for name, both in counts.items():
            differ = None not in both and both[0] != both[1] and filters.get(name) is None
            if differ and (quiet or not self._read):
                found.append(
                    f"{name}: the source counts {both[0]} points, the target {both[1]}"
                )
            read = self._read.get(name, [])
            for store, own, seen in zip(("source", "target"), both, read, strict=False):
                if store == "source" and filters[name] is not None and self._source.narrows:
                    continue  # it did not show all that it counts
                if quiet and own is not None and own != seen:
                    found.append(f"{name}: the {store} counts {own} points, and showed {seen}")
        for name, figures in search.items():
            for using, reason in figures.get("not_compared", {}).items():
                found.append(f"{name}: search by {using} is not compared: {reason}")
        return found


def _as_query(vector: Vector) -> Vector:
    """
    A stored vector as a question. Of a multi-vector, the first rows: a question has some dozens
    (one for each word), a document a thousand, and comparing all rows with all rows of every
    document takes longer than any store allows.
    """
    if not isinstance(vector, MultiVector) or vector.rows <= _QUERY_ROWS:
        return vector
    row_bytes = len(vector.data) // vector.rows
    return MultiVector(_QUERY_ROWS, vector.data[: _QUERY_ROWS * row_bytes])
