"""
Search quality: the same queries at both stores, and how much of the source's answer the target
gives.

Where both stores can, both look at every point: what differs then is the data or its distances,
not the luck of an index. Where the target cannot, its index is measured against the source's
exact answer. A hit that is as near as the last one expected is as good as it. Recall is a share
of so many trials, so it comes with its 95% interval, and only an interval that lies below the
threshold as a whole says that the target falls short.

Queries are asked some at a time where a store answers several at once, and by themselves where
it does not, or one of them is refused.

A query that says what must be found is golden: it is asked of the target alone, and its recall
is the share of that which it found. So the answers of vectors that another model made are
measured, which no store of the old ones can be asked for.

A search that a store refuses, or that names a vector it does not have, is not compared, and its
vector is named with the reason. It says nothing of the other vectors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from replicator.codecs.numeric import shortened
from replicator.codecs.validation import validate_vectors
from replicator.errors import Refused, Rejected, Retryable
from replicator.migration.equality.asked_filter import Translation, both
from replicator.migration.equality.quality import expected, overlap, rank_agreement, wilson
from replicator.migration.preflight.routes import Atlas
from replicator.model.event import Key
from replicator.model.point import PointId, Vector, bare
from replicator.model.schema import CollectionSchema
from replicator.model.search import Hit, Query
from replicator.settings.transform import CollectionSettings
from replicator.stream.embedding import EmbeddingTransform
from replicator.stream.ids import SOURCE_COLLECTION
from replicator.stream.reading import Reader
from replicator.stream.route import Route

_MORE = 10
"""Hits asked for beyond those that count, to see which are as near as the last of them."""


_REFUSALS = 3
"""Of queries by one vector, before the others by it are not asked any more: each may have taken
as long as a store allows."""

_TOGETHER = 16
"""Queries of one request. An exact search may take a second, and a store allows some dozens for
a request; half as many would save little of a small collection's round trips."""

_TRIES = 3
"""Of a search that is not answered, before its vector is given up for this verification."""


class Answered(msgspec.Struct, kw_only=True):
    """One query's answers, in target ids, and what they took."""

    using: str
    group: str
    k: int
    hits: int
    wanted: int
    overlap: float
    rank_agreement: float
    source_ms: float | None
    """None of a golden query, which the source is not asked."""
    target_ms: float
    exact: bool
    """Both stores looked at every point."""


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A query as either store is asked it."""

    query: Query
    at_source: Query
    at_target: Query


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one store found, whether it looked at every point, and how long that took; of a
    query asked with others, its share.
    """

    hits: list[Hit]
    exact: bool
    ms: float


