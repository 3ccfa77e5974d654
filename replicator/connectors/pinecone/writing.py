"""
Writing a batch: upserts replace the whole record, so that a batch is a few requests.

A request is bounded in records and in bytes as they travel, so each record is written down once
to know its size. The service refuses a request with one bad record as a whole: what can be
known of a record beforehand is looked at, and rejected alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from replicator.codecs.rules import check_write
from replicator.connectors.pinecone.index import Index
from replicator.connectors.pinecone.kind import METADATA_BYTES, REQUEST_BYTES
from replicator.connectors.pinecone.records import record_of
from replicator.errors import Rejected
from replicator.model.point import PointId
from replicator.model.schema import CollectionSchema
from replicator.model.traits import Traits
from replicator.model.write import Delete, Receipt, Upsert, WriteBatch

_BESIDE = 4_096
"""Bytes of a request beside its records: the namespace, escaped, mostly."""

_encode = msgspec.json.Encoder().encode


class Writing:
    """Writes to one index."""

    def __init__(self, index: Index, *, traits: Traits, sparse: Callable[[str], str]) -> None:
        self._index = index
        self._traits = traits
        self._sparse = sparse
        most = traits.limits.records_max
        assert most is not None, "Pinecone has one"
        self._records_max = most

    async def apply(self, batch: WriteBatch, schema: CollectionSchema) -> Receipt:
        """As `StoreWriter.apply`, to a collection that looks so."""
        sparse = self._sparse(batch.collection)
        records: list[tuple[dict[str, Any], int]] = []
        deletes: list[str] = []
        rejected: list[tuple[PointId, Rejected]] = []
        for write in batch.writes:
            try:
                check_write(write, schema, self._traits)
                match write:
                    case Upsert(point=point):
                        records.append(_sized(record_of(point, sparse)))
                    case Delete():
                        deletes.append(str(write.id))
                    case _:
                        raise AssertionError("a store without patches is given none")
            except Rejected as error:
                rejected.append((write.id, error))
        for some in self._requests(records):
            await self._index.upsert(batch.collection, some)
        for begin in range(0, len(deletes), self._records_max):
            await self._index.delete(
                batch.collection, deletes[begin : begin + self._records_max]
            )
        return Receipt(rejected=tuple(rejected))

    def _requests(
        self, records: Sequence[tuple[dict[str, Any], int]]
    ) -> Iterator[list[dict[str, Any]]]:
        some: list[dict[str, Any]] = []
        size = _BESIDE
        for record, needs in records:
            if some and (len(some) == self._records_max or size + needs > REQUEST_BYTES):
                yield some
                some, size = [], _BESIDE
            some.append(record)
            size += needs
        if some:
            yield some


def _sized(record: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """A record, and its bytes in a request. Raises Rejected("value-too-large")."""
    try:
        metadata = len(_encode(record.get("metadata", {})))
        # A comma follows.
        size = len(_encode(record)) + 1
    except UnicodeEncodeError as exc:
        raise Rejected("field-invalid", f"a text is not Unicode: {exc}", "payload") from exc
    if metadata > METADATA_BYTES:
        raise Rejected(
            "value-too-large",
            f"payload: {metadata} bytes of metadata, and Pinecone holds {METADATA_BYTES}",
            "payload",
        )
    if size + _BESIDE > REQUEST_BYTES:
        raise Rejected(
            "value-too-large",
            f"the record takes {size} bytes, and a request to Pinecone {REQUEST_BYTES}",
        )
    return record, size
