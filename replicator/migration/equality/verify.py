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
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
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
from replicator.model.point import MultiVector, Point, PointId, Vector
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
        self._read: dict[tuple[str, str], int] = {}
        """By store and its own word for the collection: keys read, where all were."""
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
            counts, together = await self._counts()
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
                together=together,
                configuration=await self._configuration(),
                findings=self._first,
                search=search,
                below=list(progress.recall_below),
                warnings=self._warnings(
                    counts, together, search, begun_at == self._positions()
                ),
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
                    self._count("source", name, read, rows_max)

    async def _backward(self, rows_max: int | None, generation: int) -> None:
        for store, names in self._atlas.stores.items():
            # Extras are found by their keys: no vector is read for it.
            reading = self._pages(
                self._target,
                store,
                self._atlas.scopes_of_all(names),
                rows_max,
                want=Want.KEYS,
                budget=self._pace,
            )
            async with aclosing(reading) as pages:
                async for page in pages:
                    for gap in await self._unknown_to_source(names, page.points):
                        await self._suspect(gap, generation)
                    read = len(page.points)
                    del page
                    self._count("target", store, read, rows_max)

    def _count(self, store: str, name: str, rows: int, rows_max: int | None) -> None:
        progress = self._progress
        progress.compared += rows
        if progress.expected is not None:
            progress.expected = max(progress.expected, progress.compared)
        if rows_max is None:
            place = (store, name)
            self._read[place] = self._read.get(place, 0) + rows

    async def _unknown_to_source(
        self, names: Sequence[str], points: Sequence[Point]
    ) -> list[Gap]:
        """
        Points of a target to which these collections lead that the source does not have. Those
        it has were compared the other way. A stray is an extra of the first of them.
        """
        origins = [self._atlas.origins(names, point) for point in points]
        wanted: dict[str, dict[PointId, None]] = {}
        for key in (key for keys in origins for key in keys):
            wanted.setdefault(key.collection, {})[key.id] = None
        unknown = {
            name: await self._mirror.unknown(name, list(ids)) for name, ids in wanted.items()
        }
        gaps = []
        for point, keys in zip(points, origins, strict=True):
            if not keys:
                stray = self._atlas.forward[names[0]].transform.stray(point.id)
                gaps.append(Gap(Key(names[0], stray), Difference.EXTRA))
                continue
            travels = self._atlas.scopes_at_target(keys[0].collection)
            if travels is not None and not travels.hold(point.id):
                continue  # read for another collection, of which this scope travels
            if all(key.id in unknown[key.collection] for key in keys):
                gaps.append(Gap(keys[0], Difference.EXTRA))
        return gaps

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

    async def _counts(
        self,
    ) -> tuple[dict[str, list[int | None]], dict[str, list[int | None]]]:
        """As `Report.counts` and `Report.together`."""
        counts: dict[str, list[int | None]] = {}
        together: dict[str, list[int | None]] = {}
        for store, names in self._atlas.stores.items():
            at_target = await self._target.count(store, self._atlas.scopes_of_all(names))
            for name in names:
                at_source = await self._source.count(
                    self._atlas.at_source(name), self._atlas.scopes.get(name)
                )
                # Of a shared one a store counts all points, whosever they are.
                counts[name] = [at_source, at_target if len(names) == 1 else None]
            if len(names) > 1:
                together[store] = [_sum([counts[name][0] for name in names]), at_target]
        return counts, together

    async def _expected(self) -> int | None:
        """How many rows will be read, both ways; None where a store cannot say."""
        counts: list[int | None] = []
        for name, route in self._atlas.forward.items():
            at_source, scopes = self._atlas.at_source(name), self._atlas.scopes.get(name)
            counts.append(await self._source.count(at_source, scopes, route.where))
        for store, names in self._atlas.stores.items():
            counts.append(await self._target.count(store, self._atlas.scopes_of_all(names)))
        return _sum(counts)

    async def _configuration(self) -> dict[str, list[SettingDifference]]:
        """What of the targets' configuration is not as planned, by the source's word."""
        plans = await read_plans(self._state)
        found: dict[str, list[SettingDifference]] = {}
        sharing: dict[str, list[CollectionSettings]] = {}
        for collection in self._collections:
            sharing.setdefault(collection.target, []).append(collection)
        for collection, *others in sharing.values():
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
            accepted = set(collection.accept).intersection(*(x.accept for x in others))
            differences = configuration_differences(wanted, actual, accepted)
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
        transform = self._atlas.forward[collection.source].transform
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
                    names = [
                        name
                        for name in point.vectors
                        if transform.target_vector(name) is not None
                    ]
                    if not names:
                        continue
                    using = min(names, key=lambda name: asked[name])
                    asked[using] += 1
                    queries.append(
                        Query(
                            vector=_as_query(point.vectors[using]),
                            using=using,
                            limit=self._settings.search_limit,
                        )
                    )
                if len(queries) >= wanted:
                    break
        return queries[:wanted]

    def _warnings(
        self,
        counts: dict[str, list[int | None]],
        together: dict[str, list[int | None]],
        search: dict[str, dict[str, Any]],
        quiet: bool,
    ) -> list[str]:
        """
        What is worth a look, and no finding. Counts are the stores' own, taken at two moments:
        they say little while events are applied (not `quiet`).
        """
        found = [*self._unasked, *self._unmeasured(search)]
        filters = {c.source: c.transform.filter for c in self._collections}
        for name, both in counts.items():
            differ = None not in both and both[0] != both[1] and filters.get(name) is None
            if differ and (quiet or not self._read):
                found.append(
                    f"{name}: the source counts {both[0]} points, the target {both[1]}"
                )
            if filters[name] is not None and self._source.narrows:
                continue  # it did not show all that it counts
            found += self._unshown(name, "source", name, both[0], quiet)
        for store, names in self._atlas.stores.items():
            who = ", ".join(names)
            if store in together:
                sources, at_target = together[store]
                differ = None not in (sources, at_target) and sources != at_target
                if any(filters.get(name) is not None for name in names):
                    differ = False
                if differ and (quiet or not self._read):
                    found.append(
                        f"{who}: the source counts {sources} points in all, the target"
                        f" {at_target} in {store}, which they share"
                    )
            else:
                [at_target] = [counts[name][1] for name in names]
            found += self._unshown(who, "target", store, at_target, quiet)
        for name, figures in search.items():
            for using, reason in figures.get("not_compared", {}).items():
                found.append(f"{name}: search by {using} is not compared: {reason}")
        return found

    def _unmeasured(self, search: dict[str, dict[str, Any]]) -> Iterator[str]:
        """Vectors made anew, of which no stored point's own says how well they are found."""
        if not (self._settings.queries or search):
            return  # nobody asks
        for collection in self._collections:
            if search.get(collection.source, {}).get("golden"):
                continue
            for name in collection.transform.embed:
                yield (
                    f"{collection.source}: {name or 'the unnamed vector'} is made anew,"
                    " and only golden queries (with `expect`) tell how well it is found"
                )

    def _unshown(
        self, who: str, store: str, name: str, own: int | None, quiet: bool
    ) -> Iterator[str]:
        """Whether a store showed another number of keys than it counts."""
        seen = self._read.get((store, name), 0)
        if quiet and self._read and own is not None and own != seen:
            yield f"{who}: the {store} counts {own} points, and showed {seen}"


def _sum(counts: Sequence[int | None]) -> int | None:
    """None where one of them is not known."""
    return None if None in counts else sum(count or 0 for count in counts)


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