class Searching:
    """Compares the answers of two stores."""

    def __init__(self, *, source: Reader, target: Reader, atlas: Atlas) -> None:
        self._source = source
        self._target = target
        self._atlas = atlas
        self._inexact: set[tuple[str, str]] = set()
        """Collections at a store that does not look at every point when asked to."""
        self._singly: set[tuple[str, str]] = set()
        """Those where several queries at once were not answered."""

    async def compare(
        self, collection: CollectionSettings, queries: Sequence[Query]
    ) -> dict[str, Any]:
        """The figures of one collection, as in `Report.search`."""
        answers: list[Answered] = []
        refused: dict[str, list[str]] = {}
        for begin in range(0, len(queries), _TOGETHER):
            asked: list[_Asked] = []
            for query in queries[begin : begin + _TOGETHER]:
                reasons = refused.get(query.using, [])
                if len(reasons) >= _REFUSALS:
                    reasons.append("")
                    continue
                try:
                    if query.expect:
                        answers.append(await self._golden(collection, query))
                    else:
                        asked.append(await self._asked(collection, query))
                except (Refused, Rejected) as error:
                    refused.setdefault(query.using, []).append(error.message)
            await self._ask(collection, asked, answers, refused)
        figures: dict[str, Any] = _figures(answers) if answers else {}
        groups = sorted({answer.group for answer in answers if answer.group})
        if groups:
            figures["classes"] = {
                group: _recall([answer for answer in answers if answer.group == group])
                for group in groups
            }
        if refused:
            figures["not_compared"] = {
                using or "the unnamed vector": f"{len(reasons)} queries: {reasons[0]}"
                for using, reasons in refused.items()
            }
        return figures

    async def _asked(self, collection: CollectionSettings, query: Query) -> _Asked:
        """Raises Refused or Rejected for one that cannot be asked of both."""
        mapping = collection.transform.vectors
        if (mapping or {}).get(query.using, query.using) in collection.transform.embed:
            raise Refused(
                "bad-request",
                "it is made anew by another model: give golden queries, with `expect`",
            )
        if mapping is not None and query.using not in mapping:
            raise Refused("bad-request", f"the vector {query.using!r} does not travel")
        known = self._atlas.sources[collection.source].vectors
        if known is not None and query.using not in known:
            raise Rejected("vector-unknown", f"the source has no vector {query.using!r}")
        among = self._among(collection.source)
        translated = self._translation(collection).translated(query.filter)
        query = await self._resolved(collection.source, query)
        using = (mapping or {}).get(query.using, query.using)
        return _Asked(
            query=query,
            at_source=msgspec.structs.replace(
                query,
                limit=query.limit + _MORE,
                filter=both(collection.transform.filter, query.filter),
            ),
            at_target=msgspec.structs.replace(
                query,
                vector=_short(query.vector, collection.transform.truncate.get(using)),
                using=using,
                filter=both(among, translated),
            ),
        )

    async def _golden(self, collection: CollectionSettings, query: Query) -> Answered:
        """Ask the target what must be found. Raises Refused or Rejected where it cannot be."""
        route = self._atlas.forward[collection.source]
        mapping, embed = collection.transform.vectors or {}, collection.transform.embed
        using = query.using if query.using in embed else mapping.get(query.using, query.using)
        vector: Vector = query.vector
        if query.text:
            if not isinstance(route.transform, EmbeddingTransform) or using not in embed:
                why = f"no `transform.embed` makes vectors for {using!r}"
                raise Refused("bad-request", why)
            vector = await route.transform.vector_of(using, query.text)
        elif query.id is not None:
            stored = (await self._resolved(collection.source, query)).vector
            vector = _short(stored, collection.transform.truncate.get(using))
        translated = self._translation(collection).translated(query.filter)
        asked = msgspec.structs.replace(
            query,
            vector=vector,
            using=using,
            filter=both(self._among(collection.source), translated),
        )
        answer = await self._hits(self._target, route.store, asked, query.limit)
        must = [route.transform.target_id(Key(route.collection, each)) for each in query.expect]
        got = [hit.id for hit in answer.hits]
        return Answered(
            using=using,
            group=query.group,
            k=query.limit,
            hits=len(set(must).intersection(got[: query.limit])),
            wanted=min(len(set(must)), query.limit),
            overlap=overlap(must, got),
            rank_agreement=rank_agreement(must, got),
            source_ms=None,
            target_ms=answer.ms,
            exact=answer.exact,
        )

    def _translation(self, collection: CollectionSettings) -> Translation:
        route = self._atlas.forward[collection.source]
        return Translation(
            collection.transform,
            nests=self._target.traits.payload.nested,
            target_id=lambda point_id: bare(
                route.transform.target_id(Key(route.collection, point_id))
            ),
        )

    def _among(self, name: str) -> dict[str, Any] | None:
        """
        What tells a collection's points from others that lie in the same one at the target.
        Raises Refused where nothing does: neighbours of both are no answer to compare.
        """
        names = self._atlas.stores[self._atlas.forward[name].store]
        if len(names) == 1:
            return None
        if not self._target.traits.filters:
            raise Refused(
                "unsupported",
                f"points of {', '.join(other for other in names if other != name)} lie in the"
                " same collection of the target, and no search there can leave them out",
            )
        return {"must": [{"key": SOURCE_COLLECTION, "match": {"value": name}}]}

    async def _ask(
        self,
        collection: CollectionSettings,
        asked: Sequence[_Asked],
        answers: list[Answered],
        refused: dict[str, list[str]],
    ) -> None:
        """Ask both stores, together where they can; of what was not answered so, one by one."""
        route = self._atlas.forward[collection.source]
        name = self._atlas.at_source(collection.source)
        # Both together, or both one by one: between the two answers to a query others write.
        sources = targets = await self._together(
            self._source, name, [each.at_source for each in asked]
        )
        if None not in sources:
            targets = await self._together(
                self._target, route.store, [each.at_target for each in asked]
            )
        if None in targets:
            self._singly.add(self._place(self._source, name))
            sources = targets
        for each, at_source, at_target in zip(asked, sources, targets, strict=True):
            query = each.query
            if len(refused.get(query.using, [])) >= _REFUSALS:
                refused[query.using].append("")
                continue
            try:
                theirs = at_source or await self._hits(
                    self._source, name, each.at_source, query.limit
                )
                ours = at_target or await self._hits(
                    self._target, route.store, each.at_target, query.limit
                )
            except (Refused, Rejected) as error:
                refused.setdefault(query.using, []).append(error.message)
            else:
                answers.append(_answered(route, query, theirs, ours))

    async def _together(
        self, store: Reader, collection: str, queries: Sequence[Query]
    ) -> Sequence[_Answer | None]:
        """The answers of one request; None of each where there are none."""
        place = self._place(store, collection)
        if len(queries) < 2 or place in self._singly:
            return [None] * len(queries)
        exact = place not in self._inexact
        asked = [msgspec.structs.replace(query, exact=exact) for query in queries]
        begun = time.perf_counter()
        try:
            found = await store.search_many(collection, asked)
        except (Refused, Rejected, Retryable):
            found = None
        if found is None:
            # One of them may be to blame, or their number: asked singly, that shows.
            self._singly.add(place)
            return [None] * len(queries)
        ms = (time.perf_counter() - begun) * 1000 / len(queries)
        return [_Answer(hits=hits, exact=exact, ms=ms) for hits in found]

    def _place(self, store: Reader, collection: str) -> tuple[str, str]:
        return ("source" if store is self._source else "target", collection)

    async def _resolved(self, collection: str, query: Query) -> Query:
        """The query with the vector of the stored point that it names, if it names one."""
        if query.id is None:
            return query
        wanted: PointId = query.id
        name = self._atlas.at_source(collection)
        found, unreadable = await self._source.fetch(name, [wanted], or_refused=True)
        if wanted in unreadable:
            raise unreadable[wanted]
        point = found.get(wanted)
        vector = None if point is None else point.vectors.get(query.using)
        if vector is None:
            raise Refused(
                "bad-request",
                f"there is no point {query.id!r} with a vector {query.using!r} at the source",
            )
        return msgspec.structs.replace(query, vector=vector)

    async def _hits(self, store: Reader, collection: str, query: Query, enough: int) -> _Answer:
        """
        The answer to one query. A store that takes too long to look at every point, or is not
        allowed to, is asked by its index; one that allows no more hits than are needed is asked
        for those.
        """
        place = self._place(store, collection)
        tries = [(True, query.limit), (True, enough), (False, query.limit), (False, enough)]
        if place in self._inexact:
            tries = tries[2:]
        if query.limit == enough:
            tries = tries[::2]
        begun = time.perf_counter()
        for exact, limit in tries[:-1]:
            asked = msgspec.structs.replace(query, exact=exact, limit=limit)
            try:
                hits = await store.search(collection, asked)
            except (Refused, Retryable):
                continue
            break
        else:
            exact, limit = tries[-1]
            asked = msgspec.structs.replace(query, exact=exact, limit=limit)
            try:
                hits = await store.search(collection, asked, tries=_TRIES)
            except Retryable as error:
                # The proof that both stores hold the same must not wait for it for ever.
                raise Refused(
                    "store-refused", f"no answer in {_TRIES} tries: {error.message}"
                ) from error
        if not exact:
            self._inexact.add(place)
        return _Answer(hits=hits, exact=exact, ms=(time.perf_counter() - begun) * 1000)


