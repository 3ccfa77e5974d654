"""
The transform by fields: how a source point becomes a target point, and a patch the same there.

The steps, in this order: filter, keep, drop, default, cast, rename, constant, computed,
vectors, truncate; then what the target's rules make texts of (`stream.nesting`), and the id.
Vectors that are made anew do not pass here: `stream.embedding` adds them. All but the filter
treat a field or a vector by its name alone. That is what makes a patch portable: with T
the transform, p a patch and x any image that T carries,

    T(p applied to x) = T(p) applied to T(x)

so a patch follows a point to the target without its image. (A patch that unsets a field with a
default sets the default there.) Only the filter judges the point as a whole: a patch of a field
that the filter reads may bring the point in or send it out, which takes the image to know, and
`needs_image` says so. Any other patch of a point that is filtered out finds nothing at the
target and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replicator.codecs.keys import canonical_id
from replicator.codecs.numeric import shortened
from replicator.errors import Rejected
from replicator.model.event import ChangeEvent, Key, Op
from replicator.model.finding import CheckFinding
from replicator.model.point import Payload, Point, PointId, Vector, Vectors, bare, scope_of
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.model.traits import PayloadRules
from replicator.model.write import Delete, Patch, Upsert, Write
from replicator.ports.transform import Item, Row
from replicator.settings.transform import CollectionSettings
from replicator.stream import compatibility
from replicator.stream.fields import FieldMap, refused
from replicator.stream.filter import Filter
from replicator.stream.ids import OWN_FIELDS, IdMap
from replicator.stream.nesting import Flat


class FieldTransform:
    """
    The port Transform by the steps of a collection's settings. Pure and immutable: one instance
    serves every lane.
    """

    pure = True

    def __init__(
        self,
        settings: CollectionSettings,
        target: CollectionSchema,
        source: CollectionSchema | None = None,
        rules: PayloadRules = PayloadRules(),  # noqa: B008 - a frozen value
    ) -> None:
        """
        `target` describes the store written: its ids decide which are mapped. `source`, where
        it is known, tells which vectors and ids there are to lose. `rules`: what a payload can
        hold at the target; what nests there no more becomes a text.

        Raises Refused("transform-invalid") for settings that contradict themselves.
        """
        steps = settings.transform
        self.settings = settings
        self.ids = IdMap(settings.ids, target, settings.source, source)
        self.fields = FieldMap(steps)
        self._flat = Flat(rules)
        self._source = source
        self._target = target
        uuids = source is not None and source.texts_are_uuids
        self._filter = Filter(steps.filter, uuids=uuids) if steps.filter else None
        self._vectors = steps.vectors
        self._anew = steps.embed.keys()
        self._sizes = steps.truncate
        if steps.vectors and len(set(steps.vectors.values())) < len(steps.vectors):
            raise refused("vectors", "two vectors cannot become one")
        ours = {*steps.rename.values(), *steps.constant, *steps.computed, *steps.default}
        for field in OWN_FIELDS[settings.ids]:
            if field in ours:
                why = f'the field is the replicator\'s own with `ids = "{settings.ids}"`'
                raise refused(field, why)

    @property
    def identity(self) -> bool:
        """Every point passes, with its fields and vectors; its id may still be mapped."""
        return (
            self._filter is None
            and self.fields.identity
            and self._flat.identity
            and self._vectors is None
            and not self._anew
            and not self._sizes
        )

    @property
    def filter(self) -> Filter | None:
        """Which points pass; None where all do."""
        return self._filter

    @property
    def lossy(self) -> list[str]:
        """Why the way back loses, one sentence for each reason; empty if it does not."""
        return compatibility.way_back_losses(self.settings.transform, self._source)

    def target_id(self, key: Key) -> PointId:
        """The id at the target. Raises Rejected("id-invalid")."""
        return self.ids.to_target(key)

    def candidates(self, target_id: PointId, payload: Payload) -> list[PointId]:
        """As `IdMap.candidates`."""
        return self.ids.candidates(target_id, payload)

    def stray(self, target_id: PointId) -> PointId:
        """As `IdMap.stray`."""
        return self.ids.stray(target_id)

    async def writes(self, items: Sequence[Item]) -> list[Write | Rejected]:
        """As in Transform; never waits."""
        writes: list[Write | Rejected] = []
        for item in items:
            try:
                writes.append(self._write(item))
            except Rejected as error:
                writes.append(error)
        return writes

    def _write(self, item: Item) -> Write:
        key = item.key
        if isinstance(item, Row):
            image = item.point
            stray = self.ids.of_stray(key.id) if image is None else None
            if stray is not None:
                return Delete(stray)
        elif item.op is Op.PATCH:
            return self.patch(key, item)
        elif item.op is Op.UPSERT:
            image = Point(key.id, item.vectors, item.payload)
        else:
            image = None
        moved = None if image is None else self.point(key, image)
        if moved is None:  # gone, or it no longer matches the filter: both are a delete
            return Delete(self.target_id(key))
        return Upsert(moved)

    def point(self, key: Key, point: Point) -> Point | None:
        """
        The point at the target; None when the filter excludes it (at the target: a delete).

        Returns the very same point when nothing changes. Raises Rejected("transform-failed")
        with the field's path, or "id-invalid".
        """
        if self._filter is not None and not self._filter.matches(key.id, point.payload):
            return None
        target_id = self.target_id(key)
        payload = self._flat.fields(self.fields.payload(point.payload))
        if self.settings.transform.computed:
            payload = {**payload, **self._computed(key)}
        source_id = canonical_id(key.id)
        if target_id not in (source_id, key.id):
            origin = self.ids.origin(key)
            payload = {**_without_origin(origin, payload), **origin}
        vectors = self._mapped(point.vectors)
        if payload is point.payload and vectors is point.vectors and target_id == point.id:
            return point
        return Point(target_id, vectors, payload)

    def needs_image(self, event: ChangeEvent) -> bool:
        """Whether only the source's image can tell what the event does to the target."""
        if event.op is not Op.PATCH or self._filter is None:
            return False
        fields = self._filter.fields
        return not (fields.isdisjoint(event.set) and fields.isdisjoint(event.unset))

    def patch(self, key: Key, event: ChangeEvent) -> Patch:
        """The patch at the target, of one that needs no image. Raises as `point` does."""
        assert event.op is Op.PATCH, "only a patch becomes a patch"
        assert not self.needs_image(event), "the image decides about this one"
        sets, unset = self.fields.unset(event.unset)
        sets.update(self.fields.set(event.set))
        sets = self._flat.fields(sets)
        target_id = self.target_id(key)
        source_id = canonical_id(key.id)
        if target_id not in (source_id, key.id):
            origin = self.ids.origin(key)
            sets = _without_origin(origin, sets)
            unset = [name for name in unset if name not in origin]
        vectors = self._mapped(event.vectors)
        # A vector both replaced and removed is replaced, as in `fold`; no store need decide.
        gone = [name for name in self._names(event.unset_vectors) if name not in vectors]
        return Patch(
            id=target_id,
            vectors=vectors,
            set=sets,
            unset=tuple(unset),
            unset_vectors=tuple(gone),
        )

    def target_vector(self, name: str) -> str | None:
        """What the source's vector is called at the target; None if it does not travel."""
        there = name if self._vectors is None else self._vectors.get(name)
        return None if there in self._anew else there

    def target_schema(self, source: CollectionSchema) -> CollectionSchema:
        """The collection that the target needs for these points."""
        return compatibility.target_schema(self.settings, source, self._target)

    def compatible(
        self, source: CollectionSchema, target: CollectionSchema
    ) -> list[CheckFinding]:
        """What stands between the two collections, in findings of the preflight."""
        return compatibility.compatible(self.settings, source, target)

    def _mapped(self, vectors: Vectors) -> Vectors:
        if self._vectors is None and not self._sizes and self._anew.isdisjoint(vectors):
            return vectors
        return {
            there: self._truncated(there, vector)
            for name, vector in vectors.items()
            if (there := self.target_vector(name)) is not None
        }

    def _truncated(self, name: str, vector: Vector) -> Vector:
        size = self._sizes.get(name)
        if size is None:
            return vector
        if not isinstance(vector, bytes) or len(vector) < 4 * size:
            path = f'vectors."{name}"'
            raise Rejected("transform-failed", f"it has no {size} dimensions to be left", path)
        return shortened(vector, size)

    def _computed(self, key: Key) -> Payload:
        """The fields that tell of the key. A patch leaves them as they are."""
        said = {"collection": key.collection, "scope": scope_of(key.id), "id": bare(key.id)}
        return {
            name: value
            for name, what in self.settings.transform.computed.items()
            if (value := said[what]) is not None
        }

    def _names(self, names: Iterable[str]) -> list[str]:
        mapped = (self.target_vector(name) for name in names)
        return [name for name in mapped if name is not None]


class IdentityTransform(FieldTransform):
    """
    The transform of the reverse window: events reach the old store in its own terms, whole,
    under their own ids, filtered or not.
    """

    def __init__(self) -> None:
        super().__init__(
            CollectionSettings(source="", target="", ids="keep"),
            CollectionSchema(name="", vectors=None, ids=IdKinds.UINT64 | IdKinds.STRING),
        )

    def target_id(self, key: Key) -> PointId:
        """The id itself: where it came from, it can be held."""
        return key.id


def _without_origin(origin: Payload, fields: Payload) -> Payload:
    """
    The fields without those that the mapping of the id sets for good. A value of the
    application's own there would be lost, so it is refused; not if it says the same.
    """
    for name in origin.keys() & fields.keys():
        if type(fields[name]) is not type(origin[name]) or fields[name] != origin[name]:
            raise Rejected(
                "transform-failed",
                "the id is mapped, and the field that would keep the original is taken",
                f"payload.{name}",
            )
    return {name: value for name, value in fields.items() if name not in origin}
