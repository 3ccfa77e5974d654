"""Routes: what the settings and both stores' schemas make of each collection, in each
direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType

import msgspec

from replicator.codecs.validation import Demand, demand_of
from replicator.errors import Blocked, Refused
from replicator.model.configuration import neutral, with_options
from replicator.model.event import Key
from replicator.model.phase import Direction
from replicator.model.point import Point, bare
from replicator.model.record import Chunk
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.scopes import Scopes
from replicator.ports.store import Optioned, Planner, StoreWriter
from replicator.settings.feeds import NoFeedSettings
from replicator.settings.settings import Settings
from replicator.settings.stores import store_address
from replicator.settings.transform import CollectionSettings
from replicator.stream.embedding import Embeddings
from replicator.stream.ids import SOURCE_COLLECTION
from replicator.stream.reading import Reader
from replicator.stream.route import Route
from replicator.stream.transform import FieldTransform, IdentityTransform

_SAMPLE_ROWS = 16
"""Rows that tell whether points of the source have vectors at all. Few: each may be a megabyte,
and a wrong guess only sends events to the dead letters, with the way out in their message."""


class Atlas(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of the collections once both stores have been described."""

    forward: dict[str, Route]
    reverse: dict[str, Route]
    sources: dict[str, CollectionSchema]
    targets: dict[str, CollectionSchema]
    """By the source's word too."""
    integer_ids: dict[str, bool | None]
    """By the source's word: whether keys end in integers; None where the spelling tells."""
    scopes: dict[str, Scopes]
    """By the source's word: which scopes travel, of collections whose keys hold one."""

    def routes(self, direction: Direction) -> Mapping[str, Route]:
        """The routes in force in a direction."""
        return self.forward if direction is Direction.FORWARD else self.reverse

    @property
    def stores(self) -> dict[str, list[str]]:
        """The target's collections, each with what leads to it, by the source's word."""
        stores: dict[str, list[str]] = {}
        for name, route in self.forward.items():
            stores.setdefault(route.store, []).append(name)
        return stores

    def scopes_at_target(self, collection: str) -> Scopes | None:
        """Which scopes of the target are ours; None where it has none, as a fan-in."""
        return self.scopes.get(collection) if self.targets[collection].scoped else None

    def scopes_of_all(self, collections: Sequence[str]) -> Scopes | None:
        """Which scopes of a target are those of any of the collections that lead to it."""
        each = [self.scopes_at_target(collection) for collection in collections]
        names: set[str] = set()
        for scopes in each:
            if scopes is None or scopes.names is None:
                return scopes
            names |= scopes.names
        return Scopes(frozenset(names))

    def origins(self, collections: Sequence[str], point: Point) -> list[Key]:
        """
        The source's keys that may lead to a point of the target to which all these collections
        lead, all of one collection, the likeliest first; none of a stray.
        """
        said = point.payload.get(SOURCE_COLLECTION)
        # What it says is where to look first, and no more: an id leads back in one collection.
        for name in sorted(collections, key=lambda name: name != said):
            ids = self.forward[name].transform.candidates(point.id, point.payload)
            if ids:
                return [Key(name, point_id) for point_id in ids]
        return []

    def at_source(self, collection: str) -> str:
        """The name to read it by at the source, whatever an alias of its name leads to now."""
        return self.reverse[collection].store


def scopes_of(
    settings: Settings, collection: CollectionSettings, source: CollectionSchema
) -> Scopes | None:
    """
    Which scopes of a collection travel; None where it has none. With a feed they are declared,
    for its keys hold them then, and every producer must know; a copy learns from the source.
    Raises Refused("scopes-unset", "scopes-absent").
    """
    declared = collection.travelling
    if not source.scoped:
        if declared is not None:
            raise Refused(
                "scopes-absent",
                f"`scopes` is set, and the source has none in {collection.source!r}",
            )
        return None
    if declared is None and not isinstance(settings.feed, NoFeedSettings):
        raise Refused(
            "scopes-unset",
            f"ids of {collection.source!r} are unique only within a tenant, partition or shard"
            " key, and `scopes` does not say which travel",
        )
    return declared or Scopes()


async def wanted_target(
    collection: CollectionSettings,
    source: CollectionSchema,
    target: StoreWriter,
    *,
    capture_id: str | None,
) -> CollectionSchema:
    """
    The target collection as the source, the transform and the options ask for it, and as the
    target can make it. Raises Refused("config-invalid") for an option that it does not have.
    """
    asked = FieldTransform(collection, source, source).target_schema(source)
    # Where the store has no scopes all points lie together there, under ids that hold theirs.
    asked = msgspec.structs.replace(asked, scoped=asked.scoped and target.traits.scopes)
    # Options say how a collection is kept, and are no settings to make one with.
    settings = {} if isinstance(target, Optioned) else collection.target_options
    if isinstance(target, Planner):
        planned = target.plan(with_options(asked, settings))
    elif settings:
        raise Refused(
            "config-invalid",
            f"target_options of {collection.target!r}: this kind of store has none",
        )
    else:
        planned = neutral(asked, target.traits.vectors)
    return msgspec.structs.replace(planned, name=collection.target, capture_id=capture_id)


