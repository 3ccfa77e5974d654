"""
Collections as a whole: find one, make one ready for a copy, empty one.

Chroma fixes a collection's dimension by its first record, so `ensure` leaves the one that was
asked for in the metadata, beside our mark. Metadata are replaced as a whole: what others left
there is read first, and sent again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from replicator.codecs.rules import check_collection
from replicator.connectors.chroma.api import Api, Found, Metadata, Wanted
from replicator.connectors.chroma.configuration import (
    CAPTURE_KEY,
    DEFAULT,
    DISTANCES,
    EPOCH_KEY,
    INCARNATION_KEY,
    KIND,
    SIZE_KEY,
    SPACES,
    creation,
    native_of,
    others,
    plan,
    restate,
    space_of,
)
from replicator.errors import Refused
from replicator.model.schema import CollectionSchema, Distance, Mark, VectorSchema
from replicator.model.traits import Traits

T = TypeVar("T")

_NAMES_AT_ONCE = 100
"""Collections of one page; each comes with its settings."""

_MARK_KEYS = (CAPTURE_KEY, EPOCH_KEY, INCARNATION_KEY)


class Collections:
    """The collections of one database. Remembers the id of each until it leads nowhere."""

    def __init__(self, api: Api, traits: Traits, carried: frozenset[str]) -> None:
        """`carried`: settings that a collection can be made with."""
        self._carried = carried
        self._api = api
        self._traits = traits
        self._known: dict[str, Found] = {}

    async def using(self, name: str, call: Callable[[Found], Awaitable[T]], missing: str) -> T:
        """
        The answer of a call on a collection that is there. Raises Refused with the code
        `missing` where it is not.
        """
        found = self._known.get(name)
        if found is None or found.dimension is None:
            found = await self._api.find(name)
            if found is None:
                raise Refused(missing, f"Chroma has no collection {name!r}")
            self._known[name] = found
        try:
            return await call(found)
        except Refused as exc:
            if exc.code not in ("source-missing", "target-missing"):
                raise
            # It was deleted, and perhaps made anew under another id.
            self._known.pop(name, None)
            raise Refused(missing, exc.message) from exc

    async def names(self) -> list[str]:
        """What there is, sorted. A collection that others delete meanwhile may hide one for a
        moment: those behind it move.
        """
        names: list[str] = []
        # Up to an empty page: a server may give fewer than it is asked for.
        while page := await self._api.names(len(names), _NAMES_AT_ONCE):
            names += page
        return sorted(set(names))

    async def describe(self, name: str) -> CollectionSchema | None:
        """The schema with an exact count, or None."""
        found = await self._find(name)
        if found is None:
            return None
        try:
            points = await self._api.count(found.id)
        except Refused as exc:
            if exc.code == "source-missing":
                return None
            raise
        return self.schema_of(found, points)

    def schema_of(self, found: Found, points: int | None = None) -> CollectionSchema:
        """What is known of a collection."""
        capture_id = found.metadata.get(CAPTURE_KEY)
        vector = VectorSchema(
            size=_size_of(found),
            distance=DISTANCES.get(space_of(found) or ""),
            required=not self._traits.vectors.none,
        )
        schema = CollectionSchema(
            name=found.name,
            vectors={"": vector},
            points=points,
            capture_id=capture_id if isinstance(capture_id, str) else None,
            mark_epoch=_whole(found.metadata, EPOCH_KEY),
            mark_incarnation=_whole(found.metadata, INCARNATION_KEY),
            native_kind=KIND,
            native=native_of(found),
            **self._traits.facts(),
        )
        return restate(schema) if "hnsw" in found.configuration else schema

    def plan(self, wanted: CollectionSchema) -> CollectionSchema:
        """As `Planner.plan`."""
        return plan(wanted, self._carried)

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """As `Foresight.foresee`."""
        distance, size = _asked(wanted, self._traits)
        found = await self._find(wanted.name)
        if found is not None:
            _check_conflicts(found, distance, size)
            return self.schema_of(found)
        planned = self.plan(wanted)
        made = Found(
            id="",
            name=wanted.name,
            dimension=size,
            configuration=creation(planned),
            metadata=others(planned),
        )
        return self.schema_of(made, 0)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """As `StoreWriter.ensure`. Raises Refused for a collection that cannot hold the
        vectors, or holds points under another mark.
        """
        distance, size = _asked(wanted, self._traits)
        found = await self._find(wanted.name)
        if found is None:
            planned = self.plan(wanted)
            await self._api.create(wanted.name, creation(planned), others(planned))
            found = await self._present(wanted.name)
        _check_conflicts(found, distance, size)
        present = self.schema_of(found)
        changes: Metadata = {}
        if size is not None and present.vectors and present.vectors[""].size is None:
            changes[SIZE_KEY] = size
        if wanted.capture_id not in (None, present.capture_id):
            if points := await self._api.count(found.id):
                raise Refused(
                    "target-not-empty",
                    f"{wanted.name} holds {points} points and bears the mark"
                    f" {present.capture_id!r}, not {wanted.capture_id!r}",
                )
            changes |= {CAPTURE_KEY: wanted.capture_id, EPOCH_KEY: 0, INCARNATION_KEY: 0}
        if changes:
            await self._api.modify(found.id, found.metadata | changes)

    async def mark(self, name: str, mark: Mark) -> None:
        """As `StoreWriter.mark`."""
        found = await self._present(name)
        changes = {
            CAPTURE_KEY: mark.capture_id,
            EPOCH_KEY: mark.epoch,
            INCARNATION_KEY: mark.incarnation,
        }
        await self._api.modify(found.id, found.metadata | changes)

    async def wipe(self, name: str, rows: int) -> None:
        """
        Delete every record, some at a time, and the mark. The collection stays: deleted with
        its records, lists in their metadata would stay behind, and stand in the records that
        come next (chroma-core/chroma #7594).
        """
        found = await self._find(name)
        if found is None:
            return
        while True:
            reply = await self._api.page(found.id, Wanted.NOTHING, 0, rows, bounded=False)
            if not reply.records:
                break
            await self._api.delete(found.id, [record.id for record in reply.records])
        left = dict(found.metadata)
        if (size := _size_of(found)) is not None:
            left[SIZE_KEY] = size
        # A null says which is to go, since no metadata at all are refused.
        await self._api.modify(found.id, left | dict.fromkeys(_MARK_KEYS))

    async def _present(self, name: str) -> Found:
        found = await self._find(name)
        if found is None:
            raise Refused("target-missing", f"Chroma has no collection {name!r}")
        return found

    async def _find(self, name: str) -> Found | None:
        found = await self._api.find(name)
        self._known.pop(name, None)
        if found is not None:
            self._known[name] = found
        return found


def _asked(wanted: CollectionSchema, traits: Traits) -> tuple[Distance, int | None]:
    """Raises Refused("unsupported") for a collection that Chroma cannot have."""
    check_collection(wanted, traits.vectors)
    vector = (wanted.vectors or {}).get("", VectorSchema())
    distance = vector.distance or DEFAULT
    if distance not in SPACES:
        raise Refused("unsupported", f"Chroma does not compare by {distance.value}")
    return distance, vector.size


def _check_conflicts(found: Found, distance: Distance, size: int | None) -> None:
    conflicts = []
    present = _size_of(found)
    if size is not None and present is not None and size != present:
        conflicts.append(f"vectors have {present} components, not {size}")
    space = space_of(found)
    if space is not None and space != SPACES[distance]:
        conflicts.append(f"they are compared by {space}, not {SPACES[distance]}")
    if conflicts:
        raise Refused("target-incompatible", f"{found.name}: {'; '.join(conflicts)}")


def _size_of(found: Found) -> int | None:
    return found.dimension or _whole(found.metadata, SIZE_KEY) or None


def _whole(metadata: Metadata, key: str) -> int:
    value = metadata.get(key)
    return value if type(value) is int else 0
