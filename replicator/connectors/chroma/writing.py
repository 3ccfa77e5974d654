"""
Writing a batch.

Chroma's upsert merges: it leaves metadata that it is not told of, and a document and a URI
whatever it is told. And a new record may inherit lists from a collection that was deleted
before it (chroma-core/chroma #7594). So upserts are sent as they are, and what came of them is
read: fields too many are taken away by an update that names them null, and a record with a text
too many is deleted and written anew. Only then is the batch written. Whoever reads in between
sees fields of both points, or for a moment none; a crash there leaves the batch unanswered, and
it is written again.

A patch is an update, which can set and unset metadata and replace the vector. It says nothing
of a record that is not there, so that is asked before: the keys of a batch are ours alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from replicator.codecs.rules import check_write
from replicator.connectors.chroma.api import EVERYTHING, Api, Found, Record, Wanted
from replicator.connectors.chroma.collection import Collections
from replicator.connectors.chroma.points import change_of, point_of, record_of
from replicator.errors import Rejected
from replicator.model.point import Point, PointId
from replicator.model.traits import Traits
from replicator.model.write import Delete, Patch, Receipt, Upsert, Write, WriteBatch

T = TypeVar("T")

_TEXTS = Wanted.METADATA | Wanted.DOCUMENTS | Wanted.URIS


class Writing:
    """Writes to one database."""

    def __init__(
        self,
        api: Api,
        collections: Collections,
        *,
        traits: Traits,
        document_field: Callable[[str], str],
    ) -> None:
        self._api = api
        self._collections = collections
        self._traits = traits
        self._document_field = document_field
        self._records_max: int | None = None

    async def apply(self, batch: WriteBatch) -> Receipt:
        """As `StoreWriter.apply`."""

        async def write(there: Found) -> Receipt:
            return await self._write(there, batch)

        return await self._collections.using(batch.collection, write, "target-missing")

    async def _write(self, there: Found, batch: WriteBatch) -> Receipt:
        writes, rejected = self._judged(there, batch.writes)
        field = self._document_field(batch.collection)
        upserts = [
            record_of(write.point, field) for write in writes if isinstance(write, Upsert)
        ]
        await self._upsert(there.id, upserts)
        patches = [write for write in writes if isinstance(write, Patch)]
        absent = await self._patch(there.id, patches, field)
        deletes = [str(write.id) for write in writes if isinstance(write, Delete)]
        for some in await self._parts(deletes):
            await self._api.delete(there.id, some)
        return Receipt(rejected=tuple(rejected), absent=tuple(absent))

    def _judged(
        self, there: Found, writes: Sequence[Write]
    ) -> tuple[list[Write], list[tuple[PointId, Rejected]]]:
        """What Chroma would take and keep otherwise, or refuse together with all others, is
        rejected alone.
        """
        schema = self._collections.schema_of(there)
        fit: list[Write] = []
        rejected: list[tuple[PointId, Rejected]] = []
        for write in writes:
            try:
                check_write(write, schema, self._traits)
            except Rejected as error:
                rejected.append((write.id, error))
            else:
                fit.append(write)
        return fit, rejected

    async def _upsert(self, collection: str, records: Sequence[Record]) -> None:
        for some in await self._parts(records):
            await self._api.upsert(collection, some)
            wanted = {record.id: record for record in some}
            reply = await self._api.get(collection, _TEXTS, list(wanted))
            anew = [wanted[held.id] for held in reply.records if _too_much(held, wanted)]
            if anew:
                await self._api.delete(collection, [record.id for record in anew])
                await self._api.upsert(collection, anew)
                reply = await self._api.get(collection, _TEXTS, list(wanted))
            if fields := list(_fields_too_many(reply.records, wanted)):
                await self._api.update(collection, fields)

    async def _patch(
        self, collection: str, patches: Sequence[Patch], field: str
    ) -> list[PointId]:
        """Patch the records that exist; the ids of those that do not."""
        present: set[str] = set()
        for ids in await self._parts([str(patch.id) for patch in patches]):
            reply = await self._api.get(collection, Wanted.NOTHING, ids)
            present.update(record.id for record in reply.records)
        found = [patch for patch in patches if patch.id in present]
        changes = {patch.id: change_of(patch, field) for patch in found}
        updates = [change for change in changes.values() if change is not None]
        for some in await self._parts([each for each in updates if each != Record(id=each.id)]):
            await self._api.update(collection, some)
        await self._fold(
            collection, [patch for patch in found if changes[patch.id] is None], field
        )
        return [patch.id for patch in patches if patch.id not in present]

    async def _fold(self, collection: str, patches: Sequence[Patch], field: str) -> None:
        """Patches that take a document or a URI away: what is there is read, and written as the
        patch leaves it.
        """
        for some in await self._parts(patches):
            reply = await self._api.get(collection, EVERYTHING, [str(p.id) for p in some])
            held = {record.id: point_of(record, field) for record in reply.records}
            folded = [_folded(held[str(p.id)], p) for p in some if p.id in held]
            await self._upsert(collection, [record_of(point, field) for point in folded])

    async def _parts(self, items: Sequence[T]) -> list[Sequence[T]]:
        """As many at once as the server takes, which it is asked once."""
        if not items:
            return []
        if self._records_max is None:
            told = await self._api.records_max()
            self._records_max = min(told, self._traits.limits.records_max or told)
        most = self._records_max
        return [items[begin : begin + most] for begin in range(0, len(items), most)]


def _too_much(held: Record, wanted: dict[str, Record]) -> bool:
    """Whether a record has a text that no update takes away."""
    want = wanted[held.id]
    return (held.document is not None and want.document is None) or (
        held.uri is not None and want.uri is None
    )


def _fields_too_many(records: Sequence[Record], wanted: dict[str, Record]) -> Iterator[Record]:
    for held in records:
        if extra := (held.metadata or {}).keys() - (wanted[held.id].metadata or {}).keys():
            yield Record(id=held.id, metadata=dict.fromkeys(extra))


def _folded(point: Point, patch: Patch) -> Point:
    payload = {name: value for name, value in point.payload.items() if name not in patch.unset}
    return msgspec.structs.replace(
        point, vectors=point.vectors | patch.vectors, payload=payload | patch.set
    )
