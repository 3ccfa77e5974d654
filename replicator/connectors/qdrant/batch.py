"""
A WriteBatch as one UpdateBatch request.

No id stands in a batch twice, so operations may be grouped by kind: upserts in one (or several,
where the server bounds the points of one), all deletes in one, and the patches one by one,
because each sets other values. Where there are scopes, an operation concerns one. What cannot
be carried is set aside with its reason before anything is sent, and the rest goes on: what
cannot be encoded, and vectors that the collection does not have, which the server would find
only after it had applied what stands before them.

Points are written into the request where they will be sent from: protobuf copies a message by
encoding and decoding it, which for vectors is most of the cost of a write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from replicator.codecs.validation import validate_vectors
from replicator.connectors.qdrant.points import write_id, write_point, write_vectors
from replicator.connectors.qdrant.scopes import select
from replicator.connectors.qdrant.values import write_payload
from replicator.connectors.qdrant.wire import Message, wire
from replicator.errors import Rejected
from replicator.model.point import Point, PointId, bare, scope_of
from replicator.model.schema import VectorSchema
from replicator.model.write import Delete, Patch, Upsert, Write

Shapes = Mapping[str, VectorSchema]
"""The vectors of a collection, by name."""


class EncodedPatch(msgspec.Struct, frozen=True):
    """One patch: operations on one id, which fail when the point is absent."""

    id: PointId
    operations: tuple[Message, ...]
    sets_vectors: bool

    def if_present(self) -> tuple[Message, ...]:
        """
        The same without the failure: nothing happens to an absent point, and the server does
        not say so. Not for a patch that sets vectors: no operation sets them by a filter.
        """
        assert not self.sets_vectors
        made = []
        for operation in self.operations:
            copy = wire().PointsUpdateOperation()
            copy.CopyFrom(operation)
            selector = getattr(copy, copy.WhichOneof("operation")).points_selector
            selector.Clear()
            write_id(selector.filter.must.add().has_id.has_id.add(), bare(self.id))
            made.append(copy)
        return tuple(made)


class EncodedBatch:
    """What to send: a request with the upserts and the deletes, and the patches beside it."""

    def __init__(
        self,
        writes: Iterable[Write],
        shapes: Shapes | None = None,
        points_max: int | None = None,
    ) -> None:
        """`shapes`: None where they are not known. `points_max`: of one upsert operation."""
        self.patches: list[EncodedPatch] = []
        self.rejected: list[tuple[PointId, Rejected]] = []
        self._shapes = shapes
        self._points_max = points_max
        self._request = wire().UpdateBatchPoints()
        self._upserts: dict[str | None, Message] = {}
        self._deletes: dict[str | None, Message] = {}
        for write in writes:
            try:
                self._add(write)
            except Rejected as exc:
                self.rejected.append((write.id, exc))
            except UnicodeEncodeError as exc:
                error = Rejected("field-invalid", f"a name in it is not Unicode text: {exc}")
                self.rejected.append((write.id, error))
        self._ends = len(self._request.operations)

    @property
    def misfits(self) -> bool:
        """Whether something was set aside because of the collection's vectors."""
        return any(error.path.startswith("vectors") for _, error in self.rejected)

    def request(self, patches: Sequence[tuple[Message, ...]]) -> Message:
        """The upserts, the deletes, and the operations of these patches."""
        del self._request.operations[self._ends :]
        for operations in patches:
            self._request.operations.extend(operations)
        return self._request

    def _add(self, write: Write) -> None:
        match write:
            case Upsert(point=point):
                self._upsert(point)
            case Delete(id=point_id):
                self._delete(point_id)
            case Patch():
                self.patches.append(_patch(write, self._shapes))

    def _upsert(self, point: Point) -> None:
        if self._shapes is not None:
            validate_vectors(point.vectors, self._shapes, whole=False, known_finite=True)
        scope = scope_of(point.id)
        points: Message = self._upserts.get(scope)
        begins = points is None or len(points) == self._points_max
        if begins:
            operation = self._request.operations.add()
            points = operation.upsert.points
        try:
            if begins:
                select(operation.upsert, scope)
            write_point(points.add(), point)
        except (Rejected, UnicodeEncodeError):
            if begins:
                # An operation without points is refused, and with it the whole batch.
                del self._request.operations[-1]
            else:
                del points[-1]
            raise
        self._upserts[scope] = points

    def _delete(self, point_id: PointId) -> None:
        scope = scope_of(point_id)
        encoded = wire().PointId()
        write_id(encoded, bare(point_id))
        if scope not in self._deletes:
            operation = wire().PointsUpdateOperation()
            select(operation.delete_points, scope)
            self._request.operations.append(operation)
            added = self._request.operations[-1]
            self._deletes[scope] = added.delete_points.points.points.ids
        self._deletes[scope].append(encoded)


def _patch(patch: Patch, shapes: Shapes | None) -> EncodedPatch:
    """
    What the server may refuse comes first, so that a patch that is refused has changed nothing:
    vectors, which it judges as one, then payload, which was looked at here.
    """
    if shapes is not None:
        validate_vectors(patch.vectors, shapes, whole=False, known_finite=True)
        for name in patch.unset_vectors:
            if name not in shapes:
                path = f"unset_vectors.{name}"
                raise Rejected("vector-unknown", f"{path} is no vector of the collection", path)
    made: list[Message] = []
    point_id, scope = bare(patch.id), scope_of(patch.id)

    def operation() -> Message:
        made.append(wire().PointsUpdateOperation())
        return made[-1]

    if patch.vectors:
        updating = operation().update_vectors
        select(updating, scope)
        vectors = updating.points.add()
        write_id(vectors.id, point_id)
        write_vectors(vectors.vectors, patch.vectors)
    if patch.unset_vectors:
        removing = operation().delete_vectors
        select(removing, scope)
        removing.vectors.names.extend(patch.unset_vectors)
        write_id(removing.points_selector.points.ids.add(), point_id)
    if patch.set or patch.unset or not patch.vectors:
        # Even when there is nothing to set: it fails where the point is absent, and the removal
        # of vectors, which has then removed nothing, does not.
        setting = operation().set_payload
        setting.SetInParent()
        select(setting, scope)
        write_id(setting.points_selector.points.ids.add(), point_id)
        write_payload(setting.payload, patch.set, "set")
        for key in patch.unset:
            # A null removes the key of just this name. `delete_payload` takes a path, in which
            # a name with a quote or a backslash cannot be written.
            setting.payload[key].null_value = 0
    return EncodedPatch(patch.id, tuple(made), bool(patch.vectors))
