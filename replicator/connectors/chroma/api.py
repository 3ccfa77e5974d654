"""
What the connector asks of Chroma, whether a server answers or this process.

Errors come translated (`failures`). A collection is asked for by its name, and used by the id
that Chroma gave it: one that is deleted and made anew has another.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Flag, auto
from typing import Any, Protocol

import msgspec

Metadata = dict[str, Any]


class Wanted(Flag):
    """What a reply is to hold beside the ids."""

    NOTHING = 0
    VECTORS = auto()
    METADATA = auto()
    DOCUMENTS = auto()
    URIS = auto()

    @property
    def include(self) -> list[str]:
        """In the words of Chroma."""
        return [_WORDS[each] for each in self]


_WORDS = {
    Wanted.VECTORS: "embeddings",
    Wanted.METADATA: "metadatas",
    Wanted.DOCUMENTS: "documents",
    Wanted.URIS: "uris",
}

EVERYTHING = Wanted.VECTORS | Wanted.METADATA | Wanted.DOCUMENTS | Wanted.URIS
"""All that a record is made of."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A collection that is there."""

    id: str
    name: str
    dimension: int | None
    """None until the first record is written."""
    configuration: dict[str, Any]
    """Of the index, and of what Chroma's own clients embed texts with."""
    metadata: Metadata


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """
    A record as Chroma keeps it, or a change of one.

    Read, it has what was wanted. Written, None leaves what there is: the vector, the document;
    and so does a key that `metadata` lacks. A null in it removes the key.
    """

    id: str
    vector: bytes | None = None
    metadata: Metadata | None = None
    document: str | None = None
    uri: str | None = None


def columns(records: Sequence[Record]) -> dict[str, Any]:
    """Records as Chroma takes them, a list for each part that some of them have."""
    parts: dict[str, Sequence[object]] = {
        "embeddings": [record.vector for record in records],
        "metadatas": [record.metadata for record in records],
        "documents": [record.document for record in records],
        "uris": [record.uri for record in records],
    }
    ids = [record.id for record in records]
    return {"ids": ids} | {
        name: values
        for name, values in parts.items()
        if any(value is not None for value in values)
    }


class Reply(msgspec.Struct, frozen=True):
    """Records, and how many bytes they took on their way, about."""

    records: list[Record]
    size: int


class Api(Protocol):
    """One database of one tenant."""

    async def check(self) -> str:
        """The version. Raises Refused("store-refused") without the tenant or the database."""
        ...

    async def records_max(self) -> int:
        """How many records one request that writes may hold."""
        ...

    async def names(self, offset: int, limit: int) -> list[str]:
        """
        Collections by their place: `limit` of them or fewer, and none behind the last. One
        moves towards the first place as others are deleted.
        """
        ...

    async def find(self, name: str) -> Found | None:
        """The collection of a name."""
        ...

    async def create(
        self, name: str, configuration: dict[str, Any], metadata: Metadata
    ) -> None:
        """Make a collection; one that is there already is left as it is."""
        ...

    async def modify(self, collection: str, metadata: Metadata) -> None:
        """Replace the metadata of a collection as a whole; nulls are left out."""
        ...

    async def count(self, collection: str) -> int:
        """The number of records."""
        ...

    async def page(
        self, collection: str, wanted: Wanted, offset: int, limit: int, *, bounded: bool
    ) -> Reply:
        """
        Records by their place: the oldest is at 0, and a record moves towards it as older ones
        are deleted. `bounded`: a reply of more bytes than may be held raises
        Rejected("value-too-large").
        """
        ...

    async def get(
        self, collection: str, wanted: Wanted, ids: Sequence[str], *, bounded: bool = False
    ) -> Reply:
        """The records of these ids that exist."""
        ...

    async def upsert(self, collection: str, records: Sequence[Record]) -> None:
        """Make records, or merge into those that exist. Each has a vector."""
        ...

    async def update(self, collection: str, records: Sequence[Record]) -> None:
        """Merge into the records that exist; of the others nothing is said."""
        ...

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete the records that exist."""
        ...

    async def query(
        self, collection: str, vector: Sequence[float], limit: int
    ) -> list[tuple[str, float]]:
        """The nearest ids with their distances, nearest first."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...
