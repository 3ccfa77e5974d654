"""What a table is made of, as the catalogue of the database says."""

from __future__ import annotations

import msgspec

from replicator.connectors.pgvector.connections import Session
from replicator.connectors.pgvector.statements import statement


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column. Of a domain, `type`, `place` and `modifier` are those of what it is made of."""

    name: str
    type: str
    place: str
    """The schema of the type."""
    array: bool
    modifier: int
    """What stands in brackets behind the type, as its type keeps it; -1 for nothing."""
    required: bool
    """It takes no NULL."""
    generated: bool
    counted: bool
    """It takes its values from a sequence."""
    exact: bool
    """Texts are equal only where their bytes are."""
    comment: str | None


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """An index. Of a column that is an expression, the name is None."""

    unique: bool
    """At any moment, and not only at the end of a transaction."""
    primary: bool
    whole: bool
    """It is valid, and has every row."""
    columns: list[str | None]
    method: str
    operators: str
    """The operator class of its first column."""
    options: list[str]


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """A table, or what else has rows."""

    oid: int
    kind: str
    parent: bool
    """Other tables inherit from it."""
    columns: list[Column]
    indexes: list[Index]


class Extension(msgspec.Struct, frozen=True):
    """Where pgvector is installed, and which."""

    schema: str
    version: str

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())


async def read_extension(session: Session) -> Extension | None:
    """None where the database does not have it."""
    row = await session.row(statement("extension"))
    return None if row is None else Extension(row["schema"], row["version"])


async def read_relation(session: Session, schema: str, name: str) -> Relation | None:
    """None where there is none of this name."""
    told = await session.value(statement("table"), schema, name)
    return None if told is None else msgspec.json.decode(told, type=Relation)
