"""
Writing a batch: upserts replace the whole row, so that a batch is a few requests.

A request is bounded in bytes. The server refuses one with a bad row as a whole: what can be
known of a point beforehand is looked at, and rejected alone.

milvus-lite merges what it calls an upsert: fields that are not sent keep their old values, and
so do keys of the dynamic field. All declared fields are sent always, as null where a point has
none. Where points have dynamic fields, they are deleted first on a milvus-lite.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replicator.codecs.rules import check_write
from replicator.connectors.milvus.channel import Channel
from replicator.connectors.milvus.columns import check_point, write_columns
from replicator.connectors.milvus.expressions import listed
from replicator.connectors.milvus.kind import MILVUS, REQUEST_BYTES
from replicator.connectors.milvus.layout import Layout
from replicator.connectors.milvus.layouts import Layouts
from replicator.connectors.milvus.wire import wire
from replicator.errors import OutcomeUnknown, Refused, Rejected
from replicator.model.pages import size_of
from replicator.model.point import BareId, Point, PointId, bare
from replicator.model.write import Delete, Receipt, Upsert, WriteBatch

_POINT_BYTES = REQUEST_BYTES // 2
"""Of one request, by a size that is known about."""

_IDS_A_REQUEST = 10_000
"""Of a deletion: a condition of a few megabytes at most."""

_LITE = "milvus_lite"


class Writing:
    """Writes to one database."""

    def __init__(self, channel: Channel, layouts: Layouts, json_bytes_max: int) -> None:
        self._channel = channel
        self._layouts = layouts
        self._json_bytes_max = json_bytes_max
        self._is_lite: bool | None = None

    async def apply(self, batch: WriteBatch) -> Receipt:
        """As `StoreWriter.apply`."""
        layout = await self._layouts.target(batch.collection)
        check_writable(layout)
        schema = layout.schema_of()
        points: list[Point] = []
        deletes: list[BareId] = []
        rejected: list[tuple[PointId, Rejected]] = []
        for write in batch.writes:
            try:
                check_write(write, schema, MILVUS.traits)
                match write:
                    case Upsert(point=point):
                        check_point(layout, point, self._json_bytes_max)
                        points.append(point)
                    case Delete():
                        deletes.append(bare(write.id))
                    case _:
                        raise AssertionError("a store without patches is given none")
            except Rejected as error:
                rejected.append((write.id, error))
        await self.delete(layout, deletes)
        for some in _requests(points):
            if layout.dynamic and await self._merges():
                await self.delete(layout, [bare(point.id) for point in some])
            await self._upsert(layout, some)
        return Receipt(rejected=tuple(rejected))

    async def _upsert(self, layout: Layout, points: Sequence[Point]) -> None:
        request = wire().UpsertRequest(num_rows=len(points))
        request.partition_name = layout.partition or ""
        request.fields_data.extend(write_columns(layout, points))
        reply = await self._layouts.write(layout.name, "Upsert", request)
        if len(reply.err_index):
            raise OutcomeUnknown(
                "outcome-unknown",
                f"Milvus says of an upsert that it went well, and of"
                f" {len(reply.err_index)} rows of it that they did not",
            )

    async def delete(self, layout: Layout, ids: Sequence[BareId]) -> None:
        """Remove the points of these keys."""
        for begin in range(0, len(ids), _IDS_A_REQUEST):
            some = ids[begin : begin + _IDS_A_REQUEST]
            request = wire().DeleteRequest(expr=f"{layout.key.name} in {listed(some)}")
            request.partition_name = layout.partition or ""
            await self._layouts.write(layout.name, "Delete", request)

    async def _merges(self) -> bool:
        if self._is_lite is None:
            reply = await self._channel.read("GetVersion", wire().GetVersionRequest())
            self._is_lite = reply.version.startswith(_LITE)
        return self._is_lite


def check_writable(layout: Layout) -> None:
    """Raises Refused for a collection that no point can be written to by its id."""
    if layout.key_is_made:
        raise Refused(
            "unsupported",
            f"the collection {layout.name!r} makes its keys itself (autoID), so that no point"
            " can be written under its id",
        )
    if layout.unwritable:
        raise Refused(
            "unsupported",
            f"the collection {layout.name!r} has fields that are nothing of a point here, and"
            f" no point can be without: {', '.join(layout.unwritable)}",
        )


def _requests(points: Sequence[Point]) -> Iterator[list[Point]]:
    some: list[Point] = []
    size = 0
    for point in points:
        needs = size_of(point)
        if some and size + needs > _POINT_BYTES:
            yield some
            some, size = [], 0
        some.append(point)
        size += needs
    if some:
        yield some