def _short(vector: Vector, size: int | None) -> Vector:
    """What becomes of a query's vector where those that it is compared with are truncated."""
    return shortened(vector, size) if size and isinstance(vector, bytes) else vector


def _answered(route: Route, query: Query, at_source: _Answer, at_target: _Answer) -> Answered:
    wanted = _in_target_ids(route, at_source.hits)
    first = [hit.id for hit in wanted[: query.limit]]
    got = [hit.id for hit in at_target.hits]
    return Answered(
        using=query.using,
        group=query.group,
        k=query.limit,
        hits=expected(wanted, at_target.hits, query.limit),
        wanted=len(first),
        overlap=overlap(first, got),
        rank_agreement=rank_agreement(first, got),
        source_ms=at_source.ms,
        target_ms=at_target.ms,
        exact=at_source.exact and at_target.exact,
    )


def assign(
    given: Sequence[Query], sources: Mapping[str, CollectionSchema]
) -> tuple[dict[str, list[Query]], list[str]]:
    """
    Which collection each given query is for: the one that it names, or every one that could
    answer it. And the queries that are for none, in sentences.
    """
    asked: dict[str, list[Query]] = {name: [] for name in sources}
    nobodys: list[str] = []
    for number, query in enumerate(given, 1):
        names = [name for name, schema in sources.items() if _is_for(query, name, schema)]
        for name in names:
            asked[name].append(query)
        if not names:
            what = "no collection of the migration can answer it"
            if query.collection is not None:
                what = f"there is no collection {query.collection!r} in this migration"
            nobodys.append(f"query {number}: {what}")
    return asked, nobodys


