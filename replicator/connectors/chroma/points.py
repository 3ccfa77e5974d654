"""
Records and points.

A record has a vector, metadata, and beside them a document and a URI, both texts. In a point
they are fields of the payload: the document under the name that the collection's options say,
the URI under `URI_FIELD`. A value of another type in such a field stays in the metadata. So a
record that has a document and a field of its name besides cannot be told as a point.
"""

from __future__ import annotations

from typing import Any

from replicator.connectors.chroma.api import Metadata, Record
from replicator.errors import Rejected
from replicator.model.point import Payload, Point
from replicator.model.write import Patch

URI_FIELD = "_uri"
"""The payload field that carries a record's URI."""


def point_of(record: Record, document_field: str) -> Point:
    """The point of a record. Raises Rejected where a field would stand for two things."""
    payload: Payload = dict(record.metadata or {})
    for field, text in ((document_field, record.document), (URI_FIELD, record.uri)):
        if text is not None:
            if field in payload:
                raise Rejected(
                    "field-invalid",
                    f"the record has a {field} in its metadata as well; name another field for"
                    " documents with document_field",
                    f"payload.{field}",
                )
            payload[field] = text
    vectors = {} if record.vector is None else {"": record.vector}
    return Point(record.id, dict(vectors), payload)


def record_of(point: Point, document_field: str) -> Record:
    """The record of a whole point, which has a vector. Nulls are left out."""
    vector = point.vectors[""]
    assert isinstance(point.id, str), "looked at before"
    assert isinstance(vector, bytes), "looked at before"
    metadata = {name: value for name, value in point.payload.items() if value is not None}
    document = _take(metadata, document_field)
    uri = _take(metadata, URI_FIELD)
    return Record(
        id=point.id, vector=vector, metadata=metadata or None, document=document, uri=uri
    )


def change_of(patch: Patch, document_field: str) -> Record | None:
    """
    The change that a patch makes of a record that is there, for `Api.update`; None where it may
    take a document or a URI away, which no update does.
    """
    changed: Metadata = dict.fromkeys(patch.unset) | patch.set
    texts: dict[str, str | None] = {}
    for field in (document_field, URI_FIELD):
        if field in changed:
            value: Any = changed[field]
            if not isinstance(value, str):
                return None
            texts[field] = value
            changed[field] = None  # one of another type may have stood in the metadata
    vector = patch.vectors.get("")
    assert vector is None or isinstance(vector, bytes), "looked at before"
    assert isinstance(patch.id, str), "looked at before"
    return Record(
        id=patch.id,
        vector=vector,
        metadata=changed or None,
        document=texts.get(document_field),
        uri=texts.get(URI_FIELD),
    )


def _take(metadata: Metadata, field: str) -> str | None:
    return metadata.pop(field) if isinstance(metadata.get(field), str) else None
