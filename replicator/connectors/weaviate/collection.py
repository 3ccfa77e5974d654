"""Classes as a whole: find one, make one ready for a copy, mark one, empty one."""

from __future__ import annotations

from collections.abc import Callable

from replicator.codecs.rules import check_collection
from replicator.connectors.weaviate import configuration, messages
from replicator.connectors.weaviate.channel import Channel
from replicator.connectors.weaviate.classes import Class, Said, read_class, write_said
from replicator.connectors.weaviate.failures import TenantGone, TenantInactive
from replicator.connectors.weaviate.kind import WEAVIATE, WeaviateOptions
from replicator.connectors.weaviate.messages import wire
from replicator.connectors.weaviate.objects import read_multi
from replicator.connectors.weaviate.rest import Rest
from replicator.connectors.weaviate.tenants import Tenants, all_of
from replicator.errors import Refused
from replicator.model.schema import CollectionSchema, Mark, VectorKind, VectorSchema

Options = Callable[[str], WeaviateOptions]

_COUNTED_MAX = 1_000
"""Tenants that are counted, each by a request, to describe a class. `count` counts them all."""

_SAMPLED = 8
"""Objects that are looked at to learn how many components vectors have."""


class Collections:
    """The classes of one server."""

    def __init__(
        self, channel: Channel, rest: Rest, tenants: Tenants, options: Options
    ) -> None:
        self._channel = channel
        self._rest = rest
        self._tenants = tenants
        self._options = options
        self._learned: dict[str, dict[str, int]] = {}

    async def find(self, name: str) -> Class | None:
        """The class, as it is now."""
        document = await self._rest.find(name)
        if document is None:
            self._learned.pop(name, None)
            self._tenants.forget(name)
            return None
        return read_class(document, self._options(name))

    async def present(self, name: str, missing: str = "target-missing") -> Class:
        """The same of one that is there. Raises Refused with the code `missing`."""
        found = await self.find(name)
        if found is None:
            raise Refused(missing, f"Weaviate has no class {name!r}")
        return found

    async def describe(self, name: str) -> CollectionSchema | None:
        """The schema; with a count, where every tenant can be counted."""
        kept = await self.find(name)
        if kept is None:
            return None
        try:
            points = await self.count(kept, tenants_max=_COUNTED_MAX)
            sizes = await self._sizes(kept)
        except Refused as exc:
            if exc.code == "source-missing":
                return None
            raise
        return schema_of(kept, sizes, points)

    async def schema(self, kept: Class) -> CollectionSchema:
        """The schema without a count."""
        return schema_of(kept, await self._sizes(kept), None)

    async def count(
        self,
        kept: Class,
        scopes: list[str] | None = None,
        *,
        tenants_max: int | None = None,
    ) -> int | None:
        """Objects, of some tenants or all; None where a tenant is not active, and where there
        are more than `tenants_max`.
        """
        if not kept.tenants:
            return await self._count(kept.name, "")
        found = await self._tenants.of(kept.name)
        asked = [each for each in found if scopes is None or each in scopes]
        if tenants_max is not None and len(asked) > tenants_max:
            return None
        if any(found[each] != messages.HOT for each in asked):
            return None
        return sum(await all_of([self._count(kept.name, each) for each in asked]))

    async def _count(self, name: str, tenant: str) -> int:
        request = wire().AggregateRequest(collection=name, objects_count=True)
        if tenant:
            request.tenant = tenant
        try:
            reply = await self._channel.read("Aggregate", request)
        except (TenantGone, TenantInactive):
            return 0  # it went, or was put to rest, since it was listed
        return int(reply.single_result.objects_count)

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """As `Planner.plan`."""
        return configuration.plan(wanted, self._options(wanted.name))

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """As `Foresight.foresee`."""
        self._check(wanted)
        kept = await self.find(wanted.name)
        if kept is not None:
            sizes = await self._sizes(kept)
            _check_conflicts(kept, sizes, wanted)
            return schema_of(kept, sizes, None)
        made = read_class(self._creation(wanted), self._options(wanted.name))
        return schema_of(made, made.said.sizes, 0)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """As `StoreWriter.ensure`. Raises Refused for a class that cannot hold the vectors, or
        holds points under another mark.
        """
        self._check(wanted)
        kept = await self.find(wanted.name)
        if kept is None:
            await self._rest.create(self._creation(wanted))
            kept = await self.present(wanted.name)
        _check_conflicts(kept, await self._sizes(kept), wanted)
        present = None if kept.said.mark is None else kept.said.mark.capture_id
        if wanted.capture_id in (None, present):
            return
        points = await self.count(kept)
        if points != 0:
            raise Refused(
                "target-not-empty",
                f"{wanted.name} holds {'inactive tenants' if points is None else points}"
                f" {'' if points is None else 'points '}and bears the mark {present!r}, not"
                f" {wanted.capture_id!r}",
            )
        assert wanted.capture_id is not None
        await self._put(kept, Mark(wanted.capture_id), wanted.vectors)

    async def mark(self, name: str, mark: Mark) -> None:
        """As `StoreWriter.mark`."""
        await self._put(await self.present(name), mark)

    async def wipe(self, name: str, level: int) -> None:
        """Remove every object, and every tenant, and then the mark; the class stays."""
        kept = await self.find(name)
        if kept is None:
            return
        if kept.tenants:
            if tenants := list(await self._tenants.of(name)):
                await self._rest.drop_tenants(name, tenants)
            self._tenants.forget(name)
        else:
            await self._empty(name, level)
        await self._put(kept, None)

    async def _empty(self, name: str, level: int) -> None:
        """The server deletes so many at a time, and says how many matched."""
        request = wire().BatchDeleteRequest(collection=name, consistency_level=level)
        request.filters.operator = messages.LIKE
        request.filters.target.property = "_id"
        request.filters.value_text = "*"
        while True:
            reply = await self._channel.write("BatchDelete", request)
            if reply.failed:
                raise Refused(
                    "store-refused",
                    f"Weaviate deleted {reply.successful} objects of {name}, and could not"
                    f" delete {reply.failed} more",
                )
            if not reply.matches:
                return

    async def _put(
        self, kept: Class, mark: Mark | None, wanted: dict[str, VectorSchema] | None = None
    ) -> None:
        sizes = {**await self._sizes(kept)}
        for name, vector in (wanted or {}).items():
            if vector.size is not None:
                sizes.setdefault(name, vector.size)
        said = Said(made=kept.said.made, sizes=sizes, mark=mark)
        description = write_said(kept.document.get("description") or "", said)
        await self._rest.replace(kept.name, {**kept.document, "description": description})

    def _check(self, wanted: CollectionSchema) -> None:
        check_collection(wanted, WEAVIATE.traits.vectors)
        configuration.named(wanted.vectors or {"": VectorSchema()})

    def _creation(self, wanted: CollectionSchema) -> dict[str, object]:
        return configuration.creation(self.plan(wanted), self._options(wanted.name))

    async def _sizes(self, kept: Class) -> dict[str, int]:
        """Vector → its components, as they were said when it was made, or seen since."""
        known = kept.said.sizes | self._learned.get(kept.name, {})
        if kept.vectors.keys() <= known.keys():
            return known
        known = await self._learn(kept) | known
        self._learned[kept.name] = known
        return known

    async def _learn(self, kept: Class) -> dict[str, int]:
        request = wire().SearchRequest(collection=kept.name, limit=_SAMPLED, uses_127_api=True)
        want_vectors(request, kept)
        request.properties.SetInParent()
        if kept.tenants:
            found = await self._tenants.of(kept.name)
            active = [name for name, status in found.items() if status == messages.HOT]
            if not active:
                return {}
            request.tenant = active[0]
        try:
            reply = await self._channel.read("Search", request)
        except (TenantGone, TenantInactive):
            return {}
        sizes: dict[str, int] = {}
        for name, vector in kept.vectors.items():
            for each in reply.results:
                told = next((v for v in each.metadata.vectors if v.name == vector.wire), None)
                data = (
                    each.metadata.vector_bytes
                    if vector.wire is None
                    else b"" if told is None else told.vector_bytes
                )  # fmt: skip
                if data and vector.kind is VectorKind.MULTI:
                    multi = read_multi(data)
                    sizes[name] = len(multi.data) // 4 // multi.rows
                elif data:
                    sizes[name] = len(data) // 4
        return sizes


