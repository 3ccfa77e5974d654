"""
Strict mode: the limits that a collection puts on requests, refused in a server's own words.

Only what is asked for is judged; what an index or a search costs inside is the engine's.
Limits of sizes are compared with an estimate, as on a server, and with what was there before
the request: so the request that passes a limit is accepted, and the one after it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from math import ceil

import grpc

from replicator.connectors.qdrant.wire import Message, wire
from replicator.local_store.answers import Answer, invalid
from replicator.model.schema import VectorKind, VectorSchema

_MINUTE_S = 60.0


class Sizes:
    """What a collection holds, about."""

    def __init__(self, points: int, shapes: Iterable[VectorSchema], payload_bytes: int) -> None:
        self.points = points
        self.payload_bytes = payload_bytes
        self.vector_bytes = points * sum(
            4 * (shape.size or 0) for shape in shapes if shape.kind is VectorKind.DENSE
        )


class Limits:
    """The limits of one collection; none while strict mode is off."""

    def __init__(self) -> None:
        self._strict = wire().StrictModeConfig()
        self._buckets: dict[str, _Bucket] = {}

    def configure(self, strict: Message) -> None:
        """Put a `StrictModeConfig` in force."""
        self._strict = strict if strict.enabled else wire().StrictModeConfig()
        self._buckets = {
            kind: _Bucket(kind, getattr(self._strict, f"{kind.lower()}_rate_limit"))
            for kind in ("Read", "Write")
            if self._strict.HasField(f"{kind.lower()}_rate_limit")
        }

    @property
    def sizes_matter(self) -> bool:
        """Whether `check_sizes` would look at anything."""
        return any(self._strict.HasField(name) for name in _SIZES)

    def check_read(self, request: Message, indexed: Collection[str]) -> None:
        """Judge a scroll, a query, a count or a fetch. Raises Answer."""
        fields = request.DESCRIPTOR.fields_by_name
        self._check_timeout(request)
        if "limit" in fields and request.HasField("limit"):
            self._check_limit(request.limit, "max_query_limit", "limit")
        conditions = 0
        if "filter" in fields and request.HasField("filter"):
            conditions = self._check_filter(
                request.filter, indexed, "unindexed_filtering_retrieve"
            )
        exact = "exact" in fields and (not request.HasField("exact") or request.exact)
        if "params" in fields and request.HasField("params"):
            exact = exact or request.params.exact
            self._check_limit(request.params.hnsw_ef, "search_max_hnsw_ef", "hnsw_ef")
        if exact and self._is_forbidden("search_allow_exact"):
            raise _strict("Exact search disabled!", "Set exact=false.")
        self._take("Read", len(request.ids) if "ids" in fields else 1 + conditions)

    def check_write(self, kind: str, message: Message, indexed: Collection[str]) -> None:
        """Judge an update, by its name in PointsUpdateOperation. Raises Answer."""
        self._check_timeout(message)
        points = getattr(message, "points", None)
        if kind in ("upsert", "update_vectors"):
            assert points is not None
            self._check_limit(
                len(points),
                "upsert_max_batchsize",
                "upsert limit" if kind == "upsert" else "update limit",
            )
            for point in points:
                self._check_vectors(point.vectors)
            self._take("Write", len(points))
            return
        selector = points if points is not None else message.points_selector
        if selector.HasField("filter"):
            self._check_filter(selector.filter, indexed, "unindexed_filtering_update")
        self._take("Write", max(1, len(selector.points.ids)))

    def check_sizes(self, sizes: Sizes) -> None:
        """Judge what is there before an upsert or an update of vectors. Raises Answer."""
        strict = self._strict
        if _reached(strict, "max_collection_vector_size_bytes", sizes.vector_bytes):
            limit_mb = strict.max_collection_vector_size_bytes / (1 << 20)
            raise _bad(f"Max vector storage size limit of {limit_mb:g}MB reached!")
        if _reached(strict, "max_collection_payload_size_bytes", sizes.payload_bytes):
            limit_mb = strict.max_collection_payload_size_bytes / (1 << 20)
            raise _bad(f"Max payload storage size limit of {limit_mb:g}MB reached!")
        if _reached(strict, "max_points_count", sizes.points):
            raise _bad(f"Max points count limit of {strict.max_points_count} reached!")

    def check_index_count(self, there: int) -> None:
        """Judge one payload index more. Raises Answer."""
        if _reached(self._strict, "max_payload_index_count", there):
            raise _strict(
                f"Collection already has the maximum number of payload indices ({there})",
                "Please delete an existing index before creating a new one.",
            )

    def _check_timeout(self, request: Message) -> None:
        fields = request.DESCRIPTOR.fields_by_name
        if "timeout" in fields and request.HasField("timeout"):
            self._check_limit(request.timeout, "max_timeout", "timeout")

    def _check_limit(self, value: float, setting: str, name: str) -> None:
        if not self._strict.HasField(setting):
            return
        limit = getattr(self._strict, setting)
        if value > limit:
            raise _strict(
                f'Limit exceeded {value} > {limit} for "{name}"',
                f'Reduce the "{name}" parameter to or below {limit}.',
            )

    def _is_forbidden(self, setting: str) -> bool:
        return self._strict.HasField(setting) and not getattr(self._strict, setting)

    def _check_filter(self, wanted: Message, indexed: Collection[str], setting: str) -> int:
        keys = list(_keys(wanted))
        if self._is_forbidden(setting):
            for key in keys:
                if key not in indexed:
                    raise _strict(
                        f'Index required but not found for "{key}"',
                        "Create an index for this key or use a different filter.",
                    )
        if self._strict.HasField("filter_max_conditions"):
            limit = self._strict.filter_max_conditions
            if len(keys) > limit:
                raise _strict(
                    f"Filter condition limit reached ({len(keys)} > {limit})",
                    "Reduce the amount of conditions of your filter.",
                )
        return len(keys)

    def _check_vectors(self, vectors: Message) -> None:
        multi = self._strict.multivector_config.multivector_config
        sparse = self._strict.sparse_config.sparse_config
        if not multi and not sparse:
            return
        named = (
            {"": vectors.vector}
            if vectors.WhichOneof("vectors_options") == "vector"
            else vectors.vectors.vectors
        )
        for name, vector in named.items():
            rows, length = len(vector.multi_dense.vectors), len(vector.sparse.indices)
            if name in multi and multi[name].HasField("max_vectors"):
                limit = multi[name].max_vectors
                if rows > limit:
                    raise _bad(
                        f"Multivector '{name}' has a limit of {limit} vectors,"
                        f" but {rows} were provided!"
                    )
            if name in sparse and sparse[name].HasField("max_length"):
                limit = sparse[name].max_length
                if length > limit:
                    raise _bad(
                        f"Sparse vector '{name}' has a limit of {limit} indices,"
                        f" but {length} were provided!"
                    )

    def _take(self, kind: str, cost: int) -> None:
        bucket = self._buckets.get(kind)
        if bucket is not None:
            bucket.take(cost, asyncio.get_running_loop().time())


class _Bucket:
    """So many tokens a minute, all of them at first."""

    def __init__(self, kind: str, per_minute: int) -> None:
        self._kind = kind
        self._per_minute = per_minute
        self._tokens = float(per_minute)
        self._at: float | None = None

    def take(self, cost: int, now: float) -> None:
        """Take tokens, or raise Answer with the seconds to wait."""
        per_s = self._per_minute / _MINUTE_S
        if self._at is not None:
            self._tokens = min(self._per_minute, self._tokens + (now - self._at) * per_s)
        self._at = now
        if cost > self._per_minute:
            # Never to be had: there is nothing to wait for.
            raise _limited(
                f"{self._kind} rate limit exceeded, request larger than rate limiter"
                " capacity, please try to split your request"
            )
        if cost > self._tokens:
            wait_s = ceil((cost - self._tokens) / per_s)
            raise _limited(
                f"{self._kind} rate limit exceeded: Operation requires {cost} tokens but only"
                f" {self._tokens:.1f} were available. Retry after {wait_s}s",
                wait_s,
            )
        self._tokens -= cost


_SIZES = (
    "max_collection_vector_size_bytes",
    "max_collection_payload_size_bytes",
    "max_points_count",
)


def _keys(wanted: Message) -> Iterable[str]:
    """The payload fields that a filter looks at; nested ones by their whole path."""
    lists = (wanted.must, wanted.should, wanted.must_not, wanted.min_should.conditions)
    for condition in (each for conditions in lists for each in conditions):
        match condition.WhichOneof("condition_one_of"):
            case "field":
                yield condition.field.key
            case "is_empty" | "is_null" as kind:
                yield getattr(condition, kind).key
            case "nested":
                prefix = condition.nested.key.removesuffix("[]")
                for key in _keys(condition.nested.filter):
                    yield f"{prefix}[].{key}"
            case "filter":
                yield from _keys(condition.filter)


def _reached(strict: Message, setting: str, value: int) -> bool:
    return bool(strict.HasField(setting) and value >= getattr(strict, setting))


def _strict(what: str, help_: str) -> Answer:
    return _bad(f"{what}. Help: {help_}")


def _bad(words: str) -> Answer:
    return invalid(f"Bad request: {words}")


def _limited(words: str, retry_after_s: int | None = None) -> Answer:
    return Answer(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"Rate limiting exceeded: {words}", retry_after_s
    )
