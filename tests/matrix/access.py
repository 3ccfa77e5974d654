"""A store as the application uses it: by the store's own client, and by nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import ClassVar, Protocol
from uuid import UUID

import msgspec

from tests.endtoend.daemon import Document
from tests.endtoend.model import Id, Image, Records

DIMENSION = 16


class Ids(Enum):
    """What the ids of a collection are."""

    INTEGER = "integer"
    UUID = "uuid"
    TEXT = "text"

    @staticmethod
    def of(point_id: Id) -> Ids:
        if isinstance(point_id, int):
            return Ids.INTEGER
        try:
            return Ids.UUID if str(UUID(point_id)) == point_id else Ids.TEXT
        except ValueError:
            return Ids.TEXT


class Access(Protocol):
    """One store. Each call returns when the store says that it is done."""

    section: Document
    """As the configuration has it, with the short times of one machine."""
    options: ClassVar[Document]
    """Of each of its collections."""

    async def create(self, name: str, ids: Ids) -> None:
        """A collection of vectors that are compared by their product."""
        ...

    async def write(self, name: str, records: Records) -> None:
        """Whole images, in the place of older ones."""
        ...

    async def patch(
        self, name: str, point_id: Id, changed: Document, gone: Sequence[str], whole: Image
    ) -> None:
        """Change some fields of the payload and take others away; `whole` is what there is
        afterwards, for a store that can do no less.
        """
        ...

    async def delete(self, name: str, point_id: Id) -> None: ...

    async def read(self, name: str) -> Records:
        """Every record."""
        ...

    async def drop(self, name: str) -> None:
        """Take the collection away, if it is there."""
        ...


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """
    One kind of store of the matrix. What it can hold is told here once more, by what its vendor
    says: the oracle asks the replicator for nothing.
    """

    kind: str
    fixture: str = ""
    """Of the tests, that gives the address of its server; empty where it needs none."""
    started: Callable[[Path], AbstractContextManager[str]] | None = None
    """The same outside of tests: its server, in a folder."""
    lacks: Callable[[], str] = str
    """What this machine lacks to start it; empty when nothing. Its pairs are left out then."""
    opened: Callable[[str, Path], AbstractAsyncContextManager[Access]]
    """By its address, with a folder of its own."""
    ids: Ids
    """What an application would use there."""
    id_begins: str = "doc/"
    """Where ids are texts."""
    accepts: frozenset[Ids]
    ascii_ids: bool = False
    """Of texts it accepts only those."""
    nested: bool
    """Maps and lists of maps within a payload are values."""
    live: bool = True
    """Others may write it while it is copied, and it can be followed."""
    losses: tuple[str, ...] = ()
    """What its collections have and another kind may not: accepted by name."""
    schema: bool = True
    """A collection says which vectors it has."""
    needs_schema: bool = False
    """None can be made without: where the source does not say, it is made by hand."""
    mixed: bool = True
    """One collection may hold ids of several kinds. Where the target's holds one, it is made by
    hand, so that the ids there are of the kind that they are.
    """
