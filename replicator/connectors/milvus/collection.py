"""
Collections as a whole: make one ready for a copy, mark one, empty one.

Our mark is a property of the collection, and holds the number that the server gave it: a backup
that is restored brings the properties back under another number, and bears no mark then.
Which vector a field is stands in a property too, for a field's name has letters, digits and
underscores alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from replicator.codecs.rules import check_collection
from replicator.connectors.milvus.channel import Channel
from replicator.connectors.milvus.configuration import LEVEL, LEVELS, index_params, plan
from replicator.connectors.milvus.expressions import between
from replicator.connectors.milvus.field_types import Type
from replicator.connectors.milvus.kind import MILVUS, is_name
from replicator.connectors.milvus.layout import (
    KEY,
    MADE_KEY,
    MARK_KEY,
    PAYLOAD,
    VECTOR,
    Layout,
    Marked,
)
from replicator.connectors.milvus.layouts import Layouts
from replicator.connectors.milvus.ranges import KeyRange, write_spec
from replicator.connectors.milvus.reading import Reading
from replicator.connectors.milvus.wire import Message, wire
from replicator.connectors.milvus.writing import Writing, check_writable
from replicator.errors import Refused
from replicator.model.point import bare
from replicator.model.record import Chunk
from replicator.model.schema import (
    CollectionSchema,
    IdKinds,
    Mark,
    Precision,
    VectorKind,
    VectorSchema,
)

_encode = msgspec.json.Encoder().encode

_ID_BYTES = 512
"""No key of an event holds a longer id."""


_KEYS_AT_ONCE = 10_000
"""Read and deleted, of a partition that is wiped: some 600 KB."""

_TYPES = {
    (VectorKind.DENSE, Precision.FLOAT32): Type.FLOAT_VECTOR,
    (VectorKind.DENSE, Precision.FLOAT16): Type.FLOAT16_VECTOR,
    (VectorKind.SPARSE, Precision.FLOAT32): Type.SPARSE_VECTOR,
}


class Collections:
    """The collections of one database."""

    def __init__(
        self, channel: Channel, layouts: Layouts, reading: Reading, writing: Writing
    ) -> None:
        self._channel = channel
        self._layouts = layouts
        self._reading = reading
        self._writing = writing

    async def names(self) -> list[str]:
        """Those that the server lists, sorted. Aliases have a list of their own."""
        request = wire().ShowCollectionsRequest(db_name=self._channel.database)
        reply = await self._channel.read("ShowCollections", request)
        return sorted(set(reply.collection_names))

    async def describe(self, name: str) -> CollectionSchema | None:
        """The schema with an exact count, or None."""
        layout = await self._layouts.find(name, fresh=True)
        if layout is None:
            return None
        try:
            return layout.schema_of(await self._reading.count(name))
        except Refused as exc:
            if exc.code == "source-missing":
                return None
            raise

    async def foresee(self, wanted: CollectionSchema) -> CollectionSchema:
        """As `Foresight.foresee`."""
        check_collection(wanted, MILVUS.traits.vectors)
        layout = await self._layouts.find(wanted.name, fresh=True)
        if layout is not None:
            _check_conflicts(layout, wanted)
            return layout.schema_of()
        planned = plan(wanted)
        facts = MILVUS.traits.facts()
        facts["ids"] = MILVUS.traits.ids.of_collection(wanted.ids)
        return msgspec.structs.replace(planned, points=0, made=True, **facts)

    async def ensure(self, wanted: CollectionSchema) -> None:
        """As `StoreWriter.ensure`. Raises Refused for a collection that cannot hold the
        vectors, or holds points under another mark.
        """
        check_collection(wanted, MILVUS.traits.vectors)
        planned = plan(wanted)
        layout = await self._layouts.find(wanted.name, fresh=True)
        if layout is None:
            await self._channel.change("CreateCollection", self._creation(planned))
            layout = await self._layouts.target(wanted.name, fresh=True)
        _check_conflicts(layout, wanted)
        if layout.made:
            await self._index(layout, planned)
        if wanted.capture_id is None:
            return
        present = None if layout.mark is None else layout.mark.capture_id
        if present == wanted.capture_id:
            return
        if not await self._reading.is_empty(layout):
            raise Refused(
                "target-not-empty",
                f"{wanted.name} holds points and bears the mark {present!r}, not"
                f" {wanted.capture_id!r}",
            )
        await self._put(layout, Mark(wanted.capture_id))

    async def mark(self, name: str, mark: Mark) -> None:
        """As `StoreWriter.mark`."""
        await self._put(await self._layouts.target(name, fresh=True), mark)

    async def wipe(self, name: str) -> None:
        """
        Remove the mark, and then every row: rows without a mark are nobody's, and a mark
        without its rows would vouch for them.
        """
        layout = await self._layouts.find(name, fresh=True)
        if layout is None:
            return
        if MARK_KEY in layout.properties:
            request = self._altered(name)
            request.delete_keys.append(MARK_KEY)
            await self._channel.change("AlterCollection", request)
        await self._empty(layout)
        self._layouts.forget(name)

    async def _empty(self, layout: Layout) -> None:
        if layout.partition is not None:
            # By keys that were read there: milvus-lite would take a condition for all of the
            # collection.
            part = Chunk(0, layout.name, write_spec(KeyRange()))
            async for page in self._reading.scan(part, None, _KEYS_AT_ONCE, fields=()):
                await self._writing.delete(layout, [bare(each.id) for each in page.points])
            return
        request = wire().TruncateCollectionRequest(
            db_name=self._channel.database, collection_name=layout.name
        )
        try:
            await self._channel.change("TruncateCollection", request)
        except Refused as exc:
            if exc.code != "unsupported":
                raise
            # A server that is older: each row is marked as deleted.
            texts = layout.key.type is Type.VARCHAR
            where = between(layout.key.name, None, None, texts=texts)
            await self._layouts.write(layout.name, "Delete", wire().DeleteRequest(expr=where))

    async def _index(self, layout: Layout, planned: CollectionSchema) -> None:
        """Make the indexes that lack, without which nothing is loaded; and load it."""
        for name, vector in (planned.vectors or {}).items():
            there = layout.vectors[name]
            if there.indexed:
                continue
            request = wire().CreateIndexRequest(
                db_name=self._channel.database,
                collection_name=layout.name,
                field_name=there.field,
                index_name=there.field,
            )
            for key, value in index_params(vector).items():
                request.extra_params.add(key=key, value=value)
            await self._channel.change("CreateIndex", request)
        self._layouts.forget(layout.name)
        await self._layouts.load(layout.name)

    async def _put(self, layout: Layout, mark: Mark) -> None:
        told = Marked(mark.capture_id, mark.epoch, mark.incarnation, layout.number)
        request = self._altered(layout.name)
        request.properties.add(key=MARK_KEY, value=_encode(told).decode())
        await self._channel.change("AlterCollection", request)
        self._layouts.forget(layout.name)

    def _altered(self, name: str) -> Message:
        return wire().AlterCollectionRequest(
            db_name=self._channel.database, collection_name=name
        )

    def _creation(self, planned: CollectionSchema) -> Message:
        vectors = planned.vectors or {}
        named = dict(_named(vectors))
        schema = wire().CollectionSchema(name=planned.name)
        ids = MILVUS.traits.ids.of_collection(planned.ids)
        key = schema.fields.add(name=KEY, is_primary_key=True)
        key.data_type = int(Type.INT64 if ids is IdKinds.UINT64 else Type.VARCHAR)
        if ids is not IdKinds.UINT64:
            key.type_params.add(key="max_length", value=str(_ID_BYTES))
        for name, vector in vectors.items():
            field = schema.fields.add(name=named[name])
            field.data_type = int(_TYPES[vector.kind, vector.precision])
            if vector.kind is VectorKind.DENSE:
                field.type_params.add(key="dim", value=str(vector.size))
        schema.fields.add(name=PAYLOAD, data_type=int(Type.JSON))
        request = wire().CreateCollectionRequest(
            db_name=self._channel.database,
            collection_name=planned.name,
            schema=schema.SerializeToString(),
        )
        native = planned.native
        request.shards_num = native.get("shards_num", 0)
        request.consistency_level = LEVELS[native.get("consistency_level", LEVEL)]
        for name, value in native.get("properties", {}).items():
            request.properties.add(key=name, value=str(value))
        fields = {field: name for name, field in named.items()}
        request.properties.add(key=MADE_KEY, value=_encode(fields).decode())
        return request


def _named(vectors: Mapping[str, VectorSchema]) -> Iterator[tuple[str, str]]:
    """Name of each vector → its field: of the same name, where one can have it."""
    taken = {KEY, PAYLOAD, VECTOR}
    for number, name in enumerate(vectors):
        field = name or VECTOR
        if name and (field in taken or not is_name(field)):
            field = f"{VECTOR}_{number}"
        taken.add(field)
        yield name, field


def _check_conflicts(layout: Layout, wanted: CollectionSchema) -> None:
    check_writable(layout)
    conflicts = []
    for name, vector in (wanted.vectors or {}).items():
        there = layout.vectors.get(name)
        if there is None:
            conflicts.append(
                f"it has no vector {name!r}, which `vectors` of its options may name"
            )
            continue
        held = there.schema
        if held.kind is not vector.kind:
            conflicts.append(f"the vector {name!r} is {held.kind.value}")
        if None not in (held.size, vector.size) and held.size != vector.size:
            conflicts.append(
                f"the vector {name!r} has {held.size} dimensions, not {vector.size}"
            )
        if None not in (held.distance, vector.distance) and held.distance != vector.distance:
            conflicts.append(
                f"the vector {name!r} is compared by {held.distance.value}"  # type: ignore[union-attr]
            )
    if conflicts:
        raise Refused("target-incompatible", f"{layout.name}: {'; '.join(conflicts)}")