def is_one_collection(
    settings: Settings, source: CollectionSchema, target: CollectionSchema
) -> bool:
    """Whether both are the same collection of the same store, whatever they are called."""
    return store_address(settings.source) == store_address(settings.target) and (
        source.physical or source.name
    ) == (target.physical or target.name)


async def draw_atlas(
    settings: Settings,
    source: Reader,
    target: Reader,
    *,
    embeddings: Embeddings,
    pinned: Mapping[str, str] = MappingProxyType({}),
) -> Atlas:
    """
    Describe both stores, each asked once: the caller repeats the whole. Raises
    Refused("source-missing"), Blocked("target-missing") when a collection is gone, Retryable
    when a store is away.
    """
    sources: dict[str, CollectionSchema] = {}
    targets: dict[str, CollectionSchema] = {}
    integer_ids: dict[str, bool | None] = {}
    scopes: dict[str, Scopes] = {}
    forward: dict[str, Route] = {}
    reverse: dict[str, Route] = {}
    for collection in settings.collections:
        name = collection.source
        # The collection itself: by now an alias of this name may lead to the target's.
        behind = pinned.get(f"source/{name}", name)
        found = msgspec.structs.replace(await source.schema(behind), name=behind)
        schema = msgspec.structs.replace(found, name=name)
        at_target = await target.describe(collection.target)
        if at_target is None:
            raise Blocked(
                "target-missing", f"the target has no collection {collection.target!r}"
            )
        try:
            travelling = scopes_of(settings, collection, schema)
        except Refused as error:
            # Rows and events would speak of different ids.
            raise Blocked(error.code, error.message) from error
        if travelling is not None:
            scopes[name] = travelling
        sources[name] = schema
        targets[name] = at_target
        demand = await _demand(collection, source, found, travelling)
        integer_ids[name] = await _ends_in_integers(settings, source, found, travelling)
        forward[name] = Route(
            collection=name,
            store=pinned.get(f"target/{collection.target}", collection.target),
            transform=embeddings.joined(
                FieldTransform(collection, at_target, schema, target.traits.payload)
            ),
            vectors=schema.vectors,
            source=schema,
            demand=demand,
        )
        reverse[name] = Route(
            collection=name,
            store=behind,
            transform=IdentityTransform(),
            vectors=schema.vectors,
            source=schema,
            demand=demand,
        )
    return Atlas(
        forward=forward,
        reverse=reverse,
        sources=sources,
        targets=targets,
        integer_ids=integer_ids,
        scopes=scopes,
    )


async def _ends_in_integers(
    settings: Settings, source: Reader, schema: CollectionSchema, scopes: Scopes | None
) -> bool | None:
    """Whether the collection's keys end in integers. Declared, or what the store can hold, or
    what it holds; None for a store whose texts never read as integers, because they are UUIDs.
    """
    declared = getattr(settings.feed, "ids", "learn")
    if declared != "learn" and (declared == "integer" or schema.ids & IdKinds.STRING):
        return bool(declared == "integer")
    if not schema.ids & IdKinds.STRING:
        return None
    if not schema.ids & IdKinds.UINT64:
        return False
    rows = await some_rows(source, schema.name, 1, scopes)
    return bool(rows) and isinstance(bare(rows[0].id), int)


async def _demand(
    collection: CollectionSettings,
    source: Reader,
    schema: CollectionSchema,
    scopes: Scopes | None,
) -> Demand:
    """Which vectors an upsert must bring: declared, or as a few rows of the source tell."""
    declared = collection.vectors_required
    if declared is None and schema.vectors and all(v.required for v in schema.vectors.values()):
        return Demand()  # the store demands them itself
    rows = []
    if declared is None:
        rows = await some_rows(source, schema.name, _SAMPLE_ROWS, scopes)
    for name in declared or ():
        if schema.vectors is not None and name not in schema.vectors:
            raise Refused(
                "transform-invalid",
                f"collections.{collection.source}.vectors_required: the source has no vector "
                f"{name!r}",
            )
    return demand_of(declared, schema.vectors, rows)


async def some_rows(
    source: Reader, collection: str, rows: int, scopes: Scopes | None
) -> list[Point]:
    """Some rows, the first that come; fewer where there are no more to read."""
    some: list[Point] = []
    chunks: list[Chunk] = await source.split(collection, 1, scopes)
    for chunk in chunks:
        async with aclosing(source.scan(chunk, None, rows)) as pages:
            async for page in pages:
                some += page.points[: rows - len(some)]
                if len(some) == rows:
                    return some
    return some