def want_vectors(request: messages.Message, kept: Class) -> None:
    """Let a search show the vectors of each object."""
    for vector in kept.vectors.values():
        if vector.wire is None:
            request.metadata.vector = True
        else:
            request.metadata.vectors.append(vector.wire)


def schema_of(kept: Class, sizes: dict[str, int], points: int | None) -> CollectionSchema:
    """What is known of a class."""
    native = configuration.native_of(kept)
    mark = kept.said.mark or Mark("")
    facts = WEAVIATE.traits.facts()
    # Without a place for it, a null is a property that is not there.
    facts["null_is_absence"] = kept.rest is None
    return CollectionSchema(
        name=kept.name,
        vectors={
            name: configuration.vector_schema(vector, sizes.get(name))
            for name, vector in kept.vectors.items()
        },
        indexes={
            name: index
            for name, each in kept.properties.items()
            if (index := configuration.index_of(each)) is not None
        },
        points=points,
        capture_id=mark.capture_id or None,
        mark_epoch=mark.epoch,
        mark_incarnation=mark.incarnation,
        scoped=kept.tenants,
        native_kind=configuration.KIND,
        native=native,
        restated=configuration.restated(native),
        made=kept.said.made,
        **facts,
    )


def _check_conflicts(kept: Class, sizes: dict[str, int], wanted: CollectionSchema) -> None:
    conflicts = []
    for name, vector in (wanted.vectors or {}).items():
        there = kept.vectors.get(name)
        if there is None:
            conflicts.append(f"it has no vector {name!r}")
            continue
        held = configuration.vector_schema(there, sizes.get(name))
        if held.kind is not vector.kind:
            conflicts.append(f"the vector {name!r} is {held.kind.value}")
        if None not in (held.size, vector.size) and held.size != vector.size:
            conflicts.append(
                f"the vector {name!r} has {held.size} components, not {vector.size}"
            )
        if None not in (held.distance, vector.distance) and held.distance != vector.distance:
            conflicts.append(f"the vector {name!r} is compared by {held.distance}")
    if kept.tenants is not wanted.scoped:
        conflicts.append("it has tenants" if kept.tenants else "it has no tenants")
    if conflicts:
        raise Refused("target-incompatible", f"{kept.name}: {'; '.join(conflicts)}")