def _is_for(query: Query, name: str, schema: CollectionSchema) -> bool:
    if query.collection is not None:
        return query.collection == name
    if query.expect and query.id is None:
        return True  # by a vector of the target's
    if query.id is not None:
        return schema.vectors is None or query.using in schema.vectors
    try:
        validate_vectors({query.using: query.vector}, schema.vectors, whole=False)
    except Rejected:
        return False
    return True


def below(results: dict[str, dict[str, Any]], least: float) -> list[str]:
    """Of which collections the target's answers certainly fall short, in sentences."""
    return [
        f"{name}: recall@{figures['k']} is {figures['recall']:.3f}, at most"
        f" {figures['recall_high']:.3f}; verify.recall_min is {least:g}"
        for name, figures in results.items()
        if "recall_high" in figures and figures["recall_high"] < least
    ]


def _in_target_ids(route: Route, hits: Sequence[Hit]) -> list[Hit]:
    found = []
    for hit in hits:
        try:
            target_id = route.transform.target_id(Key(route.collection, hit.id))
        except Rejected:
            continue
        found.append(Hit(target_id, hit.score))
    return found


def _figures(answers: Sequence[Answered]) -> dict[str, Any]:
    asked_of_both = [answer.source_ms for answer in answers if answer.source_ms is not None]
    hits = sum(answer.hits for answer in answers)
    wanted = sum(answer.wanted for answer in answers)
    low, high = wilson(hits, wanted)
    return {
        "queries": len(answers),
        "golden": len(answers) - len(asked_of_both),
        "k": max(answer.k for answer in answers),
        "method": "exact" if all(answer.exact for answer in answers) else "index",
        "recall": _recall(answers),
        "recall_low": low,
        "recall_high": high,
        "overlap": _mean([answer.overlap for answer in answers]),
        "rank_agreement": _mean([answer.rank_agreement for answer in answers]),
        "latency_ms": {
            "source": _mean(asked_of_both) if asked_of_both else None,
            "target": _mean([answer.target_ms for answer in answers]),
        },
    }


def _recall(answers: Sequence[Answered]) -> float:
    """Over all that was expected; 1.0 where nothing was, as then nothing was missed."""
    wanted = sum(answer.wanted for answer in answers)
    return sum(answer.hits for answer in answers) / wanted if wanted else 1.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
