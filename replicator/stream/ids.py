"""
Ids: which id a source key has at the target.

With `ids = "auto"` an id that the target holds stays as it is, and any other becomes the UUIDv5
of its event key in a fixed namespace, with the original in the payload field `_source_id`. The
mapping is a function of the key alone (no table to lose, the same on every machine) and
injective over event keys: mapped ids differ by the hash, and a kept id equals a mapped one only
if someone computed it on purpose.

With `ids = "mapped"` every id becomes the UUIDv5 of its event key, which holds the collection,
and the collection goes into `_source_collection`. So several collections can lie together in
one: equal ids of theirs are different points, and a point alone tells which of them it belongs
to, for its original leads back to it in that collection and in no other. What a point is called
that leads back nowhere, a *stray*, cannot be its own id then, which may be an id at the source
as well; it is `_target:` and its id, and no key of an event is that.

An id that is unique only within its scope is kept where the target has scopes too. Elsewhere
it is always mapped, for of two scopes both ids might fit; the scope goes into `_source_scope`,
and into the hash with the event key.

Two ids with one event key are one key here too: a UUID in upper case is the same UUID, and a
collection's ids are all integers or all texts, so that 5 and "5" do not meet. A row of the copy
and an event of its key thus always go to one place; a source that holds both spellings has a
collision, which the check finds.
"""

from __future__ import annotations

import uuid
from typing import Literal

import msgspec

from replicator.codecs.keys import canonical_id, encode_key
from replicator.errors import Rejected
from replicator.model.event import Key
from replicator.model.point import BareId, Payload, PointId, bare, scope_of, within
from replicator.model.schema import CollectionSchema, IdKinds

NAMESPACE = uuid.UUID("92eb0a74-d6f3-5e60-919c-49275e843727")
"""Of every mapped id, for ever: another one would give every mapped point a second identity."""

SOURCE_ID = "_source_id"
"""The payload field that carries the id of a mapped point."""

SOURCE_SCOPE = "_source_scope"
"""The payload field that carries the scope of a mapped point, where it came from one."""

SOURCE_COLLECTION = "_source_collection"
"""The payload field that carries the collection of a point, with `ids = "mapped"`."""

ORIGIN = (SOURCE_ID, SOURCE_SCOPE, SOURCE_COLLECTION)
"""What tells where a mapped point came from."""

OWN_FIELDS: dict[str, tuple[str, ...]] = {
    "auto": (SOURCE_ID, SOURCE_SCOPE),
    "keep": (),
    "mapped": ORIGIN,
}
"""By `ids`: payload fields of the target that nobody else may set."""

_STRAY = "_target:"


class IdMap:
    """The mapping of one collection's ids. Pure and immutable."""

    def __init__(
        self,
        mode: Literal["auto", "keep", "mapped"],
        target: CollectionSchema,
        collection: str,
        source: CollectionSchema | None = None,
    ) -> None:
        """
        `collection` is the source's word, as in its event keys. `source`, where it is known,
        tells which ids cannot come from there.
        """
        self._mode = mode
        self._target = target
        self._collection = collection
        self._source = source
        self._all = mode == "mapped"
        self._maps = mode != "keep" and bool(target.ids & (IdKinds.UUID | IdKinds.STRING))

    def maps(self, source_id: PointId) -> bool:
        """Whether the point gets another id, and `_source_id` in its payload."""
        if not self._maps:
            return False
        return self._all or not self._target.holds(canonical_id(source_id))

    def to_target(self, key: Key) -> PointId:
        """The id at the target. Raises Rejected("id-invalid") if it cannot have one there."""
        source_id = canonical_id(key.id)
        if self._all and _is_stray(source_id):
            raise Rejected("id-invalid", f"no id may begin with `{_STRAY}`", "id")
        if not self._all and self._target.holds(source_id):
            return source_id
        if self._target.scoped and scope_of(source_id) is None:
            raise Rejected("id-invalid", "the target has scopes, and the id says none", "id")
        if not self._maps:
            raise Rejected(
                "id-invalid",
                "the target cannot hold this id"
                + (" as it is, and `ids` is `keep`" if self._mode == "keep" else ""),
                "id",
            )
        return self._mapped(source_id)

    def origin(self, key: Key) -> Payload:
        """The fields that the point of a key carries, where its id is another at the target."""
        fields: Payload = {SOURCE_ID: bare(canonical_id(key.id))}
        scope = scope_of(key.id)
        if scope is not None and not self._target.scoped:
            fields[SOURCE_SCOPE] = scope
        if self._all:
            fields[SOURCE_COLLECTION] = self._collection
        return fields

    def stray(self, target_id: PointId) -> PointId:
        """What a point of the target is called that no source id leads to."""
        if not self._all:
            return target_id
        spelled = msgspec.json.encode(bare(target_id)).decode()
        return within(scope_of(target_id), _STRAY + spelled)

    def of_stray(self, source_id: PointId) -> PointId | None:
        """The point that `stray` has called so; None of any other id."""
        if not self._all or not _is_stray(source_id):
            return None
        spelled = str(bare(source_id)).removeprefix(_STRAY)
        try:
            own: BareId = msgspec.json.decode(spelled, type=int | str)
        except msgspec.DecodeError:
            return None
        return within(scope_of(source_id), own)

    def to_source(self, target_id: PointId, payload: Payload) -> PointId | None:
        """
        The source's id of a point read from the target; None if no source key leads to it.

        `_source_id` is believed only if it leads back to this very id: it may be a field that
        the application or an earlier migration left there.
        """
        candidates = self.candidates(target_id, payload)
        return candidates[0] if candidates else None

    def candidates(self, target_id: PointId, payload: Payload) -> list[PointId]:
        """
        Every source id that leads to this target id, the likeliest first.

        There are two only where a collection of the same name was mapped before and copied back
        with its `_source_id` and its UUIDs: before such a point is called extra, both must be
        absent from the source.
        """
        found: list[PointId] = []
        original = payload.get(SOURCE_ID)
        scope = scope_of(target_id) if self._target.scoped else payload.get(SOURCE_SCOPE)
        if self._source is not None and not self._source.scoped:
            scope = None  # a field of the application's own
        if isinstance(original, str | int) and (scope is None or isinstance(scope, str)):
            source_id = within(scope, original)
            if self._leads_to(source_id, target_id):
                found.append(source_id)
        kept = not self._all and self._target.holds(target_id)
        if kept and self._at_source(target_id):
            found.append(target_id)
        return found

    def _leads_to(self, original: PointId, target_id: PointId) -> bool:
        try:
            return (
                self._at_source(original)
                and self.maps(original)
                and self._mapped(original) == target_id
            )
        except Rejected:
            return False  # no id at all: the field is the application's own

    def _at_source(self, point_id: PointId) -> bool:
        return self._source is None or self._source.holds(point_id)

    def _mapped(self, source_id: PointId) -> PointId:
        key = encode_key(Key(self._collection, source_id))
        mapped = str(uuid.uuid5(NAMESPACE, key.decode("ascii")))
        return within(scope_of(source_id) if self._target.scoped else None, mapped)


def _is_stray(source_id: PointId) -> bool:
    own = bare(source_id)
    return isinstance(own, str) and own.startswith(_STRAY)
